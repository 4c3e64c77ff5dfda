"""The runner of foreign clients: its tables, what it makes of results, its relay, and whether the page is current."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
# Behind all others, so that the package under test is still the installed one.
sys.path.append(str(ROOT))

from interop.runner import clients, results  # noqa: E402
from interop.runner.brokers import Authority, Broker  # noqa: E402
from interop.runner.play import play  # noqa: E402
from interop.runner.relay import Relay, content_headers  # noqa: E402
from interop.runner.scenarios import SETS  # noqa: E402

CLIENTS: Final = clients.known()
PROGRAMS: Final = {".c", ".go", ".java", ".mjs", ".php", ".py", ".rb", ".rs"}
HEADER: Final = bytes.fromhex("003c00000000000000000002 1000 02")
PROTOCOL: Final = b"AMQP\x00\x00\x09\x01"


def frame(kind: int, payload: bytes) -> bytes:
    return bytes((kind, 0, 1)) + len(payload).to_bytes(4, "big") + payload + b"\xce"


# -- the clients


def test_there_is_a_client_of_each_language() -> None:
    assert {client.language for client in CLIENTS.values()} >= {
        *("Python", "JavaScript", "Go", "Java", "Rust", "C", "Ruby", "PHP")
    }


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_has_a_program_that_knows_every_scenario_of_its_set(name: str) -> None:
    client = CLIENTS[name]
    files = [file for file in client.folder.rglob("*") if file.suffix in PROGRAMS]
    text = "".join(file.read_text() for file in files)
    unknown = [
        scenario
        for scenario in client.scenarios
        if not any(f"{quote}{scenario}{quote}" in text for quote in "'\"") and f"  {scenario}," not in text
    ]
    assert unknown == []


@pytest.mark.parametrize("name", CLIENTS)
def test_the_version_of_a_client_is_pinned_where_its_tools_read_it(name: str) -> None:
    client = CLIENTS[name]
    if client.description.get("debian") and "installed" in client.description:
        return  # what Debian has is the pin; the run asks for it
    pinned = [
        file
        for file in client.folder.iterdir()
        if file.name in ("Cargo.toml", "go.mod", "package.json", "pom.xml")
    ]
    commands = " ".join(client.description.get("prepare", []))
    assert pinned or "{version}" in commands
    for file in pinned:
        assert client.version in file.read_text()


def test_descriptions_say_only_what_the_runner_reads() -> None:
    keys = {"language", "version", "scenarios", "needs", "debian", "also", "prepare", "run", "installed"}
    for name, client in CLIENTS.items():
        assert set(client.description) <= keys, name
        assert client.description["scenarios"] in SETS, name
        assert tomllib.loads((client.folder / "client.toml").read_text()) == client.description


def test_a_client_without_its_toolchain_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    client = clients.Client("pika", CLIENTS["pika"].description | {"needs": ["no-such-tool"]})
    with pytest.raises(clients.NotRun, match="not on the path: no-such-tool"):
        clients.prepare(client)


# -- results


def row(**changes: str) -> dict[str, Any]:
    return {
        "client": "pika",
        "version": "1",
        "broker": "amqp-broker",
        "broker_version": "0.1.0",
        "scenario": "ttl",
        "outcome": "ok",
        "detail": "",
        "date": "2026-01-02",
    } | changes


def test_a_later_result_replaces_an_earlier_one_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.save(file, [row(outcome="failed"), row(broker="RabbitMQ"), row(scenario="tls")])
    results.save(file, [row(outcome="ok", date="2026-01-03")])
    kept = {(each["broker"], each["scenario"]): each["outcome"] for each in results.load(file)}
    assert kept == {("amqp-broker", "ttl"): "ok", ("RabbitMQ", "ttl"): "ok", ("amqp-broker", "tls"): "ok"}


def test_a_result_of_a_scenario_that_is_no_more_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.save(file, [row(scenario="gone"), row(client="gone"), row()])
    assert len(results.load(file)) == 1


def test_the_table_tells_what_failed_and_what_a_client_cannot_show() -> None:
    rows = [row(), row(scenario="tls", outcome="cannot", detail="it has no TLS"), row(broker="RabbitMQ")]
    rows.append(row(scenario="errors", outcome="failed", detail="a 404 was a 405\nand more"))
    block = results.table(rows)
    assert "| 3 | 1 ok, 1 failed, 1 cannot | 1 ok | 2026-01-02 |" in block
    assert "- pika cannot show `tls`: it has no TLS." in block
    assert "- pika failed in `errors` with amqp-broker: a 404 was a 405\n" in block


def test_the_table_of_the_compatibility_page_is_made_of_the_results() -> None:
    block = results.table(results.load(results.FILE))
    assert results.PAGE.read_text() == results.page_with(block), "interop/run --write-table"


def test_every_scenario_of_every_client_has_a_result_with_both_brokers() -> None:
    rows = results.load(results.FILE)
    found = {(each["client"], each["scenario"], each["broker"]) for each in rows}
    expected = {
        (name, scenario, broker)
        for name, client in CLIENTS.items()
        for scenario in client.scenarios
        for broker in results.BROKERS
    }
    assert expected - found == set()
    assert [each for each in rows if each["outcome"] == "failed"] == []


# -- the relay


def test_content_headers_are_found_between_other_frames() -> None:
    stream = frame(1, b"method") + frame(2, HEADER) + frame(3, b"body") + frame(8, b"") + frame(2, b"other")
    assert content_headers(stream, from_client=False) == [HEADER, b"other"]
    assert content_headers(PROTOCOL + stream[:-1], from_client=True) == [HEADER]


@pytest.fixture
def house() -> Iterator[tuple[Relay, socket.socket, socket.socket]]:
    """A relay, the client's end and the broker's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = Relay(listener.getsockname()[1])
        with socket.create_connection(("127.0.0.1", relay.port), 10) as client:
            broker, _ = listener.accept()
            with broker:
                broker.settimeout(10)
                yield relay, client, broker
        relay.close()


def pass_on(sender: socket.socket, receiver: socket.socket, octets: bytes) -> None:
    sender.sendall(octets)
    received = b""
    while len(received) < len(octets):
        received += receiver.recv(65536)
    assert received == octets


def test_a_relay_tells_whether_headers_came_back_as_they_were_sent(
    house: tuple[Relay, socket.socket, socket.socket],
) -> None:
    relay, client, broker = house
    pass_on(client, broker, PROTOCOL + frame(2, HEADER))
    pass_on(broker, client, frame(1, b"deliver") + frame(2, HEADER))
    assert relay.compare_headers() == (1, "")
    pass_on(client, broker, frame(2, b"sent"))
    assert relay.compare_headers() == (2, "2 sent, 1 received")
    pass_on(broker, client, frame(2, b"changed"))
    assert relay.compare_headers() == (2, f"sent {b'sent'.hex()} received {b'changed'.hex()}")


def test_a_frozen_relay_passes_nothing_and_notices_when_the_broker_gives_up(
    house: tuple[Relay, socket.socket, socket.socket],
) -> None:
    relay, client, broker = house
    pass_on(client, broker, b"before")
    relay.freeze()
    client.sendall(b"after")
    assert not relay.wait_dropped(0)
    waiting = threading.Thread(target=broker.close)
    waiting.start()
    waiting.join()
    assert relay.wait_dropped(10)


# -- the programs

LEAVES_A_FILE: Final = """
import json, tempfile
kept = tempfile.NamedTemporaryFile(delete=False)
print(json.dumps({"scenario": "ttl", "outcome": "ok", "detail": kept.name}))
"""


class NoBroker(Broker):
    """For programs that ask for none."""

    def start(self) -> None: ...

    def alarm(self, *, on: bool) -> None: ...


def test_what_a_program_leaves_among_temporary_files_goes_with_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    program = clients.Program([sys.executable, "-c", LEAVES_A_FILE], tmp_path, "1")
    broker = NoBroker(tmp_path / "broker", authority)
    (result,) = play(program, ["ttl"], broker, authority)
    assert result.outcome == "ok"
    assert not Path(result.detail).exists()


# -- the command


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "interop" / "run"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_lists_what_every_client_has_to_show() -> None:
    done = command("--list")
    assert done.returncode == 0
    for name, client in CLIENTS.items():
        assert f"{name} {client.version} ({client.language})" in done.stdout
    for scenarios in SETS.values():
        assert all(f"    {scenario}: {expected}" in done.stdout for scenario, expected in scenarios.items())


def test_the_command_refuses_a_client_that_is_not_there() -> None:
    done = command("no-such-client")
    assert (done.returncode, "unknown: no-such-client" in done.stderr) == (2, True)


def test_the_command_counts_a_client_that_cannot_be_run_as_not_run_and_fails_if_that_was_all(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results.json"
    done = command("amqplib", "--here", "--results", str(file))
    assert "amqplib            not run: only Python clients" in done.stdout
    assert not file.exists() or json.loads(file.read_text()) == []
    assert done.returncode == 1


def test_the_command_says_what_the_environment_lacks_before_it_prepares_anything() -> None:
    run = str(ROOT / "interop" / "run")
    without = "import runpy, sys; sys.modules['trustme'] = None; sys.argv = sys.argv[1:]"
    done = subprocess.run(
        [sys.executable, "-c", f"{without}; runpy.run_path(sys.argv[0], run_name='__main__')", run, "pika"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not have trustme" in done.stderr
    assert "preparing" not in done.stderr

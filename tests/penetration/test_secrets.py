"""To read what is secret, or to write into the log what did not happen."""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amqp_broker.config import ConfigError, load_config
from amqp_broker.config.load import check_file
from tests.penetration.certificates import issue
from tests.penetration.site import Site, closed, plain, refused
from tests.server.broker_process import BrokerProcess
from tests.server.secure import Authority

FORGED = "\n2026-01-01 00:00:00,000 [INFO] forged\r\x1b[2J\x9b1m\u202e\u2028"


def no_line_is_forged(site: Site, before: int) -> None:
    """Every line that was logged is one of the broker's, and none moves the cursor of who reads it."""
    site.logs("forged", before)
    said = site.process.log.read_text("utf-8", "surrogateescape")
    for line in said[before:].split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith("2026-01-01"), line


@pytest.fixture
def before(site: Site) -> int:
    return len(site.process.log.read_text("utf-8", "surrogateescape"))


def test_the_name_of_a_user_forges_no_line_of_the_log(site: Site, before: int) -> None:
    site.asks_in(plain(f"x{FORGED}", "x"))
    site.asks_in(b"\0x\xff\n\x1b[2Jforged\0x")
    no_line_is_forged(site, before)


def test_the_name_of_a_mechanism_forges_no_line_of_the_log(site: Site, before: int) -> None:
    site.asks_in(b"", f"PLAIN{FORGED}")
    no_line_is_forged(site, before)


def test_the_name_of_a_virtual_host_forges_no_line_of_the_log(site: Site, before: int) -> None:
    client = site.dial()
    client.log_in(response=plain("alice"))
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host=f"x{FORGED}")
    closed(client, 530)
    no_line_is_forged(site, before)


def test_what_closes_a_connection_forges_no_line_of_the_log(site: Site, before: int) -> None:
    """The type of an exchange, and the tag of a consumer, stand in the reason."""
    channel = site.channel("alice")
    channel.send("exchange.declare", exchange="x", type=f"x{FORGED}")
    closed(channel.client, 503)
    channel = site.channel("alice")
    queue = channel.declare("", exclusive=True)
    channel.consume(queue, f"x{FORGED}")
    channel.send("basic.consume", queue=queue, consumer_tag=f"x{FORGED}")
    closed(channel.client, 530)
    no_line_is_forged(site, before)


def test_the_name_in_a_certificate_forges_no_line_of_the_log(
    site: Site, authority: Authority, before: int
) -> None:
    shown = issue(authority, "forging", "x" + FORGED.replace("\x9b", "").replace("\u202e", "")[:50])
    site.asks_in(b"", "EXTERNAL", site.dial_tls(shown))
    no_line_is_forged(site, before)


def test_no_password_is_written_to_the_log(site: Site) -> None:
    for mechanism, response in (
        ("PLAIN", b"\0alice\0hunter2"),
        ("PLAIN", b"hunter2"),
        ("PLAIN", b"\0a\0b\0hunter2"),
        ("AMQPLAIN", b"\x05LOGINS\0\0\0\x05alice\x08PASSWORDS\0\0\0\x07hunter2"),
        ("AMQPLAIN", b"\x05LOGINS\0\0\0\x05alice\x08PASSWORDS\0\0\0\x09hunter2"),
        ("EXTERNAL", b"hunter2"),
    ):
        site.asks_in(response, mechanism)
    client = site.opened("alice")
    client.send(0, "connection.update-secret", new_secret=b"hunter2", reason="hunter2")
    client.expect("connection.update-secret-ok")
    assert "hunter2" not in site.process.stderr()


def test_no_refusal_tells_a_stranger_the_version_of_anything(site: Site) -> None:
    """Beyond what connection.start announces to everybody, which names neither the system nor the machine."""
    channel = site.channel("alice")
    announced = str(channel.client.start["server_properties"]).lower()
    assert platform.system().lower() not in announced
    assert platform.release().lower() not in announced
    channel.client.send_frame(1, channel.number, b"\0\x63\0\x63")
    text = closed(channel.client, 540)
    assert text == "unknown method 99.99"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker whose password stands in the environment."""
    broker = BrokerProcess(tmp_path_factory.mktemp("told") / "data")
    os.environ["AMQP_BROKER_AUTH_DEFAULT_PASS"] = "hunter2-in-the-environment"
    try:
        broker.start()
    finally:
        del os.environ["AMQP_BROKER_AUTH_DEFAULT_PASS"]
    yield broker
    broker.kill()


def test_the_list_of_processes_shows_no_password(told: BrokerProcess) -> None:
    for process in (told.pid, *told.writers()):
        assert b"hunter2" not in Path(f"/proc/{process}/cmdline").read_bytes()
        assert Path(f"/proc/{process}/environ").stat().st_mode & 0o077 == 0


def test_the_data_directory_is_for_its_owner_only(told: BrokerProcess) -> None:
    files = [told.data, *told.data.rglob("*")]
    assert len(files) > 3
    for file in files:
        assert file.lstat().st_mode & 0o077 == 0, file


def test_the_data_directory_does_not_hold_the_password_of_the_configuration(told: BrokerProcess) -> None:
    for file in told.data.rglob("*"):
        if file.is_file():
            assert b"hunter2" not in file.read_bytes(), file


def test_a_wrong_configuration_is_told_without_its_passwords(tmp_path: Path) -> None:
    for name, text in {
        "type.toml": '[auth]\ndefault_pass = ["hunter2"]\n',
        "section.toml": '[auth]\ndefault_pas = "hunter2"\n',
        "syntax.toml": '[auth]\ndefault_pass = "hunter2\n',
        "tls.toml": '[tls]\npassword = 72\nkey_password = "hunter2"\n',
        "unknown.conf": "default_passwd = hunter2\n",
        "syntax.conf": "default_pass hunter2\n",
    }.items():
        file = tmp_path / name
        file.write_text(text)
        with pytest.raises(ConfigError, match=name) as refused_with:
            load_config(file, {})
        assert "hunter2" not in str(refused_with.value)
        assert "hunter2" not in "".join(map(str, check_file(file)))


def test_a_password_file_that_never_ends_or_is_none_stops_the_start(tmp_path: Path) -> None:
    for file in ("/dev/zero", str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(ConfigError, match=f"RABBITMQ_DEFAULT_PASS_FILE: {file}"):
            load_config(None, {"RABBITMQ_DEFAULT_PASS_FILE": file})


def test_a_unix_socket_is_closed_to_others_from_its_first_moment(site: Site) -> None:
    assert site.unix.stat().st_mode & 0o777 == 0o660


def test_a_queue_cannot_be_named_into_another_file(site: Site) -> None:
    """Names are kept as data, never as paths."""
    channel = site.channel("alice")
    for name in ("../../escaped", "/tmp/escaped", "..", "a/b", "escaped\0.lock"):
        channel.declare(name, durable=True)
        channel.publish(b"x", routing_key=name, delivery_mode=2)
        assert channel.arrival(name).body == b"x"
        channel.call("queue.delete", queue=name)
    assert not list(site.folder.rglob("*escaped*"))
    assert not list(site.folder.parent.glob("*escaped*"))


def test_a_slow_reader_hears_of_nothing_that_was_refused_meanwhile(site: Site) -> None:
    """Answers are not mixed up between connections that talk at the same time."""
    said: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        channel = site.channel("mallory" if number % 2 else "boss")
        said[number] = []
        for turn in range(20):
            name = f"q{number}.{turn}"
            channel.send("basic.get", queue=name)
            said[number].append(refused(channel, 403 if number % 2 else 404))

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    for number, texts in said.items():
        assert len(texts) == 20
        assert all(f"'q{number}.{turn}'" in text for turn, text in enumerate(texts))


def test_a_port_is_opened_on_no_other_address_than_this_machines(told: BrokerProcess) -> None:
    assert "127.0.0.1:" in told.ready_line
    listening = Path("/proc/net/tcp").read_text()
    wanted = f":{told.port:04X} 00000000:0000 0A"
    addresses = [line.split()[1] for line in listening.splitlines() if wanted in line]
    assert addresses == [f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}:{told.port:04X}"]

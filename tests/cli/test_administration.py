"""`amqp-broker users`, `vhosts`, ...: the same commands on a broker that runs and on one that does not."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from amqp_broker.cli.administer import Broker
from amqp_broker.cli.table import columns
from amqp_broker.server.control import LONGEST_REQUEST
from amqp_broker.store.open import open_data_directory
from tests.cli.administered import Administered, administered, command, is_open, make_store
from tests.server.broker_process import BrokerProcess, installed_command

UNPRIVILEGED = Path(__file__).parents[1] / "faults" / "unprivileged.py"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    """One for all tests, so each has names of its running."""
    with administered(tmp_path_factory.mktemp("running"), running=True) as site:
        yield site


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    with administered(tmp_path_factory.mktemp("stopped"), running=False) as site:
        yield site


@pytest.fixture(params=["running", "stopped"])
def site(request: pytest.FixtureRequest) -> Administered:
    found: Administered = request.getfixturevalue(request.param)
    return found


def names(rows: list[dict[str, object]]) -> list[object]:
    return [row["name"] for row in rows]


# -- each noun's verbs


def test_users_come_and_go(site: Administered) -> None:
    site.does("users", "add", "ann", "--password-stdin", "--tag", "monitoring", stdin="first\n")
    assert site.lists("users", "show", "ann") == {
        "name": "ann",
        "tags": ["monitoring"],
        "password": "argon2id",
        "limits": {},
        "connections": 0,
        "channels": 0,
        "permissions": [],
        "topic_permissions": [],
    }
    assert "ann" in names(site.lists("users", "list"))
    site.does("users", "set-tags", "ann", "administrator", "impersonator")
    assert site.lists("users", "show", "ann")["tags"] == ["administrator", "impersonator"]
    site.does("users", "set-tags", "ann")
    assert site.lists("users", "show", "ann")["tags"] == []
    site.does("users", "delete", "ann")
    assert "ann" not in names(site.lists("users", "list"))
    assert site.refuses("users", "delete", "ann") == "user 'ann' does not exist"


def test_passwords_are_changed_and_taken_away(site: Administered) -> None:
    def fits(password: str) -> bool:
        ran = site.run("users", "authenticate", "pat", "--password-stdin", stdin=password)
        assert ran.err == (
            "" if ran.status == 0 else "amqp-broker: error: user 'pat' - invalid credentials\n"
        )
        return ran.status == 0

    site.does("users", "add", "pat", "--password-stdin", stdin="first\n")
    assert [fits("first"), fits("second"), fits("")] == [True, False, False]
    site.does("users", "set-password", "pat", "--password-stdin", stdin="second\r\nand more\n")
    assert [fits("first"), fits("second")] == [False, True]
    site.does("users", "clear-password", "pat")
    assert [fits("second"), fits("")] == [False, False]
    assert site.lists("users", "show", "pat")["password"] == "none"
    site.does("users", "add", "certified", "--no-password")
    assert site.lists("users", "show", "certified")["password"] == "none"


def test_virtual_hosts_come_and_go(site: Administered) -> None:
    site.does(
        "vhosts", "add", "shop", "--description", "sells", "--tag", "a", "--default-queue-type", "quorum"
    )
    site.does("vhosts", "add", "shop", "--tag", "b", "--tag", "c")
    (row,) = [row for row in site.lists("vhosts", "list") if row["name"] == "shop"]
    assert row == {
        "name": "shop",
        "description": "sells",
        "tags": ["b", "c"],
        "default_queue_type": "quorum",
        "queues": 0,
        "connections": 0,
    }
    site.does("vhosts", "delete", "shop")
    assert "shop" not in names(site.lists("vhosts", "list"))


def test_permissions_are_set_and_cleared(site: Administered) -> None:
    site.does("users", "add", "may", "--no-password")
    site.does("vhosts", "add", "there")
    site.does("permissions", "set", "may", "^a", "^b", ".*", "--vhost", "there")
    site.does("permissions", "set", "may", "", "", "")
    own = {"user": "may", "vhost": "there", "configure": "^a", "write": "^b", "read": ".*"}
    closed = {"user": "may", "vhost": "/", "configure": "", "write": "", "read": ""}
    assert site.lists("permissions", "list", "--user", "may") == [closed, own]
    assert site.lists("permissions", "list", "-p", "there") == [own]
    assert own in site.lists("permissions", "list")
    site.does("permissions", "clear", "may", "-p", "there")
    site.does("permissions", "clear", "may", "-p", "there")
    assert site.lists("permissions", "list", "--user", "may") == [closed]


def test_topic_permissions_are_set_and_cleared(site: Administered) -> None:
    site.does("users", "add", "topical", "--no-password")
    site.does("topic-permissions", "set", "topical", "amq.topic", "^{username}", ".*")
    site.does("topic-permissions", "set", "topical", "other", "a", "b", "-p", "/")
    rows = site.lists("topic-permissions", "list", "--user", "topical")
    assert [row["exchange"] for row in rows] == ["amq.topic", "other"]
    assert rows[0] == {
        "user": "topical",
        "vhost": "/",
        "exchange": "amq.topic",
        "write": "^{username}",
        "read": ".*",
    }
    assert site.lists("users", "show", "topical")["topic_permissions"] == rows
    site.does("topic-permissions", "clear", "topical", "other")
    assert site.lists("topic-permissions", "list", "--user", "topical") == rows[:1]
    site.does("topic-permissions", "clear", "topical")
    assert site.lists("topic-permissions", "list", "--user", "topical") == []


@pytest.mark.parametrize("noun", ["policies", "operator-policies"])
def test_policies_are_set_and_cleared(site: Administered, noun: str) -> None:
    site.does(noun, "set", "p", "^q", '{"max-length": 5}', "--priority", "3", "--apply-to", "queues")
    site.does(noun, "set", "p", "^r", '{"max-length": 6}', "--apply-to", "queues")
    row = {"vhost": "/", "name": "p", "pattern": "^r", "apply-to": "queues", "definition": {"max-length": 6}}
    assert site.lists(noun, "list", "-p", "/") == [{**row, "priority": 0}]
    site.does(noun, "clear", "p")
    assert site.lists(noun, "list") == []


def test_limits_are_set_and_cleared(site: Administered) -> None:
    site.does("vhosts", "add", "limited")
    site.does("users", "add", "bounded", "--no-password")
    site.does("limits", "set", "max-connections=5", "max-queues=3", "--vhost", "limited")
    site.does("limits", "set", "max-queues=-1", "--vhost", "limited")
    site.does("limits", "set", "max-channels=7", "max-connections=2", "--user", "bounded")
    of_vhost = {"of": "vhost", "name": "limited", "limits": {"max-connections": 5, "max-queues": -1}}
    of_user = {"of": "user", "name": "bounded", "limits": {"max-channels": 7, "max-connections": 2}}
    assert site.lists("limits", "list") == [of_vhost, of_user]
    assert site.lists("limits", "list", "--user", "bounded") == [of_user]
    assert site.lists("parameters", "list", "-p", "limited")[0]["value"] == of_vhost["limits"]
    site.does("limits", "clear", "max-queues", "--vhost", "limited")
    site.does("limits", "clear", "--user", "bounded")
    site.does("limits", "clear", "--user", "bounded")
    assert site.lists("limits", "list") == [{**of_vhost, "limits": {"max-connections": 5}}]
    site.does("limits", "clear", "--vhost", "limited")
    assert site.lists("limits", "list") == []


def test_parameters_are_set_and_cleared(site: Administered) -> None:
    site.does("parameters", "set", "federation", "up", '{"uri": "amqp://elsewhere"}')
    site.does("parameters", "set", "", "everywhere", "[1, null]", "--global")
    row = {"vhost": "/", "component": "federation", "name": "up", "value": {"uri": "amqp://elsewhere"}}
    assert site.lists("parameters", "list", "-p", "/") == [row]
    assert site.lists("parameters", "list", "--global") == [{"name": "everywhere", "value": [1, None]}]
    site.does("parameters", "clear", "federation", "up")
    site.does("parameters", "clear", "", "everywhere", "--global")
    assert site.lists("parameters", "list", "-p", "/") == []
    assert site.lists("parameters", "list", "--global") == []


def test_a_table_has_a_line_for_each_row(site: Administered) -> None:
    site.does("users", "add", "tabled", "--no-password", "--tag", "a", "--tag", "b")
    lines = site.does("users", "list").splitlines()
    assert lines[0].split() == ["name", "tags", "password", "limits"]
    assert ["tabled", "a,", "b", "none"] in [line.split() for line in lines]
    assert site.does("users", "show", "tabled").splitlines()[0].split() == ["name", "tabled"]
    site.does("users", "delete", "tabled")


REFUSALS: list[tuple[tuple[str, ...], str]] = [
    (("users", "show", "nobody"), "user 'nobody' does not exist"),
    (("users", "delete", "nobody"), "user 'nobody' does not exist"),
    (("users", "clear-password", "nobody"), "user 'nobody' does not exist"),
    (("users", "set-password", "nobody", "--password-stdin"), "user 'nobody' does not exist"),
    (("users", "set-password", "guest", "--password-stdin"), "the password cannot be empty"),
    (("users", "set-tags", "nobody", "x"), "user 'nobody' does not exist"),
    (("users", "add", "guest", "--no-password"), "user 'guest' already exists"),
    (("users", "add", "new", "--password-stdin"), "the password cannot be empty"),
    (("users", "add", "", "--no-password"), "the name of a user cannot be empty"),
    (("users", "add", "é" * 128, "--no-password"), "the name of a user is longer than 255 bytes"),
    (("users", "authenticate", "nobody", "--password-stdin"), "user 'nobody' - invalid credentials"),
    (("vhosts", "delete", "nowhere"), "virtual host 'nowhere' does not exist"),
    (("vhosts", "add", ""), "the name of a virtual host cannot be empty"),
    (
        ("vhosts", "add", "v", "--default-queue-type", "nope"),
        "there are no queues of type 'nope'; there are: classic, quorum",
    ),
    (("permissions", "set", "nobody", ".", ".", "."), "user 'nobody' does not exist"),
    (("permissions", "set", "guest", ".", ".", ".", "-p", "x"), "virtual host 'x' does not exist"),
    (
        ("permissions", "set", "guest", ".*", "(", ".*"),
        "regular expression '(' is invalid: missing ), unterminated subpattern at position 0",
    ),
    (
        ("topic-permissions", "set", "guest", "amq.topic", "[", ".*"),
        "regular expression '[' is invalid: unterminated character set at position 0",
    ),
    (("permissions", "list", "-p", "nowhere"), "virtual host 'nowhere' does not exist"),
    (("topic-permissions", "list", "--user", "nobody"), "user 'nobody' does not exist"),
    (("policies", "list", "-p", "nowhere"), "virtual host 'nowhere' does not exist"),
    (("policies", "set", "p", ".", "{}"), "validation failed: no policy provided"),
    (
        ("policies", "set", "p", ".", '{"max-lengt": 5}'),
        'validation failed: [{<<"max-lengt">>,5}] are not recognised policy settings',
    ),
    (
        ("operator-policies", "set", "p", ".", '{"dead-letter-exchange": "x"}'),
        'validation failed: [{<<"dead-letter-exchange">>,<<"x">>}] are not recognised policy settings',
    ),
    (("policies", "set", "p", ".", "[]"), "the definition is no JSON object"),
    (
        ("policies", "set", "p", ".", f'{{"max-length": {2**63}}}'),
        f"max-length: {2**63} does not fit in 64 bits",
    ),
    (("policies", "clear", "nope"), "policy 'nope' in virtual host '/' does not exist"),
    (("operator-policies", "clear", "nope"), "operator policy 'nope' in virtual host '/' does not exist"),
    (
        ("limits", "set", "max-queues=1"),
        "limits are those of a virtual host or of a user: name one of them",
    ),
    (
        ("limits", "set", "max-queues=1", "--user", "guest"),
        'Unrecognised terms [{<<"max-queues">>,1}] in user-limits; there are: max-connections, max-channels',
    ),
    (
        ("limits", "set", "max-channels=1", "-p", "/"),
        'Unrecognised terms [{<<"max-channels">>,1}] in limits; there are: max-connections, max-queues',
    ),
    (
        ("limits", "set", "max-queues", "-p", "/"),
        "max-queues: expected a limit and a whole number, such as max-connections=100",
    ),
    (
        ("limits", "clear", "max-channels", "-p", "/"),
        "there is no limit 'max-channels'; there are: max-connections, max-queues",
    ),
    (
        ("parameters", "set", "vhost-limits", "limits", '{"max-queues": "x"}'),
        "validation failed: max-queues should be a whole number",
    ),
    (
        ("parameters", "set", "vhost-limits", "other", "{}"),
        "validation failed: the one parameter of vhost-limits is called limits",
    ),
    (("parameters", "set", "policy", "p", "{}"), "'policy' is no component here: use policies"),
    (("parameters", "set", "c", "n", "1", "--global"), "parameters of the whole broker have no component"),
    (("parameters", "clear", "c", "n"), "parameter 'n' of c in virtual host '/' does not exist"),
    (("parameters", "clear", "", "n", "--global"), "parameter 'n' does not exist"),
    (("queues", "purge", "q"), "queue 'q' in virtual host '/' does not exist"),
    (("queues", "delete", "q", "-p", "x"), "virtual host 'x' does not exist"),
    (("connections", "close"), "which connections are to be closed is not said"),
    (("connections", "close", "a -> b"), "connection 'a -> b' does not exist"),
    (("connections", "list", "--user", "nobody"), "user 'nobody' does not exist"),
    (("connections", "close", "--all", "--reason", "a\nb"), "the reason has characters that cannot be shown"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSALS, ids=lambda value: " ".join(value)[:40])
def test_what_is_wrong_is_one_line(running: Administered, arguments: tuple[str, ...], text: str) -> None:
    assert running.refuses(*arguments) == text


@pytest.mark.parametrize(("arguments", "text"), REFUSALS[::8], ids=lambda value: " ".join(value)[:40])
def test_it_is_the_same_line_where_no_broker_runs(
    stopped: Administered, arguments: tuple[str, ...], text: str
) -> None:
    assert stopped.refuses(*arguments) == text


def test_what_is_no_json_is_said(site: Administered) -> None:
    assert site.refuses("policies", "set", "p", ".", "{").startswith("the definition is not JSON: ")
    assert site.refuses("parameters", "set", "c", "n", "x").startswith("the value is not JSON: ")


def test_an_argument_that_is_no_text_is_said(site: Administered) -> None:
    assert "not a request: " in site.refuses("users", "delete", "\udcff")


def test_the_state_is_told(site: Administered) -> None:
    running = site.process.running
    ran = site.run("status", "--format", "json")
    found = json.loads(ran.out)
    assert ran.status == (0 if running else 1)
    assert found["running"] is running
    assert found["data_directory"] == str(site.data)
    assert found["users"] == len(site.lists("users", "list"))
    if running:
        assert found["process"] == site.process.pid
        assert found["listeners"] == [f"127.0.0.1:{site.process.port}"]
    else:
        assert ran.err == f"amqp-broker: error: {site.data}: the broker does not run\n"


# -- queues and connections


def test_queues_are_listed_purged_and_deleted(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "data").start()
    site = Administered(process)
    try:
        with site.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for name in ("a", "b", "c", "d"):
                channel.queue_declare(name, durable=True, arguments={"x-max-length": 10})
                for _ in range(3):
                    channel.basic_publish("", name, b"m", persistent())
            channel.basic_consume("b", lambda *_: None)
            assert site.does("queues", "purge", "a") == "3 messages purged\n"
            assert site.does("queues", "delete", "c") == "3 messages removed with the queue\n"
            assert site.refuses("queues", "delete", "b", "--if-unused") == "queue 'b' in vhost '/' in use"
            assert site.refuses("queues", "delete", "d", "--if-empty") == "queue 'd' in vhost '/' not empty"
            row = {row["name"]: row for row in site.lists("queues", "list")}["b"]
            assert row["messages_unacknowledged"] == 3
            assert (row["consumers"], row["type"], row["durable"]) == (1, "classic", True)
            assert row["arguments"] == {"x-max-length": 10}
        assert process.stop() == 0
        assert [row["messages_ready"] for row in site.lists("queues", "list")] == [0, 3, 3]
        assert site.does("queues", "purge", "d") == "3 messages purged\n"
        assert site.does("queues", "delete", "b") == "3 messages removed with the queue\n"
        assert names(site.lists("queues", "list", "-p", "/")) == ["a", "d"]
        process.start()
        with site.connect() as connection:
            declared = connection.channel().queue_declare("d", passive=True)
            assert declared.method.message_count == 0
        assert names(site.lists("queues", "list")) == ["a", "d"]
        assert command("verify", str(process.data)).status == 0
        assert process.stop() == 0
    finally:
        process.kill()


def persistent() -> pika.BasicProperties:
    return pika.BasicProperties(delivery_mode=2)


def test_what_is_listed_in_pages_is_listed_whole(running: Administered) -> None:
    with running.connect() as connection:
        channel = connection.channel()
        for number in range(25):
            channel.queue_declare(f"q{number:02}", exclusive=True)
        broker = Broker(None, str(running.data))
        rows = broker.pages("queues.list", lambda row: [row["vhost"], row["name"]], most=10)
        assert names(rows) == [f"q{number:02}" for number in range(25)]
        with running.connect(), running.connect():
            rows = broker.pages("connections.list", lambda row: row["name"], most=1)
            assert len(set(map(str, names(rows)))) == 3


def test_connections_are_listed_and_closed(running: Administered) -> None:
    running.does("users", "add", "con", "--password-stdin", stdin="con")
    running.does("permissions", "set", "con", ".*", ".*", ".*")
    first, second, other = running.connect("con"), running.connect("con"), running.connect()
    first.channel()
    rows = running.lists("connections", "list", "--user", "con")
    assert [row["channels"] for row in rows].count(1) == 1
    for row in rows:
        assert (row["user"], row["vhost"], row["state"], row["tls"]) == ("con", "/", "running", False)
        assert row["product"].startswith("Pika")
    (mine,) = [row["name"] for row in rows if row["channels"]]
    assert running.does("connections", "close", mine, "--reason", "bye") == "1 connection closed\n"
    assert not is_open(first)
    assert is_open(second)
    assert running.does("connections", "close", "--user", "con") == "1 connection closed\n"
    assert not is_open(second)
    assert is_open(other)
    assert running.does("connections", "close", "--vhost", "/") == "1 connection closed\n"
    assert running.does("connections", "close", "--all") == "0 connections closed\n"
    assert not is_open(other)


# -- definitions


DEFINITIONS = {
    "vhosts": [{"name": "imported"}],
    "queues": [
        {"name": "q", "vhost": "imported", "durable": True},
        {"name": "t", "vhost": "imported", "durable": False},
    ],
}


def test_definitions_go_in_and_come_out(site: Administered, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(DEFINITIONS))
    ran = site.run("definitions", "import", str(file))
    assert (ran.status, ran.out) == (0, f"{file}: 1 virtual host and 2 queues\n")
    transient = f"{file}: warning: $.queues[1]: 't' is transient: a start will not find it\n"
    assert ran.err == ("" if site.process.running else transient)
    out = tmp_path / "out.json"
    site.does("definitions", "export", str(out))
    assert "imported" in names(json.loads(out.read_text())["vhosts"])
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert names(json.loads(site.does("definitions", "export", "-"))["users"])
    site.does("vhosts", "delete", "imported")


def test_definitions_with_a_mistake_change_nothing(site: Administered, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({**DEFINITIONS, "permissions": [{"user": "x", "vhost": "y"}]}))
    ran = site.run("definitions", "import", str(file))
    assert (ran.status, ran.out) == (1, "")
    lines = ran.err.splitlines()
    assert lines
    assert all(line.startswith(f"amqp-broker: error: {file}: $.permissions[0].") for line in lines)
    assert "imported" not in names(site.lists("vhosts", "list"))
    for octets in (b"\xff", b"{"):
        file.write_bytes(octets)
        assert site.refuses("definitions", "import", str(file)).startswith(f"{file}: $: not JSON: ")


def test_a_file_too_large_for_the_socket_is_refused(running: Administered, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"vhosts": [{"name": "large", "description": "x" * LONGEST_REQUEST}]}))
    text = running.refuses("definitions", "import", str(file))
    assert text == f"a request of more than {LONGEST_REQUEST} octets is too long"


# -- which broker, and who may ask


def test_where_there_is_no_broker_and_no_data_nothing_is_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    text = "no broker runs here, and there are no data of one"
    assert command("users", "list", "--data-dir", str(missing)).refusal == f"{missing}: {text}"
    assert not missing.exists()
    assert command("users", "list", "--data-dir", str(tmp_path)).refusal == f"{tmp_path}: {text}"
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_says_which_broker(tmp_path: Path) -> None:
    data = tmp_path / "elsewhere"
    make_store(data)
    config = tmp_path / "broker.toml"
    config.write_text(
        f'[data]\ndirectory = "{data}"\n[auth]\ndefault_user = "boss"\ndefault_vhost = "main"\n'
    )
    flags = ("--config", str(config))
    assert names(command("users", "list", "--format", "json", *flags).rows) == ["boss"]
    assert command("policies", "set", "p", ".", '{"max-length": 1}', *flags).status == 0
    assert command("policies", "list", "--format", "json", *flags).rows[0]["vhost"] == "main"
    config.write_text("[dta]\n")
    assert command("users", "list", *flags).refusal.startswith(f"{config}:1: ")


def test_a_directory_that_is_in_use_without_a_socket_is_said_to_be(tmp_path: Path) -> None:
    data = tmp_path / "data"
    directory = open_data_directory(str(data), embedded=True)
    try:
        assert command("users", "list", "--data-dir", str(data)).refusal == (
            f"{data}: data directory is in use by another broker (pid {os.getpid()}); "
            "it does not answer on its control socket: it may be starting or stopping"
        )
    finally:
        directory.close()


def unprivileged(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that no capability of root's helps."""
    program = [sys.executable, str(UNPRIVILEGED), *installed_command(), *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)


def test_who_may_not_is_told(running: Administered) -> None:
    path = running.data / "control.sock"
    path.chmod(0)
    ran = unprivileged("users", "list", "--data-dir", str(running.data))
    path.chmod(0o600)
    assert (ran.returncode, ran.stderr) == (1, f"amqp-broker: error: {path}: Permission denied\n")
    mode = stat.S_IMODE(running.data.stat().st_mode)
    running.data.chmod(0)
    ran = unprivileged("users", "list", "--data-dir", str(running.data))
    running.data.chmod(mode)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"amqp-broker: error: {running.data}: Permission denied: "
        "only the user that the broker runs as, and root, may change it\n"
    )


def test_commands_at_the_same_time_are_all_done(running: Administered) -> None:
    """Some come by the socket while others do."""
    broker = Broker(None, str(running.data))
    wanted = [f"user{number}" for number in range(12)]
    made: list[str] = []

    def add(name: str) -> None:
        broker.ask("users.add", name=name, password=name)
        made.append(name)

    threads = [threading.Thread(target=add, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(wanted)
    assert set(wanted) <= set(names(running.lists("users", "list")))


def test_two_who_change_a_stopped_broker_do_not_meet(tmp_path: Path) -> None:
    """The second finds the directory in use, or comes after the first: no change is lost without a word."""
    data = tmp_path / "data"
    make_store(data)
    commands = [
        subprocess.Popen(
            [*installed_command(), "users", "add", name, "--no-password", "--data-dir", str(data)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=30)[1] for process in commands]
    found = names(command("users", "list", "--data-dir", str(data), "--format", "json").rows)
    for process, name, text in zip(commands, ("one", "two"), said, strict=True):
        assert (name in found) is (process.returncode == 0)
        assert process.returncode == 0 or "data directory is in use by another broker" in text
    assert {"one", "two"} & set(found)


# -- passwords


class Terminal:
    """A command on a terminal of its running."""

    def __init__(self, *arguments: str) -> None:
        self._end, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [*installed_command(), *arguments],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509 - no thread of this test holds a lock
        )
        os.close(theirs)

    def expect(self, text: str) -> str:
        """All that the terminal shows until the text is there."""
        seen = ""
        while text not in seen:
            assert select.select([self._end], [], [], 20)[0], seen
            seen += os.read(self._end, 1024).decode()
        return seen

    def type(self, text: str) -> None:
        os.write(self._end, f"{text}\n".encode())

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=20)
        os.close(self._end)
        return self._process.returncode, out, err


def _own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    make_store(tmp_path)
    flags = ("--data-dir", str(tmp_path))
    terminal = Terminal("users", "add", "typed", *flags)
    shown = terminal.expect("Password for typed: ")
    terminal.type("s3cret")
    shown += terminal.expect("The same again: ")
    terminal.type("s3cret")
    assert terminal.end() == (0, "", "")
    assert "s3cret" not in shown
    assert command("users", "authenticate", "typed", "--password-stdin", *flags, stdin="s3cret").status == 0


def test_passwords_that_differ_are_not_taken(tmp_path: Path) -> None:
    make_store(tmp_path)
    terminal = Terminal("users", "add", "typed", "--data-dir", str(tmp_path))
    terminal.expect("Password for typed: ")
    terminal.type("one")
    terminal.expect("The same again: ")
    terminal.type("other")
    assert terminal.end() == (1, "", "amqp-broker: error: the two passwords differ\n")
    assert names(command("users", "list", "--data-dir", str(tmp_path), "--format", "json").rows) == ["guest"]


def test_where_there_is_no_terminal_that_is_said(tmp_path: Path) -> None:
    make_store(tmp_path)
    ran = subprocess.run(
        [*installed_command(), "users", "add", "x", "--data-dir", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "amqp-broker: error: there is no terminal to ask for the password on; "
        "--password-stdin reads it from standard input\n"
    )


def test_a_password_that_is_no_text_is_said(tmp_path: Path) -> None:
    make_store(tmp_path)
    ran = command("users", "add", "x", "--password-stdin", "--data-dir", str(tmp_path), stdin="\x00")
    assert ran.status == 0
    ran = subprocess.run(
        [*installed_command(), "users", "add", "y", "--password-stdin", "--data-dir", str(tmp_path)],
        input=b"\xff\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ran.stderr == b"amqp-broker: error: the password on standard input is not UTF-8\n"


# -- what lasts


def test_changes_of_a_running_broker_are_there_after_a_kill(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "data").start()
    site = Administered(process)
    try:
        site.does("vhosts", "add", "kept")
        site.does("users", "add", "kim", "--password-stdin", stdin="kim")
        site.does("permissions", "set", "kim", ".*", ".*", ".*", "-p", "kept")
        site.does("policies", "set", "p", ".", '{"max-length": 1}', "-p", "kept")
        site.does("limits", "set", "max-queues=1", "-p", "kept")
        process.kill()
        before = [site.lists(*what) for what in LISTS]
        process.start()
        assert [site.lists(*what) for what in LISTS] == before
        with site.connect("kim", "kept") as connection:
            connection.channel().queue_declare("q", exclusive=True)
        assert process.stop() == 0
    finally:
        process.kill()


LISTS = [
    ("users", "list"),
    ("vhosts", "list"),
    ("permissions", "list"),
    ("policies", "list"),
    ("limits", "list"),
]


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_what_the_configuration_made_stays_away_once_it_was_removed(tmp_path: Path, running: bool) -> None:
    process = BrokerProcess(tmp_path / "data")
    site = Administered(process)
    try:
        if running:
            process.start()
        else:
            make_store(process.data)
        site.does("users", "add", "boss", "--password-stdin", "--tag", "administrator", stdin="boss")
        site.does("vhosts", "add", "other")
        site.does("permissions", "set", "boss", ".*", ".*", ".*", "-p", "other")
        site.does("users", "delete", "guest")
        site.does("vhosts", "delete", "/")
        if running:
            process.kill()
        process.start()
        assert names(site.lists("users", "list")) == ["boss"]
        assert names(site.lists("vhosts", "list")) == ["other"]
        assert command("verify", str(process.data)).out.endswith("; sound\n")
        site.does("users", "add", "guest", "--no-password")
        site.does("vhosts", "add", "/")
        process.kill()
        process.start()
        assert names(site.lists("users", "list")) == ["boss", "guest"]
        assert names(site.lists("vhosts", "list")) == ["/", "other"]
        assert site.lists("permissions", "list", "--user", "guest") == []
        site.does("users", "delete", "guest")
        process.kill()
        assert names(site.lists("users", "list")) == ["boss"]
    finally:
        process.kill()


def test_names_cannot_write_to_the_terminal() -> None:
    rows = [{"name": "a\x1b[31m\nb", "values": ["\u202e"], "more": {"k": "\x07"}, "none": None, "yes": True}]
    lines = columns(rows)
    assert lines[1].split() == ["a\\x1b[31m\\nb", "\\u202e", '{"k":"\\u0007"}', "yes"]
    assert all(line.isprintable() for line in lines)
    assert columns([]) == []

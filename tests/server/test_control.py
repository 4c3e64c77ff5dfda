"""The control socket: who may open it, what it stands, and that clients see at once what it changes."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from amqp_broker.server.commits import RETRY, STORE_FAILS
from amqp_broker.server.control import COMMIT_PATIENCE, LONGEST_REQUEST, MOST, REQUEST_PATIENCE
from amqp_broker.server.control_place import NAME, connect, exchange, short_path
from amqp_broker.server.server import TICK
from amqp_broker.server.unix_socket import UnixSocket
from tests.cli.administered import Administered, administered, ending_of, is_open
from tests.server.broker_process import BrokerProcess
from tests.server.moved_clock import MovedBroker
from tests.server.secure import eventually

NOBODY = 65534


class Refusal(Exception):
    """kind and text of what the broker refuses."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


def opened(site: Administered) -> socket.socket:
    connected = connect(site.data)
    assert connected is not None
    connected.settimeout(20)
    return connected


def answer_to(connected: socket.socket, line: bytes) -> Any:
    answer = json.loads(exchange(connected, line))
    if "error" in answer:
        raise Refusal(answer["error"]["kind"], answer["error"]["text"])
    return answer["result"]


def ask(site: Administered, verb: str, **arguments: object) -> Any:
    with opened(site) as connected:
        return answer_to(connected, json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")


def add_user(site: Administered, name: str, vhost: str = "/") -> None:
    """One with all rights in a virtual host, whose password is the name."""
    ask(site, "users.add", name=name, password=name)
    ask(site, "permissions.set", user=name, vhost=vhost, configure=".*", write=".*", read=".*")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administered]:
    """One for all tests, so each has names of its own."""
    with administered(tmp_path_factory.mktemp("control"), running=True) as site:
        yield site


def wait_until(happened: Callable[[], object], site: Administered) -> None:
    eventually(happened, site.process.stderr)


# -- what clients see


def test_a_deleted_users_connections_are_closed_in_rabbitmqs_words(site: Administered) -> None:
    add_user(site, "leaves")
    with site.connect() as other:
        connection = site.connect("leaves")
        ask(site, "users.delete", name="leaves")
        assert ending_of(connection) == (320, "CONNECTION_FORCED - user 'leaves' is deleted")
        assert is_open(other)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        site.connect("leaves")


def test_a_deleted_virtual_hosts_connections_are_closed_in_rabbitmqs_words(site: Administered) -> None:
    ask(site, "vhosts.add", name="goes")
    add_user(site, "host", "goes")
    connection = site.connect("host", "goes")
    connection.channel().queue_declare("q", durable=True)
    ask(site, "vhosts.delete", name="goes")
    assert ending_of(connection) == (320, "CONNECTION_FORCED - vhost 'goes' is deleted")
    ask(site, "vhosts.add", name="goes")
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        site.connect("host", "goes")
    assert ask(site, "queues.list", vhost="goes") == []


def test_a_new_password_counts_from_the_next_login_on(site: Administered) -> None:
    add_user(site, "secret")
    with site.connect("secret") as connection:
        ask(site, "users.set_password", name="secret", password="other")
        assert is_open(connection)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        site.connect("secret")
    site.connect("secret", password="other").close()
    ask(site, "users.clear_password", name="secret")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        site.connect("secret", password="other")


def refused(channel: BlockingChannel, attempt: Callable[[BlockingChannel], object]) -> int:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        attempt(channel)
        channel.queue_declare("", exclusive=True)
    code: int = caught.value.reply_code
    return code


def test_rights_change_in_open_channels(site: Administered) -> None:
    add_user(site, "righted")
    with site.connect("righted") as connection:
        publisher, consumer = connection.channel(), connection.channel()
        queue = consumer.queue_declare("righted", exclusive=True).method.queue
        publisher.confirm_delivery()
        publisher.basic_publish("", queue, b"")
        publisher.basic_publish("amq.topic", "a.b", b"")
        ask(
            site,
            "topic_permissions.set",
            user="righted",
            vhost="/",
            exchange="amq.topic",
            write="^x",
            read="",
        )
        assert refused(publisher, lambda channel: channel.basic_publish("amq.topic", "a.b", b"")) == 403
        gone: list[object] = []
        consumer.add_on_cancel_callback(gone.append)
        consumer.basic_consume(queue, lambda *_: None)
        ask(site, "permissions.set", user="righted", vhost="/", configure=".*", write=".*", read="^none")
        wait_until(lambda: connection.process_data_events(0.01) is None and bool(gone), site)
        ask(site, "permissions.clear", user="righted", vhost="/")
        text = "CONNECTION_FORCED - access to vhost '/' refused for user 'righted'"
        assert ending_of(connection) == (320, text)


def test_tags_count_at_once(site: Administered) -> None:
    add_user(site, "tagged")
    with site.connect("tagged") as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        ask(site, "users.set_tags", name="tagged", tags=["impersonator"])
        channel.basic_publish("amq.fanout", "", b"", pika.BasicProperties(user_id="guest"))
        ask(site, "users.set_tags", name="tagged", tags=[])
        as_guest = pika.BasicProperties(user_id="guest")
        assert refused(channel, lambda channel: channel.basic_publish("amq.fanout", "", b"", as_guest)) == 406


def test_policies_are_followed_at_once(site: Administered) -> None:
    with site.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("followed", exclusive=True)
        for _ in range(5):
            channel.basic_publish("", "followed", b"")
        ask(site, "policies.set", vhost="/", name="short", pattern="^followed$", definition={"max-length": 2})
        (row,) = [row for row in ask(site, "queues.list") if row["name"] == "followed"]
        assert (row["messages_ready"], row["policy"]) == (2, "short")
        ask(site, "policies.clear", vhost="/", name="short")


def test_limits_count_at_once(site: Administered) -> None:
    add_user(site, "few")
    with site.connect("few"):
        ask(site, "limits.set", user="few", limits={"max-connections": 1})
        with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
            site.connect("few")
        ask(site, "limits.clear", user="few")
        site.connect("few").close()


def test_a_closed_connection_is_told_why(site: Administered) -> None:
    add_user(site, "closed")
    connection = site.connect("closed")
    assert ask(site, "connections.close", user="closed", reason="maintenance") == {"closed": 1}
    assert ending_of(connection) == (320, "CONNECTION_FORCED - maintenance")


def test_one_that_has_not_logged_in_can_be_closed(site: Administered) -> None:
    with socket.create_connection(("127.0.0.1", site.process.port), timeout=20) as silent:
        here = "{}:{}".format(*silent.getsockname())
        name = f"{here} -> 127.0.0.1:{site.process.port}"
        wait_until(lambda: name in [row["name"] for row in ask(site, "connections.list")], site)
        (row,) = [row for row in ask(site, "connections.list") if row["name"] == name]
        assert (row["state"], row["user"], row["vhost"], row["product"]) == ("pre_init", "", "", "")
        assert ask(site, "connections.close", name=name) == {"closed": 1}
        assert silent.recv(1) == b""


def test_a_queue_that_others_use_is_deleted_from_under_them(site: Administered) -> None:
    with site.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("taken", exclusive=True)
        gone: list[object] = []
        channel.add_on_cancel_callback(gone.append)
        channel.basic_consume("taken", lambda *_: None)
        assert ask(site, "queues.delete", vhost="/", name="taken") == {"messages": 0}
        wait_until(lambda: connection.process_data_events(0.01) is None and bool(gone), site)
        assert channel.is_open


def test_queues_for_direct_replies_are_nobodys_to_see(site: Administered) -> None:
    with site.connect() as connection:
        channel = connection.channel()
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)
        assert not [row for row in ask(site, "queues.list") if "reply-to" in row["name"]]


def test_the_state_counts_what_is_open(site: Administered) -> None:
    with site.connect() as connection:
        connection.channel().queue_declare("counted", exclusive=True)
        connection.channel()
        found = ask(site, "status")
        (row,) = ask(site, "connections.list", user="guest")
        assert (found["connections"], found["channels"], row["channels"]) == (1, 2, 2)
        assert found["queues"] == len(ask(site, "queues.list"))
        assert found["alarms"] == []


# -- who may ask


def test_only_the_owner_can_open_it(site: Administered) -> None:
    found = (site.data / NAME).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(site.data.stat().st_mode) == 0o700


BECOMES_NOBODY = f"""
import os, socket, sys
connected = socket.socket(socket.AF_UNIX)
connected.settimeout(20)
if os.geteuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
connected.connect(sys.argv[1])
try:
    connected.sendall(b'{{"verb": "status"}}\\n')
except BrokenPipeError:
    pass  # refused before it asked
print(connected.recv(65536).decode(), end="")
"""


def test_another_user_is_not_heard_even_if_the_modes_let_it_in(tmp_path: Path) -> None:
    """Only root can become somebody else; as anybody else one is the owner, and heard."""
    with administered(tmp_path, running=True) as site:
        site.data.chmod(0o755)
        (site.data / NAME).chmod(0o666)
        ran = subprocess.run(
            [sys.executable, "-c", BECOMES_NOBODY, NAME],
            cwd=site.data,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        answer = json.loads(ran.stdout)
        if os.geteuid() == 0:
            text = "permission denied: the control socket is for user id 0 and for root"
            assert answer["error"]["text"] == text
            assert f"user id {NOBODY} may not use the control socket" in site.process.stderr()
        else:
            assert answer["result"]["running"] is True


def test_a_change_is_logged_with_who_made_it_and_without_the_password(site: Administered) -> None:
    ask(site, "users.add", name="logged", password="hidden-word")
    line = f"control: users.add name 'logged', by user id {os.geteuid()}, process {os.getpid()}\n"
    assert line in site.process.stderr()
    with pytest.raises(Refusal):
        ask(site, "users.add", name="evil\n[ERROR] forged", password="hidden-word", tags=5)
    ask(site, "users.add", name="evil\n[ERROR] forged", password="hidden-word")
    assert not re.search(r"^\[ERROR\]", site.process.stderr(), re.MULTILINE)
    assert "hidden-word" not in site.process.stderr()


# -- where it is


def test_it_goes_when_the_broker_stops_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "data").start()
    site = Administered(process)
    try:
        process.kill()
        assert (site.data / NAME).exists()
        assert connect(site.data) is None
        assert not site.lists("users", "list")[0]["limits"]
        process.start()
        assert ask(site, "status")["process"] == process.pid
        assert process.stop() == 0
        assert not (site.data / NAME).exists()
    finally:
        process.kill()


def test_a_data_directory_may_lie_as_deep_as_it_likes(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("é" * 60) / "further"
    deep.mkdir(parents=True)
    with administered(deep, running=True) as site:
        assert ask(site, "status")["data_directory"] == str(site.data)
        site.does("users", "add", "deep", "--no-password")
        assert [row["name"] for row in site.lists("users", "list")] == ["deep", "guest"]


def test_a_broker_serves_where_there_can_be_no_socket(tmp_path: Path) -> None:
    process = BrokerProcess(tmp_path / "data")
    (process.data / NAME).mkdir(parents=True)
    try:
        process.start()
        Administered(process).connect().close()
        assert f"there is no control socket in {process.data}: there is a file that is not a socket" in (
            process.stderr()
        )
        assert process.stop() == 0
        assert (process.data / NAME).is_dir()
    finally:
        process.kill()


def test_where_many_connect_at_once_each_has_its_turn(tmp_path: Path) -> None:
    with short_path(tmp_path) as path:
        listener = UnixSocket(path, 0)
    listener.socket.setblocking(True)
    waiting = [socket.socket(socket.AF_UNIX)]
    with short_path(tmp_path) as path, pytest.raises(BlockingIOError):
        while True:
            waiting[-1].setblocking(False)
            waiting[-1].connect(path)
            waiting.append(socket.socket(socket.AF_UNIX))
    connected: list[socket.socket | None] = []
    last = threading.Thread(target=lambda: connected.append(connect(tmp_path)))
    last.start()
    accepted = [listener.socket.accept()[0] for _ in waiting]
    last.join()
    assert connected[0] is not None
    for each in (*accepted, *waiting, connected[0], listener.socket):
        each.close()


# -- what it stands


NO_REQUESTS: list[bytes] = [
    b"\n",
    b"users.list\n",
    b"[]\n",
    b"null\n",
    b"{}\n",
    b'{"verb": 1}\n',
    b'{"verb": "users.list", "arguments": []}\n',
    b'{"verb": "users.list", "more": 1}\n',
    b'{"verb": "users.list", "arguments": {"name": "x"}}\n',
    b'{"verb": "users.delete"}\n',
    b'{"verb": "users.delete", "arguments": {"name": null}}\n',
    b'{"verb": "users.delete", "arguments": {"name": "\\ud800"}}\n',
    b'{"verb": "users.delete", "arguments": {"name": "\xff"}}\n',
    b'{"verb": "queues.list", "arguments": {"most": 0}}\n',
    b'{"verb": "queues.list", "arguments": {"most": 1001}}\n',
    b'{"verb": "queues.list", "arguments": {"after": ["x"]}}\n',
    b'{"verb": "no.such"}\n',
    b'{"verb": "__init__"}\n',
    b'{"verb": "parameters.set", "arguments": ' + b"[" * 100_000 + b"\n",
    b'{"verb": "limits.set", "arguments": {"user": "guest", "limits": {"max-channels": "1"}}}\n',
    b'{"verb": "limits.set", "arguments": {"user": "guest", "limits": {"max-channels": 1e400}}}\n',
    b'{"verb": "limits.set", "arguments": {"user": "guest", "limits": {"max-channels": 9223372036854775808}}}\n',
    b'{"verb": "parameters.set", "arguments": {"name": "n", "value": [-9223372036854775809]}}\n',
    b"AMQP\x00\x00\x09\x01\n",
    b"\x00\n",
]


@pytest.mark.parametrize("line", NO_REQUESTS, ids=lambda line: repr(line[:40]))
def test_what_is_no_request_is_refused_and_the_next_is_answered(site: Administered, line: bytes) -> None:
    with opened(site) as connected:
        with pytest.raises(Refusal) as caught:
            answer_to(connected, line)
        assert caught.value.kind == "invalid"
        assert answer_to(connected, b'{"verb": "status"}\n')["running"] is True


@pytest.mark.parametrize("levels", [65, 900])
def test_values_that_a_start_could_not_read_are_not_taken(site: Administered, levels: int) -> None:
    value = b"[" * levels + b"]" * levels
    arguments = b'"vhost": "/", "name": "deep", '
    for request in (
        b'{"verb": "parameters.set", "arguments": {'
        + arguments
        + b'"component": "c", "value": '
        + value
        + b"}}\n",
        b'{"verb": "policies.set", "arguments": {'
        + arguments
        + b'"pattern": "", "definition": {"max-length": '
        + value
        + b"}}}\n",
    ):
        with opened(site) as connected, pytest.raises(Refusal) as caught:
            answer_to(connected, request)
        assert "more than 64 levels" in caught.value.text


def test_values_as_deep_as_may_be_are_kept(site: Administered) -> None:
    value = b"[" * 64 + b"]" * 64
    arguments = b'{"vhost": "/", "component": "c", "name": "deep", "value": ' + value + b"}"
    with opened(site) as connected:
        answer_to(connected, b'{"verb": "parameters.set", "arguments": ' + arguments + b"}\n")
        rows = exchange(connected, b'{"verb": "parameters.list", "arguments": {"vhost": "/"}}\n')
        assert value in rows
    ask(site, "parameters.clear", vhost="/", component="c", name="deep")


def test_a_request_that_is_too_long_is_refused_before_it_ends(site: Administered) -> None:
    with opened(site) as connected:
        with pytest.raises(Refusal) as caught:
            answer_to(connected, b'{"verb": "' + b"x" * (LONGEST_REQUEST + 100_000))
        assert caught.value.text == f"a request of more than {LONGEST_REQUEST} octets is too long"
        assert ended(connected)


def ended(connected: socket.socket) -> bool:
    try:
        return connected.recv(1) == b""
    except ConnectionError:
        return True


def test_requests_may_come_in_pieces_and_several_at_once(site: Administered) -> None:
    request = b'{"verb": "users.show", "arguments": {"name": "guest"}}\n'
    with opened(site) as connected:
        for octet in request[:-1]:
            connected.sendall(bytes([octet]))
        assert answer_to(connected, b"\n")["name"] == "guest"
        connected.sendall(request * 50)
        with connected.makefile("rb") as answers:
            for _ in range(50):
                assert json.loads(answers.readline())["result"]["name"] == "guest"


def test_one_connection_too_many_is_told_so(site: Administered) -> None:
    idle = [opened(site) for _ in range(MOST)]
    for connected in idle:
        assert answer_to(connected, b'{"verb": "status"}\n')["running"] is True
    with opened(site) as further, pytest.raises(Refusal) as caught:
        answer_to(further, b'{"verb": "status"}\n')
    assert caught.value.text == f"there are {MOST} connections to the control socket already"
    for connected in idle:
        connected.close()
    wait_until(lambda: is_answered(site), site)


def is_answered(site: Administered) -> bool:
    try:
        return bool(ask(site, "status")["running"])
    except Refusal:
        return False


def test_floods_do_not_keep_clients_waiting(site: Administered) -> None:
    """Those who ask without end, and those who do not take their answers, are some among many."""
    request = b'{"verb": "users.list"}\n' * 1000
    floods = [opened(site) for _ in range(MOST - 1)]
    for flood in floods:
        flood.setblocking(False)
    with site.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("calm", exclusive=True)
        channel.confirm_delivery()
        slowest = 0.0
        for _ in range(20):
            for flood in floods:
                pour(flood, request)
            before = time.monotonic()
            channel.basic_publish("", "calm", b"m")
            assert channel.basic_get("calm", auto_ack=True)[2] == b"m"
            slowest = max(slowest, time.monotonic() - before)
    for flood in floods:
        flood.close()
    assert slowest < 5
    wait_until(lambda: is_answered(site), site)
    descriptors = f"/proc/{site.process.pid}/fd"
    wait_until(lambda: len(os.listdir(descriptors)) < 60, site)


def pour(flood: socket.socket, request: bytes) -> None:
    try:
        flood.send(request)
    except BlockingIOError:
        return


def test_who_hangs_up_is_forgotten(site: Administered) -> None:
    for line in (
        b"",
        b'{"verb": ',
        b'{"verb": "users.list"}\n',
        b'{"verb": "users.add", "arguments": {"name": ',
    ):
        with opened(site) as connected:
            connected.sendall(line)
    ask(site, "users.list")
    with opened(site) as connected:
        request = {"verb": "users.add", "arguments": {"name": "unheard", "password": "unheard"}}
        connected.sendall(json.dumps(request).encode() + b"\n")
    wait_until(lambda: "unheard" in [row["name"] for row in ask(site, "users.list")], site)


# -- time


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[tuple[MovedBroker, socket.socket]]:
    """A broker whose time is moved, and a connection to its control socket that has been answered once."""
    with MovedBroker(tmp_path / "data").running() as broker:
        connected = connect(broker.directory)
        assert connected is not None
        with connected:
            connected.settimeout(20)
            assert answer_to(connected, b'{"verb": "status"}\n')["uptime_seconds"] == 0
            yield broker, connected


def test_who_asks_nothing_is_disconnected(moved: tuple[MovedBroker, socket.socket]) -> None:
    broker, connected = moved
    broker.advance(REQUEST_PATIENCE - 1)
    assert answer_to(connected, b'{"verb": "status"}\n')["uptime_seconds"] == REQUEST_PATIENCE - 1
    connected.sendall(b'{"verb": ')
    broker.advance(REQUEST_PATIENCE)
    assert ended(connected)


def test_a_change_that_cannot_reach_the_disk_is_not_called_done(
    moved: tuple[MovedBroker, socket.socket],
) -> None:
    broker, connected = moved
    away = broker.directory.with_name("away")
    broker.directory.rename(away)
    connected.sendall(b'{"verb": "users.add", "arguments": {"name": "late"}}\n')
    wait_for(lambda: broker.look(lambda server: server._commits.failing))
    broker.advance(COMMIT_PATIENCE)
    answer = json.loads(connected.recv(65536))
    assert answer["error"]["text"] == (
        f"done, but not on the disk yet, so that a restart may undo it: {STORE_FAILS}"
    )
    away.rename(broker.directory)

    def goes_on() -> bool:
        # The last attempt may have failed only now, and the next one be due from here on.
        broker.advance(RETRY)
        return broker.look(lambda server: server._commits.failing is None)

    wait_for(goes_on)
    assert answer_to(connected, b'{"verb": "users.show", "arguments": {"name": "late"}}\n')["name"] == "late"


def test_who_publishes_during_an_alarm_is_listed_as_blocked_until_it_is_over(
    moved: tuple[MovedBroker, socket.socket],
) -> None:
    broker, connected = moved

    def states() -> list[str]:
        rows = answer_to(connected, b'{"verb": "connections.list"}\n')
        return sorted(row["state"] for row in rows)

    publisher = broker.dial()
    broker.dial()
    channel = publisher.channel()
    away = broker.directory.with_name("away")
    broker.directory.rename(away)
    broker.advance(TICK)
    assert states() == ["running", "running"]
    channel.publish("held back", exchange="amq.fanout")
    wait_for(lambda: states() == ["blocked", "running"])
    away.rename(broker.directory)
    broker.advance(TICK)
    assert states() == ["running", "running"]


def wait_for(happened: Callable[[], object]) -> None:
    eventually(happened, lambda: "it did not happen")

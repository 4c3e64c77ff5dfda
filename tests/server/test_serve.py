"""`amqp-broker serve` as an operator meets it: its line, exit statuses, one-line errors and signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aio_pika
import lmdb
import pika
import pytest
from pika.exceptions import AMQPConnectionError, ConnectionClosedByBroker

from amqp_broker.content.table import table_of
from amqp_broker.session.settings import SessionSettings
from amqp_broker.store import records
from amqp_broker.store.environment import open_environment
from tests.server.blocking import PERSISTENT, Inbox, drain, wait_until
from tests.server.broker_process import READY, BrokerProcess, free_port, installed_command
from tests.server.raw import RawChannel, short_string
from tests.server.target import RunningBroker

# Seconds for which a client's answer to a close is waited for.
CLOSE_TIMEOUT = SessionSettings(table_of({})).close_timeout
SHUTDOWN = (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")


def connect(broker: BrokerProcess) -> pika.BlockingConnection:
    return RunningBroker(broker.port).connect()


def refused(*arguments: str) -> str:
    """The one line on stderr of a `serve` that must fail, without what every such line begins with."""
    done = subprocess.run(
        [*installed_command(), "serve", *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode not in {0, None}
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def running(own_broker: BrokerProcess) -> Iterator[BrokerProcess]:
    own_broker.start()
    yield own_broker
    own_broker.kill()
    assert "Traceback" not in own_broker.stderr(), own_broker.stderr()


def test_the_line_names_version_address_and_data_directory(running: BrokerProcess) -> None:
    found = READY.match(running.ready_line)
    assert found is not None
    version = subprocess.run([*installed_command(), "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == f"amqp-broker {found['version']} ({found['build']})"
    assert found["addresses"] == f"127.0.0.1:{running.port}"
    assert Path(found["data"]) == running.data
    assert running.data.is_dir()


def test_it_takes_connections_as_soon_as_its_line_is_out(tmp_path: Path) -> None:
    for number in range(6):
        broker = BrokerProcess(tmp_path / f"data{number}").start()
        try:
            socket.create_connection(("127.0.0.1", broker.port), timeout=30).close()
        finally:
            broker.kill()


def test_port_zero_takes_a_free_port(running: BrokerProcess, tmp_path: Path) -> None:
    other = BrokerProcess(tmp_path / "other", ["--port", "0"]).start()
    try:
        assert 0 < other.port != running.port > 0
        for broker in (running, other):
            with connect(broker) as connection:
                connection.channel().queue_declare("", exclusive=True)
    finally:
        other.kill()


def test_the_bind_address_is_listened_on(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", ["--bind", "127.0.0.2"]).start()
    try:
        assert f"listening on 127.0.0.2:{broker.port}," in broker.ready_line
        with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.2", broker.port)) as connection:
            connection.channel().queue_declare("", exclusive=True)
    finally:
        broker.kill()


def test_the_data_directory_is_private(running: BrokerProcess) -> None:
    assert running.data.stat().st_mode & 0o777 == 0o700


def waits_for_nobody(broker: BrokerProcess, end: Callable[[], float]) -> None:
    """What it takes to end is less than a client's answer is waited for: not always, as the machine may stand still."""
    for _ in range(3):
        if end() < CLOSE_TIMEOUT:
            return
        broker.start()
    raise AssertionError("it took as long as if it had waited for a client")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_zero_and_tells_its_clients(running: BrokerProcess, number: int) -> None:
    def end() -> float:
        idle, consuming = connect(running), connect(running)
        channel = consuming.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        Inbox(channel, queue)
        running.send_signal(number)
        for connection in (idle, consuming):
            with pytest.raises(ConnectionClosedByBroker) as closed:
                wait_until(connection, lambda: False, "the broker's close")
            assert (closed.value.reply_code, closed.value.reply_text) == SHUTDOWN
        started = time.monotonic()
        assert running.wait_ended() == 0
        return time.monotonic() - started

    waits_for_nobody(running, end)
    with pytest.raises(AMQPConnectionError):
        connect(running)


@pytest.mark.anyio
async def test_aio_pika_is_told_the_reason_too(running: BrokerProcess) -> None:
    connection = await aio_pika.connect(RunningBroker(running.port).url)
    assert connection.transport is not None
    closing = connection.transport.connection.closing
    running.send_signal(signal.SIGTERM)
    with pytest.raises(aio_pika.exceptions.ConnectionClosed) as closed:
        await closing
    assert closed.value.args == SHUTDOWN
    assert running.wait_ended() == 0


def test_a_stop_without_clients_takes_no_time(running: BrokerProcess) -> None:
    def end() -> float:
        started = time.monotonic()
        assert running.stop() == 0
        return time.monotonic() - started

    waits_for_nobody(running, end)


def test_accepted_but_unconfirmed_messages_are_committed_on_the_way_out(running: BrokerProcess) -> None:
    channel = connect(running).channel()
    channel.queue_declare("q", durable=True)
    for number in range(2000):
        channel.basic_publish("", "q", b"%d" % number, PERSISTENT)
    channel.queue_declare("q", passive=True)
    running.send_signal(signal.SIGTERM)
    with pytest.raises(ConnectionClosedByBroker):
        wait_until(channel.connection, lambda: False, "the broker's close")
    assert running.wait_ended() == 0
    running.start()
    with connect(running) as connection:
        assert drain(connection.channel(), "q") == [b"%d" % number for number in range(2000)]


class SilentClient:
    """A client that reads but never answers, so that a broker that stops has something to wait for."""

    def __init__(self, port: int) -> None:
        self.raw = RawChannel(port)

    def wait_for_close(self) -> tuple[int, bytes]:
        arguments = self.raw.expect(10, 50)
        (code,) = struct.unpack(">H", arguments[:2])
        return code, arguments[2 : 3 + arguments[2]]


def test_a_client_that_does_not_answer_cannot_hold_up_the_stop(running: BrokerProcess) -> None:
    client = SilentClient(running.port)
    with client.raw:
        started = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert client.wait_for_close() == (SHUTDOWN[0], short_string(SHUTDOWN[1]))
        assert running.wait_ended() == 0
        assert time.monotonic() - started < CLOSE_TIMEOUT + 20


def test_a_second_signal_ends_it_at_once(running: BrokerProcess) -> None:
    client = SilentClient(running.port)
    with client.raw:
        running.send_signal(signal.SIGTERM)
        client.wait_for_close()
        running.send_signal(signal.SIGTERM)
        assert running.wait_ended() != 0
        # Which is what it says after it has waited.
        assert "closed connection" not in running.stderr()


def test_a_second_signal_loses_nothing_that_was_confirmed(running: BrokerProcess) -> None:
    channel = connect(running).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"confirmed", PERSISTENT)
    client = SilentClient(running.port)
    with client.raw:
        running.send_signal(signal.SIGTERM)
        client.wait_for_close()
        running.send_signal(signal.SIGINT)
        running.wait_ended()
    with pytest.raises(AMQPConnectionError):
        wait_until(channel.connection, lambda: False, "the broker's end")
    running.start()
    with connect(running) as connection:
        assert drain(connection.channel(), "q") == [b"confirmed"]


def test_what_it_recovered_is_logged(running: BrokerProcess) -> None:
    assert re.search(r"\b0 queues\b.*\b0 messages\b", running.stderr())
    with connect(running) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for queue in ("a", "b"):
            channel.queue_declare(queue, durable=True)
        channel.queue_declare("transient")
        for _ in range(7):
            channel.basic_publish("", "a", b"m", PERSISTENT)
        channel.basic_publish("", "a", b"transient")
    running.kill()
    running.start()
    assert re.search(r"\b2 queues\b.*\b7 messages\b", running.stderr()), running.stderr()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert f"127.0.0.1:{port}" in line
    assert "in use" in line


def test_a_data_directory_in_use_is_one_line_and_harms_nobody(running: BrokerProcess) -> None:
    line = refused("--port", "0", "--data-dir", str(running.data))
    assert str(running.data) in line
    assert "in use by another broker" in line
    with connect(running) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"still serving", PERSISTENT)


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert str(tmp_path / "file") in refused("--port", "0", "--data-dir", str(tmp_path / "file" / "data"))


def test_a_newer_schema_is_one_line_and_left_as_it_is(running: BrokerProcess) -> None:
    newer = records.SCHEMA_VERSION + 1
    assert running.stop() == 0
    write_schema_version(running.data, newer)
    line = refused("--port", "0", "--data-dir", str(running.data))
    assert str(running.data) in line
    assert f"schema version is {newer}" in line
    assert f"up to {records.SCHEMA_VERSION}" in line
    write_schema_version(running.data, records.SCHEMA_VERSION)
    running.start()


def write_schema_version(data: Path, version: int) -> None:
    environment: lmdb.Environment = open_environment(str(data))
    try:
        meta = environment.open_db(records.META)
        with environment.begin(write=True) as transaction:
            transaction.put(records.SCHEMA_KEY, records.U64.pack(version), db=meta)
    finally:
        environment.close()


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("[listeners\ntcp = 1\n", ".toml:1: not valid TOML"),
        ("[protocol]\nheartbeet = 60\n", "heartbeat"),
        ('[protocol]\nheartbeat = "often"\n', "heartbeat"),
        ("[nonsense]\nx = 1\n", "nonsense"),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(tmp_path: Path, text: str, mentions: str) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(text)
    line = refused("--config", str(file), "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert str(file) in line
    assert mentions in line
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_is_missing_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert str(missing) in refused(
        "--config", str(missing), "--port", "0", "--data-dir", str(tmp_path / "data")
    )


def test_a_configuration_file_is_used(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('[protocol]\nchannel_max = 7\nproduct = "Another"\n')
    broker = BrokerProcess(tmp_path / "data", ["--config", str(file)]).start()
    try:
        with connect(broker) as connection:
            assert connection._impl.params.channel_max == 7
            assert connection._impl.server_properties["product"] == "Another"
    finally:
        broker.kill()


def test_a_dead_writer_stops_the_broker_with_one_error(own_broker: BrokerProcess) -> None:
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.queue_declare("q", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"confirmed", PERSISTENT)
    (writer,) = own_broker.writers()
    os.kill(writer, signal.SIGKILL)
    with pytest.raises(AMQPConnectionError):
        channel.basic_publish("", "q", b"never confirmed", PERSISTENT)
    assert own_broker.wait_ended() != 0
    assert "Traceback" not in own_broker.stderr(), own_broker.stderr()
    assert "writer" in own_broker.stderr() or "store" in own_broker.stderr()
    own_broker.start()
    with connect(own_broker) as connection:
        assert drain(connection.channel(), "q")[0] == b"confirmed"


def test_a_broker_can_be_started_again_at_once_after_a_kill(own_broker: BrokerProcess) -> None:
    """The orphaned writer may still hold the store; the next broker waits for it rather than fails."""
    own_broker.start()
    for round_number in range(3):
        with RawChannel(own_broker.port) as raw:
            raw.send_method(1, 50, 10, b"\x00\x00" + short_string("q") + b"\x02" + b"\x00\x00\x00\x00")
            raw.expect(50, 11)
            own_broker.kill(whole_group=False)
        own_broker.start()
        with connect(own_broker) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", "q", b"%d" % round_number, PERSISTENT, mandatory=True)
    with connect(own_broker) as connection:
        assert drain(connection.channel(), "q") == [b"0", b"1", b"2"]


def test_a_free_port_stays_the_same_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    broker = BrokerProcess(tmp_path / "data", port=port).start()
    try:
        assert broker.port == port
        assert broker.stop() == 0
        assert broker.start().port == port
    finally:
        broker.kill()

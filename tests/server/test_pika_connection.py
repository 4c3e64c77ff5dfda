"""pika: opening, tuning, refusing and closing connections and channels."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Any

import pika
import pytest
from pika import exceptions

from tests.server.blocking import WAIT_SECONDS, Inbox, wait_until
from tests.server.target import Names, RunningBroker


def test_a_client_connects_opens_a_channel_and_closes(broker: RunningBroker) -> None:
    connection = broker.connect()
    channel = connection.channel()
    assert connection.is_open
    assert channel.is_open
    assert channel.channel_number == 1
    channel.close()
    connection.close()
    assert connection.is_closed


def test_the_server_announces_what_pika_asks_for(connection: pika.BlockingConnection) -> None:
    assert connection.basic_nack_supported
    assert connection.consumer_cancel_notify_supported
    assert connection.exchange_exchange_bindings_supported
    assert connection.publisher_confirms_supported


def test_the_server_properties_are_those_of_rabbitmq(connection: pika.BlockingConnection) -> None:
    properties = connection._impl.server_properties
    assert properties["product"] == "RabbitMQ"
    assert properties["version"].startswith("3.")
    assert {"cluster_name", "copyright", "information", "platform"} <= set(properties)
    assert {name for name, value in properties["capabilities"].items() if value is True} == {
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    }


def test_the_server_proposes_rabbitmqs_limits(broker: RunningBroker) -> None:
    proposed: list[int] = []

    def accept(_connection: object, heartbeat: float) -> int:
        proposed.append(int(heartbeat))
        return int(heartbeat)

    with broker.connect(heartbeat=accept) as connection:
        assert proposed[0] == 60
        assert connection._impl.params.channel_max == 2047
        assert connection._impl.params.frame_max == 131072


def test_channel_numbers_are_free_again_after_close(connection: pika.BlockingConnection) -> None:
    first = connection.channel()
    second = connection.channel()
    assert (first.channel_number, second.channel_number) == (1, 2)
    first.close()
    again = connection.channel()
    assert again.channel_number == 1
    again.queue_declare("", exclusive=True)


def test_a_connection_opens_and_uses_all_2047_channels(broker: RunningBroker) -> None:
    with broker.connect() as connection:
        channels = [connection.channel() for _ in range(2047)]
        assert channels[-1].channel_number == 2047
        channels[-1].queue_declare("", exclusive=True)
        with pytest.raises(exceptions.NoFreeChannels):
            connection.channel()


@pytest.mark.parametrize("limit", [3, 2047])
def test_the_broker_refuses_one_channel_more_than_negotiated(broker: RunningBroker, limit: int) -> None:
    connection = broker.connect(channel_max=limit)
    for _ in range(limit):
        connection.channel()
    with pytest.raises(exceptions.ConnectionClosedByBroker) as closed:
        connection.channel(channel_number=limit + 1)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        530,
        f"NOT_ALLOWED - number of channels opened ({limit}) has reached the negotiated channel_max ({limit})",
    )


@pytest.mark.parametrize(("user", "password"), [("guest", "wrong"), ("nobody", "guest"), ("guest", "")])
def test_wrong_credentials_are_refused_with_403(broker: RunningBroker, user: str, password: str) -> None:
    with pytest.raises(exceptions.ProbableAuthenticationError) as refusal:
        broker.connect(credentials=pika.PlainCredentials(user, password))
    assert isinstance(refusal.value.args[0], str)
    assert "(403)" in refusal.value.args[0]
    assert (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile." in refusal.value.args[0]
    )


def test_an_unknown_vhost_is_refused_with_530(broker: RunningBroker) -> None:
    with pytest.raises(exceptions.ProbableAccessDeniedError) as refusal:
        broker.connect(virtual_host="nowhere")
    assert refusal.value.args == ("ConnectionClosedByBroker: (530) 'NOT_ALLOWED - vhost nowhere not found'",)


def test_a_secret_can_be_updated_on_an_open_connection(connection: pika.BlockingConnection) -> None:
    connection.update_secret("guest", "rotated")
    connection.channel().queue_declare("", exclusive=True)


def test_a_connection_error_reaches_every_channel(broker: RunningBroker) -> None:
    connection = broker.connect()
    bystander, culprit = connection.channel(), connection.channel()
    queue = culprit.queue_declare("", exclusive=True).method.queue
    culprit.basic_consume(queue, lambda *_: None, consumer_tag="same")
    # pika would refuse the second one by itself if it remembered the first.
    culprit._impl._consumers.clear()
    culprit._consumer_infos.clear()
    with pytest.raises(exceptions.ConnectionClosedByBroker) as closed:
        culprit.basic_consume(queue, lambda *_: None, consumer_tag="same")
    assert (closed.value.reply_code, closed.value.reply_text) == (
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 'same'",
    )
    assert bystander.is_closed
    assert connection.is_closed


@pytest.mark.parametrize(
    ("verb", "arguments", "text"),
    [
        ("flow", {"active": False}, "NOT_IMPLEMENTED - active=false"),
        ("basic_qos", {"prefetch_size": 10}, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
        ("basic_recover", {"requeue": False}, "NOT_IMPLEMENTED - requeue=false"),
    ],
)
def test_what_rabbitmq_does_not_implement_is_540(
    broker: RunningBroker, verb: str, arguments: dict[str, Any], text: str
) -> None:
    channel = broker.connect().channel()
    with pytest.raises(exceptions.ConnectionClosedByBroker) as closed:
        getattr(channel, verb)(**arguments)
    assert (closed.value.reply_code, closed.value.reply_text) == (540, text)


def test_switching_flow_on_is_answered(connection: pika.BlockingConnection) -> None:
    channel = connection.channel()
    assert channel.flow(True) is True
    channel.queue_declare("", exclusive=True)


def test_an_idle_client_with_a_short_heartbeat_stays_connected(broker: RunningBroker) -> None:
    with broker.connect(heartbeat=1) as connection:
        checker = connection._impl._heartbeat_checker
        wait_until(connection, lambda: checker._heartbeat_frames_received >= 5, "five heartbeats")
        connection.channel().queue_declare("", exclusive=True)


STOPPED_CLIENT = """
import sys, pika
parameters = pika.ConnectionParameters("127.0.0.1", int(sys.argv[1]), heartbeat=1)
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.basic_consume(sys.argv[2], lambda *_: None)
print("consuming", flush=True)
while True:
    connection.process_data_events(time_limit=1)
"""


def test_a_stopped_client_is_dropped_and_its_messages_come_back(
    broker: RunningBroker, names: Names, connection: pika.BlockingConnection
) -> None:
    channel = connection.channel()
    queue = names.queue()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"held by a stopped client")
    client = subprocess.Popen(
        [sys.executable, "-c", STOPPED_CLIENT, str(broker.port), queue], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    try:
        assert client.stdout.readline() == "consuming\n"
        client.send_signal(signal.SIGSTOP)
        inbox = Inbox(channel, queue)
        assert inbox.wait_for(1) == [b"held by a stopped client"]
        assert inbox.methods[0].redelivered is True
    finally:
        client.kill()
        client.wait()
        client.stdout.close()


VANISHING_CLIENT = """
import sys, time, pika
connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(sys.argv[1])))
connection.channel().queue_declare(sys.argv[2], exclusive=True)
print("declared", flush=True)
while True:
    connection.process_data_events(time_limit=1)
"""


def test_a_killed_client_frees_its_exclusive_queue(broker: RunningBroker, names: Names) -> None:
    queue = names.queue()
    client = subprocess.Popen(
        [sys.executable, "-c", VANISHING_CLIENT, str(broker.port), queue], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "declared\n"
    client.kill()
    client.wait()
    client.stdout.close()
    deadline = time.monotonic() + WAIT_SECONDS
    while not can_be_declared(broker, queue):
        assert time.monotonic() < deadline, "the queue of a killed client stays locked"


def can_be_declared(broker: RunningBroker, queue: str) -> bool:
    with broker.connect() as connection:
        try:
            connection.channel().queue_declare(queue, exclusive=True)
        except exceptions.ChannelClosedByBroker as locked:
            if locked.reply_code != 405:
                raise
            return False
        return True


def test_a_reset_connection_leaves_the_broker_well(broker: RunningBroker) -> None:
    with socket.create_connection(("127.0.0.1", broker.port)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rude.sendall(b"AMQP\x00\x00\x09\x01")
        assert rude.recv(1) == b"\x01"
    with broker.connect() as connection:
        connection.channel().queue_declare("", exclusive=True)


def test_many_connections_are_served_at_once(broker: RunningBroker) -> None:
    connections = [broker.connect() for _ in range(40)]
    queues = [c.channel().queue_declare("", exclusive=True).method.queue for c in connections]
    assert len(set(queues)) == 40
    for connection in connections:
        connection.close()


def test_a_url_selects_vhost_heartbeat_and_frame_size(broker: RunningBroker) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{broker.port}/%2F?heartbeat=5&frame_max=8192&channel_max=10"
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        parameters = connection._impl.params
        assert (parameters.heartbeat, parameters.frame_max, parameters.channel_max) == (5, 8192, 10)

"""What is still there after the broker was terminated or killed and started again on the same data."""

from __future__ import annotations

import signal
import struct
import time
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import PERSISTENT, Inbox, drain, ready
from tests.server.broker_process import BrokerProcess
from tests.server.raw import RawChannel, content_header, long_string, short_string
from tests.server.target import RunningBroker

ENDINGS = ["terminated", "killed"]
both_endings = pytest.mark.parametrize("ending", ENDINGS)


class Durable:
    """A broker on data of its own, and the clients that see it end."""

    def __init__(self, process: BrokerProcess) -> None:
        self.process = process.start()
        self.port = process.port
        self._connections: list[pika.BlockingConnection] = []

    def connect(self) -> pika.BlockingConnection:
        connection = RunningBroker(self.port).connect()
        self._connections.append(connection)
        return connection

    def channel(self) -> BlockingChannel:
        return self.connect().channel()

    def confirming(self) -> BlockingChannel:
        channel = self.channel()
        channel.confirm_delivery()
        return channel

    def end(self, ending: str) -> None:
        if ending == "terminated":
            self.process.send_signal(signal.SIGTERM)
        else:
            self.process.kill()
        for connection in self._connections:
            notice_the_end(connection)
        self._connections.clear()
        if ending == "terminated":
            assert self.process.wait_ended() == 0

    def restart(self, ending: str) -> None:
        self.end(ending)
        self.process.start()


def notice_the_end(connection: pika.BlockingConnection) -> None:
    """Let a client whose broker is gone find out, so that it closes its socket."""
    while connection.is_open:
        try:
            connection.process_data_events(time_limit=1)
        except pika.exceptions.AMQPConnectionError:
            return


@pytest.fixture
def broker(own_broker: BrokerProcess) -> Iterator[Durable]:
    durable = Durable(own_broker)
    yield durable
    durable.end("killed")


def publish_persistent(channel: BlockingChannel, exchange: str, key: str, *bodies: bytes) -> None:
    for body in bodies:
        channel.basic_publish(exchange, key, body, PERSISTENT)


def exists(connection: pika.BlockingConnection, verb: str, name: str) -> bool:
    """Whether a passive declare of that queue or exchange succeeds."""
    channel = connection.channel()
    try:
        getattr(channel, verb)(name, passive=True)
    except ChannelClosedByBroker as missing:
        if missing.reply_code != 404:
            raise
        return False
    return True


@both_endings
def test_durable_topology_survives_and_the_rest_is_gone(broker: Durable, ending: str) -> None:
    connection = broker.connect()
    channel = connection.channel()
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(f"durable.{kind}", kind, durable=True)
        channel.exchange_declare(f"transient.{kind}", kind)
    channel.exchange_declare(
        "with.alternate", "direct", durable=True, arguments={"alternate-exchange": "durable.fanout"}
    )
    channel.exchange_declare("inner", "fanout", durable=True, internal=True)
    channel.exchange_declare("auto", "fanout", durable=True, auto_delete=True)
    channel.queue_declare("kept", durable=True)
    channel.queue_declare("kept.auto", durable=True, auto_delete=True)
    channel.queue_declare("kept.arguments", durable=True, arguments={"x-max-priority": 5, "note": "mine"})
    channel.queue_declare("gone.transient")
    channel.queue_declare("gone.exclusive", durable=True, exclusive=True)
    channel.queue_bind("kept", "durable.direct", "k")
    channel.queue_bind("kept", "durable.topic", "a.#")
    channel.queue_bind("kept", "durable.headers", arguments={"x-match": "any", "colour": "red"})
    channel.queue_bind("kept", "transient.fanout")
    channel.queue_bind("kept", "inner")
    channel.queue_bind("kept.auto", "durable.fanout")
    channel.queue_bind("gone.transient", "durable.fanout")
    channel.exchange_bind("inner", "amq.topic", "into.inner")
    channel.queue_bind("kept", "amq.direct", "unbound later")
    channel.queue_unbind("kept", "amq.direct", "unbound later")
    channel.queue_bind("kept", "auto")

    broker.restart(ending)

    connection = broker.connect()
    for kind in ("direct", "fanout", "topic", "headers"):
        assert exists(connection, "exchange_declare", f"durable.{kind}")
        assert not exists(connection, "exchange_declare", f"transient.{kind}")
    for queue in ("kept", "kept.auto", "kept.arguments"):
        assert exists(connection, "queue_declare", queue)
    for queue in ("gone.transient", "gone.exclusive"):
        assert not exists(connection, "queue_declare", queue)
    channel = connection.channel()
    channel.exchange_declare("inner", "fanout", durable=True, internal=True)
    channel.exchange_declare("auto", "fanout", durable=True, auto_delete=True)
    channel.queue_declare("kept.auto", durable=True, auto_delete=True)
    channel.queue_declare("kept.arguments", durable=True, arguments={"x-max-priority": 5})
    channel.exchange_declare(
        "with.alternate", "direct", durable=True, arguments={"alternate-exchange": "durable.fanout"}
    )
    channel.confirm_delivery()
    publish_all_ways(channel)
    assert drain(channel, "kept") == [b"direct", b"topic", b"headers", b"inner", b"auto"]
    assert drain(channel, "kept.auto") == [b"fanout", b"alternate"]


def publish_all_ways(channel: BlockingChannel) -> None:
    channel.basic_publish("durable.direct", "k", b"direct")
    channel.basic_publish("durable.topic", "a.b.c", b"topic")
    channel.basic_publish("durable.headers", "", b"headers", pika.BasicProperties(headers={"colour": "red"}))
    channel.basic_publish("durable.headers", "", b"other", pika.BasicProperties(headers={"colour": "blue"}))
    channel.basic_publish("amq.topic", "into.inner", b"inner")
    channel.basic_publish("amq.direct", "unbound later", b"unbound")
    channel.basic_publish("auto", "", b"auto")
    channel.basic_publish("durable.fanout", "", b"fanout")
    channel.basic_publish("with.alternate", "nobody", b"alternate")


@both_endings
def test_persistent_messages_in_durable_queues_survive_in_order(broker: Durable, ending: str) -> None:
    channel = broker.channel()
    channel.queue_declare("durable", durable=True)
    channel.queue_declare("transient")
    channel.confirm_delivery()
    for number in range(200):
        channel.basic_publish("", "durable", b"%d" % number, PERSISTENT)
        channel.basic_publish("", "durable", b"transient", pika.BasicProperties(delivery_mode=1))
        channel.basic_publish("", "durable", b"without a mode")
        channel.basic_publish("", "transient", b"%d" % number, PERSISTENT)

    broker.restart(ending)

    channel = broker.channel()
    channel.confirm_delivery()
    assert ready(channel, "durable") == 200
    publish_persistent(channel, "", "durable", b"after the first restart")

    broker.restart(ending)

    connection = broker.connect()
    channel = connection.channel()
    assert drain(channel, "durable") == [
        *(b"%d" % number for number in range(200)),
        b"after the first restart",
    ]
    assert not exists(connection, "queue_declare", "transient")


TABLE = (
    short_string("byte") + b"b\xff"
    + short_string("octet") + b"B\xff"
    + short_string("short") + b"s\xff\xfe"
    + short_string("word") + b"u\xff\xfe"
    + short_string("int") + b"I\x00\x00\x00\x05"
    + short_string("unsigned") + b"i\xff\xff\xff\xff"
    + short_string("long") + b"l\x00\x00\x00\x00\x00\x00\x00\x05"
    + short_string("float") + b"f\x3d\xcc\xcc\xcd"
    + short_string("double") + b"d" + struct.pack(">d", 1.1)
    + short_string("decimal") + b"D\x02\x00\x00\x01\x3a"
    + short_string("when") + b"T" + struct.pack(">Q", 1_700_000_000)
    + short_string("bytes") + b"x" + long_string(b"\x00\xff")
    + short_string("nothing") + b"V"
    + short_string("yes") + b"t\x01"
    + short_string("list") + b"A" + long_string(b"S" + long_string(b"x") + b"b\x01V")
    + short_string("a table") + b"F" + long_string(short_string("z") + b"t\x00" + short_string("a") + b"V")
)  # fmt: skip

HEADERS = {
    "persistent only": (0x1000, b"\x02"),
    "an empty table": (0x3000, long_string(b"") + b"\x02"),
    "every table type": (0x3000, long_string(TABLE) + b"\x02"),
    "every property": (
        0xFFFC,
        short_string("text/plain")
        + short_string("gzip")
        + long_string(TABLE)
        + b"\x02\x09"
        + b"".join(short_string(name) for name in ("correlation", "reply", "3600000", "message"))
        + struct.pack(">Q", 1_700_000_000)
        + b"".join(short_string(name) for name in ("type", "guest", "app", "cluster")),
    ),
}


@both_endings
def test_content_headers_survive_to_the_byte(broker: Durable, ending: str) -> None:
    with broker.connect() as connection:
        connection.channel().queue_declare("bytes", durable=True)
    sent = [
        (content_header(6 * size, flags, properties), b"body %d" % 1 * size)
        for size in (0, 1, 60_000)
        for flags, properties in HEADERS.values()
    ]
    with RawChannel(broker.port) as raw:
        for header, body in sent:
            raw.publish("bytes", header, body)

    broker.restart(ending)

    with RawChannel(broker.port) as raw:
        received = [raw.get("bytes") for _ in sent]
    assert received == sent


@both_endings
def test_what_had_been_delivered_is_marked_redelivered(broker: Durable, ending: str) -> None:
    channel = broker.confirming()
    channel.queue_declare("q", durable=True)
    publish_persistent(channel, "", "q", b"1", b"2", b"3", b"4")
    channel.basic_qos(prefetch_count=2)
    Inbox(channel, "q").wait_for(2)

    broker.restart(ending)

    again = Inbox(broker.channel(), "q")
    assert again.wait_for(4) == [b"1", b"2", b"3", b"4"]
    assert [method.redelivered for method in again.methods[:2]] == [True, True]


def test_what_was_never_delivered_is_not_marked_after_a_clean_restart(broker: Durable) -> None:
    channel = broker.confirming()
    channel.queue_declare("q", durable=True)
    publish_persistent(channel, "", "q", b"1", b"2", b"3")
    channel.basic_qos(prefetch_count=1)
    Inbox(channel, "q").wait_for(1)

    broker.restart("terminated")

    again = Inbox(broker.channel(), "q")
    again.wait_for(3)
    assert [method.redelivered for method in again.methods] == [True, False, False]


@both_endings
def test_acknowledged_messages_do_not_come_back(broker: Durable, ending: str) -> None:
    channel = broker.confirming()
    channel.queue_declare("q", durable=True)
    publish_persistent(channel, "", "q", *(b"%d" % number for number in range(10)))
    consumer = broker.channel()
    consumer.tx_select()
    inbox = Inbox(consumer, "q")
    inbox.wait_for(10)
    for tag in (1, 2, 5, 9):
        consumer.basic_ack(tag)
    consumer.basic_reject(10, requeue=False)
    consumer.tx_commit()
    consumer.basic_ack(3)

    broker.restart(ending)

    with broker.connect() as connection:
        left = drain(connection.channel(), "q")
    assert left == [b"2", b"3", b"5", b"6", b"7"]


@both_endings
def test_bodies_of_any_size_survive(broker: Durable, ending: str) -> None:
    bodies = [b"", b"x", bytes(range(256)) * 600, b"large" * 1_000_000, b"last"]
    channel = broker.confirming()
    channel.queue_declare("q", durable=True)
    publish_persistent(channel, "", "q", *bodies)

    broker.restart(ending)

    assert drain(broker.channel(), "q") == bodies


@both_endings
def test_a_fanned_out_message_lives_in_each_queue_on_its_own(broker: Durable, ending: str) -> None:
    channel = broker.channel()
    channel.exchange_declare("all", "fanout", durable=True)
    queues = ["one", "two", "three"]
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "all")
    channel.confirm_delivery()
    publish_persistent(channel, "all", "", b"a", b"b", b"c" * 50_000)

    broker.restart(ending)

    connection = broker.connect()
    channel = connection.channel()
    channel.tx_select()
    method, _, body = channel.basic_get("one")
    assert method is not None
    assert body == b"a"
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    channel.queue_delete("two")

    broker.restart(ending)

    connection = broker.connect()
    channel = connection.channel()
    assert drain(channel, "one") == [b"b", b"c" * 50_000]
    assert drain(channel, "three") == [b"a", b"b", b"c" * 50_000]
    assert not exists(connection, "queue_declare", "two")


@both_endings
def test_deleted_and_unbound_things_stay_away(broker: Durable, ending: str) -> None:
    channel = broker.channel()
    channel.confirm_delivery()
    for queue in ("deleted", "again", "unbound"):
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "amq.fanout")
    publish_persistent(channel, "amq.fanout", "", b"old")
    channel.exchange_declare("deleted", "topic", durable=True)
    channel.exchange_delete("deleted")
    channel.queue_delete("deleted")
    channel.queue_delete("again")
    channel.queue_declare("again", durable=True)
    channel.queue_unbind("unbound", "amq.fanout")
    channel.basic_publish("", "again", b"new", PERSISTENT)

    broker.restart(ending)

    connection = broker.connect()
    assert not exists(connection, "exchange_declare", "deleted")
    assert not exists(connection, "queue_declare", "deleted")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.fanout", "", b"to nobody")
    assert drain(channel, "again") == [b"new"]
    assert drain(channel, "unbound") == [b"old"]


@both_endings
def test_a_transaction_survives_whole_or_not_at_all(broker: Durable, ending: str) -> None:
    channel = broker.channel()
    for queue in ("a", "b"):
        channel.queue_declare(queue, durable=True)
    channel.tx_select()
    publish_persistent(channel, "", "a", b"committed")
    publish_persistent(channel, "", "b", b"committed")
    channel.tx_commit()
    publish_persistent(channel, "", "a", b"never committed")
    publish_persistent(channel, "", "b", b"never committed")
    channel.queue_declare("a", passive=True)

    broker.restart(ending)

    with broker.connect() as connection:
        channel = connection.channel()
        assert [drain(channel, queue) for queue in ("a", "b")] == [[b"committed"], [b"committed"]]


@both_endings
def test_messages_requeued_before_the_end_keep_their_place(broker: Durable, ending: str) -> None:
    channel = broker.confirming()
    channel.queue_declare("q", durable=True)
    publish_persistent(channel, "", "q", b"1", b"2", b"3", b"4")
    tags: list[Any] = [channel.basic_get("q")[0] for _ in range(3)]
    channel.basic_nack(tags[1].delivery_tag, requeue=True)
    channel.basic_nack(tags[0].delivery_tag, requeue=True)
    channel.queue_declare("q", passive=True)

    broker.restart(ending)

    assert drain(broker.channel(), "q") == [b"1", b"2", b"3", b"4"]


def test_a_backlog_comes_back_in_seconds(broker: Durable) -> None:
    channel = broker.channel()
    channel.queue_declare("q", durable=True)
    channel.tx_select()
    bodies = [b"%d" % number + b"." * 90 for number in range(20_000)]
    for body in bodies:
        channel._impl.basic_publish("", "q", body, PERSISTENT)
    channel.tx_commit()

    broker.end("killed")
    started = time.monotonic()
    broker.process.start()
    assert time.monotonic() - started < 20

    with broker.connect() as connection:
        inbox = Inbox(connection.channel(), "q", auto_ack=True)
        assert inbox.wait_for(len(bodies)) == bodies


def test_names_given_by_the_server_are_not_given_again(broker: Durable) -> None:
    with broker.connect() as connection:
        channel = connection.channel()
        named = channel.queue_declare("", durable=True).method.queue
        channel.confirm_delivery()
        publish_persistent(channel, "", named, b"kept")

    broker.restart("killed")

    with broker.connect() as connection:
        channel = connection.channel()
        assert channel.queue_declare("", exclusive=True).method.queue != named
        assert drain(channel, named) == [b"kept"]


@both_endings
def test_values_that_were_seen_are_known_although_their_messages_were_consumed(
    broker: Durable, ending: str
) -> None:
    remembers: Any = {"x-message-deduplication": True, "x-cache-size": 1000}
    ways = (("x", "", "by exchange"), ("", "by queue", "by queue"))
    properties = [
        pika.BasicProperties(delivery_mode=2, headers={"x-deduplication-header": number})
        for number in range(21)
    ]
    channel = broker.confirming()
    channel.exchange_declare("x", "fanout", durable=True, arguments=remembers)
    channel.queue_declare("by exchange", durable=True)
    channel.queue_bind("by exchange", "x")
    channel.queue_declare("by queue", durable=True, arguments=remembers)
    for exchange, key, queue in ways:
        for number in range(20):
            channel.basic_publish(exchange, key, b"%d" % number, properties[number])
        assert len(drain(channel, queue)) == 20

    broker.restart(ending)

    channel = broker.confirming()
    for exchange, key, queue in ways:
        for number in range(21):
            channel.basic_publish(exchange, key, b"again %d" % number, properties[number])
        again = [body for body in drain(channel, queue) if body.startswith(b"again")]
        assert again == [b"again 20"]

"""pika: message sizes and properties there and back, mandatory returns, publisher confirms."""

from __future__ import annotations

import decimal
import os
import random
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from tests.server.blocking import Inbox, drain, publish_all, ready, wait_until
from tests.server.target import Names, RunningBroker

FRAME_MAX = 131072
ROOM = FRAME_MAX - 8


@pytest.fixture
def queue(channel: BlockingChannel, names: Names) -> str:
    name = names.queue()
    channel.queue_declare(name)
    return name


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        2,
        4087,
        4088,
        4089,
        ROOM - 1,
        ROOM,
        ROOM + 1,
        FRAME_MAX - 1,
        FRAME_MAX,
        FRAME_MAX + 1,
        2 * ROOM,
        1_000_003,
    ],
)
def test_a_body_of_any_size_comes_back_as_it_was(channel: BlockingChannel, queue: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    channel.basic_publish("", queue, body)
    method, _, received = channel.basic_get(queue, auto_ack=True)
    assert method is not None
    assert received == body


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 8177, 100_000])
def test_a_small_frame_max_splits_bodies_both_ways(broker: RunningBroker, names: Names, size: int) -> None:
    body = random.Random(size).randbytes(size)
    queue = names.queue()
    with broker.connect(frame_max=4096) as small, broker.connect() as large:
        narrow, wide = small.channel(), large.channel()
        narrow.queue_declare(queue)
        narrow.confirm_delivery()
        wide.confirm_delivery()
        narrow.basic_publish("", queue, body)
        assert drain(wide, queue) == [body]
        wide.basic_publish("", queue, body)
        assert drain(narrow, queue) == [body]


def test_a_message_of_20_mib_travels_between_consumers(
    connection: pika.BlockingConnection, names: Names
) -> None:
    queue = names.queue()
    publisher, consumer = connection.channel(), connection.channel()
    publisher.queue_declare(queue)
    inbox = Inbox(consumer, queue)
    body = os.urandom(1 << 20) * 20
    publisher.basic_publish("", queue, body)
    publisher.basic_publish("", queue, b"behind it")
    received = inbox.wait_for(2)
    assert [len(each) for each in received] == [len(body), 9]
    assert received[0] == body


def test_messages_of_mixed_sizes_keep_their_order(channel: BlockingChannel, queue: str) -> None:
    source = random.Random(5)
    bodies = [source.randbytes(source.choice([0, 1, 100, 4096, ROOM, ROOM + 1, 300_000])) for _ in range(60)]
    inbox = Inbox(channel, queue, auto_ack=True)
    publish_all(channel, queue, bodies)
    assert inbox.wait_for(60) == bodies


def test_every_property_comes_back_as_it_was(channel: BlockingChannel, queue: str) -> None:
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={"source": "test"},
        delivery_mode=2,
        priority=7,
        correlation_id="c-1",
        reply_to="replies",
        expiration="60000",
        message_id="m-1",
        timestamp=1_700_000_000,
        type="greeting",
        user_id="guest",
        app_id="tests",
        cluster_id="cluster",
    )
    channel.basic_publish("", queue, b"all fourteen", properties)
    _, received, _ = channel.basic_get(queue, auto_ack=True)
    assert received == properties
    assert vars(received) == vars(properties)


def test_absent_properties_stay_absent(channel: BlockingChannel, queue: str) -> None:
    channel.basic_publish("", queue, b"bare")
    _, received, _ = channel.basic_get(queue, auto_ack=True)
    assert vars(received) == vars(pika.BasicProperties())


@pytest.mark.parametrize(
    "value",
    [
        "text",
        "",
        "æøå ☃ 日本語",
        b"\x00\xff binary",
        b"",
        True,
        False,
        0,
        1,
        -1,
        2**31 - 1,
        -(2**31),
        2**31,
        2**63 - 1,
        -(2**63),
        decimal.Decimal("3.14159"),
        decimal.Decimal("-7"),
        datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC),
        None,
        [],
        [1, "two", [3, {"four": 4}], None, True],
        {},
        {"a": {"b": {"c": [1, {"d": None}]}}},
        "long " * 10_000,
        list(range(1000)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_every_table_value_comes_back_as_it_was(channel: BlockingChannel, queue: str, value: Any) -> None:
    headers = {"first": 1, "value": value, "last": "x"}
    channel.basic_publish("", queue, b"", pika.BasicProperties(headers=headers))
    _, received, _ = channel.basic_get(queue, auto_ack=True)
    assert received is not None
    assert received.headers == headers
    assert isinstance(received.headers["value"], type(value))
    assert isinstance(received.headers["value"], bool) is isinstance(value, bool)
    assert list(received.headers) == list(headers)


def test_an_empty_header_table_is_not_an_absent_one(channel: BlockingChannel, queue: str) -> None:
    channel.basic_publish("", queue, b"", pika.BasicProperties(headers={}))
    _, received, _ = channel.basic_get(queue, auto_ack=True)
    assert received is not None
    assert received.headers == {}


def test_a_message_says_where_it_was_published(channel: BlockingChannel, queue: str) -> None:
    channel.queue_bind(queue, "amq.topic", "a.*")
    inbox = Inbox(channel, queue, consumer_tag="me")
    channel.basic_publish("amq.topic", "a.b", b"m")
    inbox.wait_for(1)
    method = inbox.methods[0]
    assert (method.consumer_tag, method.delivery_tag, method.redelivered) == ("me", 1, False)
    assert (method.exchange, method.routing_key) == ("amq.topic", "a.b")


def test_a_foreign_user_id_is_406(channel: BlockingChannel, queue: str) -> None:
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish("", queue, b"", pika.BasicProperties(user_id="somebody"))
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
    )


@pytest.mark.parametrize("key", ["", "k", "key.with.words", "ключ", "k" * 255])
def test_an_unroutable_mandatory_message_is_returned_whole(channel: BlockingChannel, key: str) -> None:
    returned: list[tuple[Any, ...]] = []
    channel.add_on_return_callback(lambda *details: returned.append(details[1:]))
    properties = pika.BasicProperties(content_type="text/plain", headers={"n": 1}, message_id="back")
    channel.basic_publish("amq.direct", key, b"nobody wants it", properties, mandatory=True)
    wait_until(channel.connection, lambda: bool(returned), "a returned message")
    method, received, body = returned[0]
    assert (method.reply_code, method.reply_text) == (312, "NO_ROUTE")
    assert (method.exchange, method.routing_key) == ("amq.direct", key)
    assert received == properties
    assert body == b"nobody wants it"


def test_an_unroutable_message_is_dropped_unless_mandatory(channel: BlockingChannel) -> None:
    returned: list[tuple[Any, ...]] = []
    channel.add_on_return_callback(lambda *details: returned.append(details[1:]))
    channel.basic_publish("amq.direct", "nowhere", b"dropped")
    channel.basic_publish("amq.direct", "nowhere", b"returned", mandatory=True)
    wait_until(channel.connection, lambda: bool(returned), "a returned message")
    assert [body for _, _, body in returned] == [b"returned"]


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("delivery_mode", [None, 1, 2])
def test_each_publish_is_confirmed(
    channel: BlockingChannel, names: Names, durable: bool, delivery_mode: int | None
) -> None:
    queue = names.queue()
    channel.queue_declare(queue, durable=durable)
    channel.confirm_delivery()
    for number in range(20):
        channel.basic_publish("", queue, b"%d" % number, pika.BasicProperties(delivery_mode=delivery_mode))
    assert ready(channel, queue) == 20
    assert drain(channel, queue) == [b"%d" % number for number in range(20)]


def test_an_unroutable_mandatory_publish_raises_under_confirms(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    with pytest.raises(UnroutableError) as unroutable:
        channel.basic_publish("", "no-such-queue", b"lost", mandatory=True)
    message = unroutable.value.messages[0]
    assert (message.method.reply_code, message.method.reply_text, message.body) == (312, "NO_ROUTE", b"lost")


def test_an_unroutable_publish_is_confirmed_all_the_same(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", "no-such-queue", b"lost")
    assert channel.is_open


def test_confirms_of_a_window_count_from_one_and_cover_all(
    connection: pika.BlockingConnection, names: Names
) -> None:
    queue = names.queue()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)
    settled: list[int] = []

    def on_confirm(frame: Any) -> None:
        assert isinstance(frame.method, pika.spec.Basic.Ack)
        first = (settled[-1] if settled else 0) + 1 if frame.method.multiple else frame.method.delivery_tag
        settled.extend(range(first, frame.method.delivery_tag + 1))

    channel._impl.confirm_delivery(on_confirm, callback=lambda _: None)
    for number in range(500):
        channel._impl.basic_publish("", queue, b"%d" % number, pika.BasicProperties(delivery_mode=2))
    wait_until(connection, lambda: len(settled) >= 500, "500 confirms")
    assert sorted(settled) == list(range(1, 501))
    assert ready(channel, queue) == 500


def test_a_confirmed_message_can_be_got_at_once_on_another_connection(
    broker: RunningBroker, channel: BlockingChannel, queue: str
) -> None:
    channel.confirm_delivery()
    with broker.connect() as other:
        getter = other.channel()
        for number in range(50):
            channel.basic_publish("", queue, b"%d" % number)
            assert drain(getter, queue) == [b"%d" % number]


def test_a_message_over_the_maximum_size_is_406(broker: RunningBroker, names: Names) -> None:
    queue = names.queue()
    connection = broker.connect()
    channel = connection.channel()
    channel.queue_declare(queue)
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish("", queue, bytes(134_217_729))
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - message size 134217729 is larger than configured max size 134217728",
    )
    connection.close()

"""pika: declaring, checking, counting, purging, locking and deleting queues."""

from __future__ import annotations

import re
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.blocking import Inbox, drain, publish_all, ready
from tests.server.target import Names, RunningBroker
from tests.server.test_pika_exchanges import closed_with


def locked(queue: str) -> tuple[int, str]:
    text = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. "
        "It could be originally declared on another connection or the exclusive property value does not "
        "match that of the original declaration."
    )
    return 405, text if len(text) <= 255 else text[:252] + "..."


@pytest.fixture
def queue(channel: BlockingChannel, names: Names) -> str:
    name = names.queue()
    channel.queue_declare(name)
    return name


@pytest.mark.parametrize("auto_delete", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_every_kind_of_queue_can_be_declared_twice_alike(
    channel: BlockingChannel, names: Names, durable: bool, exclusive: bool, auto_delete: bool
) -> None:
    queue = names.queue()
    for _ in range(2):
        declared = channel.queue_declare(
            queue, durable=durable, exclusive=exclusive, auto_delete=auto_delete
        ).method
        assert (declared.queue, declared.message_count, declared.consumer_count) == (queue, 0, 0)
    channel.queue_delete(queue)


def test_the_server_names_a_queue(channel: BlockingChannel) -> None:
    first = channel.queue_declare("", exclusive=True).method.queue
    second = channel.queue_declare("", exclusive=True).method.queue
    assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", first)
    assert first != second


def test_an_empty_name_means_the_last_declared_queue(channel: BlockingChannel) -> None:
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind("", "amq.direct")
    channel.basic_publish("amq.direct", queue, b"bound under its own name")
    channel.basic_publish("", queue, b"as is")
    method, _, body = channel.basic_get("", auto_ack=True)
    assert method is not None
    assert body == b"bound under its own name"
    assert channel.queue_purge("").method.message_count == 1
    assert channel.queue_delete("").method.message_count == 0


def test_an_empty_name_without_a_declared_queue_is_404(channel: BlockingChannel) -> None:
    assert closed_with(channel, "queue_bind", "", "amq.direct", "k") == (
        404,
        "NOT_FOUND - no previously declared queue",
    )


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("queue_declare", {"passive": True}),
        ("queue_bind", {"exchange": "amq.direct", "routing_key": "k"}),
        ("queue_purge", {}),
        ("basic_get", {}),
        ("basic_consume", {"on_message_callback": print}),
    ],
)
def test_a_missing_queue_is_404(channel: BlockingChannel, verb: str, arguments: dict[str, Any]) -> None:
    assert closed_with(channel, verb, "missing", **arguments) == (
        404,
        "NOT_FOUND - no queue 'missing' in vhost '/'",
    )


def test_a_reserved_name_is_403(channel: BlockingChannel) -> None:
    assert closed_with(channel, "queue_declare", "amq.mine") == (
        403,
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
    )


@pytest.mark.parametrize("name", ["q*&é", "with space", "日本語", "a" * 255, "new\tline", "amq", "AMQ.x"])
def test_odd_names_work_everywhere(channel: BlockingChannel, name: str) -> None:
    channel.queue_delete(name)
    assert channel.queue_declare(name).method.queue == name
    channel.queue_bind(name, "amq.topic", "odd.#")
    channel.basic_publish("", name, b"found")
    assert drain(channel, name) == [b"found"]
    channel.queue_delete(name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"durable": True}, "'durable' for {}: received 'true' but current is 'false'"),
        ({"auto_delete": True}, "'auto_delete' for {}: received 'true' but current is 'false'"),
        (
            {"arguments": {"x-max-length": 10}},
            "'x-max-length' for {}: received the value '10' of type 'long' but current is none",
        ),
    ],
)
def test_declaring_it_differently_is_406_and_names_the_difference(
    channel: BlockingChannel, queue: str, change: dict[str, Any], text: str
) -> None:
    code, reply = closed_with(channel, "queue_declare", queue, **change)
    expected = "PRECONDITION_FAILED - inequivalent arg " + text.format(f"queue '{queue}' in vhost '/'")
    assert (code, reply.replace("'signedint'", "'long'")) == (406, expected)


def test_declaring_an_existing_queue_exclusive_is_405(channel: BlockingChannel, queue: str) -> None:
    assert closed_with(channel, "queue_declare", queue, exclusive=True) == locked(queue)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("queue_declare", {"passive": True}),
        ("queue_declare", {"exclusive": True}),
        ("queue_bind", {"exchange": "amq.direct", "routing_key": "k"}),
        ("queue_purge", {}),
        ("queue_delete", {}),
        ("basic_get", {}),
        ("basic_consume", {"on_message_callback": print}),
    ],
)
def test_an_exclusive_queue_is_locked_for_other_connections(
    broker: RunningBroker, channel: BlockingChannel, names: Names, verb: str, arguments: dict[str, Any]
) -> None:
    queue = names.queue()
    channel.queue_declare(queue, exclusive=True)
    with broker.connect() as other:
        assert closed_with(other.channel(), verb, queue, **arguments) == locked(queue)
    channel.queue_delete(queue)


def test_others_may_publish_to_an_exclusive_queue(broker: RunningBroker, channel: BlockingChannel) -> None:
    queue = channel.queue_declare("", exclusive=True).method.queue
    with broker.connect() as other:
        publisher = other.channel()
        publisher.confirm_delivery()
        publisher.basic_publish("", queue, b"reply", mandatory=True)
    assert drain(channel, queue) == [b"reply"]


def test_another_channel_of_the_same_connection_may_use_it(connection: pika.BlockingConnection) -> None:
    first, second = connection.channel(), connection.channel()
    queue = first.queue_declare("", exclusive=True).method.queue
    second.basic_publish("", queue, b"shared")
    assert drain(second, queue) == [b"shared"]
    first.close()
    assert ready(second, queue) == 0


def test_an_exclusive_queue_ends_with_its_connection(broker: RunningBroker, names: Names) -> None:
    queue = names.queue()
    with broker.connect() as first:
        first.channel().queue_declare(queue, exclusive=True)
    with broker.connect() as second:
        channel = second.channel()
        channel.queue_declare(queue, exclusive=True)
        assert ready(channel, queue) == 0


def test_declare_counts_ready_messages_and_consumers(connection: pika.BlockingConnection, queue: str) -> None:
    channel = connection.channel()
    channel.confirm_delivery()
    publish_all(channel, queue, ["a", "b", "c"])
    assert ready(channel, queue) == 3
    method, _, _ = channel.basic_get(queue)
    assert method is not None
    assert method.message_count == 2
    assert ready(channel, queue) == 2
    inboxes = [Inbox(connection.channel(), queue) for _ in range(2)]
    inboxes[0].wait_for(1)
    declared = channel.queue_declare(queue, passive=True).method
    assert (declared.message_count, declared.consumer_count) == (0, 2)


def test_purge_removes_the_ready_and_leaves_the_unacked(
    connection: pika.BlockingConnection, queue: str
) -> None:
    channel, other = connection.channel(), connection.channel()
    channel.confirm_delivery()
    publish_all(channel, queue, ["held", "b", "c"])
    method, _, _ = other.basic_get(queue)
    assert channel.queue_purge(queue).method.message_count == 2
    assert method is not None
    other.basic_nack(method.delivery_tag)
    other.queue_declare(queue, passive=True)
    assert drain(channel, queue) == [b"held"]
    assert channel.queue_purge(queue).method.message_count == 0


def test_delete_says_how_many_messages_went(channel: BlockingChannel, queue: str) -> None:
    channel.confirm_delivery()
    publish_all(channel, queue, ["a", "b", "c"])
    assert channel.queue_delete(queue).method.message_count == 3
    assert channel.queue_delete(queue).method.message_count == 0


def test_delete_if_empty_refuses_a_queue_with_messages(
    connection: pika.BlockingConnection, channel: BlockingChannel, queue: str
) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"m")
    assert closed_with(connection.channel(), "queue_delete", queue, if_empty=True) == (
        406,
        f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty",
    )
    drain(channel, queue)
    channel.queue_delete(queue, if_empty=True)
    assert closed_with(channel, "queue_declare", queue, passive=True)[0] == 404


def test_delete_if_unused_refuses_a_queue_with_consumers(
    connection: pika.BlockingConnection, channel: BlockingChannel, queue: str
) -> None:
    inbox = Inbox(channel, queue)
    assert closed_with(connection.channel(), "queue_delete", queue, if_unused=True) == (
        406,
        f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use",
    )
    channel.basic_cancel(inbox.tag)
    channel.queue_delete(queue, if_unused=True)
    assert closed_with(channel, "queue_declare", queue, passive=True)[0] == 404


def test_deleting_a_queue_removes_its_bindings(channel: BlockingChannel, names: Names, queue: str) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(queue, exchange)
    channel.queue_delete(queue)
    channel.queue_declare(queue)
    channel.basic_publish(exchange, "", b"not bound")
    assert drain(channel, queue) == []


def test_an_auto_delete_queue_goes_with_its_last_consumer(
    connection: pika.BlockingConnection, names: Names
) -> None:
    queue = names.queue()
    watcher, channel = connection.channel(), connection.channel()
    watcher.queue_declare(queue, auto_delete=True)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    channel.basic_cancel(first.tag)
    watcher.queue_declare(queue, passive=True)
    channel.basic_cancel(second.tag)
    assert closed_with(watcher, "queue_declare", queue, passive=True)[0] == 404


def test_an_auto_delete_queue_stays_until_it_had_a_consumer(broker: RunningBroker, names: Names) -> None:
    queue = names.queue()
    with broker.connect() as first:
        first.channel().queue_declare(queue, auto_delete=True)
        first.channel().basic_publish("", queue, b"waits")
    with broker.connect() as second:
        channel = second.channel()
        inbox = Inbox(channel, queue)
        assert inbox.wait_for(1) == [b"waits"]
        channel.close()
        assert closed_with(second.channel(), "queue_declare", queue, passive=True)[0] == 404


def test_a_failed_channel_number_can_be_used_again(connection: pika.BlockingConnection, queue: str) -> None:
    channel = connection.channel()
    number = channel.channel_number
    assert closed_with(channel, "basic_get", "missing")[0] == 404
    again = connection.channel(channel_number=number)
    again.basic_publish("", queue, b"fine")
    assert drain(again, queue) == [b"fine"]


def test_errors_on_one_channel_leave_the_others_alone(
    connection: pika.BlockingConnection, queue: str
) -> None:
    calm = connection.channel()
    for _ in range(20):
        assert closed_with(connection.channel(), "queue_declare", "missing", passive=True)[0] == 404
    calm.basic_publish("", queue, b"calm")
    assert drain(calm, queue) == [b"calm"]


def test_ten_thousand_messages_keep_their_order(channel: BlockingChannel, queue: str) -> None:
    bodies = [b"%d" % number for number in range(10_000)]
    publish_all(channel, queue, bodies)
    inbox = Inbox(channel, queue, auto_ack=True)
    assert inbox.wait_for(len(bodies)) == bodies

"""Errors and what surrounds them: order of replies, length of texts, what else an error takes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client, eventually
from .codec import BODY, HEADER, METHOD, Frame, encode_header, encode_method
from .conftest import Connect, Names

Differs = Callable[..., Any]

RESERVED = "queue name 'amq.no' contains reserved prefix 'amq.*'"


def test_replies_due_before_an_error_come_before_it(channel: Channel, names: Names) -> None:
    queue = names.queue()
    channel.send("queue.declare", queue=queue)
    channel.send("basic.qos", prefetch_count=1)
    channel.send("queue.purge", queue=queue)
    channel.send("queue.declare", queue="amq.no")
    channel.send("queue.purge", queue=queue)
    seen = [channel.receive().name for _ in range(3)]
    assert seen == ["queue.declare-ok", "basic.qos-ok", "queue.purge-ok"]
    channel.refuses(403, RESERVED, "queue.declare")


def test_errors_on_two_channels_are_told_apart(client: Client, names: Names) -> None:
    one, two = client.channel(), client.channel()
    missing = names.queue()
    one.send("queue.declare", queue="amq.no")
    two.send("queue.purge", queue=missing)
    two.refuses(404, f"no queue '{missing}' in vhost '/'", "queue.purge")
    one.refuses(403, RESERVED, "queue.declare")


def test_a_channel_may_fail_many_times(channel: Channel) -> None:
    for _ in range(20):
        channel.send("queue.declare", queue="amq.no")
        channel.refuses(403, RESERVED, "queue.declare")


def test_a_connection_error_takes_down_every_channel(connect: Connect, channel: Channel, queue: str) -> None:
    other = connect()
    holder, breaker = other.channel(), other.channel()
    channel.publish("m", routing_key=queue)
    channel.counts_become(queue, 1, 0)
    holder.get(queue, no_ack=False)
    holder.consume(queue)
    breaker.send("basic.qos", prefetch_size=1)
    other.refuses(540, "prefetch_size!=0 (1)", "basic.qos")
    channel.counts_become(queue, 1, 0)
    message = channel.get(queue)
    assert message is not None
    assert message["redelivered"] is True


def test_a_connection_error_takes_exclusive_queues_with_it(
    connect: Connect, channel: Channel, names: Names
) -> None:
    other = connect()
    theirs = other.channel()
    queue = theirs.declare(names.queue(), exclusive=True)
    theirs.send("basic.qos", prefetch_size=1)
    other.refuses(540, "prefetch_size!=0 (1)", "basic.qos")

    def look() -> str:
        channel.send("queue.declare", queue=queue, passive=True)
        reply = channel.receive()
        channel.send("channel.close-ok")
        channel.open()
        return str(reply["reply_text"])

    eventually(look, f"NOT_FOUND - no queue '{queue}' in vhost '/'")


def test_the_connection_that_another_replaces_leaves_nothing_locked(connect: Connect, names: Names) -> None:
    queue = names.queue()
    for _ in range(3):
        client = connect()
        channel = client.channel()

        def declare(channel: Channel = channel) -> str:
            channel.send("queue.declare", queue=queue, exclusive=True)
            reply = channel.receive()
            if reply.name == "channel.close":  # RabbitMQ lets go of the queue a little after close-ok
                channel.send("channel.close-ok")
                channel.open()
            return reply.name

        eventually(declare, "queue.declare-ok")
        client.close()


def test_a_method_without_a_reply_can_fail_too(channel: Channel, names: Names) -> None:
    missing = names.exchange()
    channel.publish("m", exchange=missing)
    channel.publish("m", exchange=missing)
    channel.refuses(404, f"no exchange '{missing}' in vhost '/'", "basic.publish")
    channel.hears_nothing()


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("queue.bind", {"exchange": "amq.direct"}),
        ("queue.purge", {}),
        ("basic.consume", {}),
        ("basic.get", {}),
        ("queue.declare", {"passive": True}),
    ],
)
@pytest.mark.parametrize("nowait", [True, False])
def test_a_missing_queue_is_not_found_however_it_is_asked_for(
    channel: Channel, names: Names, method: str, arguments: dict[str, Any], nowait: bool
) -> None:
    missing = names.queue()
    if method == "basic.get":
        channel.send(method, queue=missing, **arguments)
    else:
        channel.send(method, queue=missing, nowait=nowait, **arguments)
    channel.refuses(404, f"no queue '{missing}' in vhost '/'", method)


@pytest.mark.parametrize("length", [228, 229, 230, 231, 240, 255])
def test_a_reply_text_is_cut_at_255_octets(channel: Channel, length: int) -> None:
    queue = "q" * length
    channel.send("queue.declare", queue=queue, passive=True)
    text = f"no queue '{queue}' in vhost '/'"
    room = 255 - len("NOT_FOUND - ")
    channel.refuses(404, text if len(text) <= room else text[: room - 3] + "...", "queue.declare")


def test_a_message_larger_than_the_limit_is_refused(channel: Channel) -> None:
    size = 134217729
    chunk = Frame(BODY, channel.number, bytes(131064)).encoded()
    whole, rest = divmod(size, 131064)
    channel.client.send_bytes(
        Frame(METHOD, channel.number, encode_method("basic.publish", {"exchange": "amq.fanout"})).encoded()
        + Frame(HEADER, channel.number, encode_header(size, {})).encoded()
    )
    for _ in range(whole):
        channel.client.send_bytes(chunk)
    channel.client.send_bytes(Frame(BODY, channel.number, bytes(rest)).encoded())
    channel.refuses(
        406, "message size 134217729 is larger than configured max size 134217728", "basic.publish"
    )


def test_a_deleted_queue_with_an_exclusive_consumer_and_messages_is_gone_for_all(
    client: Client, channel: Channel, queue: str
) -> None:
    other = client.channel()
    other.consume(queue, "t", exclusive=True)
    channel.publish("m", routing_key=queue)
    other.expect("basic.deliver")
    channel.call("queue.delete", queue=queue)
    other.expect("basic.cancel", consumer_tag="t")
    other.send("basic.reject", delivery_tag=1, requeue=True)
    other.hears_nothing()


def test_an_exclusive_auto_delete_queue_goes_with_whichever_comes_first(
    channel: Channel, names: Names
) -> None:
    queue = channel.declare(names.queue(), exclusive=True, auto_delete=True)
    channel.consume(queue, "t")
    channel.call("basic.cancel", consumer_tag="t")

    def look() -> str:
        channel.send("queue.declare", queue=queue, passive=True)
        reply = channel.receive()
        if reply.name == "channel.close":
            channel.send("channel.close-ok")
            channel.open()
        return reply.name

    eventually(look, "channel.close")


def test_a_thousand_consumers_on_a_channel_are_all_served(channel: Channel, queue: str) -> None:
    for number in range(1000):
        channel.send("basic.consume", queue=queue, consumer_tag=str(number), no_ack=True, nowait=True)
    channel.counts_become(queue, 0, 1000)
    for number in range(1000):
        channel.publish(str(number), routing_key=queue)
    assert len({delivery["consumer_tag"] for delivery in channel.deliveries(1000)}) == 1000


def test_a_storm_of_declares_is_answered_one_by_one(channel: Channel, queue: str) -> None:
    for _ in range(2000):
        channel.send("queue.declare", queue=queue)
    for _ in range(2000):
        channel.expect("queue.declare-ok", queue=queue)

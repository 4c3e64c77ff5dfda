"""Consumers: tags, deliveries and their tags, cancel, what a closing channel or connection does to them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .client import Channel, Client
from .codec import Typed
from .conftest import Connect, Names


def test_a_delivery_says_where_it_comes_from(channel: Channel, queue: str) -> None:
    channel.consume(queue, "tag")
    channel.bind(queue, "amq.topic", "a.*")
    channel.publish("m", exchange="amq.topic", routing_key="a.b", type="t")
    delivery = channel.expect("basic.deliver")
    assert delivery.arguments == {
        "consumer_tag": "tag",
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "amq.topic",
        "routing_key": "a.b",
    }
    assert (delivery.properties, delivery.body) == ({"type": "t"}, b"m")


def test_consume_ok_comes_before_the_first_delivery(channel: Channel, queue: str) -> None:
    for body in "ab":
        channel.publish(body, routing_key=queue)
    assert channel.call("basic.consume", queue=queue, consumer_tag="t") == {"consumer_tag": "t"}
    assert [delivery.body for delivery in channel.deliveries(2)] == [b"a", b"b"]


def test_consume_without_a_tag_makes_one_up(channel: Channel, queue: str) -> None:
    tags = {channel.consume(queue, "") for _ in range(3)}
    assert len(tags) == 3
    assert all(re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", tag) for tag in tags)


def test_consume_with_nowait_has_no_reply(channel: Channel, queue: str) -> None:
    channel.send("basic.consume", queue=queue, consumer_tag="t", nowait=True)
    channel.publish("m", routing_key=queue)
    channel.expect("basic.deliver", consumer_tag="t")


def test_consume_without_a_queue_means_the_one_declared_last(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue())
    channel.consume("")
    channel.publish("m", routing_key=queue)
    channel.expect("basic.deliver", routing_key=queue)


@pytest.mark.parametrize("nowait", [True, False])
def test_consuming_a_missing_queue_is_not_found(channel: Channel, names: Names, nowait: bool) -> None:
    queue = names.queue()
    channel.send("basic.consume", queue=queue, nowait=nowait)
    channel.refuses(404, f"no queue '{queue}' in vhost '/'", "basic.consume")


def test_a_tag_used_twice_on_a_channel_closes_the_connection(channel: Channel, queue: str) -> None:
    channel.consume(queue, "t")
    channel.send("basic.consume", queue=queue, consumer_tag="t")
    channel.client.refuses(530, "attempt to reuse consumer tag 't'", "basic.consume")


def test_a_tag_may_be_used_on_each_channel(client: Client, queue: str) -> None:
    for _ in range(2):
        client.channel().consume(queue, "t")


def test_a_tag_may_be_any_text(channel: Channel, queue: str) -> None:
    for tag in ("\u00fc \u4e2d", "t" * 255, "a\nb\x00c", "amq.mine"):
        channel.consume(queue, tag)
        assert channel.call("basic.cancel", consumer_tag=tag) == {"consumer_tag": tag}


def test_no_local_is_ignored(channel: Channel, queue: str) -> None:
    channel.consume(queue, no_local=True)
    channel.publish("m", routing_key=queue)
    channel.expect("basic.deliver")


def test_unknown_consumer_arguments_are_ignored(channel: Channel, queue: str) -> None:
    channel.consume(queue, arguments={"x-mine": [1, {"a": None}]})
    channel.publish("m", routing_key=queue)
    channel.expect("basic.deliver")


def test_a_consumer_argument_of_another_queue_type_is_refused(channel: Channel, queue: str) -> None:
    channel.send("basic.consume", queue=queue, arguments={"x-stream-offset": "first"})
    channel.refuses(
        406,
        f"invalid arg 'x-stream-offset' for queue '{queue}' in vhost '/' of queue type rabbit_classic_queue",
        "basic.consume",
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [("high", "longstr"), (1.5, "double"), (True, "bool"), (None, "void"), (Typed("T", 3), "timestamp")],
)
def test_a_priority_that_is_no_integer_is_refused(
    channel: Channel, queue: str, value: Any, kind: str
) -> None:
    channel.send("basic.consume", queue=queue, arguments={"x-priority": value})
    channel.refuses(
        406,
        f"invalid arg 'x-priority' for queue '{queue}' in vhost '/': \"expected integer, got {kind}\"",
        "basic.consume",
    )


# delivery tags


def test_delivery_tags_count_up_from_one_on_each_channel(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    for body in "abcd":
        one.publish(body, routing_key=queue)
    one.counts_become(queue, 4, 0)
    found = [
        message["delivery_tag"]
        for message in (one.get(queue), one.get(queue), two.get(queue), two.get(queue))
        if message
    ]
    assert found == [1, 2, 1, 2]


def test_consumers_gets_and_automatic_acks_share_one_count_of_delivery_tags(
    channel: Channel, names: Names
) -> None:
    first, second = channel.declare(names.queue()), channel.declare(names.queue())
    channel.consume(first, "auto", no_ack=True)
    channel.publish("a", routing_key=first)
    assert channel.expect("basic.deliver")["delivery_tag"] == 1
    channel.publish("b", routing_key=second)
    message = channel.get(second)
    assert message is not None
    assert message["delivery_tag"] == 2
    channel.publish("c", routing_key=first)
    assert channel.expect("basic.deliver")["delivery_tag"] == 3


def test_delivery_tags_start_again_with_the_channel(channel: Channel, queue: str) -> None:
    for body in "ab":
        channel.publish(body, routing_key=queue)
    assert (first := channel.get(queue)) is not None
    channel.close()
    channel.open()
    assert (second := channel.get(queue)) is not None
    assert (first["delivery_tag"], second["delivery_tag"]) == (1, 1)


def test_messages_are_delivered_in_order(channel: Channel, queue: str) -> None:
    channel.consume(queue, no_ack=True)
    for number in range(200):
        channel.publish(str(number), routing_key=queue)
    deliveries = channel.deliveries(200)
    assert [delivery.body.decode() for delivery in deliveries] == [str(number) for number in range(200)]
    assert [delivery["delivery_tag"] for delivery in deliveries] == list(range(1, 201))


def test_consumers_take_turns(channel: Channel, queue: str) -> None:
    for tag in "abc":
        channel.consume(queue, tag, no_ack=True)
    turns = []
    for number in range(9):
        channel.publish(str(number), routing_key=queue)
        turns.append(channel.expect("basic.deliver")["consumer_tag"])
    assert turns == list("abcabcabc")


def test_a_message_goes_to_one_consumer_only(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    one.consume(queue, no_ack=True)
    two.consume(queue, no_ack=True)
    for number in range(10):
        one.publish(str(number), routing_key=queue)
    assert sorted(d.body for d in one.deliveries(5) + two.deliveries(5)) == [
        str(n).encode() for n in range(10)
    ]
    one.hears_nothing(queue)
    two.hears_nothing(queue)


def test_a_consumer_of_another_connection_is_served(channel: Channel, connect: Connect, queue: str) -> None:
    other = connect().channel()
    other.consume(queue, "theirs")
    channel.publish("m", routing_key=queue)
    other.expect("basic.deliver", consumer_tag="theirs", delivery_tag=1)


def test_automatic_acks_leave_nothing_behind(channel: Channel, client: Client, queue: str) -> None:
    other = client.channel()
    other.consume(queue, no_ack=True)
    channel.publish("m", routing_key=queue)
    other.expect("basic.deliver")
    other.close()
    channel.counts_become(queue, 0, 0)


# cancel


def test_cancel_stops_the_deliveries(channel: Channel, queue: str) -> None:
    channel.consume(queue, "t", no_ack=True)
    assert channel.call("basic.cancel", consumer_tag="t") == {"consumer_tag": "t"}
    channel.publish("m", routing_key=queue)
    assert channel.drain(queue) == ["m"]


@pytest.mark.parametrize("tag", ["unknown", ""])
def test_cancel_of_an_unknown_tag_is_fine(channel: Channel, tag: str) -> None:
    assert channel.call("basic.cancel", consumer_tag=tag) == {"consumer_tag": tag}


def test_cancel_with_nowait_has_no_reply(channel: Channel, queue: str) -> None:
    channel.consume(queue, "t")
    channel.send("basic.cancel", consumer_tag="t", nowait=True)
    channel.send("basic.cancel", consumer_tag="unknown", nowait=True)
    channel.hears_nothing()
    assert channel.counts(queue) == (0, 0)


def test_cancel_does_not_reach_another_channels_consumer(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    one.consume(queue, "t")
    two.call("basic.cancel", consumer_tag="t")
    two.publish("m", routing_key=queue)
    one.expect("basic.deliver", consumer_tag="t")


def test_cancel_leaves_unacked_messages_with_the_channel(channel: Channel, queue: str) -> None:
    channel.consume(queue, "t")
    channel.publish("m", routing_key=queue)
    delivery = channel.expect("basic.deliver")
    channel.call("basic.cancel", consumer_tag="t")
    assert channel.get(queue) is None
    channel.send("basic.nack", delivery_tag=delivery["delivery_tag"], requeue=True)
    message = channel.get(queue)
    assert message is not None
    assert (message.body, message["redelivered"]) == (b"m", True)


def test_a_cancelled_tag_is_free_again(channel: Channel, queue: str) -> None:
    for _ in range(2):
        channel.consume(queue, "t")
        channel.call("basic.cancel", consumer_tag="t")


def test_cancel_ok_comes_after_the_deliveries_made_before(
    channel: Channel, client: Client, queue: str
) -> None:
    other = client.channel()
    other.consume(queue, "t", no_ack=True)
    for number in range(50):
        channel.publish(str(number), routing_key=queue)
    channel.hears_nothing()
    other.send("basic.cancel", consumer_tag="t")
    seen = 0
    while (reply := other.receive()).name == "basic.deliver":
        seen += 1
    assert reply.name == "basic.cancel-ok"
    assert seen + len(other.drain(queue)) == 50


# the end of a channel or a connection


def test_closing_the_channel_requeues_what_is_unacked(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    one.consume(queue)
    for body in "abc":
        one.publish(body, routing_key=queue)
    one.deliveries(3)
    one.close()
    two.counts_become(queue, 3, 0)
    messages = [two.get(queue) for _ in range(3)]
    assert [(m.body, m["redelivered"]) for m in messages if m] == [(b"a", True), (b"b", True), (b"c", True)]


@pytest.mark.parametrize("polite", [True, False])
def test_losing_the_connection_requeues_what_is_unacked(
    channel: Channel, connect: Connect, queue: str, polite: bool
) -> None:
    for body in "abcd":
        channel.publish(body, routing_key=queue)
    channel.counts_become(queue, 4, 0)
    other = connect()
    theirs = other.channel()
    theirs.call("basic.qos", prefetch_count=3)
    theirs.consume(queue)
    theirs.deliveries(3)
    theirs.send("basic.ack", delivery_tag=2)
    theirs.expect("basic.deliver", delivery_tag=4, redelivered=False)
    (other.close if polite else other.drop)()
    channel.counts_become(queue, 3, 0)
    messages = [channel.get(queue) for _ in range(3)]
    assert [m.body for m in messages if m] == [b"a", b"c", b"d"]
    assert all(m["redelivered"] for m in messages if m)


def test_an_error_on_the_channel_requeues_what_is_unacked(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue)
    channel.get(queue, no_ack=False)
    channel.send("basic.ack", delivery_tag=9)
    channel.refuses(406, "unknown delivery tag 9", "basic.ack")
    channel.counts_become(queue, 1, 0)


def test_a_closed_channels_consumers_are_gone(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    one.consume(queue, "a")
    one.consume(queue, "b")
    assert two.counts(queue) == (0, 2)
    one.close()
    two.counts_become(queue, 0, 0)


def test_messages_unacked_by_a_lost_consumer_go_to_the_next(
    channel: Channel, connect: Connect, queue: str
) -> None:
    first = connect()
    theirs = first.channel()
    theirs.consume(queue, "first")
    channel.publish("m", routing_key=queue)
    theirs.expect("basic.deliver", redelivered=False)
    channel.consume(queue, "second")
    first.drop()
    channel.expect("basic.deliver", consumer_tag="second", redelivered=True)

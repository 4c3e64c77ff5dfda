"""Which consumer is served: x-priority, exclusive consumers, the single active consumer."""

from __future__ import annotations

import pytest

from .client import Channel, Client
from .codec import Typed
from .conftest import Connect, Names


def served(channel: Channel, queue: str, count: int) -> list[str]:
    """The tags of the consumers of this channel that get the next so many messages."""
    for number in range(count):
        channel.publish(str(number), routing_key=queue)
    return [delivery["consumer_tag"] for delivery in channel.deliveries(count)]


# x-priority


def test_the_higher_priority_is_served_as_long_as_it_has_room(channel: Channel, queue: str) -> None:
    channel.consume(queue, "low", no_ack=True, arguments={"x-priority": 1})
    channel.consume(queue, "high", no_ack=True, arguments={"x-priority": 10})
    assert served(channel, queue, 5) == ["high"] * 5


def test_no_priority_is_priority_zero(channel: Channel, queue: str) -> None:
    channel.consume(queue, "none", no_ack=True)
    channel.consume(queue, "below", no_ack=True, arguments={"x-priority": -1})
    assert served(channel, queue, 3) == ["none"] * 3
    channel.consume(queue, "above", no_ack=True, arguments={"x-priority": 1})
    assert served(channel, queue, 3) == ["above"] * 3


@pytest.mark.parametrize("kind", ["b", "s", "I", "l"])
def test_a_priority_may_be_an_integer_of_any_width(channel: Channel, queue: str, kind: str) -> None:
    channel.consume(queue, "low", no_ack=True)
    channel.consume(queue, "high", no_ack=True, arguments={"x-priority": Typed(kind, 5)})
    assert served(channel, queue, 2) == ["high"] * 2


def test_equals_take_turns(channel: Channel, queue: str) -> None:
    channel.consume(queue, "low", no_ack=True, arguments={"x-priority": 1})
    for tag in ("a", "b"):
        channel.consume(queue, tag, no_ack=True, arguments={"x-priority": 2})
    assert sorted(served(channel, queue, 6)) == ["a"] * 3 + ["b"] * 3


def test_the_lower_is_served_when_the_higher_is_full_and_the_higher_again_when_it_has_room(
    channel: Channel, queue: str
) -> None:
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue, "high", arguments={"x-priority": 5})
    channel.call("basic.qos", prefetch_count=0)
    channel.consume(queue, "low")
    channel.publish("0", routing_key=queue)
    first = channel.expect("basic.deliver", consumer_tag="high")
    assert served(channel, queue, 2) == ["low"] * 2
    channel.send("basic.ack", delivery_tag=first["delivery_tag"])
    channel.hears_nothing(queue)
    assert served(channel, queue, 1) == ["high"]


def test_a_higher_consumer_that_comes_later_is_served_first(
    channel: Channel, client: Client, queue: str
) -> None:
    other = client.channel()
    channel.consume(queue, "low", no_ack=True)
    assert served(channel, queue, 1) == ["low"]
    other.consume(queue, "high", no_ack=True, arguments={"x-priority": 1})
    channel.publish("m", routing_key=queue)
    other.expect("basic.deliver", consumer_tag="high")
    other.call("basic.cancel", consumer_tag="high")
    assert served(channel, queue, 1) == ["low"]


# exclusive consumers


def in_use(queue: str) -> str:
    return f"queue '{queue}' in vhost '/' in exclusive use"


def test_an_exclusive_consumer_keeps_others_out(channel: Channel, connect: Connect, queue: str) -> None:
    channel.consume(queue, "mine", exclusive=True)
    for other in (channel.client.channel(), connect().channel()):
        other.send("basic.consume", queue=queue)
        other.refuses(403, in_use(queue), "basic.consume")
    channel.publish("m", routing_key=queue)
    channel.expect("basic.deliver", consumer_tag="mine")


def test_an_exclusive_consumer_keeps_out_others_of_its_own_channel(channel: Channel, queue: str) -> None:
    channel.consume(queue, "mine", exclusive=True)
    channel.send("basic.consume", queue=queue, consumer_tag="also mine")
    channel.refuses(403, in_use(queue), "basic.consume")


def test_a_queue_with_consumers_cannot_be_had_exclusively(
    channel: Channel, client: Client, queue: str
) -> None:
    channel.consume(queue)
    other = client.channel()
    other.send("basic.consume", queue=queue, exclusive=True)
    other.refuses(403, in_use(queue), "basic.consume")


def test_a_cancelled_exclusive_consumer_lets_others_in(channel: Channel, client: Client, queue: str) -> None:
    channel.consume(queue, "mine", exclusive=True)
    channel.call("basic.cancel", consumer_tag="mine")
    client.channel().consume(queue, exclusive=True)


def test_a_lost_exclusive_consumer_lets_others_in(channel: Channel, client: Client, queue: str) -> None:
    other = client.channel()
    other.consume(queue, exclusive=True)
    other.close()
    channel.counts_become(queue, 0, 0)
    channel.consume(queue)


def test_an_exclusive_consumer_does_not_keep_gets_out(channel: Channel, client: Client, queue: str) -> None:
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue, exclusive=True)
    for body in "ab":
        channel.publish(body, routing_key=queue)
    channel.expect("basic.deliver")
    message = client.channel().get(queue)
    assert message is not None
    assert message.body == b"b"


def test_an_exclusive_consumer_does_not_keep_a_purge_or_a_delete_out(
    channel: Channel, client: Client, queue: str
) -> None:
    channel.consume(queue, "mine", exclusive=True)
    other = client.channel()
    other.call("queue.purge", queue=queue)
    other.call("queue.delete", queue=queue)
    channel.expect("basic.cancel", consumer_tag="mine")


# the single active consumer


@pytest.fixture
def single(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue(), arguments={"x-single-active-consumer": True})


def test_only_the_first_consumer_is_active(channel: Channel, single: str) -> None:
    for tag in "abc":
        channel.consume(single, tag, no_ack=True)
    assert channel.counts(single) == (0, 3)
    assert served(channel, single, 6) == ["a"] * 6


def test_the_next_in_line_becomes_active_when_the_first_is_cancelled(channel: Channel, single: str) -> None:
    for tag in "abc":
        channel.consume(single, tag, no_ack=True)
    channel.call("basic.cancel", consumer_tag="a")
    assert served(channel, single, 2) == ["b"] * 2
    channel.call("basic.cancel", consumer_tag="c")
    assert served(channel, single, 2) == ["b"] * 2
    channel.call("basic.cancel", consumer_tag="b")
    channel.publish("m", routing_key=single)
    assert channel.drain(single) == ["m"]


def test_the_next_in_line_becomes_active_when_the_first_is_lost(
    channel: Channel, connect: Connect, single: str
) -> None:
    first = connect()
    theirs = first.channel()
    theirs.consume(single, "first")
    channel.consume(single, "second")
    channel.publish("m", routing_key=single)
    theirs.expect("basic.deliver", redelivered=False)
    first.drop()
    channel.expect("basic.deliver", consumer_tag="second", redelivered=True)


def test_a_full_active_consumer_is_waited_for(channel: Channel, single: str) -> None:
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(single, "first")
    channel.consume(single, "second")
    for body in "ab":
        channel.publish(body, routing_key=single)
    channel.expect("basic.deliver", consumer_tag="first")
    channel.hears_nothing(single)
    channel.send("basic.ack", delivery_tag=1)
    channel.expect("basic.deliver", consumer_tag="first")


def test_a_higher_priority_does_not_displace_the_active_consumer(channel: Channel, single: str) -> None:
    channel.consume(single, "first", no_ack=True)
    channel.consume(single, "high", no_ack=True, arguments={"x-priority": 10})
    assert served(channel, single, 3) == ["first"] * 3


def test_a_cancelled_active_consumer_keeps_what_it_has_while_the_next_is_served(
    channel: Channel, client: Client, single: str
) -> None:
    other = client.channel()
    channel.consume(single, "first")
    other.consume(single, "second")
    channel.publish("a", routing_key=single)
    channel.expect("basic.deliver", consumer_tag="first")
    channel.call("basic.cancel", consumer_tag="first")
    channel.publish("b", routing_key=single)
    assert other.expect("basic.deliver", consumer_tag="second").body == b"b"
    channel.send("basic.ack", delivery_tag=1)
    channel.hears_nothing(single)


def test_a_single_active_consumer_cannot_be_exclusive(channel: Channel, single: str) -> None:
    channel.send("basic.consume", queue=single, exclusive=True)
    channel.refuses(403, in_use(single), "basic.consume")

"""Prefetch: per consumer, per channel, both at once, changed while running, and what it does not limit."""

from __future__ import annotations

import pytest

from .client import Channel, Client
from .conftest import Connect, Names


def fill(channel: Channel, queue: str, count: int) -> None:
    for number in range(count):
        channel.publish(str(number), routing_key=queue)
    channel.hears_nothing()


def bodies(channel: Channel, count: int) -> list[str]:
    return [delivery.body.decode() for delivery in channel.deliveries(count)]


@pytest.mark.parametrize("count", [0, 1, 65535])
@pytest.mark.parametrize("whole_channel", [True, False])
def test_qos_is_answered(channel: Channel, count: int, whole_channel: bool) -> None:
    assert channel.call("basic.qos", prefetch_count=count, global_=whole_channel) == {}


@pytest.mark.parametrize("size", [1, 2**32 - 1])
@pytest.mark.parametrize("whole_channel", [True, False])
def test_a_prefetch_in_octets_closes_the_connection(channel: Channel, size: int, whole_channel: bool) -> None:
    channel.send("basic.qos", prefetch_size=size, global_=whole_channel)
    channel.client.refuses(540, f"prefetch_size!=0 ({size})", "basic.qos")


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_a_consumer_has_so_many_unacked_and_no_more(channel: Channel, queue: str, prefetch: int) -> None:
    fill(channel, queue, 8)
    channel.call("basic.qos", prefetch_count=prefetch)
    channel.consume(queue)
    assert bodies(channel, prefetch) == [str(n) for n in range(prefetch)]
    channel.hears_nothing(queue)
    channel.send("basic.ack", delivery_tag=1)
    assert bodies(channel, 1) == [str(prefetch)]
    channel.hears_nothing(queue)


def test_without_a_prefetch_everything_is_sent(channel: Channel, queue: str) -> None:
    fill(channel, queue, 300)
    channel.consume(queue)
    assert bodies(channel, 300) == [str(n) for n in range(300)]


def test_a_reject_makes_room_as_an_ack_does(channel: Channel, queue: str) -> None:
    fill(channel, queue, 3)
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue)
    assert bodies(channel, 1) == ["0"]
    channel.send("basic.reject", delivery_tag=1)
    assert bodies(channel, 1) == ["1"]
    channel.send("basic.nack", delivery_tag=2)
    assert bodies(channel, 1) == ["2"]


def test_a_requeue_makes_room_for_the_same_message(channel: Channel, queue: str) -> None:
    fill(channel, queue, 3)
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue)
    assert bodies(channel, 1) == ["0"]
    channel.send("basic.reject", delivery_tag=1, requeue=True)
    assert channel.expect("basic.deliver", redelivered=True).body == b"0"


def test_ack_multiple_makes_room_for_as_many(channel: Channel, queue: str) -> None:
    fill(channel, queue, 10)
    channel.call("basic.qos", prefetch_count=3)
    channel.consume(queue)
    bodies(channel, 3)
    channel.send("basic.ack", delivery_tag=3, multiple=True)
    assert bodies(channel, 3) == ["3", "4", "5"]
    channel.hears_nothing(queue)


def test_each_consumer_has_a_prefetch_of_its_own(channel: Channel, queue: str) -> None:
    fill(channel, queue, 9)
    channel.call("basic.qos", prefetch_count=2)
    channel.consume(queue, "a")
    assert {delivery["consumer_tag"] for delivery in channel.deliveries(2)} == {"a"}
    channel.consume(queue, "b")
    assert {delivery["consumer_tag"] for delivery in channel.deliveries(2)} == {"b"}
    channel.hears_nothing(queue)


def test_a_new_prefetch_is_for_new_consumers(channel: Channel, queue: str) -> None:
    fill(channel, queue, 9)
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue, "one")
    channel.deliveries(1)
    channel.call("basic.qos", prefetch_count=3)
    channel.hears_nothing(queue)
    channel.consume(queue, "three")
    assert {delivery["consumer_tag"] for delivery in channel.deliveries(3)} == {"three"}
    channel.hears_nothing(queue)


def test_the_prefetch_of_the_channel_is_shared_by_its_consumers(channel: Channel, queue: str) -> None:
    fill(channel, queue, 9)
    channel.call("basic.qos", prefetch_count=3, global_=True)
    channel.consume(queue, "a")
    channel.deliveries(3)
    channel.consume(queue, "b")
    channel.hears_nothing(queue)
    channel.send("basic.ack", delivery_tag=2)
    channel.deliveries(1)
    channel.hears_nothing(queue)


def test_the_prefetch_of_the_channel_is_shared_by_its_queues(channel: Channel, names: Names) -> None:
    queues = [channel.declare(names.queue()) for _ in range(2)]
    channel.call("basic.qos", prefetch_count=3, global_=True)
    for queue in queues:
        fill(channel, queue, 3)
    for queue in queues:
        channel.send("basic.consume", queue=queue, consumer_tag=queue)
    replies = [channel.receive().name for _ in range(5)]
    assert sorted(replies) == ["basic.consume-ok"] * 2 + ["basic.deliver"] * 3
    channel.hears_nothing()


def test_both_limits_hold_at_once(channel: Channel, queue: str) -> None:
    fill(channel, queue, 20)
    channel.call("basic.qos", prefetch_count=2)
    channel.call("basic.qos", prefetch_count=3, global_=True)
    channel.consume(queue, "a")
    assert len(channel.deliveries(2)) == 2
    channel.hears_nothing(queue)
    channel.consume(queue, "b")
    assert channel.expect("basic.deliver")["consumer_tag"] == "b"
    channel.hears_nothing(queue)


def test_a_raised_limit_of_the_channel_counts_at_once(channel: Channel, queue: str) -> None:
    fill(channel, queue, 9)
    channel.call("basic.qos", prefetch_count=1, global_=True)
    channel.consume(queue)
    channel.deliveries(1)
    channel.send("basic.qos", prefetch_count=3, global_=True)
    seen = sorted(channel.receive().name for _ in range(3))
    assert seen == ["basic.deliver", "basic.deliver", "basic.qos-ok"]
    channel.hears_nothing(queue)


def test_a_lifted_limit_of_the_channel_lets_everything_out(channel: Channel, queue: str) -> None:
    fill(channel, queue, 9)
    channel.call("basic.qos", prefetch_count=1, global_=True)
    channel.consume(queue)
    channel.deliveries(1)
    channel.send("basic.qos", prefetch_count=0, global_=True)
    seen = sorted(channel.receive().name for _ in range(9))
    assert seen == ["basic.deliver"] * 8 + ["basic.qos-ok"]


def test_a_lowered_limit_of_the_channel_leaves_out_what_is_out(channel: Channel, queue: str) -> None:
    fill(channel, queue, 9)
    channel.call("basic.qos", prefetch_count=4, global_=True)
    channel.consume(queue)
    channel.deliveries(4)
    channel.call("basic.qos", prefetch_count=2, global_=True)
    channel.send("basic.ack", delivery_tag=2, multiple=True)
    channel.hears_nothing(queue)
    channel.send("basic.ack", delivery_tag=3)
    assert bodies(channel, 1) == ["4"]
    channel.hears_nothing(queue)


@pytest.mark.parametrize("whole_channel", [True, False])
def test_automatic_acks_know_no_limit(channel: Channel, queue: str, whole_channel: bool) -> None:
    fill(channel, queue, 50)
    channel.call("basic.qos", prefetch_count=1, global_=whole_channel)
    channel.consume(queue, no_ack=True)
    assert len(bodies(channel, 50)) == 50


def test_a_full_consumer_is_passed_over(channel: Channel, connect: Connect, queue: str) -> None:
    full, free = connect().channel(), connect().channel()
    full.call("basic.qos", prefetch_count=1)
    full.consume(queue, "full")
    channel.publish("0", routing_key=queue)
    full.deliveries(1)
    free.consume(queue, "free")
    for number in range(1, 5):
        channel.publish(str(number), routing_key=queue)
    assert bodies(free, 4) == ["1", "2", "3", "4"]
    full.hears_nothing(queue)


def test_a_consumer_that_has_room_again_takes_its_turn(channel: Channel, client: Client, queue: str) -> None:
    one = client.channel()
    one.call("basic.qos", prefetch_count=1)
    one.consume(queue, "one")
    fill(channel, queue, 3)
    for number in range(3):
        assert bodies(one, 1) == [str(number)]
        one.send("basic.ack", delivery_tag=number + 1)
    one.hears_nothing(queue)


def test_cancelling_does_not_free_the_channels_room(channel: Channel, queue: str) -> None:
    fill(channel, queue, 5)
    channel.call("basic.qos", prefetch_count=2, global_=True)
    channel.consume(queue, "a")
    channel.deliveries(2)
    channel.call("basic.cancel", consumer_tag="a")
    channel.consume(queue, "b")
    channel.hears_nothing(queue)
    channel.send("basic.ack", delivery_tag=1)
    assert channel.expect("basic.deliver")["consumer_tag"] == "b"


def test_gets_do_not_take_the_channels_room(channel: Channel, queue: str) -> None:
    fill(channel, queue, 5)
    channel.call("basic.qos", prefetch_count=2, global_=True)
    for _ in range(3):
        channel.get(queue, no_ack=False)
    channel.consume(queue)
    assert bodies(channel, 2) == ["3", "4"]

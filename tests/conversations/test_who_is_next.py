"""Who is served next, and what comes first, where several things happen at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .client import Channel, Client
from .conftest import Names


def fill(channel: Channel, queue: str, *bodies: str) -> None:
    for body in bodies:
        channel.publish(body, routing_key=queue)
    channel.hears_nothing(queue)


def served(channel: Channel, count: int) -> list[tuple[str, str]]:
    """Consumer and body of the next so many deliveries."""
    return [(one["consumer_tag"], one.body.decode()) for one in channel.deliveries(count)]


def test_who_deletes_a_queue_is_answered_before_its_consumers_are_cancelled(
    channel: Channel, names: Names
) -> None:
    for durable in (False, True):
        queue = channel.declare(names.queue(), durable=durable)
        channel.consume(queue, "a")
        channel.consume(queue, "b")
        channel.send("queue.delete", queue=queue)
        channel.expect("queue.delete-ok", message_count=0)
        channel.expect("basic.cancel", consumer_tag="a")
        channel.expect("basic.cancel", consumer_tag="b")


def test_a_queue_that_is_not_deleted_keeps_its_consumers(channel: Channel, queue: str) -> None:
    channel.consume(queue, "a")
    channel.send("queue.delete", queue=queue, if_unused=True)
    channel.refuses(406, f"queue '{queue}' in vhost '/' in use", "queue.delete")
    channel.consume(queue, "a")
    fill(channel.client.channel(), queue, "0")
    assert served(channel, 1) == [("a", "0")]


def test_a_consumer_with_room_again_before_its_turn_has_kept_its_place(
    client: Client, channel: Channel, queue: str
) -> None:
    publisher = client.channel()
    channel.consume(queue, "any")
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue, "one")
    channel.call("basic.qos", prefetch_count=2)
    channel.consume(queue, "two")
    fill(publisher, queue, "0", "1", "2", "3", "4", "5")
    assert [tag for tag, _ in served(channel, 6)] == ["any", "one", "two", "any", "two", "any"]
    channel.send("basic.ack", delivery_tag=5, multiple=True)
    fill(publisher, queue, "6")
    assert served(channel, 1) == [("two", "6")]


def test_consumers_take_turns_when_their_shared_prefetch_is_raised(
    client: Client, channel: Channel, queue: str
) -> None:
    channel.call("basic.qos", prefetch_count=1, global_=True)
    channel.consume(queue, "a")
    channel.consume(queue, "b")
    fill(client.channel(), queue, "0", "1", "2", "3", "4")
    assert served(channel, 1) == [("a", "0")]
    channel.call("basic.qos", prefetch_count=5, global_=True)
    assert [tag for tag, _ in served(channel, 4)] == ["b", "a", "b", "a"]


def test_the_next_single_active_consumer_gets_what_the_last_one_gave_back_first(
    client: Client, channel: Channel, names: Names
) -> None:
    queue = channel.declare(names.queue(), arguments={"x-single-active-consumer": True})
    first, second = client.channel(), client.channel()
    for one, tag in ((first, "first"), (second, "second")):
        one.call("basic.qos", prefetch_count=1)
        one.consume(queue, tag)
    fill(channel, queue, "0", "1", "2")
    assert served(first, 1) == [("first", "0")]
    first.close()
    assert served(second, 1) == [("second", "0")]


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish-dlx"])
def test_a_message_is_in_all_its_queues_before_what_it_pushes_out_is_in_one(
    channel: Channel, names: Names, exchange: Callable[..., str], overflow: str
) -> None:
    both = exchange("fanout")
    end = channel.declare(names.queue("end"))
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": end}
    small = channel.declare(
        names.queue("small"), arguments={"x-max-length": 1, "x-overflow": overflow} | dead
    )
    channel.bind(small, both)
    channel.bind(end, both)
    for body in ("0", "1"):
        channel.publish(body, exchange=both)
    letter = "0" if overflow == "drop-head" else "1"
    assert channel.arrivals(end, 3) == ["0", "1", letter]


def test_consumers_take_turns_in_what_their_channel_gives_back(
    client: Client, channel: Channel, queue: str
) -> None:
    channel.consume(queue, "any")
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue, "one")
    fill(client.channel(), queue, "0", "1")
    assert served(channel, 2) == [("any", "0"), ("one", "1")]
    channel.call("basic.recover", requeue=True)
    assert served(channel, 2) == [("any", "0"), ("one", "1")]

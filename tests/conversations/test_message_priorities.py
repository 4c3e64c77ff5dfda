"""Queues with priorities: who goes first, who is dropped first, and what else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .codec import Typed
from .conftest import Names


@pytest.fixture
def prioritised(channel: Channel, names: Names) -> Callable[..., str]:
    """Declare a queue with that many priorities above 0."""

    def declare(highest: Any, **arguments: Any) -> str:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        return channel.declare(names.queue("prio"), arguments=given | {"x-max-priority": highest})

    return declare


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


def to(dead: str) -> dict[str, str]:
    return {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": dead}


def publish_all(channel: Channel, queue: str, messages: str, **properties: Any) -> None:
    """Messages written as "a0 b5 c": a body, and its priority unless it has none."""
    for message in messages.split():
        body, priority = message[0], message[1:]
        given: dict[str, Any] = {"priority": int(priority)} if priority else {}
        channel.publish(body, routing_key=queue, **properties, **given)


# who goes first


@pytest.mark.parametrize(
    ("highest", "order"),
    [
        (0, "abcdefghi"),
        (1, "bcdefgahi"),
        (2, "cdefbgahi"),
        (9, "defcbgahi"),
        (10, "efdcbgahi"),
        (255, "fedcbgahi"),
    ],
)
def test_the_highest_priority_is_got_first_and_equals_in_their_order(
    channel: Channel, prioritised: Callable[..., str], highest: int, order: str
) -> None:
    """No priority is priority 0, and one above the queue's highest counts as that."""
    queue = prioritised(highest)
    publish_all(channel, queue, "a0 b1 c2 d9 e254 f255 g1 h0 i")
    assert channel.drain(queue) == list(order)


@pytest.mark.parametrize("kind", ["b", "B", "s", "u", "I", "i", "l"])
def test_the_highest_priority_may_be_an_integer_of_any_width(
    channel: Channel, prioritised: Callable[..., str], kind: str
) -> None:
    queue = prioritised(Typed(kind, 3))
    publish_all(channel, queue, "a1 b3 c2")
    assert channel.drain(queue) == ["b", "c", "a"]


def test_a_queue_without_priorities_ignores_them(channel: Channel, queue: str) -> None:
    publish_all(channel, queue, "a1 b9 c5")
    assert channel.drain(queue) == ["a", "b", "c"]


def test_a_waiting_message_is_overtaken_by_every_higher_one(
    channel: Channel, prioritised: Callable[..., str]
) -> None:
    """However long it has waited."""
    queue = prioritised(2)
    publish_all(channel, queue, "z0")
    for body in "abcdefghij" * 3:
        publish_all(channel, queue, f"{body}1")
        publish_all(channel, queue, f"{body}2")
    bodies = channel.drain(queue)
    assert bodies[-1] == "z"
    assert bodies[:30] == bodies[30:60] == list("abcdefghij" * 3)


def test_every_one_of_all_priorities_is_served_in_order(
    channel: Channel, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(255)
    numbers = [number * 101 % 256 for number in range(256)]
    for number in numbers:
        channel.publish(str(number), routing_key=queue, priority=number)
    channel.counts_become(queue, 256, 0)
    assert [int(body) for body in channel.drain(queue)] == list(range(255, -1, -1))


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("queue_mode", ["default", "lazy"])
def test_durable_queues_have_the_same_order(
    channel: Channel, names: Names, mode: int, queue_mode: str
) -> None:
    arguments = {"x-max-priority": 5, "x-queue-mode": queue_mode}
    queue = channel.declare(names.queue(), durable=True, arguments=arguments)
    publish_all(channel, queue, "a1 b3 c2 d1 e3", delivery_mode=mode)
    assert channel.drain(queue) == ["b", "e", "c", "a", "d"]


def test_the_priority_is_delivered_as_it_was_published(
    channel: Channel, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    publish_all(channel, queue, "a200 b")
    first, second = channel.arrival(queue), channel.arrival(queue)
    assert (first.body, first.properties) == (b"a", {"priority": 200})
    assert (second.body, second.properties) == (b"b", {})


def test_messages_of_all_priorities_are_counted(channel: Channel, prioritised: Callable[..., str]) -> None:
    queue = prioritised(5)
    publish_all(channel, queue, "a0 b5 c3 d3")
    channel.counts_become(queue, 4, 0)
    message = channel.get(queue)
    assert message is not None
    assert message["message_count"] == 3
    assert channel.call("queue.purge", queue=queue) == {"message_count": 3}
    assert channel.get(queue) is None


def test_a_queue_with_messages_of_any_priority_is_not_empty(
    channel: Channel, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    publish_all(channel, queue, "a2")
    channel.counts_become(queue, 1, 0)
    channel.send("queue.delete", queue=queue, if_empty=True)
    channel.refuses(406, f"queue '{queue}' in vhost '/' not empty", "queue.delete")
    assert channel.call("queue.delete", queue=queue) == {"message_count": 1}


# consumers


def test_a_consumer_with_room_for_one_is_served_by_priority(
    channel: Channel, client: Client, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue)
    publish_all(channel, queue, "a0")
    order = [consumer.expect("basic.deliver")]
    publish_all(channel, queue, "b1 c5 d1 e5")
    channel.counts_become(queue, 4, 1)
    for _ in "bcde":
        consumer.send("basic.ack", delivery_tag=order[-1]["delivery_tag"])
        order.append(consumer.expect("basic.deliver"))
    assert b"".join(delivery.body for delivery in order) == b"acebd"


def test_what_was_published_before_the_consumer_came_is_delivered_by_priority(
    channel: Channel, client: Client, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    publish_all(channel, queue, "a0 b1 c5 d1 e5 f")
    consumer = client.channel()
    consumer.consume(queue, no_ack=True)
    assert b"".join(delivery.body for delivery in consumer.deliveries(6)) == b"cebdaf"


def test_a_message_that_is_out_is_not_overtaken_any_more(
    channel: Channel, client: Client, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=2)
    consumer.consume(queue)
    publish_all(channel, queue, "a0 b0 c5")
    assert [delivery.body for delivery in consumer.deliveries(2)] == [b"a", b"b"]
    consumer.hears_nothing(queue)
    consumer.send("basic.ack", delivery_tag=1)
    assert consumer.expect("basic.deliver").body == b"c"


# what is given back


def test_what_is_given_back_goes_to_its_place_among_its_equals(
    channel: Channel, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    publish_all(channel, queue, "a0 b1 c5 d1")
    assert channel.arrivals_kept(queue, 4) == ["c", "b", "d", "a"]
    publish_all(channel, queue, "e1 f5 g0")
    channel.counts_become(queue, 3, 0)
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert channel.drain(queue) == ["c", "f", "b", "d", "e", "a", "g"]


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 4, 1, 3)])
def test_what_is_given_back_one_by_one_is_in_order_again(
    channel: Channel, prioritised: Callable[..., str], order: tuple[int, ...]
) -> None:
    queue = prioritised(5)
    publish_all(channel, queue, "a2 b1 c2 d1")
    assert channel.arrivals_kept(queue, 4) == ["a", "c", "b", "d"]
    for tag in order:
        channel.send("basic.reject", delivery_tag=tag, requeue=True)
    messages = [channel.arrival(queue) for _ in range(4)]
    assert b"".join(message.body for message in messages) == b"acbd"
    assert all(message["redelivered"] for message in messages)


# limits


def test_the_highest_priority_is_dropped_first(
    channel: Channel, prioritised: Callable[..., str], dead: str
) -> None:
    """The head of the queue is what would be delivered next, and that is what is dropped."""
    queue = prioritised(5, x_max_length=3, **to(dead))
    publish_all(channel, queue, "a0 b5 c3 d1 e4 f5")
    assert channel.arrivals(dead, 3) == ["b", "e", "f"]
    assert channel.drain(queue) == ["c", "d", "a"]


def test_of_the_highest_priority_the_oldest_is_dropped_first(
    channel: Channel, prioritised: Callable[..., str], dead: str
) -> None:
    queue = prioritised(5, x_max_length=2, **to(dead))
    publish_all(channel, queue, "a5 b5 c5 d0")
    assert channel.arrivals(dead, 2) == ["a", "b"]
    assert channel.drain(queue) == ["c", "d"]


def test_octets_of_all_priorities_count_together(
    channel: Channel, prioritised: Callable[..., str], dead: str
) -> None:
    queue = prioritised(5, x_max_length_bytes=3, **to(dead))
    for body, priority in (("a", 0), ("b", 5), ("c", 3), ("d", 1), ("ee", 4), ("gggg", 1)):
        channel.publish(body, routing_key=queue, priority=priority)
    assert channel.arrivals(dead, 5) == ["b", "ee", "c", "d", "gggg"]
    assert channel.drain(queue) == ["a"]


def test_what_is_given_back_to_a_full_queue_is_dropped_by_priority(
    channel: Channel, prioritised: Callable[..., str], dead: str
) -> None:
    queue = prioritised(5, x_max_length=3, **to(dead))
    publish_all(channel, queue, "a0 b5 c3")
    assert channel.arrivals_kept(queue, 3) == ["b", "c", "a"]
    publish_all(channel, queue, "d0 e5 f3")
    channel.counts_become(queue, 3, 0)
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert channel.arrivals(dead, 3) == ["b", "e", "c"]
    assert channel.drain(queue) == ["f", "a", "d"]


# times


def test_messages_of_all_priorities_expire_the_highest_first(
    channel: Channel, prioritised: Callable[..., str], dead: str
) -> None:
    queue = prioritised(5, x_message_ttl=200, **to(dead))
    with channel.client.at_once():
        publish_all(channel, queue, "a0 b5 c3 d1 e4 f5")
    assert channel.arrivals(dead, 6) == ["b", "f", "e", "c", "d", "a"]
    assert channel.counts(queue) == (0, 0)


def let_pass(channel: Channel, names: Names, ttl: int) -> None:
    """Wait until whatever was published with a TTL of so many milliseconds has expired."""
    over = channel.declare(names.queue("over"))
    arguments = {"x-message-ttl": ttl, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": over}
    channel.publish("tick", routing_key=channel.declare(names.queue("clock"), arguments=arguments))
    channel.arrival(over)


def test_a_low_message_that_expired_behind_a_high_one_is_never_got(
    channel: Channel, prioritised: Callable[..., str], names: Names
) -> None:
    queue = prioritised(5)
    channel.publish("low", routing_key=queue, priority=1, expiration="50")
    channel.publish("high", routing_key=queue, priority=5)
    let_pass(channel, names, 50)
    assert channel.drain(queue) == ["high"]


def test_a_high_message_that_expired_before_a_low_one_without_a_time(
    channel: Channel,
    prioritised: Callable[..., str],
    names: Names,
    differs_from_rabbitmq: Callable[..., list[str]],
) -> None:
    """A high message that comes into a queue with low ones is its new head, which RabbitMQ overlooks."""
    queue = prioritised(5)
    channel.publish("low", routing_key=queue, priority=1)
    channel.publish("high", routing_key=queue, priority=5, expiration="50")
    let_pass(channel, names, 50)
    assert channel.drain(queue) == differs_from_rabbitmq(
        "RabbitMQ looks at the time of a new message only if the queue was empty",
        rabbitmq=["high", "low"],
        ours=["low"],
    )


def test_a_high_message_that_expired_alone_is_gone_before_the_low_ones_come(
    channel: Channel, prioritised: Callable[..., str], names: Names, dead: str
) -> None:
    queue = prioritised(5, **to(dead))
    channel.publish("high", routing_key=queue, priority=5, expiration="50")
    channel.publish("low", routing_key=queue, priority=1)
    assert channel.arrivals(dead, 1) == ["high"]
    assert channel.drain(queue) == ["low"]


# dead letters


def test_dead_letters_keep_their_priority(
    channel: Channel, prioritised: Callable[..., str], names: Names
) -> None:
    dead = prioritised(5)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-message-ttl": 50}
    source = channel.declare(names.queue(), arguments=arguments)
    publish_all(channel, source, "a0 b5 c3")
    channel.counts_become(dead, 3, 0)
    assert channel.drain(dead) == ["b", "c", "a"]


def test_a_refused_message_of_any_priority_is_dead_lettered(
    channel: Channel, prioritised: Callable[..., str], dead: str
) -> None:
    queue = prioritised(5, **to(dead))
    publish_all(channel, queue, "a0 b5 c3")
    assert channel.arrivals_kept(queue, 3) == ["b", "c", "a"]
    channel.send("basic.nack", delivery_tag=0, multiple=True)
    assert sorted(channel.arrivals(dead, 3)) == ["a", "b", "c"]


# confirms and transactions


@pytest.mark.parametrize("durable", [True, False])
def test_messages_of_all_priorities_are_confirmed(channel: Channel, names: Names, durable: bool) -> None:
    channel.call("confirm.select")
    queue = channel.declare(names.queue(), durable=durable, arguments={"x-max-priority": 5})
    publish_all(channel, queue, "a0 b5 c3 d1 e4 f5", delivery_mode=2)
    assert channel.outcomes(6) == ["ack"] * 6
    assert channel.drain(queue) == ["b", "f", "e", "c", "d", "a"]


def test_a_transaction_commits_by_priority(
    channel: Channel, client: Client, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    tx = client.channel()
    tx.call("tx.select")
    publish_all(tx, queue, "a0 b5 c3")
    tx.call("tx.commit")
    assert channel.drain(queue) == ["b", "c", "a"]


def test_the_highest_priority_is_compared_on_declaring_again(
    channel: Channel, prioritised: Callable[..., str]
) -> None:
    queue = prioritised(5)
    assert (
        channel.call("queue.declare", queue=queue, arguments={"x-max-priority": Typed("b", 5)})["queue"]
        == queue
    )
    channel.send("queue.declare", queue=queue, arguments={"x-max-priority": 6})
    channel.refuses(
        406,
        f"inequivalent arg 'x-max-priority' for queue '{queue}' in vhost '/': received '6' but current is '5'",
        "queue.declare",
    )

"""Queues with a limit of length that make room at the head: what is counted, what is dropped, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .codec import Typed
from .conftest import Names


@pytest.fixture
def limited(channel: Channel, names: Names) -> Callable[..., str]:
    """Declare a queue with limits, whose dead letters go to another queue if one is named."""

    def declare(length: Any = None, octets: Any = None, *, dead: str | None = None, **arguments: Any) -> str:
        given: dict[str, Any] = {name.replace("_", "-"): value for name, value in arguments.items()}
        if length is not None:
            given["x-max-length"] = length
        if octets is not None:
            given["x-max-length-bytes"] = octets
        if dead is not None:
            given |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        return channel.declare(names.queue("limited"), arguments=given)

    return declare


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


def publish_all(channel: Channel, queue: str, bodies: list[str] | str) -> None:
    for body in bodies:
        channel.publish(body, routing_key=queue)


# what is kept


@pytest.mark.parametrize("overflow", [{}, {"x_overflow": "drop-head"}], ids=["default", "drop-head"])
@pytest.mark.parametrize("limit", [0, 1, 3, 5, 6])
def test_a_limited_queue_keeps_the_newest(
    channel: Channel, limited: Callable[..., str], limit: int, overflow: dict[str, str]
) -> None:
    queue = limited(limit, **overflow)
    publish_all(channel, queue, "abcde")
    assert channel.drain(queue) == list("abcde")[max(0, 5 - limit) :]


@pytest.mark.parametrize("kind", ["b", "B", "s", "u", "I", "i", "l"])
def test_a_limit_may_be_an_integer_of_any_width(
    channel: Channel, limited: Callable[..., str], kind: str
) -> None:
    queue = limited(Typed(kind, 2))
    publish_all(channel, queue, "abc")
    assert channel.drain(queue) == ["b", "c"]


def test_a_limit_that_nobody_reaches_drops_nothing(channel: Channel, limited: Callable[..., str]) -> None:
    queue = limited(2**40, 2**40)
    publish_all(channel, queue, "abc")
    assert channel.drain(queue) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("bodies", "kept"),
    [
        (["aaa", "bbb"], ["aaa", "bbb"]),
        (["aaa", "bbb", "c"], ["bbb", "c"]),
        (["a", "b", "c", "dddddd"], ["dddddd"]),
        (["a", "bb", "ccccc"], ["ccccc"]),
        (["aaa", "bbb", "ccccccc"], []),
        (["aaa", "bbb", "", "", ""], ["aaa", "bbb", "", "", ""]),
        (["", "", "aaaaaa", ""], ["", "", "aaaaaa", ""]),
        (["", "a", "bbbbbb"], ["bbbbbb"]),
    ],
    ids=str,
)
def test_a_queue_limited_in_octets_keeps_the_newest_that_fit(
    channel: Channel, limited: Callable[..., str], bodies: list[str], kept: list[str]
) -> None:
    queue = limited(octets=6)
    publish_all(channel, queue, bodies)
    assert channel.drain(queue) == kept


def test_a_message_longer_than_the_limit_takes_everything_with_it(
    channel: Channel, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(octets=6, dead=dead)
    publish_all(channel, queue, ["aaa", "bbb", "ccccccc", "d"])
    assert channel.arrivals(dead, 3) == ["aaa", "bbb", "ccccccc"]
    assert channel.drain(queue) == ["d"]


def test_only_octets_of_bodies_are_counted(channel: Channel, limited: Callable[..., str]) -> None:
    queue = limited(octets=10)
    for body in ("12345", "67890"):
        channel.publish(body, routing_key=queue, headers={"h": "x" * 1000}, message_id="y" * 200)
    assert channel.drain(queue) == ["12345", "67890"]


@pytest.mark.parametrize(
    ("bodies", "kept"),
    [
        (["a", "b", "c", "d"], ["b", "c", "d"]),
        (["a", "b", "cccc"], ["b", "cccc"]),
        (["a", "b", "c", "d", "eeee"], ["d", "eeee"]),
        (["a", "bbbbbb", "c"], ["c"]),
    ],
    ids=str,
)
def test_both_limits_hold_at_once(
    channel: Channel, limited: Callable[..., str], bodies: list[str], kept: list[str]
) -> None:
    queue = limited(3, 5)
    publish_all(channel, queue, bodies)
    assert channel.drain(queue) == kept


@pytest.mark.parametrize("arguments", [{"length": 0}, {"octets": 0}])
def test_a_limit_of_nothing_keeps_nothing(
    channel: Channel, limited: Callable[..., str], arguments: dict[str, int]
) -> None:
    queue = limited(**arguments)
    publish_all(channel, queue, "ab")
    assert channel.drain(queue) == []


def test_a_limit_of_no_octets_keeps_empty_messages(channel: Channel, limited: Callable[..., str]) -> None:
    queue = limited(octets=0)
    publish_all(channel, queue, ["", "a", "", ""])
    assert channel.drain(queue) == ["", ""]


@pytest.mark.parametrize("mode", [1, 2])
def test_a_durable_queue_has_the_same_limits(channel: Channel, names: Names, mode: int) -> None:
    queue = channel.declare(names.queue(), durable=True, arguments={"x-max-length": 2})
    for body in "abcd":
        channel.publish(body, routing_key=queue, delivery_mode=mode)
    assert channel.drain(queue) == ["c", "d"]


def test_each_queue_of_a_fanout_has_a_limit_of_its_own(
    channel: Channel, limited: Callable[..., str], exchange: Callable[..., str]
) -> None:
    fanout = exchange("fanout")
    queues = [limited(limit) for limit in (1, 2, None)]
    for queue in queues:
        channel.bind(queue, fanout)
    for body in "abc":
        channel.publish(body, exchange=fanout)
    assert [channel.drain(queue) for queue in queues] == [["c"], ["b", "c"], ["a", "b", "c"]]


def test_what_is_dropped_is_dead_lettered_from_the_head(
    channel: Channel, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(2, dead=dead)
    publish_all(channel, queue, "abcdef")
    assert channel.arrivals(dead, 4) == ["a", "b", "c", "d"]
    assert channel.drain(queue) == ["e", "f"]


def test_a_message_that_was_got_makes_room(channel: Channel, limited: Callable[..., str]) -> None:
    queue = limited(2)
    publish_all(channel, queue, "ab")
    assert channel.arrivals(queue, 1) == ["a"]
    publish_all(channel, queue, "c")
    assert channel.drain(queue) == ["b", "c"]


@pytest.mark.parametrize("arguments", [{"length": 2}, {"octets": 2}])
def test_a_purge_makes_room(
    channel: Channel, limited: Callable[..., str], dead: str, arguments: dict[str, int]
) -> None:
    queue = limited(**arguments, dead=dead)
    publish_all(channel, queue, "ab")
    assert channel.call("queue.purge", queue=queue) == {"message_count": 2}
    publish_all(channel, queue, "cde")
    assert channel.arrivals(dead, 1) == ["c"]
    assert channel.drain(queue) == ["d", "e"]


# confirms


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("durable", [True, False])
def test_what_is_dropped_is_confirmed(channel: Channel, names: Names, mode: int, durable: bool) -> None:
    channel.call("confirm.select")
    queue = channel.declare(names.queue(), durable=durable, arguments={"x-max-length": 1})
    for body in "abcde":
        channel.publish(body, routing_key=queue, delivery_mode=mode, mandatory=True)
    assert channel.outcomes(5) == ["ack"] * 5
    assert channel.drain(queue) == ["e"]


def test_what_is_dropped_in_a_transaction_does_not_fail_it(
    channel: Channel, client: Client, limited: Callable[..., str]
) -> None:
    queue = limited(2)
    tx = client.channel()
    tx.call("tx.select")
    publish_all(tx, queue, "abcd")
    assert tx.call("tx.commit") == {}
    assert channel.drain(queue) == ["c", "d"]


# consumers, and what is out


@pytest.mark.parametrize("arguments", [{"length": 0}, {"octets": 0}, {"length": 1}])
def test_a_message_that_is_delivered_at_once_needs_no_room(
    channel: Channel, client: Client, limited: Callable[..., str], arguments: dict[str, int]
) -> None:
    queue = limited(**arguments)
    consumer = client.channel()
    consumer.consume(queue)
    publish_all(channel, queue, "abc")
    assert [delivery.body for delivery in consumer.deliveries(3)] == [b"a", b"b", b"c"]


def test_what_is_out_is_not_counted(channel: Channel, limited: Callable[..., str], dead: str) -> None:
    queue = limited(2, dead=dead)
    publish_all(channel, queue, "ab")
    for _ in "ab":
        channel.arrival(queue, no_ack=False)
    publish_all(channel, queue, "cd")
    channel.counts_become(queue, 2, 0)
    assert channel.counts(dead) == (0, 0)
    publish_all(channel, queue, "e")
    assert channel.arrivals(dead, 1) == ["c"]
    assert channel.drain(queue) == ["d", "e"]


def test_what_is_out_is_not_counted_in_octets_either(
    channel: Channel, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(octets=4, dead=dead)
    publish_all(channel, queue, ["aaaa"])
    channel.arrival(queue, no_ack=False)
    publish_all(channel, queue, ["bb", "cc"])
    channel.counts_become(queue, 2, 0)
    assert channel.counts(dead) == (0, 0)
    publish_all(channel, queue, ["d"])
    assert channel.arrivals(dead, 1) == ["bb"]
    assert channel.drain(queue) == ["cc", "d"]


def test_a_consumer_that_is_full_lets_the_queue_drop(
    channel: Channel, client: Client, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(1, dead=dead)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue)
    publish_all(channel, queue, "abcd")
    assert consumer.expect("basic.deliver").body == b"a"
    assert channel.arrivals(dead, 2) == ["b", "c"]
    consumer.send("basic.ack", delivery_tag=1)
    assert consumer.expect("basic.deliver").body == b"d"


@pytest.mark.parametrize("how", ["nack", "recover", "close"])
@pytest.mark.parametrize("arguments", [{"length": 2}, {"octets": 2}])
def test_what_is_given_back_to_a_full_queue_is_dropped_from_the_head(
    channel: Channel,
    client: Client,
    limited: Callable[..., str],
    dead: str,
    how: str,
    arguments: dict[str, int],
) -> None:
    """What comes back goes to its old place, which is the head, and so it is the first to be dropped."""
    queue = limited(**arguments, dead=dead)
    other = client.channel()
    publish_all(channel, queue, "ab")
    for _ in "ab":
        other.arrival(queue, no_ack=False)
    publish_all(channel, queue, "cd")
    channel.counts_become(queue, 2, 0)
    if how == "nack":
        other.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    elif how == "recover":
        other.call("basic.recover", requeue=True)
    else:
        other.close()
    assert channel.arrivals(dead, 2) == ["a", "b"]
    assert channel.drain(queue) == ["c", "d"]


def test_what_is_given_back_stays_as_far_as_there_is_room(
    channel: Channel, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(3, dead=dead)
    publish_all(channel, queue, "abc")
    tags = [channel.arrival(queue, no_ack=False)["delivery_tag"] for _ in "abc"]
    publish_all(channel, queue, "de")
    channel.counts_become(queue, 2, 0)
    for tag in (tags[2], tags[0], tags[1]):
        channel.send("basic.reject", delivery_tag=tag, requeue=True)
    assert channel.arrivals(dead, 2) == ["a", "b"]
    assert channel.drain(queue) == ["c", "d", "e"]


def test_of_several_given_back_at_once_the_oldest_are_dropped(
    channel: Channel, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(3, dead=dead)
    publish_all(channel, queue, "abc")
    for _ in "abc":
        channel.arrival(queue, no_ack=False)
    publish_all(channel, queue, "d")
    channel.counts_become(queue, 1, 0)
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert channel.arrivals(dead, 1) == ["a"]
    assert channel.drain(queue) == ["b", "c", "d"]


def test_a_message_given_back_among_others_is_not_the_one_that_is_dropped(
    channel: Channel, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(2, dead=dead)
    publish_all(channel, queue, "ab")
    for _ in "ab":
        channel.arrival(queue, no_ack=False)
    channel.send("basic.reject", delivery_tag=1, requeue=True)
    publish_all(channel, queue, "c")
    channel.counts_become(queue, 2, 0)
    channel.send("basic.reject", delivery_tag=2, requeue=True)
    assert channel.arrivals(dead, 1) == ["a"]
    assert channel.drain(queue) == ["b", "c"]


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("arguments", [{"length": 0}, {"octets": 0}])
def test_a_queue_that_keeps_nothing_drops_what_is_given_back_though_a_consumer_waits(
    channel: Channel,
    client: Client,
    limited: Callable[..., str],
    dead: str,
    waiting: bool,
    arguments: dict[str, int],
) -> None:
    queue = limited(**arguments, dead=dead)
    consumer, other = client.channel(), client.channel()
    consumer.consume(queue)
    publish_all(channel, queue, "m")
    tag = consumer.expect("basic.deliver")["delivery_tag"]
    if waiting:
        other.consume(queue)
    consumer.send("basic.reject", delivery_tag=tag, requeue=True)
    assert channel.arrivals(dead, 1) == ["m"]
    consumer.hears_nothing(queue)
    other.hears_nothing(queue)


def test_a_full_queue_drops_what_is_given_back_before_a_consumer_is_looked_for(
    channel: Channel, client: Client, limited: Callable[..., str], dead: str
) -> None:
    queue = limited(1, dead=dead)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue)
    publish_all(channel, queue, "ab")
    tag = consumer.expect("basic.deliver")["delivery_tag"]
    channel.counts_become(queue, 1, 1)
    consumer.send("basic.reject", delivery_tag=tag, requeue=True)
    assert channel.arrivals(dead, 1) == ["a"]
    assert consumer.expect("basic.deliver", redelivered=False).body == b"b"

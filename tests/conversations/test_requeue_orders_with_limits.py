"""What comes back to a queue that has a limit, a time or priorities: its place, and who has to go for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .conftest import Connect, Names
from .pace import Pace, in_pace


@pytest.fixture
def dead(channel: Channel, names: Names) -> str:
    return channel.declare(names.queue("dead"))


@pytest.fixture
def declare(channel: Channel, names: Names, dead: str) -> Callable[..., str]:
    """Declare a queue whose dead letters go to `dead`."""

    def declare(**arguments: Any) -> str:
        given: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        given |= {name.replace("_", "-"): value for name, value in arguments.items()}
        return channel.declare(names.queue("source"), arguments=given)

    return declare


def fill(channel: Channel, queue: str, messages: str, **properties: Any) -> None:
    """Publish messages written as "a b5 cc": letters, and a priority unless there is none; and see to it
    that all is in the queue.
    """
    before = channel.counts(queue)[0]
    words = messages.split()
    for word in words:
        body = word.rstrip("0123456789")
        priority: dict[str, Any] = {"priority": int(word[len(body) :])} if body != word else {}
        channel.publish(body, routing_key=queue, **properties, **priority)
    channel.counts_become(queue, before + len(words), 0)


def give_back(channel: Channel, tags: str) -> None:
    """Requeue one by one, tags written as digits."""
    for tag in tags:
        channel.send("basic.reject", delivery_tag=int(tag), requeue=True)


# limits of length


@pytest.mark.parametrize(
    ("limit", "back", "dropped", "kept"),
    [
        (5, "1", "", "adef"),
        (4, "12", "a", "bdef"),
        (4, "21", "a", "bdef"),
        (4, "31", "a", "cdef"),
        (3, "1", "a", "def"),
        (3, "321", "cba", "def"),
        (3, "123", "abc", "def"),
        (5, "123", "a", "bcdef"),
        (5, "321", "a", "bcdef"),
    ],
)
def test_each_that_comes_back_over_the_limit_drops_the_head(
    channel: Channel,
    declare: Callable[..., str],
    dead: str,
    limit: int,
    back: str,
    dropped: str,
    kept: str,
) -> None:
    """Which is itself, if nothing older is there."""
    queue = declare(x_max_length=limit)
    fill(channel, queue, "a b c")
    channel.arrivals_kept(queue, 3)
    fill(channel, queue, "d e f")
    give_back(channel, back)
    assert channel.arrivals(dead, len(dropped)) == list(dropped)
    assert channel.drain(queue) == list(kept)
    assert channel.counts(dead) == (0, 0)


@pytest.mark.parametrize("limit", [3, 4, 5, 6])
@pytest.mark.parametrize("how", ["nack", "recover", "close"])
def test_all_that_come_back_at_once_are_in_their_places_before_the_heads_are_dropped(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str, limit: int, how: str
) -> None:
    queue = declare(x_max_length=limit)
    other = client.channel()
    fill(channel, queue, "a b c")
    other.arrivals_kept(queue, 3)
    fill(channel, queue, "d e f")
    if how == "nack":
        other.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
        other.hears_nothing(queue)
    elif how == "recover":
        other.call("basic.recover", requeue=True)
    else:
        other.close()
    channel.counts_become(queue, limit, 0)
    assert channel.arrivals(dead, 6 - limit) == list("abcdef")[: 6 - limit]
    assert channel.drain(queue) == list("abcdef")[6 - limit :]


def test_an_octet_limit_drops_as_many_heads_as_it_takes(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_length_bytes=6)
    fill(channel, queue, "a bbbb")
    channel.arrivals_kept(queue, 2)
    fill(channel, queue, "c ddd")
    give_back(channel, "2")  # bbbb before c ddd: eight, so it goes itself
    assert channel.arrivals(dead, 1) == ["bbbb"]
    give_back(channel, "1")
    channel.counts_become(queue, 3, 0)
    assert channel.drain(queue) == ["a", "c", "ddd"]


def test_what_came_back_is_dropped_before_what_was_never_out(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_length=3)
    fill(channel, queue, "a b c")
    channel.arrivals_kept(queue, 3)
    give_back(channel, "231")
    channel.counts_become(queue, 3, 0)
    for body in "defg":
        channel.publish(body, routing_key=queue)
    assert channel.arrivals(dead, 4) == ["a", "b", "c", "d"]
    assert channel.drain(queue) == ["e", "f", "g"]


def test_a_message_that_came_back_and_was_dropped_was_not_redelivered(
    channel: Channel, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_length=1)
    fill(channel, queue, "a")
    channel.arrivals_kept(queue, 1)
    fill(channel, queue, "b")
    give_back(channel, "1")
    message = channel.arrival(dead)
    assert (message.body, message["redelivered"]) == (b"a", False)
    rest = channel.arrival(queue)
    assert (rest.body, rest["redelivered"]) == (b"b", False)


def test_the_dropped_ones_tag_is_settled(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_length=1)
    other = client.channel()
    fill(channel, queue, "a")
    other.arrivals_kept(queue, 1)
    fill(channel, queue, "b")
    give_back(other, "1")
    assert channel.arrivals(dead, 1) == ["a"]
    other.send("basic.ack", delivery_tag=1)
    other.refuses(406, "unknown delivery tag 1", "basic.ack")


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
@pytest.mark.parametrize("back", ["123", "321", "213"])
def test_a_queue_that_refuses_takes_everything_back_in_its_old_order(
    channel: Channel, declare: Callable[..., str], dead: str, overflow: str, back: str
) -> None:
    queue = declare(x_max_length=3, x_overflow=overflow)
    fill(channel, queue, "a b c")
    channel.arrivals_kept(queue, 3)
    fill(channel, queue, "d e f")
    give_back(channel, back)
    channel.counts_become(queue, 6, 0)
    assert channel.drain(queue) == list("abcdef")
    assert channel.counts(dead) == (0, 0)


def test_a_consumer_that_keeps_giving_back_does_not_starve_a_limited_queue(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    """With a newer message waiting, the one that comes back is dropped, and the newer is delivered."""
    queue = declare(x_max_length=1)
    consumer = client.channel()
    consumer.call("basic.qos", prefetch_count=1)
    consumer.consume(queue)
    channel.publish("a", routing_key=queue)
    for old, new in ("ab", "bc", "cd"):
        delivery = consumer.expect("basic.deliver", redelivered=False)
        assert delivery.body == old.encode()
        channel.publish(new, routing_key=queue)
        channel.counts_become(queue, 1, 1)
        consumer.send("basic.reject", delivery_tag=delivery["delivery_tag"], requeue=True)
    assert channel.arrivals(dead, 3) == ["a", "b", "c"]
    assert consumer.expect("basic.deliver").body == b"d"


# several channels


@pytest.mark.parametrize("first", [0, 1])
def test_what_two_channels_give_back_is_in_order_whoever_is_first(
    channel: Channel, connect: Connect, declare: Callable[..., str], first: int
) -> None:
    queue = declare(x_max_length=10)
    fill(channel, queue, "a b c d e f")
    others = [connect().channel(), connect().channel()]
    for number in range(6):
        others[number % 2].arrivals_kept(queue, 1)
    for number, other in enumerate((others[first], others[1 - first]), 1):
        other.close()
        channel.counts_become(queue, 3 * number, 0)
    assert channel.drain(queue) == list("abcdef")


@pytest.mark.parametrize("first", [0, 1])
def test_a_full_queue_drops_the_oldest_of_what_two_channels_give_back(
    channel: Channel, connect: Connect, declare: Callable[..., str], dead: str, first: int
) -> None:
    queue = declare(x_max_length=4)
    fill(channel, queue, "a b c d")
    others = [connect().channel(), connect().channel()]
    for number in range(4):
        others[number % 2].arrivals_kept(queue, 1)
    fill(channel, queue, "e f")
    others[first].close()
    channel.counts_become(queue, 4, 0)
    others[1 - first].close()
    assert channel.arrivals(dead, 2) == ["a", "b"]
    assert channel.drain(queue) == ["c", "d", "e", "f"]


# priorities


@pytest.mark.parametrize("back", ["1234", "4321", "2413"])
def test_priorities_and_places_are_kept_together(
    channel: Channel, declare: Callable[..., str], back: str
) -> None:
    queue = declare(x_max_priority=3)
    fill(channel, queue, "a1 b3 c1 d3")
    assert channel.arrivals_kept(queue, 4) == ["b", "d", "a", "c"]
    fill(channel, queue, "e1 f3 g0")
    give_back(channel, back)
    channel.counts_become(queue, 7, 0)
    assert channel.drain(queue) == ["b", "d", "f", "a", "c", "e", "g"]


@pytest.mark.parametrize(
    ("back", "dropped", "kept"),
    [("1", "b", "fag"), ("3", "f", "cag"), ("13", "bf", "cag"), ("31", "fb", "cag"), ("123", "bdf", "cag")],
)
def test_a_full_queue_with_priorities_drops_the_next_to_be_delivered(
    channel: Channel, declare: Callable[..., str], dead: str, back: str, dropped: str, kept: str
) -> None:
    queue = declare(x_max_priority=3, x_max_length=3)
    fill(channel, queue, "b3 d3 c1")
    assert channel.arrivals_kept(queue, 3) == ["b", "d", "c"]
    fill(channel, queue, "f3 a0 g0")
    give_back(channel, back)
    assert channel.arrivals(dead, len(back)) == list(dropped)
    assert channel.drain(queue) == list(kept)


# times


def test_what_came_back_keeps_its_place_and_its_time(
    connect: Connect, names: Names, declare: Callable[..., str]
) -> None:
    def attempt(pace: Pace) -> None:
        channel = connect().channel()
        dead = channel.declare(names.queue("dead"))
        queue = declare(x_dead_letter_routing_key=dead)
        channel.call("basic.qos", prefetch_count=3)
        channel.consume(queue)
        pace.step()
        for body in "abc":
            channel.publish(body, routing_key=queue, expiration="800")
        channel.deliveries(3)
        channel.call("basic.cancel", consumer_tag="c")
        fill(channel, queue, "d", expiration="60000")
        give_back(channel, "312")
        channel.counts(queue)
        pace.step()
        assert channel.arrivals(dead, 3) == ["a", "b", "c"]
        assert channel.drain(queue) == ["d"]

    in_pace(attempt, 0.8)


def test_what_has_expired_makes_room_before_a_head_is_dropped(
    channel: Channel, client: Client, declare: Callable[..., str], dead: str
) -> None:
    queue = declare(x_max_length=2)
    other = client.channel()
    fill(channel, queue, "a", expiration="60000")
    fill(channel, queue, "b", expiration="400")
    other.arrivals_kept(queue, 1)
    channel.arrivals(dead, 1)
    fill(channel, queue, "c")
    give_back(other, "1")
    channel.counts_become(queue, 2, 0)
    assert channel.drain(queue) == ["a", "c"]
    assert channel.counts(dead) == (0, 0)

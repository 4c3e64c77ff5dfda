"""What queues with features find after a restart of the real store: times, priorities, limits, dead letters, values."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.queue import REFUSED, TAKEN, Queue
from tests.broker.house import House, headers_of, made
from tests.broker.taker import bodies_in, publish

from .harness import Subject

pytestmark = pytest.mark.anyio


async def restarted(durable: Subject, house: House, after: int = 0) -> House:
    """The broker of the next start, `after` milliseconds later; everything was committed before."""
    await durable.commit()
    await durable.reopen()
    return House(durable.store, house.now + after)


async def test_times_to_live_go_on(durable: Subject) -> None:
    house = House(durable.store)
    queue = house.durable(message_ttl=100)
    publish(queue, b"1", persistent=True)
    house.jump(50)
    publish(queue, b"2", persistent=True)
    queue.publish(made(b"3", persistent=True, expiration=70))
    house = await restarted(durable, house, after=40)
    queue = house.vhost.queues["q"]
    for wait, left in ((9, 3), (1, 2), (49, 2), (1, 0)):
        house.pass_time(wait)
        assert queue.ready_count() == left
    house = await restarted(durable, house)
    assert house.vhost.queues["q"].ready_count() == 0


async def test_what_expired_meanwhile_is_gone_and_nothing_else(durable: Subject) -> None:
    house = House(durable.store)
    queue = house.durable()
    for number in range(1500):
        queue.publish(made(b"%d" % number, persistent=True, expiration=10))
    publish(queue, b"stays", persistent=True)
    house = await restarted(durable, house, after=10)
    house.pass_time(0)
    house = await restarted(durable, house)
    assert house.vhost.queues["q"].ready_count() == 1
    assert bodies_in(house.vhost.queues["q"]) == [b"stays"]


async def test_priorities_keep_their_order(durable: Subject) -> None:
    house = House(durable.store)
    queue = house.durable(max_priority=255)
    for number in range(1200):
        queue.publish(made(b"%04d" % number, persistent=True, priority=number % 3 * 100))
    house = await restarted(durable, house)
    queue = house.vhost.queues["q"]
    queue.publish(made(b"new", persistent=True, priority=100))
    expected = [b"%04d" % number for level in (2, 1, 0) for number in range(1200) if number % 3 == level]
    expected.insert(800, b"new")
    assert bodies_in(queue) == expected
    house = await restarted(durable, house)
    assert house.vhost.queues["q"].ready_count() == 0


@pytest.mark.parametrize("size", [10, 200_000])
async def test_limits_count_messages_and_octets_on_the_disk(durable: Subject, size: int) -> None:
    house = House(durable.store)
    fanned = [house.durable(name, max_length=4, max_length_bytes=3 * size) for name in ("a", "b")]
    refusing = house.durable("c", max_length_bytes=3 * size, overflow="reject-publish")
    for letter in b"xyz":
        shared = made(bytes((letter,)) * size, persistent=True)
        assert [queue.publish(shared) for queue in (*fanned, refusing)] == [TAKEN] * 3
    house = await restarted(durable, house)
    fanned = [house.vhost.queues[name] for name in ("a", "b")]
    refusing = house.vhost.queues["c"]
    for queue in (*fanned, refusing):
        assert (queue.ready_count(), queue.ready_bytes) == (3, 3 * size)
    assert refusing.publish(made(b"n", persistent=True)) == REFUSED
    publish(fanned[0], b"n", persistent=True)
    house = await restarted(durable, house)
    a, b = (house.vhost.queues[name] for name in ("a", "b"))
    assert (a.ready_count(), a.ready_bytes) == (3, 2 * size + 1)
    assert [body[:1] for body in bodies_in(a)] == [b"y", b"z", b"n"]
    assert [body[:1] for body in bodies_in(b)] == [b"x", b"y", b"z"]


async def test_dead_letters_are_there_once(durable: Subject) -> None:
    house = House(durable.store)
    to_dead: dict[str, Any] = {"dead_letter_exchange": "amq.fanout", "dead_letter_routing_key": "k"}
    for name in ("dead", "also dead"):
        house.vhost.bind(house.vhost.exchanges["amq.fanout"], house.durable(name), "", {})
    queue = house.durable(max_length=3, message_ttl=100, **to_dead)
    publish(queue, b"1", b"2", b"3", persistent=True)
    house = await restarted(durable, house)
    queue = house.vhost.queues["q"]
    publish(queue, b"4", persistent=True)
    rejected = queue.get()
    assert rejected is not None
    queue.reject(rejected)
    house.pass_time(100)
    house = await restarted(durable, house)
    assert house.vhost.queues["q"].ready_count() == 0
    for name in ("dead", "also dead"):
        died = _reasons(house.vhost.queues[name])
        assert died == [(b"1", "maxlen"), (b"2", "rejected"), (b"3", "expired"), (b"4", "expired")]


def _reasons(queue: Queue) -> list[tuple[bytes, str]]:
    found = []
    while (entry := queue.get()) is not None:
        headers: Any = headers_of(entry.message)
        found.append((entry.message.body, headers["x-first-death-reason"]))
    return found


async def test_what_is_in_the_queue_is_known_as_a_duplicate(durable: Subject) -> None:
    house = House(durable.store)
    queue = house.durable(message_deduplication=True)
    for number in range(1500):
        queue.publish(
            made(b"%d" % number, persistent=True, headers={"x-deduplication-header": f"id {number}"})
        )
    first = queue.get()
    assert first is not None
    queue.settle(first)
    house = await restarted(durable, house)
    queue = house.vhost.queues["q"]
    for number in (0, 1, 1499):
        queue.publish(made(b"again", persistent=True, headers={"x-deduplication-header": f"id {number}"}))
    assert queue.ready_count() == 1500
    assert bodies_in(queue)[-2:] == [b"1499", b"again"]


async def test_a_delivery_before_the_restart_counts_towards_the_limit(durable: Subject) -> None:
    house = House(durable.store)
    house.durable("dead")
    queue = house.durable(delivery_limit=1, dead_letter_exchange="", dead_letter_routing_key="dead")
    publish(queue, b"1", b"2", persistent=True)
    assert queue.get() is not None
    house = await restarted(durable, house)
    queue = house.vhost.queues["q"]
    back = [entry for entry in (queue.get(), queue.get()) if entry is not None]
    assert [entry.deliveries for entry in back] == [1, 0]
    queue.requeue(back)
    house = await restarted(durable, house)
    assert bodies_in(house.vhost.queues["dead"]) == [b"1"]
    assert bodies_in(house.vhost.queues["q"]) == [b"2"]

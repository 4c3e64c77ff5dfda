"""Priorities: strictly the highest first, publish order within one, whatever comes back, expires or is restarted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.queue import Queue
from tests.broker.house import House, made, recount
from tests.broker.taker import Taker, bodies_in, drain
from tests.examples import examples


@pytest.fixture
def house() -> House:
    return House()


def publish(queue: Queue, *messages: tuple[bytes, int | None], persistent: bool = False) -> None:
    for body, priority in messages:
        queue.publish(made(body, priority=priority, persistent=persistent))


def test_the_highest_priority_goes_first_in_publish_order(house: House) -> None:
    queue = house.queue(max_priority=5)
    publish(queue, (b"a0", 0), (b"a3", 3), (b"b3", 3), (b"a5", 5), (b"b0", 0), (b"a1", 1))
    assert bodies_in(queue) == [b"a5", b"a3", b"b3", b"a1", b"a0", b"b0"]


def test_no_priority_is_the_lowest_and_too_high_a_one_the_highest(house: House) -> None:
    queue = house.queue(max_priority=2)
    publish(queue, (b"none", None), (b"two", 2), (b"over", 255), (b"zero", 0), (b"one", 1))
    assert bodies_in(queue) == [b"two", b"over", b"one", b"none", b"zero"]


def test_all_255_levels_keep_their_order_with_and_without_empty_ones(house: House) -> None:
    queue = house.queue(max_priority=255)
    for step in (1, 17, 254):
        levels = list(range(0, 256, step))
        random.Random(step).shuffle(levels)
        publish(queue, *((b"%d" % level, level) for level in levels))
        assert queue.ready_count() == len(levels)
        assert bodies_in(queue) == [b"%d" % level for level in sorted(levels, reverse=True)]
        assert queue.ready_count() == 0


def test_a_consumer_with_room_for_one_is_always_given_the_highest(house: House) -> None:
    queue = house.queue(max_priority=9)
    taker = Taker(queue, room=1).start()
    publish(queue, (b"first", 0), (b"low", 1), (b"high", 9), (b"middle", 5))
    for body in (b"first", b"high", b"middle"):
        taker.settle(body)
    assert taker.bodies() == [b"first", b"high", b"middle", b"low"]


def test_a_message_goes_at_once_to_a_consumer_that_waits(house: House) -> None:
    queue = house.queue(max_priority=9)
    taker = Taker(queue).start()
    publish(queue, (b"1", 0), (b"2", 9))
    assert taker.bodies() == [b"1", b"2"]
    assert queue.ready_count() == 0


def test_what_comes_back_has_its_old_place(house: House) -> None:
    queue = house.queue(max_priority=3)
    publish(queue, *((b"%d.%d" % (level, number), level) for number in range(4) for level in (1, 3)))
    got = [queue.get() for _ in range(6)]
    entries = [entry for entry in got if entry is not None]
    assert [entry.message.body for entry in entries] == [b"3.0", b"3.1", b"3.2", b"3.3", b"1.0", b"1.1"]
    back = [entries[4], entries[0], entries[2]]
    back.sort(key=lambda entry: entry.seq)
    queue.requeue(back)
    queue.requeue([entries[1]])
    assert drain(queue) == [
        (b"3.0", True),
        (b"3.1", True),
        (b"3.2", True),
        (b"1.0", True),
        (b"1.2", False),
        (b"1.3", False),
    ]


def test_the_highest_priority_is_dropped_first(house: House) -> None:
    queue = house.queue(max_priority=3, max_length=2)
    publish(queue, (b"low", 0), (b"high", 3), (b"middle", 1))
    assert bodies_in(queue) == [b"middle", b"low"]


def test_the_head_of_the_highest_priority_expires_first(house: House) -> None:
    queue = house.queue(max_priority=3)
    for body, priority, expiration in ((b"low", 0, 50), (b"high", 3, 100), (b"none", 0, None)):
        queue.publish(made(body, priority=priority, expiration=expiration))
    house.pass_time(99)
    assert queue.ready_count() == 3
    house.pass_time(1)
    assert bodies_in(queue) == [b"none"]


def test_purge_and_delete_empty_every_level(house: House) -> None:
    queue = house.durable(max_priority=3)
    publish(queue, *((b"1", level) for level in range(4)), persistent=True)
    house.store.commit()
    assert queue.purge() == 4
    house.store.commit()
    assert house.store.stored(queue.store_id) == []
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes) == (0, 0)
    publish(queue, (b"2", 1))
    assert house.vhost.delete_queue(queue) == 1


def test_a_restart_keeps_the_order_and_new_messages_find_their_place(house: House) -> None:
    queue = house.durable(max_priority=3)
    publish(queue, *((b"%04d" % number, number % 4) for number in range(2500)), persistent=True)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    assert (found.ready_count(), found.ready_bytes) == (2500, 10_000)
    publish(found, (b"new high", 3), (b"new low", 0))
    assert recount(found) == (found.ready_count(), found.ready_bytes)
    expected = [b"%04d" % number for level in (3, 2, 1, 0) for number in range(2500) if number % 4 == level]
    expected.insert(625, b"new high")
    assert bodies_in(found) == [*expected, b"new low"]


def test_purging_what_a_restart_found_removes_it_from_the_store(house: House) -> None:
    queue = house.durable(max_priority=3)
    publish(queue, (b"1", 1), (b"2", 2), persistent=True)
    house.store.commit()
    again = house.restarted()
    found = again.vhost.queues["q"]
    assert found.purge() == 2
    publish(found, (b"3", 0), persistent=True)
    again.store.commit()
    assert again.store.stored(found.store_id) == [b"3"]


@settings(max_examples=examples(100))
@given(st.lists(st.tuples(st.sampled_from(["publish", "get", "requeue"]), st.integers(0, 6)), max_size=60))
def test_the_order_is_that_of_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    queue = House().queue(max_priority=4)
    waiting: list[tuple[int, int]] = []
    held = []
    for number, (what, value) in enumerate(steps):
        if what == "publish":
            publish(queue, (b"%d" % number, value))
            waiting.append((-min(value, 4), number))
        elif what == "get":
            entry = queue.get()
            assert (entry is None) == (not waiting)
            if entry is not None:
                waiting.sort()
                place = waiting.pop(0)
                assert entry.message.body == b"%d" % place[1]
                held.append((entry, place))
        elif held:
            back = [held.pop(value % len(held)) for _ in range(min(value, len(held)))]
            back.sort(key=lambda pair: pair[0].seq)
            if back:
                queue.requeue([entry for entry, _ in back])
                waiting += [place for _, place in back]
    assert bodies_in(queue) == [b"%d" % number for _, number in sorted(waiting)]

"""Times to live of messages and queues, with a clock that moves when the test says so."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from amqp_broker.broker.features import QueueFeatures
from amqp_broker.broker.mortal import AT_ONCE
from tests.broker.house import House, made, recount
from tests.broker.taker import Taker, bodies_in, drain, publish


@pytest.fixture
def house() -> House:
    return House()


# -- messages


@pytest.mark.parametrize(
    ("of_queue", "of_message", "lives"),
    [(100, None, 100), (None, 100, 100), (100, 300, 100), (300, 100, 100)],
)
def test_the_shorter_time_to_live_counts(
    house: House, of_queue: int | None, of_message: int | None, lives: int
) -> None:
    queue = house.queue() if of_queue is None else house.queue(message_ttl=of_queue)
    queue.publish(made(b"1", expiration=of_message))
    house.pass_time(lives - 1)
    assert queue.ready_count() == 1
    house.pass_time(1)
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes) == (0, 0)


def test_a_message_without_a_time_to_live_stays(house: House) -> None:
    queue = house.queue()
    publish(queue, b"1")
    house.pass_time(1 << 40)
    assert bodies_in(queue) == [b"1"]
    assert len(house.timetable) == 0


def test_nobody_gets_an_expired_message_however_late_the_timer_is(house: House) -> None:
    queue = house.queue(message_ttl=100)
    publish(queue, b"1")
    house.jump(100)
    assert queue.get() is None
    publish(queue, b"2")
    house.jump(100)
    assert Taker(queue).start().bodies() == []


def test_a_message_that_may_not_wait_goes_to_a_consumer_that_is_there(house: House) -> None:
    queue = house.queue(message_ttl=0)
    publish(queue, b"nobody is there")
    house.pass_time(0)
    taker = Taker(queue).start()
    publish(queue, b"1")
    assert taker.bodies() == [b"1"]


def test_what_expired_behind_one_that_lives_longer_waits_for_its_turn_and_is_not_delivered(
    house: House,
) -> None:
    queue = house.queue()
    for body, expiration in ((b"long", 1000), (b"short", 10), (b"longer", 2000)):
        queue.publish(made(body, expiration=expiration))
    house.pass_time(500)
    assert queue.ready_count() == 3
    taker = Taker(queue).start()
    assert taker.bodies() == [b"long", b"longer"]


def test_the_next_head_expires_at_its_own_time(house: House) -> None:
    queue = house.queue()
    for body, expiration in ((b"1", 10), (b"2", 30), (b"3", 20)):
        queue.publish(made(body, expiration=expiration))
    for wait, left in ((10, 2), (19, 2), (1, 0)):
        house.pass_time(wait)
        assert queue.ready_count() == left


def test_a_delivered_message_does_not_expire_but_one_that_comes_back_too_late_does(house: House) -> None:
    queue = house.queue(message_ttl=100)
    publish(queue, b"1", b"2")
    early, late = queue.get(), queue.get()
    assert early is not None
    assert late is not None
    house.pass_time(50)
    queue.requeue([early])
    assert queue.ready_count() == 1
    house.pass_time(50)
    assert (queue.ready_count(), queue.unacked) == (0, 1)
    queue.requeue([late])
    assert (queue.ready_count(), queue.unacked) == (0, 0)


def test_a_new_time_to_live_is_for_new_messages(house: House) -> None:
    queue = house.queue(message_ttl=1000)
    publish(queue, b"old")
    features = QueueFeatures()
    features.message_ttl = 10
    queue.apply(features)
    publish(queue, b"new")
    house.pass_time(999)
    assert queue.ready_count() == 2
    house.pass_time(1)
    assert queue.ready_count() == 0


def test_expired_messages_leave_the_store(house: House) -> None:
    queue = house.durable(message_ttl=100)
    publish(queue, b"1", b"2", persistent=True)
    house.store.commit()
    house.pass_time(100)
    house.store.commit()
    assert house.store.stored(queue.store_id) == []


def test_the_time_goes_on_while_the_broker_is_down(house: House) -> None:
    queue = house.durable(message_ttl=100)
    publish(queue, b"1", persistent=True)
    house.jump(60)
    publish(queue, b"2", persistent=True)
    house.store.commit()
    again = house.restarted(after=30)
    found = again.vhost.queues["q"]
    again.pass_time(0)
    assert found.ready_count() == 2
    again.pass_time(10)
    assert bodies_in(found) == [b"2"]


def test_what_expired_while_the_broker_was_down_is_gone_at_its_first_turn(house: House) -> None:
    queue = house.durable()
    for number in range(2500):
        queue.publish(made(b"%d" % number, persistent=True, expiration=10))
    queue.publish(made(b"last", persistent=True))
    house.store.commit()
    again = house.restarted(after=1000)
    again.pass_time(0)
    assert bodies_in(again.vhost.queues["q"]) == [b"last"]


def test_purging_forgets_the_times(house: House) -> None:
    queue = house.queue(message_ttl=100)
    publish(queue, b"1")
    queue.purge()
    house.jump(50)
    publish(queue, b"2")
    house.pass_time(60)
    assert queue.ready_count() == 1


# -- many at once

MANY = 5000
TIMES: dict[str, Any] = {"message_ttl": 100, "dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
DEAD = [b"%d" % number for number in range(MANY)]


class Burst:
    """A queue whose first MANY messages have all expired just now, and those behind them have not."""

    def __init__(self, house: House, *alive: bytes, **arguments: Any) -> None:
        self.house = house
        self.dead = house.queue("dead")
        self.queue = house.queue(**{**TIMES, **arguments})
        for body in DEAD:
            self.queue.publish(made(body))
        house.jump(50)
        publish(self.queue, *alive)
        house.jump(50)

    def turn(self) -> int:
        """One turn for what falls due; how many died in it."""
        before = self.dead.ready_count()
        self.house.timetable.run_due()
        return self.dead.ready_count() - before

    def turns(self) -> None:
        """As many as are asked for now."""
        while self.house.timetable.next_due and self.house.timetable.next_due <= self.house.now:
            assert self.turn() <= AT_ONCE


@pytest.mark.parametrize("paged", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"max_priority": 3}, {"queue_type": "quorum"}])
def test_thousands_that_expired_go_in_portions_and_in_order(
    house: House, arguments: dict[str, Any], paged: bool
) -> None:
    burst = Burst(house, b"alive", durable=True, **arguments)
    if paged:
        house.store.commit()
        burst.queue.page_out(10, whole_runs=False)
    assert [burst.turn() for _ in range(5)] == [AT_ONCE] * 5
    burst.turns()
    assert bodies_in(burst.dead) == DEAD
    assert bodies_in(burst.queue) == [b"alive"]


def test_a_get_drops_some_and_finds_nothing_until_the_rest_has_gone(house: House) -> None:
    burst = Burst(house, b"alive")
    assert [burst.queue.get() for _ in range(20)] == [None] * 20
    assert burst.dead.ready_count() == AT_ONCE, "not so many again for each get of a turn"
    assert burst.queue.ready_count() == MANY + 1 - AT_ONCE
    burst.turns()
    assert bodies_in(burst.queue) == [b"alive"]
    assert bodies_in(burst.dead) == DEAD


@pytest.mark.parametrize("room", [1, 2, 1 << 30])
@pytest.mark.parametrize("no_ack", [False, True])
def test_a_consumer_that_comes_waits_for_what_is_alive_behind_thousands_that_expired(
    house: House, room: int, no_ack: bool
) -> None:
    burst = Burst(house, b"alive", b"too")
    taker = Taker(burst.queue, room=room, no_ack=no_ack).start()
    assert burst.dead.ready_count() == AT_ONCE
    assert taker.bodies() == []
    publish(burst.queue, b"later")
    assert taker.bodies() == [], "nothing overtakes what came before it"
    burst.turns()
    expected = [b"alive", b"too", b"later"]
    assert taker.bodies() == (expected if no_ack else expected[:room])
    assert burst.queue.ready_count() == len(expected) - len(taker.bodies())
    publish(burst.queue, b"last")
    assert taker.bodies()[3:] == ([b"last"] if no_ack or room > 3 else [])
    assert bodies_in(burst.dead) == DEAD


def test_a_consumer_that_makes_room_waits_for_the_rest(house: House) -> None:
    queue_and = Burst(house)
    queue, dead = queue_and.queue, queue_and.dead
    queue_and.turns()
    queue.publish(made(b"held"))
    taker = Taker(queue, room=1).start()
    for body in DEAD:
        queue.publish(made(body))
    house.jump(100)
    publish(queue, b"alive")
    taker.settle(b"held")
    assert dead.ready_count() == MANY + AT_ONCE
    assert taker.bodies() == [b"held"]
    queue_and.turns()
    assert taker.bodies() == [b"held", b"alive"]


@pytest.mark.parametrize("waits", [False, True])
def test_what_comes_back_before_thousands_that_expired_is_dropped_with_them_or_delivered(
    house: House, waits: bool
) -> None:
    queue = house.queue(**TIMES)
    dead = house.queue("dead")
    queue.publish(made(b"over time"))
    got = queue.get()
    for body in DEAD:
        queue.publish(made(body))
    house.jump(100)
    publish(queue, b"alive")
    taker = Taker(queue, room=0).start()
    assert got is not None
    taker.room = 10
    if waits:
        taker.resume()
    queue.requeue([got])
    taker.resume()
    assert dead.ready_count() == AT_ONCE
    assert taker.bodies() == []
    house.pass_time(0)
    assert taker.bodies() == [b"alive"]
    assert sorted(bodies_in(dead)) == sorted([b"over time", *DEAD])


def test_what_is_alive_and_comes_back_to_an_overdue_queue_goes_before_the_rest(house: House) -> None:
    queue = house.queue()
    publish(queue, b"first")
    got = queue.get()
    for body in DEAD:
        queue.publish(made(body, expiration=10))
    house.jump(10)
    taker = Taker(queue).start()
    assert got is not None
    queue.requeue([got])
    house.timetable.run_due()
    assert taker.bodies() == [b"first"]
    house.pass_time(0)
    assert queue.ready_count() == 0


def test_what_is_more_urgent_is_delivered_in_the_next_turn(house: House) -> None:
    queue = house.queue(max_priority=3)
    for body in DEAD:
        queue.publish(made(body, expiration=10, priority=1))
    queue.publish(made(b"low", priority=0))
    house.jump(10)
    taker = Taker(queue).start()
    queue.publish(made(b"high", priority=3))
    assert taker.bodies() == []
    house.timetable.run_due()
    assert taker.bodies() == [b"high"]
    house.pass_time(0)
    assert taker.bodies() == [b"high", b"low"]


def test_a_clock_that_is_set_back_does_not_leave_consumers_waiting(house: House) -> None:
    burst = Burst(house, b"alive")
    taker = Taker(burst.queue).start()
    house.jump(-1000)
    burst.turn()
    assert len(taker.bodies()) == MANY + 1 - AT_ONCE


def test_purging_an_overdue_queue_leaves_it_as_it_should_be(house: House) -> None:
    burst = Burst(house, b"alive")
    taker = Taker(burst.queue).start()
    burst.queue.purge()
    publish(burst.queue, b"1")
    burst.turns()
    publish(burst.queue, b"2")
    assert taker.bodies() == [b"1", b"2"]


# -- queues


def test_an_unused_queue_is_deleted(house: House) -> None:
    queue = house.queue(expires=100)
    house.pass_time(99)
    assert not queue.deleted
    house.pass_time(1)
    assert queue.deleted
    assert "q" not in house.vhost.queues


def test_declaring_and_getting_are_use_but_publishing_is_not(house: House) -> None:
    used = [house.queue("declared", expires=100), house.queue("got", expires=100)]
    published = house.queue("published", expires=100)
    house.pass_time(60)
    house.queue("declared", expires=100)
    used[1].get()
    publish(published, b"1")
    house.pass_time(60)
    assert published.deleted
    assert not any(queue.deleted for queue in used)
    house.pass_time(40)
    assert all(queue.deleted for queue in used)


def test_a_queue_with_a_consumer_stays_and_nobody_looks_at_it(house: House) -> None:
    queue = house.queue(expires=1)
    taker = Taker(queue).start()
    house.pass_time(1)
    assert len(house.timetable) == 0
    house.pass_time(1000)
    assert not queue.deleted
    queue.remove_consumer(taker)
    house.pass_time(1)
    assert queue.deleted


def test_the_time_begins_when_the_last_consumer_goes(house: House) -> None:
    queue = house.queue(expires=100)
    first, second = Taker(queue).start(), Taker(queue).start()
    house.pass_time(1000)
    queue.remove_consumer(first)
    house.pass_time(1000)
    queue.remove_consumer(second)
    house.pass_time(99)
    assert not queue.deleted
    house.pass_time(1)
    assert queue.deleted


def test_a_restart_begins_the_time_anew(house: House) -> None:
    house.durable(expires=100)
    house.store.commit()
    again = house.restarted(after=1000)
    again.pass_time(99)
    assert "q" in again.vhost.queues
    again.pass_time(1)
    assert "q" not in again.vhost.queues


def test_a_queue_that_is_to_expire_from_now_on_has_its_whole_time(house: House) -> None:
    queue = house.queue()
    house.pass_time(1000)
    features = QueueFeatures()
    features.expires = 100
    queue.apply(features)
    house.pass_time(99)
    assert not queue.deleted
    house.pass_time(1)
    assert queue.deleted


def test_a_queue_that_is_deleted_for_good_is_not_deleted_again_at_its_time(house: House) -> None:
    old = house.queue(expires=100, message_ttl=10)
    publish(old, b"1")
    house.vhost.delete_queue(old)
    house.pass_time(50)
    new = house.queue(expires=100)
    house.pass_time(60)
    assert not new.deleted


# -- what is left of a queue


class Mark:
    """Belongs to one queue and to nothing else, and is gone when the queue is."""


FEATURES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "priorities": {"max_priority": 10},
    "a length limit": {"max_length": 3},
    "dead letters": {"dead_letter_exchange": ""},
    "retries": {"delayed_retry_min": 1000},
    "deduplication": {"message_deduplication": True},
    "a delivery limit": {"delivery_limit": 3},
    "a time to live": {"message_ttl": 1 << 30},
    "a lifetime": {"expires": 1 << 30},
    "leases": {"consumer_timeout": 1 << 30},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_deleted_queue_needs_no_garbage_collector(house: House, feature: str) -> None:
    gc.disable()
    try:
        mark = Mark()
        queue = house.queue(**FEATURES[feature])
        queue.owner = mark
        house.vhost.bind(house.vhost.exchanges["amq.topic"], queue, "a.#", {})
        for number in range(5):
            queue.publish(made(b"%d" % number, headers={"x-deduplication-header": number}))
        taker = Taker(queue, room=2, exclusive=True).start()
        got = queue.get()
        assert got is not None
        house.vhost.delete_queue(queue)
        queue.requeue([got])
        taker.requeue(*[entry.message.body for entry in taker.held])
        gone = weakref.ref(mark)
        del mark, queue, taker, got
        house.pass_time(1000)
        assert gone() is None
    finally:
        gc.enable()


def test_what_comes_back_to_a_deleted_queue_waits_for_nothing(house: House) -> None:
    queue = house.queue(delayed_retry_min=1000)
    publish(queue, b"1")
    got = queue.get()
    assert got is not None
    house.vhost.delete_queue(queue)
    queue.requeue([got])
    assert len(queue.retries) == 0
    assert len(house.timetable) == 0
    assert drain(queue) == []


def test_a_start_brings_no_queue_to_memory(house: House) -> None:
    for number in range(5):
        queue = house.durable(f"q{number}", **({"max_priority": 3} if number % 2 else {}))
        for priority in range(4):
            queue.publish(made(b"m", persistent=True, expiration=5000, priority=priority))
    house.store.commit()
    again = house.restarted()
    again.pass_time()
    queues = [again.vhost.queues[f"q{number}"] for number in range(5)]
    assert [len(queue.resident()) for queue in queues] == [0] * 5
    again.pass_time(5000)
    assert [queue.ready_count() for queue in queues] == [0] * 5

"""What comes back: delivery limits, leases that run out, and retries that wait."""

from __future__ import annotations

import pytest

from amqp_broker.broker.features import (
    RETRY_ALL,
    RETRY_DISABLED,
    RETRY_FAILED,
    RETRY_RETURNED,
    QueueFeatures,
)
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.redelivery import retry_delay
from amqp_broker.errors import SoftError
from tests.broker.house import House
from tests.broker.taker import Getter, Taker, bodies_in, drain, publish

TO_DEAD = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}


@pytest.fixture
def house() -> House:
    return House()


def got(queue: Queue) -> QueueEntry:
    entry = queue.get()
    assert entry is not None
    return entry


# -- delivery limits


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_message_may_come_back_so_often_and_dies_then(house: House, limit: int) -> None:
    dead = house.queue("dead")
    queue = house.queue(delivery_limit=limit, **TO_DEAD)
    publish(queue, b"1")
    for times in range(limit + 1):
        assert queue.ready_count() == 1
        entry = got(queue)
        assert entry.deliveries == times
        queue.requeue([entry])
    assert (queue.ready_count(), queue.unacked) == (0, 0)
    assert bodies_in(dead) == [b"1"]


def test_of_several_that_come_back_only_those_over_the_limit_die(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(delivery_limit=1, **TO_DEAD)
    publish(queue, b"1", b"2")
    queue.requeue([got(queue)])
    queue.requeue([got(queue), got(queue)])
    assert (bodies_in(dead), drain(queue)) == ([b"1"], [(b"2", True)])


def test_what_dies_of_its_limit_without_dead_letters_leaves_the_store(house: House) -> None:
    queue = house.durable(delivery_limit=0)
    publish(queue, b"1", persistent=True)
    house.store.commit()
    queue.requeue([got(queue)])
    house.store.commit()
    assert house.store.stored(queue.store_id) == []


def test_a_delivery_before_a_crash_counts_as_one(house: House) -> None:
    queue = house.durable(delivery_limit=1)
    publish(queue, b"1", b"2", persistent=True)
    got(queue)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    entries = [got(found), got(found)]
    assert [entry.deliveries for entry in entries] == [1, 0]
    found.requeue(entries)
    assert drain(found) == [(b"2", True)]


# -- leases


def test_a_delivery_that_is_not_settled_in_time_comes_back_alone(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    taker = Taker(queue, room=2).start()
    publish(queue, b"1")
    house.pass_time(50)
    publish(queue, b"2")
    other = Taker(queue, tag="other", room=0).start()
    taker.room = 0
    house.pass_time(49)
    assert len(taker.held) == 2
    house.pass_time(1)
    assert [entry.message.body for entry in taker.held] == [b"2"]
    assert (queue.ready_count(), queue.unacked) == (1, 1)
    other.room = 5
    other.resume()
    assert other.log == [("other", b"1", True)]


def test_a_delivery_that_was_settled_in_time_does_not_come_back(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    taker = Taker(queue).start()
    publish(queue, b"1", b"2", b"3")
    taker.settle(b"1")
    queue.reject(taker.held.pop(0))
    queue.remove_consumer(taker)
    taker.requeue(b"3")
    house.pass_time(1000)
    assert (queue.ready_count(), queue.unacked) == (1, 0)
    assert len(queue.leases) == 0
    assert len(house.timetable) == 0


def test_each_delivery_has_a_lease_of_its_own(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    taker = Taker(queue, room=1).start()
    publish(queue, b"1")
    for _ in range(5):
        house.pass_time(100)
    assert taker.log == [("t", b"1", False)] + [("t", b"1", True)] * 5
    assert (queue.ready_count(), queue.unacked) == (0, 1)


def test_a_delivery_that_came_back_by_a_lease_counts_towards_the_limit(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(consumer_timeout=100, delivery_limit=2, **TO_DEAD)
    Taker(queue, room=1).start()
    publish(queue, b"1")
    house.pass_time(300)
    assert bodies_in(dead) == [b"1"]


def test_what_was_got_and_not_settled_in_time_comes_back_to_its_place(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    publish(queue, b"1", b"2")
    getter = Getter(queue)
    getter.get()
    house.pass_time(99)
    assert (queue.ready_count(), queue.unacked) == (1, 1)
    house.pass_time(1)
    assert getter.held == []
    assert (queue.ready_count(), queue.unacked) == (2, 0)
    assert drain(queue) == [(b"1", True), (b"2", False)]


def test_what_was_got_and_settled_in_time_does_not_come_back(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    publish(queue, b"1")
    getter = Getter(queue)
    queue.settle(getter.get())
    house.pass_time(1000)
    assert (queue.ready_count(), queue.unacked, len(queue.leases)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_a_consumer_lost_is_what_it_gets_next(house: House, kind: str) -> None:
    queue = house.queue(durable=True, queue_type=kind, consumer_timeout=100)
    taker = Taker(queue, room=1).start()
    publish(queue, b"1", b"2", b"3")
    house.pass_time(100)
    assert taker.log == [("t", b"1", False), ("t", b"1", True)]


def test_what_several_consumers_lost_goes_out_again_before_what_waited(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    log: list[tuple[str, bytes, bool]] = []
    one = Taker(queue, tag="one", room=1, log=log).start()
    other = Taker(queue, tag="other", room=2, log=log).start()
    publish(queue, b"1", b"2", b"3", b"4")
    assert (len(one.held), len(other.held)) == (1, 2)
    del log[:]
    house.pass_time(100)
    assert sorted(body for _, body, _ in log) == [b"1", b"2", b"3"]
    assert bodies_in(queue) == [b"4"]


def test_leases_end_when_the_queue_gives_none_any_more(house: House) -> None:
    queue = house.queue(consumer_timeout=100)
    taker = Taker(queue).start()
    publish(queue, b"1")
    queue.apply(QueueFeatures())
    house.pass_time(50)
    taker.requeue(b"1")
    house.pass_time(1000)
    assert len(taker.held) == 1
    assert queue.unacked == 1


# -- delayed retry


@pytest.mark.parametrize(
    ("kind", "failed", "waits"),
    [
        (RETRY_DISABLED, True, False),
        (RETRY_DISABLED, False, False),
        (RETRY_ALL, True, True),
        (RETRY_ALL, False, True),
        (RETRY_FAILED, True, True),
        (RETRY_FAILED, False, False),
        (RETRY_RETURNED, True, False),
        (RETRY_RETURNED, False, True),
    ],
)
def test_which_messages_wait(kind: int, failed: bool, waits: bool) -> None:
    features = QueueFeatures()
    features.retry_type, features.retry_min = kind, 100
    assert retry_delay(features, failed, 1) == (100 if waits else 0)


@pytest.mark.parametrize(
    ("multiplier", "longest", "delays"),
    [
        (0, 0, [100, 200, 300, 400, 500]),
        (0, 250, [100, 200, 250, 250, 250]),
        (1, 0, [100, 100, 100, 100, 100]),
        (2, 0, [100, 200, 400, 800, 1600]),
        (10, 5000, [100, 1000, 5000, 5000, 5000]),
    ],
)
def test_how_long_each_wait_is(multiplier: int, longest: int, delays: list[int]) -> None:
    features = QueueFeatures()
    features.retry_type, features.retry_min = RETRY_ALL, 100
    features.retry_multiplier, features.retry_max = multiplier, longest
    assert [retry_delay(features, True, times) for times in range(1, 6)] == delays


def test_a_wait_never_overflows() -> None:
    features = QueueFeatures()
    features.retry_type, features.retry_min, features.retry_multiplier = RETRY_ALL, 1000, 1000
    features.retry_max = 60_000
    assert retry_delay(features, True, 1 << 40) == 60_000


def test_jitter_spreads_a_wait_around_its_length() -> None:
    features = QueueFeatures()
    features.retry_type, features.retry_min, features.retry_jitter = RETRY_ALL, 1000, 20
    delays = [retry_delay(features, True, 1) for _ in range(300)]
    assert min(delays) >= 800
    assert max(delays) <= 1200
    assert len(set(delays)) > 50


def test_a_message_that_failed_waits_longer_each_time_and_others_pass_it(house: House) -> None:
    queue = house.queue(delayed_retry_min=100, delayed_retry_multiplier=2)
    publish(queue, b"1", b"2")
    for wait in (100, 200, 400):
        queue.requeue([got(queue)], failed=True)
        assert queue.ready_count() == 1
        house.pass_time(wait - 1)
        assert queue.ready_count() == 1
        house.pass_time(1)
        assert queue.ready_count() == 2
    assert drain(queue) == [(b"1", True), (b"2", False)]


@pytest.mark.parametrize(
    ("kind", "waits"), [("failed", False), ("returned", True), ("all", True), ("disabled", False)]
)
def test_what_is_recovered_did_not_fail(house: House, kind: str, waits: bool) -> None:
    queue = house.queue(delayed_retry_type=kind, delayed_retry_min=100)
    publish(queue, b"1")
    queue.requeue([got(queue)], failed=True, recovered=True)
    assert (queue.ready_count(), len(queue.retries)) == ((0, 1) if waits else (1, 0))


def test_what_waits_for_its_next_try_is_neither_ready_nor_unacknowledged(house: House) -> None:
    queue = house.queue(delayed_retry_min=100)
    publish(queue, b"1", b"2", b"3")
    queue.requeue([got(queue)])
    got(queue)
    found = queue.statistics()
    assert (found.ready, found.unacked, found.delayed) == (1, 1, 1)
    house.pass_time(100)
    found = queue.statistics()
    assert (found.ready, found.unacked, found.delayed) == (2, 1, 0)


def test_a_waiting_consumer_gets_a_retry_when_it_is_due(house: House) -> None:
    queue = house.queue(delayed_retry_min=100)
    taker = Taker(queue).start()
    publish(queue, b"1", b"2")
    taker.requeue(b"2", b"1")
    assert len(taker.log) == 2
    house.pass_time(100)
    assert taker.bodies() == [b"1", b"2", b"1", b"2"]


def test_a_retry_that_expires_while_it_waits_dies_of_that(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(delayed_retry_min=100, message_ttl=50, **TO_DEAD)
    publish(queue, b"1")
    queue.requeue([got(queue)])
    house.pass_time(100)
    assert (queue.ready_count(), bodies_in(dead)) == (0, [b"1"])


def test_a_retry_that_comes_back_to_a_full_queue_is_the_first_to_be_dropped(house: House) -> None:
    queue = house.queue(delayed_retry_min=100, max_length=1)
    publish(queue, b"1")
    queue.requeue([got(queue)])
    publish(queue, b"2")
    house.pass_time(100)
    assert bodies_in(queue) == [b"2"]


def test_retries_end_at_the_delivery_limit(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(delayed_retry_min=100, delivery_limit=2, **TO_DEAD)
    taker = Taker(queue, room=1).start()
    publish(queue, b"1")
    for wait in (100, 200, 0):
        taker.requeue(b"1")
        house.pass_time(wait)
    assert (bodies_in(dead), taker.held) == ([b"1"], [])


def test_purging_drops_what_waits_for_its_next_try(house: House) -> None:
    queue = house.durable(delayed_retry_min=100)
    publish(queue, b"1", b"2", b"3", persistent=True)
    house.store.commit()
    queue.requeue([got(queue)])
    held = got(queue)
    assert queue.purge() == 2
    house.store.commit()
    assert house.store.stored(queue.store_id) == [b"2"]
    house.pass_time(1000)
    assert queue.ready_count() == 0
    queue.settle(held)


def test_after_a_restart_what_waited_may_be_tried_at_once(house: House) -> None:
    queue = house.durable(delayed_retry_min=100_000)
    publish(queue, b"1", b"2", persistent=True)
    house.store.commit()
    queue.requeue([got(queue)])
    publish(queue, b"3", persistent=True)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    assert drain(found) == [(b"1", True), (b"2", False), (b"3", False)]


def test_ten_thousand_retries_are_one_entry_of_the_timetable(house: House) -> None:
    queue = house.queue(delayed_retry_min=100)
    publish(queue, *(b"%d" % number for number in range(10_000)))
    entries = [got(queue) for _ in range(10_000)]
    queue.requeue(entries)
    assert len(house.timetable) == 1
    house.pass_time(100)
    assert bodies_in(queue) == [b"%d" % number for number in range(10_000)]


def test_a_queue_whose_messages_wait_for_their_next_try_is_not_empty(house: House) -> None:
    queue = house.queue(delayed_retry_type="all", delayed_retry_min=100)
    publish(queue, b"1")
    queue.requeue([got(queue)])
    assert queue.ready_count() == 0
    with pytest.raises(SoftError, match="not empty"):
        house.vhost.delete_queue(queue, if_empty=True)
    house.pass_time(100)
    assert drain(queue) == [(b"1", True)]
    house.vhost.delete_queue(queue, if_empty=True)

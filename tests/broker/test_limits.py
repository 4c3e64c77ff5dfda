"""Length limits: what is dropped and what is refused, and that what is ready is always counted right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.features import QueueFeatures
from amqp_broker.broker.mortal import AT_ONCE
from amqp_broker.broker.queue import REFUSED, TAKEN, Queue
from tests.broker.house import House, made, recount
from tests.broker.ledger_store import LedgerStore
from tests.broker.taker import Taker, bodies_in, drain, publish
from tests.examples import examples


@pytest.fixture
def house() -> House:
    return House()


def outcomes(queue: Queue, *bodies: bytes) -> list[int]:
    return [queue.publish(made(body, persistent=True)) for body in bodies]


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


# -- drop-head


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"max_length": 2}, [b"ccc", b"dddd"]),
        ({"max_length_bytes": 7}, [b"ccc", b"dddd"]),
        ({"max_length_bytes": 6}, [b"dddd"]),
        ({"max_length": 3, "max_length_bytes": 4}, [b"dddd"]),
        ({"max_length": 1, "max_length_bytes": 100}, [b"dddd"]),
        ({"max_length": 0}, []),
        ({"max_length_bytes": 3}, []),
    ],
)
def test_the_oldest_are_dropped_until_the_rest_fits(
    house: House, limits: dict[str, Any], left: list[bytes]
) -> None:
    queue = house.queue(**limits)
    assert outcomes(queue, b"a", b"bb", b"ccc", b"dddd") == [TAKEN] * 4
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes)
    assert bodies_in(queue) == left


def test_what_is_out_does_not_count_until_it_comes_back(house: House) -> None:
    queue = house.queue(max_length=2)
    taker = Taker(queue, room=2).start()
    publish(queue, b"1", b"2", b"3", b"4")
    assert (queue.ready_count(), queue.unacked) == (2, 2)
    queue.remove_consumer(taker)
    taker.requeue(b"1", b"2")
    assert bodies_in(queue) == [b"3", b"4"]


def test_a_message_that_a_consumer_takes_at_once_needs_no_room(house: House) -> None:
    queue = house.queue(max_length=0)
    taker = Taker(queue, no_ack=True).start()
    publish(queue, b"1", b"2")
    assert taker.bodies() == [b"1", b"2"]


def test_what_is_dropped_leaves_the_store(house: House) -> None:
    queue = house.durable(max_length=2)
    publish(queue, *numbered(0, 3), persistent=True)
    house.store.commit()
    publish(queue, *numbered(3, 5), persistent=True)
    house.store.commit()
    assert house.store.stored(queue.store_id) == [b"3", b"4"]


def test_a_new_limit_holds_at_once(house: House) -> None:
    queue = house.queue()
    publish(queue, *numbered(0, 10))
    features = QueueFeatures()
    features.max_length = 3
    queue.apply(features)
    assert bodies_in(queue) == [b"7", b"8", b"9"]


def test_what_is_on_the_disk_counts(house: House) -> None:
    queue = house.durable(max_length=5, max_length_bytes=9)
    publish(queue, *numbered(0, 5), persistent=True)
    house.store.commit()
    again = house.restarted()
    found = again.vhost.queues["q"]
    assert (found.ready_count(), found.ready_bytes) == (5, 5)
    publish(found, b"new", persistent=True)
    assert (found.ready_count(), found.ready_bytes) == (5, 7)
    publish(found, b"newer")
    assert (found.ready_count(), found.ready_bytes) == (3, 9)
    assert recount(found) == (3, 9)
    assert bodies_in(found) == [b"4", b"new", b"newer"]
    again.store.commit()
    assert again.store.stored(found.store_id) == []


def test_what_was_out_when_the_broker_was_killed_is_too_much_afterwards_and_dies(house: House) -> None:
    house.durable("dead")
    queue = house.durable(max_length=3, dead_letter_exchange="", dead_letter_routing_key="dead")
    Taker(queue, room=2).start()
    publish(queue, *numbered(0, 5), persistent=True)
    house.store.commit()
    again = house.restarted()
    again.pass_time(0)
    found, dead = again.vhost.queues["q"], again.vhost.queues["dead"]
    again.store.commit()
    assert again.store.stored(dead.store_id) == [b"0", b"1"]
    assert again.store.stored(found.store_id) == bodies_in(found) == [b"2", b"3", b"4"]


def test_thousands_over_the_limit_are_dropped_in_portions(house: House) -> None:
    queue = house.durable(max_length=5000)
    publish(queue, *numbered(0, 5000), persistent=True)
    house.store.commit()
    again = house.restarted()
    found = again.vhost.queues["q"]
    features = QueueFeatures()
    features.max_length = 10
    found.apply(features)
    assert found.ready_count() == 5000 - AT_ONCE
    again.pass_time()
    assert bodies_in(found) == numbered(4990, 5000)


# -- reject-publish


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_full_queue_refuses(house: House, overflow: str) -> None:
    queue = house.durable(max_length=2, overflow=overflow)
    assert outcomes(queue, b"1", b"2", b"3") == [TAKEN, TAKEN, REFUSED]
    house.store.commit()
    assert house.store.stored(queue.store_id) == [b"1", b"2"]
    got = queue.get()
    assert got is not None
    assert outcomes(queue, b"4", b"5") == [TAKEN, REFUSED]
    assert bodies_in(queue) == [b"2", b"4"]


def test_a_queue_refuses_what_would_be_too_many_octets(house: House) -> None:
    queue = house.queue(max_length_bytes=5, overflow="reject-publish")
    assert outcomes(queue, b"123", b"456", b"78", b"", b"9") == [TAKEN, REFUSED, TAKEN, TAKEN, REFUSED]
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes) == (3, 5)


def test_a_queue_that_may_hold_nothing_refuses_though_a_consumer_waits(house: House) -> None:
    queue = house.queue(max_length=0, overflow="reject-publish")
    taker = Taker(queue).start()
    assert outcomes(queue, b"1") == [REFUSED]
    assert taker.bodies() == []


def test_what_comes_back_to_a_queue_that_refuses_is_not_dropped(house: House) -> None:
    queue = house.queue(max_length=1, overflow="reject-publish")
    publish(queue, b"1")
    got = queue.get()
    assert got is not None
    publish(queue, b"2")
    queue.requeue([got])
    assert outcomes(queue, b"3") == [REFUSED]
    assert drain(queue) == [(b"1", True), (b"2", False)]


def test_a_refused_message_dies_only_where_that_is_asked_for(house: House) -> None:
    dead = house.queue("dead")
    arguments = {"max_length": 1, "dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
    silent = house.queue("silent", overflow="reject-publish", **arguments)
    heard = house.queue("heard", overflow="reject-publish-dlx", **arguments)
    outcomes(silent, b"1", b"2")
    outcomes(heard, b"3", b"4")
    assert bodies_in(dead) == [b"4"]


def test_a_queue_that_refuses_counts_what_is_on_the_disk(house: House) -> None:
    queue = house.durable(max_length=3, max_length_bytes=6, overflow="reject-publish")
    publish(queue, b"12", b"34", persistent=True)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    assert outcomes(found, b"567", b"5", b"", b"") == [REFUSED, TAKEN, REFUSED, REFUSED]


# -- counting


BODY = st.binary(max_size=5)
STEP = st.one_of(
    st.tuples(st.just("publish"), BODY, st.integers(0, 4), st.sampled_from([None, 0, 5, 50])),
    st.tuples(
        st.sampled_from(["get", "ack", "requeue", "reject", "purge", "restart", "consume", "cancel"]),
        st.integers(0, 5),
    ),
    st.tuples(st.just("wait"), st.integers(1, 40)),
)
KINDS: list[dict[str, Any]] = [
    {},
    {"max_length": 3},
    {"max_length_bytes": 7},
    {"max_length": 2, "overflow": "reject-publish"},
    {"message_ttl": 20, "delivery_limit": 2},
    {"delayed_retry_min": 10},
    {"consumer_timeout": 15, "message_deduplication": True},
]


class Story:
    """One durable queue, what was got from it, and perhaps a consumer."""

    def __init__(self, kind: int, priorities: bool) -> None:
        self.arguments = KINDS[kind] | ({"max_priority": 3} if priorities else {})
        self.house = House(LedgerStore())
        self.queue = self.house.durable(**self.arguments)
        self.held: list[Any] = []
        self.taker: Taker | None = None

    def step(self, what: str, *how: Any) -> None:
        getattr(self, what)(*how)
        if what in ("get", "ack", "requeue", "reject"):
            self.house.store.commit()

    def publish(self, body: bytes, priority: int, expiration: int | None) -> None:
        persistent = len(body) != 1
        headers = {"x-deduplication-header": priority} if len(body) == 2 else None
        self.queue.publish(
            made(body, persistent=persistent, priority=priority, expiration=expiration, headers=headers)
        )

    def get(self, _: int) -> None:
        entry = self.queue.get()
        if entry is not None:
            self.held.append(entry)

    def ack(self, pick: int) -> None:
        if self.held:
            self.queue.settle(self.held.pop(pick % len(self.held)))

    def reject(self, pick: int) -> None:
        if self.held:
            self.queue.reject(self.held.pop(pick % len(self.held)))

    def requeue(self, count: int) -> None:
        entries = sorted(self.held[: count + 1], key=lambda entry: entry.seq)
        del self.held[: count + 1]
        if entries:
            self.queue.requeue(entries)

    def purge(self, _: int) -> None:
        self.queue.purge()

    def consume(self, room: int) -> None:
        if self.taker is None:
            self.taker = Taker(self.queue, room=room).start()

    def cancel(self, _: int) -> None:
        if self.taker is not None:
            self.queue.remove_consumer(self.taker)
            back, self.taker.held, self.taker = self.taker.held, [], None
            if back:
                self.queue.requeue(sorted(back, key=lambda entry: entry.seq))

    def wait(self, milliseconds: int) -> None:
        self.house.pass_time(milliseconds)

    def restart(self, _: int) -> None:
        self.house.store.commit()
        self.house = self.house.restarted(after=3)
        self.queue = self.house.vhost.queues["q"]
        self.held, self.taker = [], None

    def check(self) -> None:
        queue = self.queue
        assert (queue.ready_count(), queue.ready_bytes) == recount(queue)
        out = len(self.held) + (len(self.taker.held) if self.taker is not None else 0)
        assert queue.unacked == out
        if queue.trims and not queue.away_count():
            assert not queue.features.over_limit(queue.ready_count(), queue.ready_bytes)
        if self.taker is not None and not self.taker.blocked:
            assert queue.ready_count() == 0


@settings(max_examples=examples(250))
@given(kind=st.integers(0, len(KINDS) - 1), priorities=st.booleans(), steps=st.lists(STEP, max_size=40))
def test_what_is_ready_is_counted_right_whatever_happens(
    kind: int, priorities: bool, steps: list[tuple[Any, ...]]
) -> None:
    story = Story(kind, priorities)
    for what, *how in steps:
        story.step(what, *how)
        story.check()
    story.restart(0)
    story.check()
    bodies_in(story.queue)
    assert (story.queue.ready_count(), story.queue.ready_bytes) == (0, 0)
    story.house.store.commit()
    assert story.house.store.stored(story.queue.store_id) == []

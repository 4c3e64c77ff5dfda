"""Deduplication: one message with a value at a time, also after a restart, and never a loss."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.deduplication import Present
from amqp_broker.broker.features import NO_LIMIT, Deduplication, QueueFeatures
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.outstanding import take_message_away
from amqp_broker.broker.policy import new_policy
from amqp_broker.broker.queue import REFUSED, TAKEN, Queue
from amqp_broker.content.table import table_of
from tests.broker.house import House, made
from tests.broker.taker import Taker, bodies_in, publish
from tests.examples import examples

HEADER = "x-deduplication-header"


@pytest.fixture
def house() -> House:
    return House()


def send(queue: Queue, body: bytes, value: object, header: str = HEADER, **options: Any) -> int:
    return queue.publish(made(body, persistent=True, headers={header: value}, **options))


def test_a_duplicate_is_taken_and_not_kept(house: House) -> None:
    queue = house.durable(message_deduplication=True)
    assert [send(queue, body, "a") for body in (b"1", b"2")] == [TAKEN, TAKEN]
    house.store.commit()
    assert house.store.stored(queue.store_id) == [b"1"]
    assert bodies_in(queue) == [b"1"]


def test_other_values_and_messages_without_the_header_are_no_duplicates(house: House) -> None:
    queue = house.queue(message_deduplication=True)
    for body, value in ((b"1", "a"), (b"2", "b"), (b"3", 1), (b"4", True), (b"5", "1")):
        send(queue, body, value)
    send(queue, b"6", "a", header="another")
    publish(queue, b"7", b"8")
    assert bodies_in(queue) == [b"%d" % number for number in range(1, 9)]


def test_the_header_may_have_another_name(house: House) -> None:
    queue = house.queue(message_deduplication=True, deduplication_header="id")
    for body, header in ((b"1", "id"), (b"2", "id"), (b"3", HEADER), (b"4", HEADER)):
        send(queue, body, "a", header)
    assert bodies_in(queue) == [b"1", b"3", b"4"]


def test_a_queue_that_does_not_deduplicate_keeps_everything(house: House) -> None:
    queue = house.queue(message_deduplication=False)
    send(queue, b"1", "a")
    send(queue, b"2", "a")
    assert bodies_in(queue) == [b"1", b"2"]


def leave(house: House, queue: Queue, how: str) -> None:
    """The one message in the queue leaves it."""
    if how == "purged":
        queue.purge()
    elif how == "expired":
        house.pass_time(100)
    elif how == "handed over":
        queue.remove_consumer(Taker(queue, no_ack=True).start())
    else:
        entry = queue.get()
        assert entry is not None
        if how == "came back too often":
            queue.requeue([entry])
        else:
            (queue.settle if how == "acked" else queue.reject)(entry)


@pytest.mark.parametrize(
    "how", ["acked", "rejected", "came back too often", "purged", "expired", "handed over"]
)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_value_is_free_again_when_its_message_has_left(house: House, how: str, restarted: bool) -> None:
    queue = house.durable(message_deduplication=True, message_ttl=100, delivery_limit=0)
    send(queue, b"1", "a")
    if restarted:
        house.store.commit()
        house = house.restarted()
        queue = house.vhost.queues["q"]
    leave(house, queue, how)
    assert queue.seen is not None
    assert len(queue.seen) == 0
    send(queue, b"2", "a")
    assert bodies_in(queue) == [b"2"]


def test_a_value_is_not_free_while_its_message_is_out_or_back_again(house: House) -> None:
    queue = house.queue(message_deduplication=True)
    send(queue, b"1", "a")
    entry = queue.get()
    assert entry is not None
    send(queue, b"2", "a")
    queue.requeue([entry])
    send(queue, b"3", "a")
    assert bodies_in(queue) == [b"1"]


def test_a_message_that_a_consumer_takes_at_once_for_good_leaves_no_value(house: House) -> None:
    queue = house.queue(message_deduplication=True)
    taker = Taker(queue, no_ack=True).start()
    send(queue, b"1", "a")
    send(queue, b"2", "a")
    assert taker.bodies() == [b"1", b"2"]
    assert queue.seen is not None
    assert len(queue.seen) == 0


def test_what_is_dropped_by_a_limit_frees_its_value(house: House) -> None:
    queue = house.queue(message_deduplication=True, max_length=1)
    for body, value in ((b"1", "a"), (b"2", "b"), (b"3", "a")):
        send(queue, body, value)
    assert bodies_in(queue) == [b"3"]


@pytest.mark.parametrize("remembers", [{}, {"cache_size": 10}, {"cache_ttl": 1000}])
def test_a_message_that_was_refused_may_be_sent_again(house: House, remembers: dict[str, Any]) -> None:
    queue = house.queue(message_deduplication=True, max_length=1, overflow="reject-publish", **remembers)
    send(queue, b"1", "a")
    assert send(queue, b"2", "b") == REFUSED
    assert bodies_in(queue) == [b"1"]
    assert send(queue, b"2", "b") == TAKEN
    assert bodies_in(queue) == [b"2"]


# -- with a memory of its own


def test_so_many_values_are_remembered_whatever_becomes_of_their_messages(house: House) -> None:
    queue = house.queue(message_deduplication=True, cache_size=2)
    for body, value in ((b"1", "a"), (b"2", "b"), (b"3", "a"), (b"4", "c"), (b"5", "a"), (b"6", "c")):
        send(queue, body, value)
        if body == b"2":
            assert bodies_in(queue) == [b"1", b"2"]
    assert bodies_in(queue) == [b"4", b"5"]


def test_values_are_remembered_for_so_long(house: House) -> None:
    queue = house.queue(message_deduplication=True, cache_ttl=100)
    send(queue, b"1", "a")
    assert bodies_in(queue) == [b"1"]
    house.jump(99)
    send(queue, b"2", "a")
    house.jump(1)
    send(queue, b"3", "a")
    assert bodies_in(queue) == [b"3"]


def test_values_that_are_too_old_are_not_kept(house: House) -> None:
    queue = house.queue(message_deduplication=True, cache_ttl=100)
    for number in range(1000):
        send(queue, b"", number)
        house.jump(1)
    assert queue.seen is not None
    assert len(queue.seen) <= 101


# -- after a restart


@pytest.mark.parametrize("remembers", [{}, {"cache_size": 5000}, {"cache_ttl": 1000}])
def test_what_is_in_the_queue_after_a_restart_is_known(house: House, remembers: dict[str, Any]) -> None:
    queue = house.durable(message_deduplication=True, **remembers)
    for number in range(2500):
        send(queue, b"%d" % number, number)
    house.store.commit()
    again = house.restarted()
    found = again.vhost.queues["q"]
    assert len(found.ready) == 0, "nothing was brought into memory for it"
    for number in (0, 1, 1700, 2499):
        assert send(found, b"duplicate", number) == TAKEN
    send(found, b"new", 2500)
    assert found.ready_count() == 2501
    assert bodies_in(found)[-2:] == [b"2499", b"new"]


def test_what_was_acked_before_the_restart_is_not_known_after_it(house: House) -> None:
    queue = house.durable(message_deduplication=True)
    send(queue, b"1", "a")
    send(queue, b"2", "b")
    entry = queue.get()
    assert entry is not None
    queue.settle(entry)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    send(found, b"3", "a")
    send(found, b"4", "b")
    assert bodies_in(found) == [b"2", b"3"]


def test_purging_what_was_not_read_back_frees_its_values(house: House) -> None:
    queue = house.durable(message_deduplication=True)
    send(queue, b"1", "a")
    send(queue, b"2", "b")
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    got = found.get()
    assert got is not None
    found.purge()
    send(found, b"3", "a")
    send(found, b"4", "b")
    assert bodies_in(found) == [b"4"]


def test_a_queue_with_priorities_knows_its_messages_too(house: House) -> None:
    queue = house.durable(message_deduplication=True, max_priority=3)
    for number in range(4):
        send(queue, b"%d" % number, number, priority=number)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    send(found, b"duplicate", 2, priority=3)
    assert bodies_in(found) == [b"3", b"2", b"1", b"0"]


def test_a_queue_that_begins_to_deduplicate_looks_at_what_it_has(house: House) -> None:
    queue = house.queue()
    send(queue, b"1", "a")
    features = QueueFeatures()
    features.deduplication = Deduplication(HEADER, NO_LIMIT, 0)
    queue.apply(features)
    send(queue, b"2", "a")
    queue.apply(features)
    send(queue, b"3", "a")
    assert bodies_in(queue) == [b"1"]


def given_out(house: House, queue: Queue) -> QueueEntry:
    """The head, outstanding on a channel of its own."""
    entry = queue.get()
    assert entry is not None
    house.vhost.unsettled[object()] = {1: entry}
    return entry


def deduplicated(house: House) -> Present:
    """The policy is there from now on; what the queue knows."""
    set_policy(house, message_deduplication=True)
    seen = house.vhost.queues["q"].seen
    assert isinstance(seen, Present)
    return seen


def test_a_value_that_several_messages_had_already_is_known_until_the_last_has_left(house: House) -> None:
    queue = house.queue()
    for body in (b"1", b"2", b"3"):
        send(queue, body, "a")
    seen = deduplicated(house)
    for _ in range(3):
        send(queue, b"duplicate", "a")
        entry = queue.get()
        assert entry is not None
        queue.settle(entry)
    assert (queue.ready_count(), len(seen)) == (0, 0)
    send(queue, b"4", "a")
    assert bodies_in(queue) == [b"4"]


@pytest.mark.parametrize("how", ["settled", "rejected", "back"])
def test_what_was_out_when_a_policy_came_is_known_until_it_has_left(house: House, how: str) -> None:
    queue = house.queue()
    send(queue, b"1", "a")
    entry = given_out(house, queue)
    send(queue, b"2", "b")
    others = house.queue("other")
    send(others, b"other", "c")
    given_out(house, others)
    seen = deduplicated(house)
    assert len(seen) == 2
    send(queue, b"duplicate", "a")
    send(queue, b"3", "c")
    if how == "back":
        queue.requeue([entry])
    else:
        (queue.settle if how == "settled" else queue.reject)(entry)
    send(queue, b"4", "a")
    assert bodies_in(queue) == ([b"1", b"2", b"3"] if how == "back" else [b"2", b"3", b"4"])
    assert len(seen) == 0


def test_what_waited_for_its_next_try_when_a_policy_came_is_known(house: House) -> None:
    queue = house.queue(delayed_retry_type="all", delayed_retry_min=100)
    send(queue, b"1", "a")
    queue.requeue([given_out(house, queue)], failed=True)
    seen = deduplicated(house)
    send(queue, b"duplicate", "a")
    house.pass_time(1000)
    assert bodies_in(queue) == [b"1"]
    assert len(seen) == 0


@pytest.mark.parametrize("how", ["settled", "rejected", "waiting"])
def test_a_message_that_has_left_memory_is_known_when_a_policy_comes(house: House, how: str) -> None:
    queue = house.durable(delayed_retry_type="all", delayed_retry_min=100)
    bodies = [b"%d" % number for number in range(300)]
    for body in bodies:
        send(queue, body, body.decode())
    house.store.commit()
    out = [given_out(house, queue) for _ in bodies]
    assert all(take_message_away(entry, house.store.readable()) for entry in out)
    if how == "waiting":
        house.vhost.unsettled.clear()
        queue.requeue(out, failed=True)
    seen = deduplicated(house)
    assert len(seen) == len(bodies)
    assert not any(take_message_away(entry, house.store.readable()) for entry in out)
    for body in bodies:
        send(queue, b"duplicate", body.decode())
    assert queue.ready_count() == 0
    if how == "waiting":
        house.pass_time(1000)
        assert bodies_in(queue) == bodies
    else:
        for entry in out:
            (queue.settle if how == "settled" else queue.reject)(entry)
    assert len(seen) == 0


@pytest.mark.parametrize("remembers", [{"cache_size": 3}, {"cache_ttl": 1000}])
def test_a_memory_of_its_own_knows_what_was_out_as_older_than_what_was_ready(
    house: House, remembers: dict[str, Any]
) -> None:
    queue = house.durable()
    for number in range(4):
        send(queue, b"%d" % number, number)
    given_out(house, queue)
    given_out(house, queue)
    set_policy(house, message_deduplication=True, **remembers)
    for number in (3, 2, 1, 0):
        send(queue, b"again", number)
    again = [b"again"] if "cache_size" in remembers else []
    assert bodies_in(queue) == [b"2", b"3", *again]


LASTING = [{"cache_size": 5000}, {"cache_ttl": 1000}]


@pytest.mark.parametrize("remembers", LASTING)
@pytest.mark.parametrize("how", ["acked", "purged", "rejected"])
def test_what_was_consumed_before_the_restart_is_known_after_it_if_it_is_to_be(
    house: House, how: str, remembers: dict[str, Any]
) -> None:
    queue = house.durable(message_deduplication=True, **remembers)
    send(queue, b"1", "a")
    leave(house, queue, how)
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    send(found, b"2", "a")
    send(found, b"3", "b")
    assert bodies_in(found) == [b"3"]


@pytest.mark.parametrize("remembers", LASTING)
def test_what_a_consumer_took_at_once_for_good_is_known_after_a_restart(
    house: House, remembers: dict[str, Any]
) -> None:
    queue = house.durable(message_deduplication=True, **remembers)
    taker = Taker(queue, no_ack=True).start()
    send(queue, b"1", "a")
    assert taker.bodies() == [b"1"]
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    send(found, b"2", "a")
    assert bodies_in(found) == []


def test_a_value_that_was_forgotten_stays_so_although_its_message_is_there(house: House) -> None:
    queue = house.durable(message_deduplication=True, cache_ttl=100)
    send(queue, b"1", "a")
    house.pass_time(60)
    send(queue, b"2", "b")
    house.store.commit()
    house = house.restarted(40)
    found = house.vhost.queues["q"]
    send(found, b"3", "a")
    send(found, b"4", "b")
    assert bodies_in(found) == [b"1", b"2", b"3"]


def test_values_leave_the_disk_when_they_are_forgotten_also_when_nothing_comes(house: House) -> None:
    queue = house.durable(message_deduplication=True, cache_size=3, cache_ttl=100)
    for number in range(10):
        send(queue, b"", number)
        if number % 4 == 0:
            house.store.commit()
    house.store.commit()
    assert house.store.stored(queue.seen_id) == [b"7", b"8", b"9"]
    house = house.restarted()
    queue = house.vhost.queues["q"]
    house.pass_time(2000)
    house.store.commit()
    assert house.store.stored(queue.seen_id) == []
    assert queue.seen is not None
    assert len(queue.seen) == 0


@pytest.mark.parametrize("written", [0, 1])
def test_a_value_and_its_message_are_in_one_batch(house: House, written: int) -> None:
    queue = house.durable(message_deduplication=True, cache_size=10)
    house.store.commit()
    send(queue, b"1", "a")
    assert house.store.seal()
    found = House(house.store.survivor(written), house.now).vhost.queues["q"]
    assert found.seen is not None
    assert len(found.seen) == written
    send(found, b"1", "a")
    assert bodies_in(found) == [b"1"]


def test_a_deleted_queue_leaves_no_values_on_the_disk(house: House) -> None:
    queue = house.durable(message_deduplication=True, cache_size=10)
    send(queue, b"1", "a")
    house.store.commit()
    house.vhost.delete_queue(queue)
    house.store.commit()
    assert house.store.stored(queue.seen_id) == []


def test_a_transient_queue_and_a_transient_message_leave_no_values_on_the_disk(house: House) -> None:
    for name, durable, persistent in (("q1", False, True), ("q2", True, False)):
        queue = house.queue(name, durable=durable, message_deduplication=True, cache_size=10)
        queue.publish(made(b"1", persistent=persistent, headers={HEADER: "a"}))
    house.store.commit()
    assert not any(house.store.disk.entries.values())


def set_policy(house: House, **definition: object) -> None:
    named = {"x-" + key.replace("_", "-"): value for key, value in definition.items()}
    house.vhost.set_policy(new_policy("p", "", table_of(named)))


def test_a_policy_has_a_running_queue_remember_also_after_a_restart_and_forget(house: House) -> None:
    queue = house.durable()
    send(queue, b"1", "a")
    set_policy(house, message_deduplication=True, cache_size=10)
    send(queue, b"2", "b")
    assert bodies_in(queue) == [b"1", b"2"]
    house.store.commit()
    house = house.restarted()
    found = house.vhost.queues["q"]
    for body, value in ((b"3", "a"), (b"4", "b"), (b"5", "c")):
        send(found, body, value)
    set_policy(house, message_deduplication=True, cache_size=1)
    send(found, b"6", "c")
    send(found, b"7", "b")
    assert bodies_in(found) == [b"5", b"7"]
    seen_id = found.seen_id
    house.vhost.delete_policy("p")
    send(found, b"8", "b")
    house.store.commit()
    assert house.store.stored(seen_id) == []
    again = house.restarted().vhost.queues["q"]
    assert again.seen is None
    assert bodies_in(again) == [b"8"]


def test_a_policy_can_turn_one_kind_of_memory_into_the_other(house: House) -> None:
    queue = house.durable(message_deduplication=True)
    send(queue, b"1", "a")
    set_policy(house, cache_ttl=1000)
    assert bodies_in(queue) == [b"1"]
    send(queue, b"2", "a")
    house.vhost.delete_policy("p")
    send(queue, b"3", "a")
    assert bodies_in(queue) == [b"3"]
    assert queue.seen_id == 0


def test_a_quorum_queue_remembers_the_values_of_transient_messages(house: House) -> None:
    queue = house.durable(message_deduplication=True, cache_size=10, queue_type="quorum")
    queue.publish(made(b"1", headers={HEADER: "a"}))
    assert bodies_in(queue) == [b"1"]
    house.store.commit()
    found = house.restarted().vhost.queues["q"]
    send(found, b"2", "a")
    assert bodies_in(found) == []


def test_a_message_that_was_refused_is_not_known_after_a_restart(house: House) -> None:
    queue = house.durable(message_deduplication=True, max_length=0, overflow="reject-publish", cache_size=10)
    assert send(queue, b"1", "a") == REFUSED
    house.store.commit()
    assert house.store.stored(queue.seen_id) == []


@settings(max_examples=examples(100))
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "send", "get", "settle", "requeue", "restart"]), st.integers(0, 3))
    )
)
def test_no_value_is_ever_in_the_queue_twice_and_none_is_lost(steps: list[tuple[str, int]]) -> None:
    house = House()
    queue = house.durable(message_deduplication=True)
    inside: list[int] = []
    held: list[Any] = []
    for what, value in steps:
        if what == "send":
            send(queue, b"%d" % value, value)
            if value not in inside:
                inside.append(value)
        elif what == "get":
            entry = queue.get()
            if entry is not None:
                held.append(entry)
        elif what == "restart":
            house.store.commit()
            house, held = house.restarted(), []
            queue = house.vhost.queues["q"]
        elif held:
            entry = held.pop(value % len(held))
            if what == "settle":
                inside.remove(int(entry.message.body))
                queue.settle(entry)
            else:
                queue.requeue([entry])
    if held:
        queue.requeue(sorted(held, key=lambda entry: entry.seq))
    assert [int(body) for body in bodies_in(queue)] == inside

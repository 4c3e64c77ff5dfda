"""A queue: order, whose turn it is, what comes back, and what it asks of the store."""

from __future__ import annotations

import pytest

from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import table_of
from tests.broker.ledger_store import LedgerStore
from tests.broker.taker import Taker, bodies_in, drain, message, publish


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def queue(store: LedgerStore) -> Queue:
    return Queue("q", "/", False, {}, store)


@pytest.fixture
def durable(store: LedgerStore) -> Queue:
    queue = Queue("d", "/", True, {}, store)
    queue.store_id = store.next_queue_id()
    return queue


def single_active(store: LedgerStore) -> Queue:
    return Queue("q", "/", False, table_of({"x-single-active-consumer": True}), store)


# -- order


def test_messages_leave_in_the_order_they_came(queue: Queue) -> None:
    publish(queue, b"1", b"2", b"3")
    assert queue.ready_count() == 3
    assert drain(queue) == [(b"1", False), (b"2", False), (b"3", False)]


def test_get_from_an_empty_queue_is_nothing(queue: Queue) -> None:
    assert queue.get() is None


def test_a_consumer_takes_what_is_there_and_what_comes(queue: Queue) -> None:
    publish(queue, b"1", b"2")
    taker = Taker(queue).start()
    publish(queue, b"3")
    assert taker.bodies() == [b"1", b"2", b"3"]
    assert queue.ready_count() == 0


def test_a_taken_message_is_unacked_until_it_is_settled(queue: Queue) -> None:
    taker = Taker(queue).start()
    publish(queue, b"1", b"2")
    assert queue.statistics().unacked == 2
    taker.settle(b"1")
    assert queue.statistics().unacked == 1


def test_what_is_handed_over_is_gone(queue: Queue) -> None:
    taker = Taker(queue, no_ack=True).start()
    publish(queue, b"1")
    assert taker.bodies() == [b"1"]
    assert queue.statistics().unacked == 0


def test_requeued_messages_take_their_old_places(queue: Queue) -> None:
    taker = Taker(queue, room=3).start()
    publish(queue, b"1", b"2", b"3", b"4", b"5")
    queue.remove_consumer(taker)
    taker.requeue(b"1", b"3")
    taker.requeue(b"2")
    assert drain(queue) == [(b"1", True), (b"2", True), (b"3", True), (b"4", False), (b"5", False)]


def test_a_requeued_message_goes_ahead_of_what_was_never_delivered(queue: Queue) -> None:
    taker = Taker(queue, room=1).start()
    publish(queue, b"1", b"2")
    taker.requeue(b"1")
    assert taker.log == [("t", b"1", False), ("t", b"1", True)]


def test_a_requeued_message_goes_to_whoever_is_ready(queue: Queue) -> None:
    first = Taker(queue, tag="first", room=1).start()
    publish(queue, b"1")
    second = Taker(queue, tag="second", room=1).start()
    first.room = 0
    first.requeue(b"1")
    assert second.log == [("second", b"1", True)]


def test_a_message_counts_how_often_it_came_back(queue: Queue) -> None:
    publish(queue, b"1")
    for times in range(3):
        entry = queue.get()
        assert entry is not None
        assert entry.deliveries == times
        queue.requeue([entry])


# -- whose turn it is


def test_consumers_take_turns(queue: Queue) -> None:
    log: list[tuple[str, bytes, bool]] = []
    for tag in ("a", "b", "c"):
        Taker(queue, tag=tag, log=log).start()
    publish(queue, b"1", b"2", b"3", b"4")
    assert [tag for tag, _, _ in log] == ["a", "b", "c", "a"]


def test_a_full_consumer_is_left_out_until_it_has_room(queue: Queue) -> None:
    log: list[tuple[str, bytes, bool]] = []
    small = Taker(queue, tag="small", room=1, log=log).start()
    Taker(queue, tag="big", log=log).start()
    publish(queue, b"1", b"2", b"3")
    small.settle(b"1")
    publish(queue, b"4", b"5")
    assert [tag for tag, _, _ in log] == ["small", "big", "big", "big", "small"]


def test_messages_wait_while_all_consumers_are_full(queue: Queue) -> None:
    takers = [Taker(queue, tag=tag, room=1).start() for tag in ("a", "b")]
    publish(queue, b"1", b"2", b"3", b"4")
    assert queue.ready_count() == 2
    takers[1].settle(b"2")
    assert takers[1].bodies() == [b"2", b"3"]


def test_a_consumer_blocked_while_it_stands_in_line_is_passed_over(queue: Queue) -> None:
    first, second = Taker(queue, tag="first").start(), Taker(queue, tag="second").start()
    first.blocked = True
    publish(queue, b"1", b"2")
    assert second.bodies() == [b"1", b"2"]
    first.resume()
    publish(queue, b"3", b"4")
    assert len(first.bodies()) == 1


def test_all_consumers_blocked_while_they_stand_in_line_get_nothing(queue: Queue) -> None:
    takers = [Taker(queue, tag=tag).start() for tag in ("a", "b")]
    for taker in takers:
        taker.blocked = True
    publish(queue, b"1")
    assert queue.ready_count() == 1
    takers[1].resume()
    assert takers[1].bodies() == [b"1"]


def test_a_consumer_of_higher_priority_goes_first_while_it_has_room(queue: Queue) -> None:
    low = Taker(queue, tag="low").start()
    high = Taker(queue, tag="high", room=2, priority=5).start()
    publish(queue, b"1", b"2", b"3")
    assert (high.bodies(), low.bodies()) == ([b"1", b"2"], [b"3"])
    high.settle(b"1")
    publish(queue, b"4")
    assert high.bodies() == [b"1", b"2", b"4"]


def test_consumers_of_one_priority_take_turns(queue: Queue) -> None:
    log: list[tuple[str, bytes, bool]] = []
    for tag, priority in (("low", -1), ("a", 5), ("b", 5)):
        Taker(queue, tag=tag, priority=priority, log=log).start()
    publish(queue, b"1", b"2", b"3", b"4")
    assert [tag for tag, _, _ in log] == ["a", "b", "a", "b"]


def test_priorities_may_be_below_zero(queue: Queue) -> None:
    reserve = Taker(queue, tag="reserve", priority=-10).start()
    usual = Taker(queue, tag="usual", room=1).start()
    publish(queue, b"1", b"2")
    assert (usual.bodies(), reserve.bodies()) == ([b"1"], [b"2"])


def test_the_single_active_consumer_takes_everything_until_it_is_gone(store: LedgerStore) -> None:
    queue = single_active(store)
    first, second, third = (Taker(queue, tag=tag).start() for tag in ("a", "b", "c"))
    publish(queue, b"1", b"2")
    queue.remove_consumer(second)
    publish(queue, b"3")
    queue.remove_consumer(first)
    queue.next_active()
    publish(queue, b"4")
    assert first.bodies() == [b"1", b"2", b"3"]
    assert second.bodies() == []
    assert third.bodies() == [b"4"]


def test_messages_wait_for_a_single_active_consumer_that_is_full(store: LedgerStore) -> None:
    queue = single_active(store)
    first, second = Taker(queue, tag="a", room=1).start(), Taker(queue, tag="b").start()
    publish(queue, b"1", b"2")
    assert (queue.ready_count(), second.bodies()) == (1, [])
    first.settle(b"1")
    assert first.bodies() == [b"1", b"2"]


def test_the_next_single_active_consumer_takes_what_waited(store: LedgerStore) -> None:
    queue = single_active(store)
    first, second = Taker(queue, tag="a", room=0).start(), Taker(queue, tag="b").start()
    publish(queue, b"1")
    queue.remove_consumer(first)
    queue.next_active()
    assert second.bodies() == [b"1"]


def test_a_removed_consumer_gets_nothing_more(queue: Queue) -> None:
    taker = Taker(queue).start()
    queue.remove_consumer(taker)
    queue.remove_consumer(taker)
    publish(queue, b"1")
    assert taker.bodies() == []
    assert queue.statistics().consumers == 0


def test_an_exclusive_consumer_is_noted_while_it_is_there(queue: Queue) -> None:
    taker = Taker(queue, exclusive=True).start()
    assert queue.line.exclusive is taker
    queue.remove_consumer(taker)
    assert queue.line.exclusive is None


# -- purge and delete


def test_purge_drops_what_is_ready_only(queue: Queue) -> None:
    publish(queue, b"1", b"2", b"3")
    entry = queue.get()
    assert entry is not None
    assert queue.purge() == 2
    assert queue.ready_count() == 0
    queue.requeue([entry])
    assert drain(queue) == [(b"1", True)]


def test_purging_an_empty_queue_drops_nothing(queue: Queue) -> None:
    assert queue.purge() == 0


def test_deleting_tells_the_consumers_and_drops_everything(queue: Queue) -> None:
    taker = Taker(queue, room=1).start()
    publish(queue, b"1", b"2")
    queue.delete()
    assert taker.told
    assert queue.statistics().consumers == 0
    taker.requeue(b"1")
    assert queue.ready_count() == 0
    assert taker.bodies() == [b"1"]


# -- what it asks of the store


def test_a_persistent_message_in_a_durable_queue_is_stored_until_it_is_settled(
    store: LedgerStore, durable: Queue
) -> None:
    publish(durable, b"1", b"2", persistent=True)
    publish(durable, b"transient")
    store.commit()
    assert store.stored(durable.store_id) == [b"1", b"2"]
    entry = durable.get()
    assert entry is not None
    store.commit()
    assert store.stored(durable.store_id) == [b"1", b"2"]
    durable.settle(entry)
    store.commit()
    assert store.stored(durable.store_id) == [b"2"]
    assert drain(durable) == [(b"2", False), (b"transient", False)]


def test_a_transient_queue_stores_nothing(store: LedgerStore, queue: Queue) -> None:
    publish(queue, b"1", persistent=True)
    Taker(queue).start().settle(b"1")
    assert store.idle


def test_a_message_settled_in_the_batch_it_came_in_is_never_written(
    store: LedgerStore, durable: Queue
) -> None:
    taker = Taker(durable).start()
    publish(durable, b"1", persistent=True)
    taker.settle(b"1")
    assert store.idle


def test_a_message_handed_over_at_once_is_never_written(store: LedgerStore, durable: Queue) -> None:
    Taker(durable, no_ack=True).start()
    publish(durable, b"1", persistent=True)
    assert store.idle


def test_a_message_handed_over_later_is_removed(store: LedgerStore, durable: Queue) -> None:
    publish(durable, b"1", persistent=True)
    store.commit()
    Taker(durable, no_ack=True).start()
    store.commit()
    assert store.stored(durable.store_id) == []


def test_a_message_settled_while_its_batch_is_on_its_way_is_removed_by_the_next(
    store: LedgerStore, durable: Queue
) -> None:
    publish(durable, b"1", persistent=True)
    store.seal()
    assert drain(durable) == [(b"1", False)]
    store.commit_oldest()
    assert store.stored(durable.store_id) == [b"1"]
    store.commit()
    assert store.stored(durable.store_id) == []


def test_a_requeued_message_stays_stored(store: LedgerStore, durable: Queue) -> None:
    taker = Taker(durable, room=1).start()
    publish(durable, b"1", persistent=True)
    store.commit()
    durable.remove_consumer(taker)
    taker.requeue(b"1")
    store.commit()
    assert store.stored(durable.store_id) == [b"1"]
    assert drain(durable) == [(b"1", True)]


def test_purge_removes_what_is_ready_from_the_store(store: LedgerStore, durable: Queue) -> None:
    publish(durable, b"1", b"2", persistent=True)
    store.commit()
    publish(durable, b"3", persistent=True)
    assert durable.get() is not None
    assert durable.purge() == 2
    store.commit()
    assert store.stored(durable.store_id) == [b"1"]


def test_a_deleted_queue_leaves_the_store_alone(store: LedgerStore, durable: Queue) -> None:
    taker = Taker(durable).start()
    publish(durable, b"1", b"2", persistent=True)
    store.delete_queue(durable.store_id)
    durable.delete()
    taker.settle(b"1")
    taker.requeue(b"2")
    store.commit()
    assert store.stored(durable.store_id) == []


# -- what a restart finds


def restarted(store: LedgerStore, queue: Queue, written: int = 0) -> tuple[LedgerStore, Queue]:
    """The queue after a crash now."""
    survivor = store.survivor(written)
    _, stored = survivor.recover()
    found = Queue(queue.name, "/", True, {}, survivor)
    found.store_id = queue.store_id
    if queue.store_id in stored:
        found.recovered(stored[queue.store_id])
    return survivor, found


def numbered(start: int, stop: int) -> list[bytes]:
    return [b"%d" % number for number in range(start, stop)]


def test_committed_messages_survive_in_order(store: LedgerStore, durable: Queue) -> None:
    publish(durable, b"1", b"2", persistent=True)
    store.commit()
    publish(durable, b"3", persistent=True)
    _, found = restarted(store, durable)
    assert found.ready_count() == 2
    assert drain(found) == [(b"1", False), (b"2", False)]


def test_a_batch_that_was_written_survives_though_nobody_was_told(store: LedgerStore, durable: Queue) -> None:
    publish(durable, b"1", persistent=True)
    store.seal()
    publish(durable, b"2", persistent=True)
    store.seal()
    assert bodies_in(restarted(store, durable, 0)[1]) == []
    assert bodies_in(restarted(store, durable, 1)[1]) == [b"1"]
    assert bodies_in(restarted(store, durable, 2)[1]) == [b"1", b"2"]


def test_what_was_delivered_before_the_crash_is_redelivered(store: LedgerStore, durable: Queue) -> None:
    Taker(durable, room=2).start()
    publish(durable, b"1", b"2", b"3", persistent=True)
    store.commit()
    assert drain(restarted(store, durable)[1]) == [(b"1", True), (b"2", True), (b"3", False)]


def test_what_was_got_before_the_crash_is_redelivered(store: LedgerStore, durable: Queue) -> None:
    publish(durable, b"1", b"2", persistent=True)
    assert durable.get() is not None
    store.commit()
    assert drain(restarted(store, durable)[1]) == [(b"1", True), (b"2", False)]


def test_a_delivery_alone_is_written_with_the_next_batch(store: LedgerStore, durable: Queue) -> None:
    publish(durable, b"1", persistent=True)
    store.commit()
    assert durable.get() is not None
    assert store.idle
    publish(durable, b"2", persistent=True)
    store.commit()
    assert drain(restarted(store, durable)[1]) == [(b"1", True), (b"2", False)]


def test_messages_published_after_a_restart_come_after_the_recovered_ones(
    store: LedgerStore, durable: Queue
) -> None:
    publish(durable, *numbered(0, 5), persistent=True)
    store.commit()
    store, found = restarted(store, durable)
    publish(found, *numbered(5, 8), persistent=True)
    publish(found, b"transient")
    assert found.ready_count() == 9
    assert bodies_in(found) == [*numbered(0, 8), b"transient"]
    store.commit()
    assert store.stored(found.store_id) == []


def test_recovered_messages_are_read_back_in_runs(store: LedgerStore, durable: Queue) -> None:
    publish(durable, *numbered(0, 2500), persistent=True)
    store.commit()
    _, found = restarted(store, durable)
    publish(found, b"last")
    taker = Taker(found, room=10).start()
    assert len(found.ready) < 2500
    assert found.ready_count() == 2491
    taker.room = 1 << 30
    taker.resume()
    assert taker.bodies() == [*numbered(0, 2500), b"last"]


def test_requeued_messages_stay_ahead_of_what_is_not_read_back_yet(
    store: LedgerStore, durable: Queue
) -> None:
    publish(durable, *numbered(0, 1500), persistent=True)
    store.commit()
    _, found = restarted(store, durable)
    taker = Taker(found, room=1000).start()
    assert found.away_count() > 0
    found.remove_consumer(taker)
    taker.requeue(*numbered(0, 1000))
    assert drain(found) == [(body, int(body) < 1000) for body in numbered(0, 1500)]


def test_purge_removes_what_is_not_read_back_yet(store: LedgerStore, durable: Queue) -> None:
    publish(durable, *numbered(0, 1500), persistent=True)
    store.commit()
    store, found = restarted(store, durable)
    publish(found, b"new", persistent=True)
    held = found.get()
    assert found.purge() == 1500
    publish(found, b"newer", persistent=True)
    store.commit()
    assert store.stored(found.store_id) == [b"0", b"newer"]
    assert held is not None
    found.requeue([held])
    assert bodies_in(found) == [b"0", b"newer"]


def test_a_purge_while_new_messages_are_on_their_way_removes_them_all(
    store: LedgerStore, durable: Queue
) -> None:
    publish(durable, *numbered(0, 3), persistent=True)
    store.commit()
    store, found = restarted(store, durable)
    publish(found, b"on its way", persistent=True)
    store.seal()
    publish(found, b"not even that", persistent=True)
    found.purge()
    store.commit()
    assert store.stored(found.store_id) == []


def test_sequence_numbers_go_on_after_a_restart_though_the_last_messages_are_gone(
    store: LedgerStore, durable: Queue
) -> None:
    publish(durable, b"1", b"2", persistent=True)
    assert bodies_in(durable) == [b"1", b"2"]
    publish(durable, b"3", persistent=True)
    store.commit()
    drain(durable)
    publish(durable, b"4", persistent=True)
    store.commit()
    _, found = restarted(store, durable)
    publish(found, b"5", persistent=True)
    assert drain(found) == [(b"4", False), (b"5", False)]


def test_a_queue_may_be_restarted_again_and_again(store: LedgerStore, durable: Queue) -> None:
    for round_ in range(5):
        publish(durable, b"%d" % round_, persistent=True)
        store.commit()
        store, durable = restarted(store, durable)
    assert bodies_in(durable) == numbered(0, 5)


def test_a_long_message_in_pieces_is_stored_whole(store: LedgerStore, durable: Queue) -> None:
    in_pieces = message(b"abcdef", persistent=True)
    in_pieces.body, in_pieces.chunks = b"", (b"abc", b"def")
    durable.publish(in_pieces)
    store.commit()
    assert store.stored(durable.store_id) == [b"abcdef"]

"""What a restart finds: what was committed, counted, and ids that go on where they were."""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.ports import Definition
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.reader import Progress

from .harness import Subject, message

pytestmark = pytest.mark.anyio


async def test_a_new_store_is_empty(durable: Subject) -> None:
    assert durable.store.recover() == ([], {})


async def test_entries_survive_a_restart_in_order(durable: Subject) -> None:
    durable.put(4, 1, 2, 9)
    await durable.commit()
    await durable.reopen()
    assert [(entry.seq, entry.body) for entry in durable.read(4)] == [
        (1, b"body 1"),
        (2, b"body 2"),
        (9, b"body 9"),
    ]


async def test_what_was_not_committed_is_gone(durable: Subject) -> None:
    durable.put(1, 1)
    await durable.commit()
    durable.put(1, 2)
    durable.store.put_definition(Definition("queue", b"q", {}))
    await durable.reopen()
    definitions, queues = durable.store.recover()
    assert definitions == []
    assert queues[1].count == 1


async def test_a_restart_counts_each_queue(durable: Subject) -> None:
    durable.put(1, 3, 4, 5)
    durable.store.put(70_000, durable.entry(12, message(bytes(10_000))))
    shared = message(b"shared")
    for queue_id in (70_000, 80_000):
        durable.store.put(queue_id, durable.entry(13, shared))
    await durable.commit()
    await durable.reopen()
    _, queues = durable.store.recover()
    assert sorted(queues) == [1, 70_000, 80_000]
    found = [lane for queue_id in sorted(queues) for lane in queues[queue_id].lanes]
    assert [(lane.first_seq, lane.last_seq) for lane in found] == [(3, 5), (12, 13), (13, 13)]
    assert [(lane.count, lane.body_bytes) for lane in found] == [(3, 18), (2, 10_006), (1, 6)]
    assert [(lane.level, lane.watermark) for lane in found] == [(0, 0), (0, 0), (0, 0)]


async def test_a_restart_counts_each_lane_of_a_queue(durable: Subject) -> None:
    low, high = 3 << 56, 200 << 56
    durable.put(1, low + 1, high + 8, high + 9, low + 2)
    durable.store.mark_delivered(1, high + 8)
    durable.store.mark_delivered(1, low + 7)
    durable.store.mark_delivered(1, (4 << 56) + 1)
    durable.put(2, 1)
    await durable.commit()
    await durable.reopen()
    found = durable.store.recover()[1][1]
    assert [lane.level for lane in found.lanes] == [3, 4, 200]
    assert [lane.count for lane in found.lanes] == [2, 0, 2]
    assert [lane.first_seq for lane in found.lanes] == [low + 1, 0, high + 8]
    assert [lane.last_seq for lane in found.lanes] == [low + 7, (4 << 56) + 1, high + 9]
    assert [lane.watermark for lane in found.lanes] == [low + 7, (4 << 56) + 1, high + 8]
    durable.store.delete_queue(1)
    await durable.commit()
    await durable.reopen()
    assert list(durable.store.recover()[1]) == [2]


async def test_a_count_of_deliveries_survives_a_restart(durable: Subject) -> None:
    waiting = QueueEntry(message(b"expires"), durable.queue, 4)
    waiting.expiry = 1 << 41
    durable.store.put(1, waiting)
    shared = durable.entry(5, message(b"shared"))
    durable.store.put(1, shared)
    durable.store.put(2, QueueEntry(shared.message, durable.queue, 1))
    plain, gone = durable.put(1, 6, 7)
    await durable.commit()
    for entry in (waiting, shared, plain, gone):
        entry.deliveries = 3
        durable.store.count_deliveries(1, entry)
    plain.deliveries = 4
    durable.store.count_deliveries(1, plain)
    durable.store.delete(1, gone)
    durable.put(1, 8)
    await durable.commit()
    await durable.reopen()
    found = durable.read(1)
    assert [(entry.seq, entry.body, entry.deliveries, entry.expiry) for entry in found] == [
        (4, b"expires", 2, 1 << 41),
        (5, b"shared", 2, 0),
        (6, b"body 6", 3, 0),
        (8, b"body 8", 0, 0),
    ]


async def test_delivery_marks_ride_with_the_next_batch_and_never_fall(durable: Subject) -> None:
    durable.put(1, *range(1, 11))
    durable.store.mark_delivered(1, 7)
    durable.store.mark_delivered(1, 6)
    await durable.commit()
    durable.store.mark_delivered(1, 2)
    durable.put(1, 11)
    await durable.commit()
    await durable.reopen()
    assert durable.store.recover()[1][1].lanes[0].watermark == 7


async def test_closing_writes_delivery_marks_that_stand_alone(durable: Subject) -> None:
    durable.put(1, 1, 2)
    await durable.commit()
    durable.store.mark_delivered(1, 1)
    assert durable.store.seal() is None
    await durable.commit(closing=True)
    await durable.reopen()
    assert durable.store.recover()[1][1].lanes[0].watermark == 1


async def test_an_empty_queue_goes_on_above_what_was_delivered(durable: Subject) -> None:
    entries = durable.put(1, *range(1, 11))
    durable.store.mark_delivered(1, 10)
    await durable.commit()
    for entry in entries:
        durable.store.delete(1, entry)
    await durable.commit()
    await durable.reopen()
    queue = durable.store.recover()[1][1]
    assert (queue.count, queue.lanes[0].last_seq) == (0, 10)


async def test_definitions_survive_in_key_order_by_kind(durable: Subject) -> None:
    store = durable.store
    for kind, key in (("queue", b"b"), ("exchange", b"z"), ("queue", b"a"), ("exchange", b"y")):
        store.put_definition(Definition(kind, key, {"version": 1}))
    await durable.commit()
    value: dict[str, object] = {
        "list": [1, -1, 2**63],
        "bytes": b"\xff",
        "none": None,
        "deep": {"true": True},
    }
    store.put_definition(Definition("queue", b"a", value))
    store.delete_definition("exchange", b"z")
    await durable.commit()
    await durable.reopen()
    definitions, _ = durable.store.recover()
    assert [(definition.kind, definition.key) for definition in definitions] == [
        ("exchange", b"y"),
        ("queue", b"a"),
        ("queue", b"b"),
    ]
    assert definitions[1].value == value


async def test_the_last_word_on_a_definition_within_a_batch_counts(durable: Subject) -> None:
    durable.store.put_definition(Definition("queue", b"kept", {}))
    durable.store.delete_definition("queue", b"kept")
    durable.store.put_definition(Definition("queue", b"kept", {"again": True}))
    durable.store.put_definition(Definition("queue", b"gone", {}))
    durable.store.delete_definition("queue", b"gone")
    await durable.commit()
    await durable.reopen()
    [definition] = durable.store.recover()[0]
    assert (definition.key, definition.value) == (b"kept", {"again": True})


async def test_definition_keys_may_be_longer_than_the_database_allows(durable: Subject) -> None:
    keys = [b"k" * size + tail for size in (500, 510, 600, 5000) for tail in (b"", b"x")]
    for key in keys:
        durable.store.put_definition(Definition("binding", key, {"size": len(key)}))
    durable.store.delete_definition("binding", keys[-1])
    await durable.commit()
    await durable.reopen()
    found = {definition.key: definition.value for definition in durable.store.recover()[0]}
    assert found == {key: {"size": len(key)} for key in keys[:-1]}


async def test_queue_ids_do_not_repeat_after_a_restart(durable: Subject) -> None:
    used: set[int] = set()
    for count in (1, 2500, 3):
        await durable.reopen()
        durable.store.recover()
        fresh = {durable.store.next_queue_id() for _ in range(count)}
        assert len(fresh) == count
        assert not used & fresh
        used |= fresh
        await durable.commit()


async def test_a_recovered_entry_can_be_deleted(durable: Subject) -> None:
    durable.put(1, 1, 2, 3)
    await durable.commit()
    await durable.reopen()
    durable.store.recover()
    entry = durable.entry(2)
    entry.batch = 0
    durable.store.delete(1, entry)
    await durable.commit()
    assert durable.seqs(1) == [1, 3]


async def test_queue_ids_end_before_they_wrap(durable: Subject) -> None:
    assert isinstance(durable.store, JournalStore)
    durable.store.recover()
    durable.store._next_queue_id = (1 << 32) - 1
    assert durable.store.next_queue_id() == (1 << 32) - 1
    with pytest.raises(OverflowError, match="used up"):
        durable.store.next_queue_id()


async def test_a_reader_of_much_lets_go_of_what_it_read(durable: Subject) -> None:
    """In a process of its own; one that shares the writer's environment keeps it."""
    body = bytes(4 << 20)
    for seq in range(1, 20):
        durable.store.put(1, durable.entry(seq, message(body)))
        await durable.commit()
    durable.until_followed()
    assert durable.directory is not None
    first = durable.directory.environment
    assert durable.seqs(1) == list(range(1, 20))
    assert durable.seqs(1) == list(range(1, 20))
    assert (durable.directory.environment is first) == (durable.kind == "thread")


def test_a_long_start_says_how_far_it_has_come(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    progress = Progress(step=3)
    for _ in range(7):
        progress.look()
    assert caplog.messages == [
        "recovering: 3 entries of queues that share bodies looked at",
        "recovering: 6 entries of queues that share bodies looked at",
    ]

"""What every store promises to the model and to the server, whatever it is made of."""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import NOT_STORED
from amqp_broker.broker.ports import Definition
from amqp_broker.store.journal import REMOVAL

from .harness import ADDRESS, Subject, Waiter, header, message

pytestmark = pytest.mark.anyio


async def test_a_committed_entry_is_read_back_to_the_byte(any_store: Subject) -> None:
    entry = any_store.entry(7, message(b"\x00\xff body"))
    entry.expiry = 1_700_000_000_123
    entry.deliveries = 3
    any_store.store.put(5, entry)
    await any_store.commit()
    [found] = any_store.read(5)
    assert (found.seq, found.address, found.body) == (7, ADDRESS, b"\x00\xff body")
    assert found.header == header(7).payload
    assert (found.expiry, found.deliveries) == (1_700_000_000_123, 3)


@pytest.mark.parametrize("chunks", [(b"",), (b"one",), (b"one", b"two"), (b"a" * 4096, b"", b"b")])
async def test_a_body_in_pieces_is_read_back_whole(any_store: Subject, chunks: tuple[bytes, ...]) -> None:
    any_store.store.put(1, any_store.entry(1, message(chunks=chunks)))
    await any_store.commit()
    assert any_store.bodies(1) == [b"".join(chunks)]


async def test_an_empty_body_is_kept(any_store: Subject) -> None:
    any_store.store.put(1, any_store.entry(1, message(b"")))
    await any_store.commit()
    assert any_store.bodies(1) == [b""]


async def test_put_tells_the_entry_its_batch(any_store: Subject) -> None:
    [entry] = any_store.put(1, 1)
    assert entry.batch == any_store.store.batch > 0


async def test_nothing_is_seen_before_its_batch_is_committed(any_store: Subject) -> None:
    any_store.put(1, 1)
    assert any_store.seqs(1) == []
    await any_store.commit()
    assert any_store.seqs(1) == [1]


async def test_entries_of_many_queues_stay_apart_and_in_order(any_store: Subject) -> None:
    for queue_id in (70_000, 2, 1, 256):
        any_store.put(queue_id, 1, 2, 300, 70_000)
    await any_store.commit()
    any_store.put(2, 70_001)
    await any_store.commit()
    assert any_store.seqs(1) == any_store.seqs(256) == any_store.seqs(70_000) == [1, 2, 300, 70_000]
    assert any_store.seqs(2) == [1, 2, 300, 70_000, 70_001]
    assert any_store.seqs(3) == []


async def test_reading_starts_at_the_seq_and_stops_at_the_limit(any_store: Subject) -> None:
    any_store.put(1, 1, 3, 5, 7)
    await any_store.commit()
    assert [entry.seq for entry in any_store.read(1, 2, 2)] == [3, 5]
    assert [entry.seq for entry in any_store.read(1, 7, 2)] == [7]
    assert any_store.read(1, 8, 2) == []


async def test_reading_stops_near_four_mebibytes_but_gives_at_least_one(any_store: Subject) -> None:
    for seq, size in enumerate((5 << 20, 1 << 20, 3 << 20, 1 << 20), start=1):
        any_store.store.put(1, any_store.entry(seq, message(bytes(size))))
    await any_store.commit()
    assert [entry.seq for entry in any_store.read(1, 1)] == [1]
    assert [entry.seq for entry in any_store.read(1, 2)] == [2, 3]


async def test_a_deleted_entry_is_gone(any_store: Subject) -> None:
    entries = any_store.put(1, 1, 2, 3, 4, 5, 6)
    await any_store.commit()
    for at in (5, 1, 2, 0):
        any_store.store.delete(1, entries[at])
    await any_store.commit()
    assert any_store.seqs(1) == [4, 5]


async def test_an_entry_can_be_deleted_while_its_batch_is_under_way(any_store: Subject) -> None:
    entry, _ = any_store.put(1, 1, 2)
    batch = any_store.store.seal()
    assert batch is not None
    any_store.store.delete(1, entry)
    await any_store.write(batch)
    any_store.store.committed(batch.number)
    await any_store.commit()
    assert any_store.seqs(1) == [2]


async def test_an_entry_that_comes_and_goes_within_a_batch_is_never_written(any_store: Subject) -> None:
    gone, kept = any_store.put(1, 1, 2)
    any_store.store.delete(1, gone)
    assert gone.batch == NOT_STORED
    await any_store.commit()
    assert any_store.seqs(1) == [2]
    [only] = any_store.put(1, 3)
    any_store.store.delete(1, only)
    batch = await any_store.commit()
    assert batch is not None
    assert batch.payload == b""
    assert kept.batch > 0


async def test_deleting_twice_does_no_harm(any_store: Subject) -> None:
    entry, _ = any_store.put(1, 1, 2)
    await any_store.commit()
    any_store.store.delete(1, entry)
    any_store.store.delete(1, entry)
    await any_store.commit()
    assert any_store.seqs(1) == [2]


async def test_a_range_takes_what_lies_in_it_and_nothing_else(any_store: Subject) -> None:
    for queue_id in (1, 2, 3):
        any_store.put(queue_id, 1, 2, 3, 4, 5)
    await any_store.commit()
    any_store.store.delete_range(2, 2, 4)
    await any_store.commit()
    assert [any_store.seqs(queue_id) for queue_id in (1, 2, 3)] == [[1, 2, 3, 4, 5], [1, 5], [1, 2, 3, 4, 5]]


async def test_an_open_range_does_not_reach_later_entries(any_store: Subject) -> None:
    any_store.put_many(1, 6000)
    await any_store.commit()
    any_store.store.delete_range(1, 0, (1 << 64) - 1)
    await any_store.commit()
    any_store.put(1, 6001)
    await any_store.commit()
    assert any_store.seqs(1) == [6001]


async def test_a_deleted_queue_is_empty_and_its_neighbours_are_not(any_store: Subject) -> None:
    for queue_id in (1, 2, 3):
        any_store.put(queue_id, 1, 2)
    await any_store.commit()
    any_store.put(2, 3)
    any_store.store.delete_queue(2)
    await any_store.commit()
    assert [any_store.seqs(queue_id) for queue_id in (1, 2, 3)] == [[1, 2], [], [1, 2]]


async def test_a_message_of_several_queues_is_read_from_each(any_store: Subject) -> None:
    shared = message(b"for all")
    entries = [any_store.entry(1, shared) for _ in range(3)]
    for queue_id, entry in enumerate(entries, start=1):
        any_store.store.put(queue_id, entry)
    await any_store.commit()
    any_store.store.delete(1, entries[0])
    await any_store.commit()
    await any_store.commit()
    assert [any_store.bodies(queue_id) for queue_id in (1, 2, 3)] == [[], [b"for all"], [b"for all"]]


async def test_a_waiter_hears_of_each_batch_once(any_store: Subject) -> None:
    waiter, other = Waiter(), Waiter()
    any_store.put(1, 1)
    first = any_store.store.wait(waiter.notice)
    assert any_store.store.wait(waiter.notice) == any_store.store.wait(other.notice) == first
    assert waiter.batches == []
    await any_store.commit()
    any_store.put(1, 2)
    second = any_store.store.wait(waiter.notice)
    await any_store.commit()
    assert waiter.batches == [first, second]
    assert other.batches == [first]
    assert first < second


async def test_waiters_hear_of_batches_in_order_even_if_a_later_one_is_done_first(any_store: Subject) -> None:
    waiter = Waiter()
    batches = []
    for seq in (1, 2, 3):
        any_store.put(1, seq)
        any_store.store.wait(waiter.notice)
        batch = any_store.store.seal()
        assert batch is not None
        batches.append(batch)
    for batch in batches:
        await any_store.write(batch)
    any_store.store.committed(batches[1].number)
    assert waiter.batches == []
    any_store.store.committed(batches[0].number)
    assert waiter.batches == [batches[0].number, batches[1].number]
    any_store.store.committed(batches[2].number)
    assert waiter.batches == [batch.number for batch in batches]


async def test_a_batch_that_is_not_under_way_cannot_be_reported(any_store: Subject) -> None:
    with pytest.raises(ValueError, match="not under way"):
        any_store.store.committed(any_store.store.batch)


async def test_a_batch_is_urgent_if_somebody_waits_for_it(any_store: Subject) -> None:
    any_store.put(1, 1)
    assert not any_store.store.urgent
    any_store.store.wait(Waiter().notice)
    assert any_store.store.urgent
    batch = await any_store.commit()
    assert batch is not None
    assert batch.urgent
    assert not any_store.store.urgent


async def test_a_waiter_alone_makes_a_batch_with_nothing_to_write(any_store: Subject) -> None:
    waiter = Waiter()
    number = any_store.store.wait(waiter.notice)
    assert not any_store.store.empty
    batch = await any_store.commit()
    assert batch is not None
    assert batch.payload == b""
    assert waiter.batches == [number]


async def test_an_empty_batch_is_not_sealed(any_store: Subject) -> None:
    assert any_store.store.empty
    number = any_store.store.batch
    assert any_store.store.seal() is None
    any_store.store.mark_delivered(1, 5)
    assert any_store.store.empty
    assert any_store.store.seal() is None
    assert any_store.store.batch == number


async def test_definitions_make_a_batch(any_store: Subject) -> None:
    any_store.store.put_definition(Definition("queue", b"q", {"name": "q"}))
    assert not any_store.store.empty
    await any_store.commit()
    assert any_store.store.empty
    any_store.store.delete_definition("queue", b"q")
    any_store.store.delete_definition("queue", b"never there")
    assert not any_store.store.empty
    await any_store.commit()


async def test_queue_ids_do_not_repeat(any_store: Subject) -> None:
    ids = [any_store.store.next_queue_id() for _ in range(3000)]
    assert len(set(ids)) == len(ids)
    assert min(ids) >= 1


async def test_pending_bytes_fall_back_to_nothing(any_store: Subject) -> None:
    store = any_store.store
    assert store.pending_bytes == 0
    shared = message(bytes(1000))
    kept = [any_store.entry(1, shared), any_store.entry(1, shared)]
    store.put(1, kept[0])
    store.put(2, kept[1])
    gone = any_store.entry(2, message(bytes(500)))
    store.put(1, gone)
    if any_store.kind != "memory":
        with_both = store.pending_bytes
        assert 1500 < with_both < 4000
        store.delete(1, gone)
        assert 1000 < store.pending_bytes < with_both - 500
        batch = store.seal()
        assert batch is not None
        # The message, and the octets that it became.
        assert store.pending_bytes > 2000
        await any_store.write(batch)
        store.committed(batch.number)
    assert store.pending_bytes == 0


@pytest.mark.parametrize("shared", [False, True], ids=["of its own", "shared"])
async def test_removals_out_of_order_count_until_they_are_committed(durable: Subject, shared: bool) -> None:
    store = durable.store
    entries = [durable.entry(seq, message(b"same")) for seq in range(1, 101)]
    for entry in entries:
        store.put(1, entry)
        if shared:
            store.put(2, durable.entry(entry.seq, entry.message))
    await durable.commit()
    assert store.pending_bytes == 0

    for entry in entries[::2]:
        store.delete(1, entry)
    assert store.pending_bytes >= 49 * REMOVAL
    await durable.commit()
    assert store.pending_bytes == 0
    assert durable.seqs(1) == [entry.seq for entry in entries[1::2]]


async def test_removals_that_follow_each_other_count_as_one(durable: Subject) -> None:
    entries = durable.put(1, *range(1, 101))
    await durable.commit()
    for entry in entries:
        durable.store.delete(1, entry)
    assert durable.store.pending_bytes == 0
    await durable.commit()
    assert durable.seqs(1) == []

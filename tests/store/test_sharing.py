"""A message that one batch puts into several queues is stored once, until its last reference goes."""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Definition

from .harness import Subject, message

pytestmark = pytest.mark.anyio


async def fan_out(subject: Subject, of: Message, *queue_ids: int) -> dict[int, QueueEntry]:
    """Put a message into several queues in one batch, with seq 1 in each."""
    entries = {queue_id: subject.entry(1, of) for queue_id in queue_ids}
    for queue_id, entry in entries.items():
        subject.store.put(queue_id, entry)
    await subject.commit()
    return entries


async def settle(subject: Subject) -> None:
    """Commit until there is nothing left to do."""
    while not subject.store.empty:
        await subject.commit()
    if subject.logged:
        # What following the log released is told with the answer to a later batch.
        subject.until_followed()
        subject.store.put_definition(Definition("any", b"key", {}))
        while not subject.store.empty:
            await subject.commit()


def recovered(subject: Subject, queue_id: int) -> QueueEntry:
    """The queue's only entry, as the model builds it from what it reads."""
    [stored] = subject.read(queue_id)
    entry = subject.entry(stored.seq, message(stored.body))
    entry.batch = 0
    entry.message.store_id = stored.store_id
    return entry


async def test_it_is_stored_once(durable: Subject) -> None:
    body = bytes(2 << 20)
    shared = message(body)
    await fan_out(durable, shared, 1, 2, 3)
    assert durable.shared_messages() == [shared.store_id]
    assert all(durable.bodies(queue_id) == [body] for queue_id in (1, 2, 3))
    assert durable.directory is not None
    info = durable.directory.environment.info()
    assert info["last_pgno"] * 4096 < 2 * len(body)


async def test_one_queue_alone_keeps_it_inline(durable: Subject) -> None:
    alone = message()
    await fan_out(durable, alone, 1)
    assert alone.store_id == 0
    assert durable.shared_messages() == []


async def test_it_goes_with_its_last_reference(durable: Subject) -> None:
    entries = await fan_out(durable, message(), 1, 2)
    durable.store.delete(1, entries[1])
    await settle(durable)
    assert len(durable.shared_messages()) == 1
    durable.store.delete(2, entries[2])
    await settle(durable)
    assert durable.shared_messages() == []


async def test_it_goes_with_its_last_reference_across_restarts(durable: Subject) -> None:
    await fan_out(durable, message(b"kept"), 1, 2)
    for queue_id, left in ((1, 1), (2, 0)):
        await durable.reopen()
        durable.store.recover()
        await settle(durable)
        durable.store.delete(queue_id, recovered(durable, queue_id))
        await settle(durable)
        assert len(durable.shared_messages()) == left


async def test_reading_it_twice_does_not_count_twice(durable: Subject) -> None:
    await fan_out(durable, message(b"kept"), 1, 2)
    await durable.reopen()
    durable.store.recover()
    for _ in range(3):
        recovered(durable, 1)
    durable.store.delete(1, recovered(durable, 1))
    durable.store.delete(1, recovered(durable, 1))
    await settle(durable)
    assert durable.bodies(2) == [b"kept"]


async def test_one_that_nobody_refers_to_is_swept_at_the_start(durable: Subject) -> None:
    kept = message(b"kept")
    await fan_out(durable, kept, 1, 2)
    entries = await fan_out(durable, message(b"gone"), 3, 4)
    durable.store.delete(3, entries[3])
    durable.store.delete(4, entries[4])
    await durable.commit()
    assert len(durable.shared_messages()) == 2
    await durable.reopen()
    durable.store.recover()
    assert not durable.store.empty
    await settle(durable)
    assert durable.shared_messages() == [kept.store_id]


async def test_a_purge_releases_it(durable: Subject) -> None:
    await fan_out(durable, message(), 1, 2)
    durable.store.delete_range(1, 0, 10)
    durable.store.delete_queue(2)
    await settle(durable)
    assert durable.shared_messages() == []


async def test_a_large_purge_releases_it_in_the_background(durable: Subject) -> None:
    durable.put(1, *range(2, 12_000))
    shared = message()
    durable.store.put(1, durable.entry(12_000, shared))
    durable.store.put(2, durable.entry(1, shared))
    await durable.commit()
    durable.store.delete_queue(1)
    durable.store.delete_queue(2)
    await durable.commit()
    await durable.until_rows(0)
    durable.put(3, 1)
    await settle(durable)
    assert durable.shared_messages() == []


async def test_a_later_batch_refers_to_the_stored_one(durable: Subject) -> None:
    shared = message(b"again")
    await fan_out(durable, shared, 1, 2)
    [store_id] = durable.shared_messages()
    await fan_out(durable, shared, 3)
    assert durable.shared_messages() == [store_id]
    durable.store.delete(1, recovered(durable, 1))
    durable.store.delete(2, recovered(durable, 2))
    await settle(durable)
    assert durable.bodies(3) == [b"again"]


async def test_it_is_stored_anew_if_its_stored_copy_is_gone(durable: Subject) -> None:
    shared = message(b"again")
    entries = await fan_out(durable, shared, 1, 2)
    for queue_id, entry in entries.items():
        durable.store.delete(queue_id, entry)
    await settle(durable)
    await fan_out(durable, shared, 3)
    await fan_out(durable, shared, 4, 5)
    assert [durable.bodies(queue_id) for queue_id in (3, 4, 5)] == [[b"again"]] * 3


async def test_one_that_was_put_alone_first_is_shared_from_then_on(durable: Subject) -> None:
    first = message(b"body")
    entries = await fan_out(durable, first, 1)
    more = await fan_out(durable, first, 2, 3)
    assert durable.shared_messages() == [first.store_id]
    durable.store.delete(1, entries[1])
    durable.store.delete(2, more[2])
    await settle(durable)
    assert [durable.bodies(queue_id) for queue_id in (1, 2, 3)] == [[], [], [b"body"]]
    durable.store.delete(3, more[3])
    await settle(durable)
    assert durable.shared_messages() == []


async def test_a_copy_that_never_leaves_its_batch_does_not_count(durable: Subject) -> None:
    shared = message(b"one left")
    kept, gone = durable.entry(1, shared), durable.entry(1, shared)
    durable.store.put(1, kept)
    durable.store.put(2, gone)
    durable.store.delete(2, gone)
    await durable.commit()
    assert durable.shared_messages() == []
    assert durable.bodies(1) == [b"one left"]


async def test_a_reference_being_put_outlives_one_being_removed(durable: Subject) -> None:
    shared = message(b"moved")
    entries = await fan_out(durable, shared, 1, 2)
    durable.store.delete(1, entries[1])
    durable.store.delete(2, entries[2])
    durable.store.put(3, durable.entry(1, shared))
    await settle(durable)
    await settle(durable)
    assert durable.bodies(3) == [b"moved"]
    await durable.reopen()
    durable.store.recover()
    await settle(durable)
    assert durable.bodies(3) == [b"moved"]

"""Removing many rows: gone from sight at once, from the disk soon, and for good after a crash."""

from __future__ import annotations

import os
import signal

import pytest

from amqp_broker.store.errors import StoreDied
from amqp_broker.store.process import ProcessCarrier

from .harness import Subject

pytestmark = pytest.mark.anyio

MANY = 17_000


async def test_a_large_queue_is_gone_at_once_and_its_rows_soon(durable: Subject) -> None:
    durable.put_many(1, MANY)
    durable.put(2, 1)
    await durable.commit()
    durable.store.delete_queue(1)
    await durable.commit()
    assert durable.seqs(1) == []
    await durable.until_rows(1)
    assert durable.seqs(2) == [1]


async def test_a_large_range_is_gone_at_once_and_its_rows_soon(durable: Subject) -> None:
    durable.put_many(1, MANY)
    await durable.commit()
    durable.store.delete_range(1, 101, MANY - 100)
    await durable.commit()
    expected = [*range(1, 101), *range(MANY - 99, MANY + 1)]
    assert durable.seqs(1) == expected
    await durable.until_rows(200)
    assert durable.seqs(1) == expected


async def test_publishing_goes_on_meanwhile(durable: Subject) -> None:
    durable.put_many(1, MANY)
    await durable.commit()
    durable.store.delete_range(1, 0, MANY)
    for seq in range(MANY + 1, MANY + 30):
        durable.put(1, seq)
        await durable.commit()
    expected = list(range(MANY + 1, MANY + 30))
    assert durable.seqs(1) == expected
    await durable.until_rows(len(expected))
    assert durable.seqs(1) == expected


async def kill_before_it_tidies(subject: Subject) -> None:
    """Stop the writer as soon as it has answered, and take a new one."""
    assert isinstance(subject.carrier, ProcessCarrier)
    pid = subject.carrier.pid
    assert pid is not None
    batch = subject.store.seal()
    assert batch is not None
    await subject.write(batch)
    os.kill(pid, signal.SIGKILL)
    subject.store.committed(batch.number)
    await subject.reopen()


@pytest.mark.parametrize("whole_queue", [True, False])
async def test_a_killed_writer_leaves_the_rest_to_the_next(with_process: Subject, whole_queue: bool) -> None:
    with_process.put_many(1, MANY * 4)
    with_process.put(2, 1)
    await with_process.commit()
    if whole_queue:
        with_process.store.delete_queue(1)
    else:
        with_process.store.delete_range(1, 0, MANY * 4)
    await kill_before_it_tidies(with_process)
    _, queues = with_process.store.recover()
    assert with_process.seqs(1) == []
    assert queues[2].count == 1
    if 1 in queues:
        assert not whole_queue
        assert queues[1].count == 0
        # The latter if it had tidied up after all before it was killed: then no entry can be taken for an old one.
        assert queues[1].lanes[0].last_seq in (MANY * 4, 0)
    await with_process.until_rows(1)


async def test_a_removal_that_is_not_finished_tells_a_restart_where_to_go_on(with_process: Subject) -> None:
    # Killed between the removal and its end, the queue is empty, and yet a new entry must not take an old
    # seq.
    with_process.put_many(1, MANY * 4)
    await with_process.commit()
    with_process.store.delete_range(1, 0, MANY * 4)
    await kill_before_it_tidies(with_process)
    queue = with_process.store.recover()[1].get(1)
    first = queue.lanes[0].last_seq + 1 if queue else 1
    with_process.put(1, first)
    await with_process.commit()
    await with_process.until_rows(1)
    assert with_process.seqs(1) == [first]


async def test_a_batch_after_the_kill_says_that_the_writer_is_gone(with_process: Subject) -> None:
    assert isinstance(with_process.carrier, ProcessCarrier)
    assert with_process.carrier.pid is not None
    os.kill(with_process.carrier.pid, signal.SIGKILL)
    with_process.put(1, 1)
    with pytest.raises(StoreDied, match="writer has stopped"):
        await with_process.commit()


async def test_what_was_removed_leaves_room_in_the_file(durable: Subject) -> None:
    durable.put_many(1, MANY)
    await durable.commit()
    await durable.until_rows(MANY)
    before = durable.directory.reader.reusable()
    durable.store.delete_queue(1)
    await durable.commit()
    await durable.until_rows(0)
    assert durable.directory.reader.reusable() - before > MANY * 30

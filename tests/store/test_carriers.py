"""How a carrier behaves around its writer: order, size, failure, death."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from amqp_broker.store.batch import Batch
from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.process import ProcessCarrier

from .harness import DURABLE, Subject, Waiter, message

pytestmark = pytest.mark.anyio


def sealed(subject: Subject, *seqs: int, size: int = 10) -> Batch:
    """A batch that puts entries into queue 1."""
    for seq in seqs:
        subject.store.put(1, subject.entry(seq, message(bytes(size))))
    batch = subject.store.seal()
    assert batch is not None
    return batch


def pid_of(subject: Subject) -> int:
    assert isinstance(subject.carrier, ProcessCarrier)
    assert subject.carrier.pid is not None
    return subject.carrier.pid


async def test_several_batches_may_be_under_way(durable: Subject) -> None:
    batches = [sealed(durable, seq) for seq in range(1, 21)]
    done: list[int] = []

    async def write(batch: Batch) -> None:
        await durable.write(batch)
        done.append(batch.number)

    async with anyio.create_task_group() as tasks:
        for batch in batches:
            tasks.start_soon(write, batch)
    assert done == [batch.number for batch in batches]
    assert durable.seqs(1) == list(range(1, 21))


async def test_batches_under_way_keep_their_order_on_the_same_entry(durable: Subject) -> None:
    entries = durable.put(1, *range(1, 6))
    batches = [durable.store.seal()]
    for entry in entries:
        durable.store.delete(1, entry)
        batches.append(durable.store.seal())
    async with anyio.create_task_group() as tasks:
        for batch in batches:
            assert batch is not None
            tasks.start_soon(durable.write, batch)
    assert durable.seqs(1) == []


async def test_a_large_batch_does_not_hold_up_the_loop(durable: Subject) -> None:
    batch = sealed(durable, 1, 2, size=24 << 20)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        await durable.write(batch)
        tasks.cancel_scope.cancel()
    assert turns > 100
    assert [len(entry.body) for entry in durable.read(1, 2)] == [24 << 20]


async def test_a_commit_given_up_does_not_confuse_the_next(durable: Subject) -> None:
    first, second = sealed(durable, 1, size=4 << 20), sealed(durable, 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(durable.write, first)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await durable.write(second)
    assert durable.seqs(1) == [1, 2]


@pytest.fixture(params=DURABLE)
async def small(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """A store whose map is soon full."""
    subject = Subject(request.param, tmp_path / "data", map_size=1 << 20)
    await subject.open()
    yield subject
    await subject.close()


async def test_a_full_map_grows(small: Subject) -> None:
    for seq in range(1, 7):
        await small.write(sealed(small, seq, size=1 << 20))
        assert small.seqs(1) == list(range(1, seq + 1))
    await small.reopen()
    assert small.seqs(1) == list(range(1, 7))


def limit_file_size(pid: int, size: int) -> None:
    """What a full disk looks like to a process: writes beyond `size` fail."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def test_a_full_disk_fails_the_batch_and_the_store_goes_on_afterwards(with_process: Subject) -> None:
    waiter = Waiter()
    await with_process.write(sealed(with_process, 1))
    with_process.store.committed(with_process.store.batch - 1)
    assert with_process.seqs(1) == [1]
    limit_file_size(pid_of(with_process), 1 << 20)
    with_process.store.wait(waiter.notice)
    batch = sealed(with_process, 2, size=4 << 20)
    for _ in range(3):
        with pytest.raises(StoreError, match="cannot write the store") as failure:
            await with_process.write(batch)
        assert not isinstance(failure.value, StoreDied)
        assert failure.value.code != 0
        assert str(failure.value).startswith(f"{with_process.path}: ")
    assert with_process.seqs(1) == [1]
    assert waiter.batches == []
    limit_file_size(pid_of(with_process), resource.RLIM_INFINITY)
    await with_process.write(batch)
    with_process.store.committed(batch.number)
    assert with_process.seqs(1) == [1, 2]
    assert waiter.batches == [batch.number]


async def test_a_disk_that_refuses_every_write_fails_the_batch_and_the_store_goes_on(
    with_process: Subject,
) -> None:
    await with_process.write(sealed(with_process, 1))
    limit_file_size(pid_of(with_process), 0)
    batch = sealed(with_process, 2)
    for _ in range(3):
        with pytest.raises(StoreError):
            await with_process.write(batch)
    limit_file_size(pid_of(with_process), resource.RLIM_INFINITY)
    await with_process.write(batch)
    await with_process.reopen()
    assert with_process.seqs(1) == [1, 2]


async def test_after_a_failure_no_later_batch_goes_first(with_process: Subject) -> None:
    await with_process.write(sealed(with_process, 1))
    assert with_process.seqs(1) == [1]
    limit_file_size(pid_of(with_process), 1 << 20)
    failing, later = sealed(with_process, 2, size=4 << 20), sealed(with_process, 3)
    with pytest.raises(StoreError):
        await with_process.write(failing)
    limit_file_size(pid_of(with_process), resource.RLIM_INFINITY)
    with pytest.raises(StoreError, match=f"batch {failing.number} has not been written yet"):
        await with_process.write(later)
    assert with_process.seqs(1) == [1]
    await with_process.write(failing)
    await with_process.write(later)
    assert with_process.seqs(1) == [1, 2, 3]


async def test_tidying_that_fails_is_taken_up_again(with_process: Subject) -> None:
    with_process.put_many(1, 30_000)
    await with_process.commit()
    with_process.store.delete_queue(1)
    batch = with_process.store.seal()
    assert batch is not None
    await with_process.write(batch)
    with_process.until_followed()
    # LMDB's two meta pages can be written over, as on a full disk; without that LMDB gives up for good.
    limit_file_size(pid_of(with_process), 2 * resource.getpagesize())
    with_process.store.put(2, with_process.entry(1, message(bytes(20_000))))
    last = with_process.store.seal()
    assert last is not None
    with pytest.raises(StoreError):
        await with_process.write(last)
    limit_file_size(pid_of(with_process), resource.RLIM_INFINITY)
    await with_process.write(last)
    await with_process.until_rows(1)


async def test_a_dead_writer_is_reported_to_all_who_wait(with_process: Subject) -> None:
    os.kill(pid_of(with_process), signal.SIGSTOP)
    outcomes: list[str] = []

    async def write(batch: Batch) -> None:
        try:
            await with_process.write(batch)
        except StoreDied as error:
            outcomes.append(str(error))

    async with anyio.create_task_group() as tasks:
        for seq in (1, 2, 3):
            tasks.start_soon(write, sealed(with_process, seq, size=1 << 20))
        await anyio.wait_all_tasks_blocked()
        os.kill(pid_of(with_process), signal.SIGKILL)
    assert (
        outcomes
        == [f"{with_process.path}: the store's writer has stopped; nothing can be made durable any more"] * 3
    )
    with pytest.raises(StoreDied):
        await with_process.write(sealed(with_process, 4))


async def test_closing_after_the_writer_died_does_no_harm(with_process: Subject) -> None:
    os.kill(pid_of(with_process), signal.SIGKILL)
    await with_process.close()
    await with_process.open()
    await with_process.write(sealed(with_process, 1))


async def test_the_writer_process_takes_no_notice_of_interrupts(with_process: Subject) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid_of(with_process), number)
    await with_process.write(sealed(with_process, 1))
    assert with_process.seqs(1) == [1]


async def test_closing_ends_the_writer_process(with_process: Subject) -> None:
    pid = pid_of(with_process)
    await with_process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_carrier_that_was_never_started_can_be_closed(with_process: Subject) -> None:
    assert with_process.directory is not None
    await ProcessCarrier(with_process.directory).close()


async def test_a_store_has_one_writer_process_at_a_time(with_process: Subject) -> None:
    assert with_process.directory is not None
    with pytest.raises(StoreError, match="already has a writer"):
        ProcessCarrier(with_process.directory).spawn()


async def test_a_writer_that_cannot_open_the_store_says_why(tmp_path: Path) -> None:
    subject = Subject("process", tmp_path / "data")
    await subject.open()
    await subject.close()
    with pytest.raises(StoreError, match="cannot open the store"):
        await open_with_damage(subject)
    await subject.close()


async def open_with_damage(subject: Subject) -> None:
    """Open a store whose file is overwritten between the broker's look at it and its writer's."""
    original = ProcessCarrier.spawn

    def spawn(carrier: ProcessCarrier) -> None:
        (subject.path / "store" / "data.mdb").rename(subject.path / "store" / "moved")
        (subject.path / "store" / "data.mdb").mkdir()
        original(carrier)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProcessCarrier, "spawn", spawn)
        await subject.open()


@pytest.mark.parametrize("kind", ["thread-logged", "process-logged"])
async def test_closing_leaves_nothing_to_the_log(tmp_path: Path, kind: str) -> None:
    subject = Subject(kind, tmp_path / "data")
    await subject.open()
    await subject.write(sealed(subject, 1))
    await subject.write(sealed(subject, 2))
    await subject.close()
    directory = open_data_directory(str(tmp_path / "data"))
    assert [entry.seq for entry in directory.reader.read(1, 0, 10)] == [1, 2]
    directory.close()


async def test_what_lmdb_cannot_take_when_the_broker_closes_is_found_by_the_next_start(
    tmp_path: Path,
) -> None:
    subject = Subject("process-logged", tmp_path / "data")
    await subject.open()
    os.kill(pid_of(subject), signal.SIGSTOP)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(subject.write, sealed(subject, 1, size=20_000))
        await anyio.wait_all_tasks_blocked()
        # Room for the log's first pages, but for nothing more in LMDB.
        limit_file_size(pid_of(subject), 32 << 10)
        os.kill(pid_of(subject), signal.SIGCONT)
    await subject.close()
    directory = open_data_directory(str(tmp_path / "data"))
    assert directory.reader.read(1, 0, 10) == []
    directory.close()
    await subject.open()
    assert subject.log_number() == 1
    assert subject.seqs(1) == [1]
    await subject.close()


@pytest.mark.parametrize("kind", [*DURABLE, "thread-logged"])
async def test_closing_leaves_no_file_open(tmp_path: Path, kind: str) -> None:
    subject = Subject(kind, tmp_path / "data")
    await subject.open()
    await subject.close()
    files = sorted(os.listdir("/proc/self/fd"))
    await subject.open()
    await subject.close()
    assert sorted(os.listdir("/proc/self/fd")) == files

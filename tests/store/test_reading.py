"""Reading rows back: whatever their sizes and whatever lies between them, each comes as it was put.

How rows are read depends on how large those were that were read last, and on whether a seq is missing between them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from amqp_broker.broker.message import Message
from amqp_broker.broker.ports import StoredEntry
from amqp_broker.content.header import EXPIRATION, build_header
from amqp_broker.store import writer as writer_module
from amqp_broker.store.errors import StoreError
from amqp_broker.store.records import ENTRY_KEY

from .harness import Subject, message

pytestmark = pytest.mark.anyio

QUEUE = 7
SIZES = [10, 1 << 10, 5 << 10, 100 << 10]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def subject_with(path: Path) -> Subject:
    subject = Subject("thread", path / "data")
    await subject.open()
    return subject


def body_of(seq: int, size: int) -> bytes:
    return (b"%d " % seq * size)[:size]


def told(entries: list[StoredEntry]) -> list[tuple[int, bytes, int, int]]:
    return [(entry.seq, entry.body, entry.expiry, entry.deliveries) for entry in entries]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seqs", [range(3, 19), range(3, 35, 2)], ids=["one by one", "with gaps"])
async def test_rows_of_a_size_come_as_they_were_put(tmp_path: Path, size: int, seqs: range) -> None:
    subject = await subject_with(tmp_path)
    for seq in seqs:
        subject.store.put(QUEUE, subject.entry(seq, message(body_of(seq, size))))
    subject.put(QUEUE + 1, 1)
    await subject.commit()
    wanted = [(seq, body_of(seq, size), 0, 0) for seq in seqs]

    # The second time as suits what was read the first time.
    assert told(subject.read(QUEUE)) == wanted
    assert told(subject.read(QUEUE)) == wanted
    assert told(subject.store.read(QUEUE, seqs[4], 5)) == wanted[4:9]
    assert told(subject.store.read(QUEUE, seqs[-1], 1)) == wanted[-1:]
    assert subject.store.read(QUEUE, seqs[-1] + 1, 5) == []
    await subject.close()


@pytest.mark.parametrize("size", SIZES)
async def test_rows_that_are_being_removed_are_not_read(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = await subject_with(tmp_path)
    for seq in range(1, 21):
        subject.store.put(QUEUE, subject.entry(seq, message(body_of(seq, size))))
    await subject.commit()
    # None is ever removed.
    monkeypatch.setattr(writer_module, "RANGE_STEP", 0)
    subject.store.delete_range(QUEUE, 4, 17)
    await subject.commit()
    assert subject.rows() == 20

    for _ in range(2):
        assert [entry.seq for entry in subject.store.read(QUEUE, 1, 5)] == [1, 2, 3, 18, 19]
    await subject.close()


@pytest.mark.parametrize("size", SIZES)
async def test_what_an_entry_has_beside_its_message_comes_with_it(tmp_path: Path, size: int) -> None:
    subject = await subject_with(tmp_path)
    shared = message(body_of(5, size))
    entries = [subject.entry(seq, message(body_of(seq, size))) for seq in range(1, 5)]
    entries += [subject.entry(5, shared), subject.entry(6, message(body_of(6, size)))]
    for entry, expiry, deliveries in zip(entries, (0, 9, 10, 0, 11, 12), (0, 0, 3, 4, 0, 0), strict=True):
        entry.expiry, entry.deliveries = expiry, deliveries
        subject.store.put(QUEUE, entry)
    subject.store.put(QUEUE + 1, subject.entry(1, shared))
    await subject.commit()

    for _ in range(2):
        found = subject.read(QUEUE)
        assert [entry.body for entry in found] == [body_of(seq, size) for seq in range(1, 7)]
        assert [entry.expiry for entry in found] == [0, 9, 10, 0, 11, 12]
        assert [entry.deliveries for entry in found] == [0, 0, 3, 4, 0, 0]
        assert [entry.store_id > 0 for entry in found] == [False, False, False, False, True, False]
    await subject.close()


@pytest.mark.parametrize("size", SIZES)
async def test_addresses_and_headers_are_those_of_each_message(tmp_path: Path, size: int) -> None:
    subject = await subject_with(tmp_path)
    headers = [build_header(size, {EXPIRATION: b"%d" % number}) for number in (1, 1, 22, 22, 1)]
    addresses = [b"\0\1a", b"\0\2ab", b"\0\2ab", b"\1x\1a", b"\1x\1a"]
    for seq, (header, address) in enumerate(zip(headers, addresses, strict=True), 1):
        subject.store.put(QUEUE, subject.entry(seq, Message(address, header, body_of(seq, size))))
    await subject.commit()

    for _ in range(2):
        found = subject.read(QUEUE)
        assert [entry.header for entry in found] == [header.payload for header in headers]
        assert [entry.address for entry in found] == addresses
        assert [entry.body for entry in found] == [body_of(seq, size) for seq in range(1, 6)]
    await subject.close()


@pytest.mark.parametrize("row", [b"\0", b"\0\0\0\0\xff\1a\1b", b"\0\0\0\0\7\xff\0\0\0"])
async def test_a_row_cut_short_is_told_of(tmp_path: Path, row: bytes) -> None:
    subject = await subject_with(tmp_path)
    assert subject.directory is not None
    found = subject.directory.reader
    entries = found._entries
    with found.environment.begin(write=True) as txn:
        txn.put(ENTRY_KEY.pack(QUEUE, 1), row, db=entries)

    for _ in range(2):
        with pytest.raises(StoreError, match="cannot read the store"):
            subject.store.read(QUEUE, 1, 1)
    await subject.close()

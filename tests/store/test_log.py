"""The log itself: its octets, and what is read from it whatever happened to them."""

from __future__ import annotations

import errno
import os
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from amqp_broker.store.errors import StoreError
from amqp_broker.store.log import Log
from amqp_broker.store.log_copy import LOG_SIZE, RECORD

SIZE = 4096


class Reopened:
    """A log in a file of its own, opened as often as needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = Log(str(path), SIZE)
        self.log.prepare()

    def again(self, after: int = 0) -> list[tuple[int, bytes]]:
        """What a start reads, which goes on with the log at its front."""
        self.log.close()
        self.log = Log(str(self.path), SIZE)
        found = list(self.log.read(after))
        self.log.prepare()
        return found


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Reopened]:
    reopened = Reopened(tmp_path / "batches.log")
    yield reopened
    reopened.log.close()


def batches(first: int, *payloads: bytes) -> list[tuple[int, bytes | memoryview]]:
    return list(enumerate(payloads, start=first))


def record(number: int, payload: bytes) -> bytes:
    numbered = struct.pack("<QQ", number, len(payload))
    return struct.pack("<I", zlib.crc32(numbered + payload)) + numbered + payload


def test_its_octets_are_these(subject: Reopened) -> None:
    subject.log.append(batches(0x0102030405060708, b"payload", b""))
    first = "5ce78cf7 0807060504030201 0700000000000000 7061796c6f6164"
    second = "342b46c6 0907060504030201 0000000000000000"
    end = bytes(RECORD.size)
    expected = bytes.fromhex(first + second) + end
    assert subject.path.read_bytes() == expected.ljust(SIZE, b"\0")
    assert expected == record(0x0102030405060708, b"payload") + record(0x0102030405060709, b"") + end


def test_it_has_its_length_from_the_start_in_real_octets(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"))
    log.prepare()
    log.close()
    status = (tmp_path / "log").stat()
    assert status.st_size == LOG_SIZE
    assert status.st_blocks * 512 >= LOG_SIZE
    assert status.st_mode & 0o777 == 0o600


def test_what_was_appended_is_read_after_any_number(subject: Reopened) -> None:
    subject.log.append(batches(5, b"five"))
    subject.log.append(batches(6, b"six", memoryview(b"seven")))  # type: ignore[arg-type]
    every = [(5, b"five"), (6, b"six"), (7, b"seven")]
    assert [subject.again(after) for after in (0, 4, 5, 6, 7, 8)] == [
        every,
        every,
        every[1:],
        every[2:],
        [],
        [],
    ]


def test_a_new_one_is_empty(subject: Reopened) -> None:
    assert subject.again() == []


@pytest.mark.parametrize("behind", ["zeros", "noise", "an earlier record"])
def test_a_record_torn_at_any_octet_is_not_there(subject: Reopened, behind: str) -> None:
    if behind == "an earlier record":
        subject.log.append(batches(1, b"first earlier", b"last earlier"))
        subject.log.rewind()
    elif behind == "noise":
        subject.path.write_bytes(random.Random(1).randbytes(SIZE))
    subject.log.append(batches(3, b"first"))
    before = subject.path.read_bytes()
    subject.log.append(batches(4, b"last"))
    after = subject.path.read_bytes()
    start = len(record(3, b"first"))
    end = start + len(record(4, b"last"))
    assert subject.again() == [(3, b"first"), (4, b"last")]
    for cut in range(start, end):
        for torn in (after[:cut] + before[cut:], before[:cut] + after[cut:end] + before[end:]):
            subject.path.write_bytes(torn)
            # Where old and new octets are the same, nothing is torn.
            whole = torn[start:end] == after[start:end]
            assert subject.again() == [(3, b"first"), (4, b"last")][: 1 + whole], cut


def test_no_octet_of_a_record_can_be_another(subject: Reopened) -> None:
    subject.log.append(batches(1, b"first"))
    subject.log.append(batches(2, b"last"))
    content = subject.path.read_bytes()
    start = len(record(1, b"first"))
    for at in range(start, start + len(record(2, b"last"))):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(content)
            changed[at] ^= flip
            subject.path.write_bytes(changed)
            assert subject.again() == [(1, b"first")], at


@pytest.mark.parametrize("sizes", [(10, 10), (10, 100), (100, 10)])
def test_records_of_an_earlier_round_are_not_read_behind_new_ones(
    subject: Reopened, sizes: tuple[int, int]
) -> None:
    before, after = sizes
    subject.log.append(batches(1, *[bytes(before)] * 9))
    subject.log.rewind()
    subject.log.append(batches(10, bytes(after)))
    assert subject.again() == [(10, bytes(after))]


@pytest.mark.parametrize("number", [1, 4, 5, 7])
def test_only_the_next_number_goes_on_if_the_end_behind_a_record_did_not_get_there(
    subject: Reopened, number: int
) -> None:
    subject.path.write_bytes((record(5, b"new") + record(number, b"old")).ljust(SIZE, b"\0"))
    assert subject.again() == [(5, b"new")]


def test_an_older_payload_cannot_pass_for_a_record(subject: Reopened) -> None:
    new = b"the next round"
    forged = record(3, b"never sent")
    subject.log.append(batches(1, bytes(len(new)) + forged))
    subject.log.rewind()
    subject.log.append(batches(2, new))
    assert subject.path.read_bytes().count(b"never sent") == 1
    assert subject.again() == [(2, new)]


def test_what_was_written_but_not_acknowledged_goes_with_the_retry(subject: Reopened) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(1 << 20))
        with pytest.raises(StoreError, match="No space left"):
            subject.log.append(batches(1, b"one", b"two"))
    subject.log.append(batches(1, b"one"))
    assert subject.again() == [(1, b"one")]


def test_all_its_room_can_be_used(subject: Reopened) -> None:
    subject.log.append(batches(1, b"first"))
    payload = bytes(subject.log.room - RECORD.size)
    subject.log.append(batches(2, payload))
    assert subject.log.room == 0
    assert subject.path.stat().st_size == SIZE
    assert subject.again() == [(1, b"first"), (2, payload)]


def failing_after(octets: int) -> object:
    """A `pwrite` that fails with ENOSPC, but only when it has written so many octets, or all."""
    pwrite = os.pwrite

    def fail(descriptor: int, data: bytes, offset: int) -> int:
        pwrite(descriptor, data[:octets], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fail


@pytest.mark.parametrize("octets", [0, 1, 19, 20, 25, 40, 60, 1000])
def test_a_failed_append_leaves_what_was_there_and_can_be_repeated(subject: Reopened, octets: int) -> None:
    subject.log.append(batches(1, b"first"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(octets))
        with pytest.raises(StoreError, match=f"{subject.path}: cannot use the log: No space left") as failure:
            subject.log.append(batches(2, b"second"))
    assert failure.value.code == errno.ENOSPC
    found = list(Log(str(subject.path), SIZE).read(0))
    assert found[:1] == [(1, b"first")]
    subject.log.append(batches(2, b"second"))
    subject.log.append(batches(3, b"third"))
    assert subject.again() == [(1, b"first"), (2, b"second"), (3, b"third")]


def test_an_append_in_several_pieces_is_whole(subject: Reopened, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: pwrite(descriptor, data[:7], at))
    subject.log.append(batches(1, b"one", b"two"))
    assert subject.again() == [(1, b"one"), (2, b"two")]


@pytest.mark.parametrize("size", [0, 1, 19, 20, 1000, SIZE - 1])
def test_a_first_fill_that_was_cut_short_is_finished(subject: Reopened, size: int) -> None:
    os.truncate(subject.path, size)
    assert subject.again() == []
    assert subject.path.read_bytes() == bytes(SIZE)


def test_one_that_lost_its_end_is_refused_wherever_it_was_cut(subject: Reopened) -> None:
    payloads = [b"one", b"two", b"three"]
    subject.log.append(batches(1, *payloads))
    content = subject.path.read_bytes()
    end = len(b"".join(record(number, payload) for number, payload in enumerate(payloads, start=1)))
    for cut in range(1, end + RECORD.size):
        subject.path.write_bytes(content[:cut])
        with pytest.raises(StoreError, match=f"cut short to {cut} octets: batches from [1-4] on are missing"):
            subject.again()
    for cut in (end + RECORD.size, end + RECORD.size + 1):
        subject.path.write_bytes(content[:cut])
        assert [payload for _, payload in subject.again()] == payloads


def test_a_sector_that_cannot_be_read_is_not_the_end(
    subject: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject.log.append(batches(1, b"one", bytes(1000)))
    pread = os.pread

    def broken_at_512(descriptor: int, size: int, at: int) -> bytes:
        if at >= 512:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, min(size, 512 - at), at)

    monkeypatch.setattr(os, "pread", broken_at_512)
    with pytest.raises(StoreError, match=f"{subject.path}: cannot use the log: Input/output error"):
        list(subject.log.read(0))


def test_noise_holds_no_batches(subject: Reopened) -> None:
    subject.path.write_bytes(random.Random(1).randbytes(SIZE))
    assert subject.again() == []
    subject.log.append(batches(9, b"nine"))
    assert subject.again() == [(9, b"nine")]


def test_a_path_that_cannot_be_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}: cannot use the log: Is a directory"):
        Log(str(tmp_path))


def test_a_full_disk_at_the_first_fill_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(str(tmp_path / "log"), SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(100))
        with pytest.raises(StoreError, match="No space left"):
            log.prepare()
    log.prepare()
    log.close()
    assert (tmp_path / "log").read_bytes() == bytes(SIZE)

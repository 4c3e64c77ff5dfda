"""Reading the log while it may be written: only what was there, in the order in which it was there."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from amqp_broker.store import backup
from amqp_broker.store.errors import StoreError
from amqp_broker.store.log import Log
from amqp_broker.store.log_copy import RECORD, LogCopy, payload_of, read_log

SIZE = 2048


def written(path: Path, *rounds: list[tuple[int, bytes]]) -> bytes:
    """The file after rounds of which each begins again at its front."""
    path.unlink(missing_ok=True)
    log = Log(str(path), SIZE)
    log.prepare()
    for records in rounds:
        log.rewind()
        for record in records:
            log.append([record])
    log.close()
    return path.read_bytes()


def batches(first: int, last: int, size: int = 50) -> list[tuple[int, bytes]]:
    return [(number, b"%d " % number + b"." * size) for number in range(first, last + 1)]


def content(copy: LogCopy) -> list[tuple[int, bytes]]:
    return [(number, payload_of(record)) for number, record in copy.records]


def read_by_a_start(path: Path, data: bytes) -> list[tuple[int, bytes]] | str:
    """What the writer's own reading makes of the same octets."""
    path.write_bytes(data)
    log = Log(str(path), SIZE)
    try:
        return list(log.read(0))
    except StoreError:
        return "cut short"
    finally:
        log.close()


def read_as_copy(data: bytes) -> list[tuple[int, bytes]] | str:
    copy = LogCopy(data, SIZE)
    return "cut short" if copy.cut_short else content(copy)


def test_it_finds_what_a_start_finds_however_the_file_is_torn(tmp_path: Path) -> None:
    data = written(tmp_path / "log", batches(1, 9), batches(10, 13))
    assert [number for number, _ in content(LogCopy(data, SIZE))] == [10, 11, 12, 13]
    for at in range(0, 500, 7):
        torn = data[:at] + b"\xff" + data[at + 1 :]
        for octets in (torn, data[:at], data[:at] + bytes(SIZE - at), data[:at] + bytes(40)):
            assert read_as_copy(octets) == read_by_a_start(tmp_path / "torn", octets), at


@pytest.mark.parametrize("size", [50, 30])
def test_octets_of_two_rounds_never_make_a_third(tmp_path: Path, size: int) -> None:
    earlier = written(tmp_path / "log", batches(1, 9))
    later = written(tmp_path / "log", batches(1, 9), batches(10, 15, size))
    wholes = [batches(1, 9), batches(10, 15, size)]
    for at in range(SIZE):
        for mixed in (earlier[:at] + later[at:], later[:at] + earlier[at:]):
            found = content(LogCopy(mixed, SIZE))
            assert any(found == whole[: len(found)] for whole in wholes), at


def test_only_what_a_store_lacks_is_of_interest(tmp_path: Path) -> None:
    copy = LogCopy(written(tmp_path / "log", batches(4, 6)), SIZE)
    assert [number for number, _ in copy.after(3)] == [4, 5, 6]
    assert [number for number, _ in copy.after(5)] == [6]
    assert copy.after(9) == []
    with pytest.raises(ValueError, match="begins with batch 4, but the store ends with batch 2"):
        copy.after(2)


@pytest.mark.parametrize("within", [0, 5, 14, RECORD.size + 3])
def test_a_damaged_record_before_a_whole_one_is_noticed(tmp_path: Path, within: int) -> None:
    data = written(tmp_path / "log", batches(1, 5))
    length = len(LogCopy(data, SIZE).records[0][1])
    for damaged in (1, 3, 4):
        at = (damaged - 1) * length + within
        copy = LogCopy(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :], SIZE)
        assert [number for number, _ in copy.records] == list(range(1, damaged))
        assert copy.broken_after(0) == damaged
        # What the store has already needs no record.
        assert copy.broken_after(5) == 0


def test_what_lies_behind_the_end_is_no_damage(tmp_path: Path) -> None:
    copy = LogCopy(written(tmp_path / "log", batches(1, 9), batches(4, 6)), SIZE)
    assert [number for number, _ in copy.records] == [4, 5, 6]
    assert copy.broken_after(3) == 0


def test_a_torn_last_record_is_no_damage(tmp_path: Path) -> None:
    data = written(tmp_path / "log", batches(1, 3))
    end = len(b"".join(record for _, record in LogCopy(data, SIZE).records))
    copy = LogCopy(data[: end - 5] + bytes(SIZE - end + 5), SIZE)
    assert [number for number, _ in copy.records] == [1, 2]
    assert copy.broken_after(0) == 0
    assert not copy.cut_short


def test_a_file_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_log(str(tmp_path / "none")).records == []


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}: cannot read the log: Is a directory"):
        read_log(str(tmp_path))


@pytest.mark.parametrize("size", [200, 100_000, 1_000_000])
def test_a_backup_lays_more_than_half_a_log_out_in_two_halves(size: int) -> None:
    records = []
    for number in range(5, 5 + 11_000_000 // size):
        payload = number.to_bytes(8, "big") * (size // 8)
        numbered = struct.pack("<QQ", number, len(payload))
        records.append(struct.pack("<I", zlib.crc32(numbered + payload)) + numbered + payload)
    for count in (0, 1, len(records) // 2, len(records)):
        copy = LogCopy(backup._log_of(records[:count]))
        assert [record for _, record in copy.after(4)] == records[:count]
        assert not copy.cut_short
        assert copy.broken_after(4) == 0

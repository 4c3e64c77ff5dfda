"""The log as it is read: its octets, cut into records.

By a start, and by others while its writer goes on. A record is only taken if its checksum holds and its number follows
that of the one before it. Nothing here writes.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final, TypeAlias

from amqp_broker.store.errors import StoreError

# crc32 of what follows, batch number, size of the payload
RECORD: Final[struct.Struct] = struct.Struct("<IQQ")
# No batch has number 0. Written behind each append, it keeps a reader from what an earlier round left there: the
# octets of a message, perhaps, that pass for a record.
END: Final = bytes(RECORD.size)
LOG_SIZE: Final = 16 << 20
# Of a record: its number behind the checksum.
_NUMBER_AT: Final = 4
# How often a log is read in which a half begins again meanwhile.
_TRIES: Final = 100

Record: TypeAlias = tuple[int, bytes]


class Half:
    """The records of a half of the log, as far as they are whole and their numbers follow each other.

    octets: what there is of it. records: the number of each, and its octets. end: where they end.
    ended: the writer put an end there, beyond which nothing counts.
    left_off: the octets are over before the record that would be next.
    """

    def __init__(self, octets: bytes) -> None:
        self.octets: Final = octets
        self.records: Final[list[Record]] = []
        self.end = 0
        number = 0
        while (record := _whole_record(octets, self.end)) is not None:
            found = RECORD.unpack_from(record)[1]
            if number and found != number + 1:
                break
            number = found
            self.records.append((found, record))
            self.end += len(record)
        self.ended = octets[self.end : self.end + len(END)] == END
        self.left_off = self._leaves_off()

    @property
    def first(self) -> int:
        """The number of the first record, 0 if there is none."""
        return self.records[0][0] if self.records else 0

    def _leaves_off(self) -> bool:
        left = len(self.octets) - self.end
        if left < RECORD.size:
            return True
        _, found, size = RECORD.unpack_from(self.octets, self.end)
        follows = not self.records or found == self.records[-1][0] + 1
        return found > 0 and follows and bool(size > left - RECORD.size)


class LogCopy:
    """What a log holds. data: the octets of the file; size: how long it should be.

    records: number and octets of each whole record, from the oldest on. cut_short: the file ends within what it once
    had. It may be read while its writer goes on, and then have octets of two rounds, of which the later one is being
    written over the earlier; but what comes out was in the log in just this order.
    """

    def __init__(self, data: bytes, size: int = LOG_SIZE) -> None:
        self.size: Final = len(data)
        self.halves: Final = [Half(data[: size // 2]), Half(data[size // 2 :])]
        kept: dict[int, bytes] = {}
        for half in sorted(self.halves, key=lambda half: half.first):
            # What the older half has of the numbers of the newer one is what was refused there, and written again.
            kept = {number: record for number, record in kept.items() if number < half.first}
            kept.update(half.records)
        self.records: Final[list[Record]] = list(kept.items())
        # A file of full length, or of half of it, ends with a torn record at worst. One that never had its length
        # holds only zeros.
        whole = len(data) >= size or len(data) == size // 2
        left_off = self.halves[len(data) > size // 2].left_off
        self.cut_short: Final = left_off and not whole and any(data)

    def after(self, number: int) -> list[Record]:
        """The records of the batches that a store lacks whose last batch is `number`. Raises ValueError if others are
        missing before or between them.
        """
        records = [record for record in self.records if record[0] > number]
        last = number
        for found, _ in records:
            if found != last + 1:
                raise ValueError(gap(number, last, found))
            last = found
        return records

    def broken_after(self, number: int) -> int:
        """The batch whose record is damaged although a whole one follows it in its half, 0 if there is none.

        number: the store's last batch; those up to it no longer matter.
        """
        last = max(number, self.records[-1][0] if self.records else 0)
        for half in self.halves:
            broken = last + 1
            if half.records and half.records[-1][0] < last:
                # Of the older half what lacks at its end would be seen as a gap.
                continue
            if not half.ended and _follows(half.octets, half.end, broken + 1):
                return broken
        return 0


def read_log(path: str, size: int = LOG_SIZE) -> LogCopy:
    """What is in the file now, be it while its writer goes on; as of an empty one if there is none.

    Raises StoreError.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            # If a half begins again meanwhile, what was read of the other may not be what came before or after it.
            for _ in range(_TRIES):
                before = _heads(file.fileno(), size)
                data = read_octets(file.fileno())
                if _heads(file.fileno(), size) == before:
                    return LogCopy(data, size)
    except FileNotFoundError:
        return LogCopy(b"")
    except OSError as error:
        raise StoreError(path, f"cannot read the log: {error.strerror}", error.errno or 0) from error
    raise StoreError(path, "the log is written faster than it can be read")


def gap(stored: int, last: int, found: int) -> str:
    """What to say of batch `found` where the one after `last` should be; `stored` is the store's last batch."""
    if last > stored:
        return f"batch {found} follows batch {last} in the log: what lies between them is missing"
    return (
        f"the log begins with batch {found}, but the store ends with batch {stored}: "
        "what lies between them is missing"
    )


def read_octets(descriptor: int) -> bytes:
    """All of a file, from its front to its end: those who write do so in that order, too. Raises OSError."""
    parts: list[bytes] = []
    left = os.fstat(descriptor).st_size
    at = 0
    # A read ends early before a sector that cannot be read; only the next one says so.
    while left and (part := os.pread(descriptor, left, at)):
        parts.append(part)
        left -= len(part)
        at += len(part)
    return b"".join(parts)


def payload_of(record: bytes) -> bytes:
    """The batch that a record holds."""
    return record[RECORD.size :]


def _whole_record(data: bytes, at: int) -> bytes | None:
    """The record that begins there, if it is whole."""
    if len(data) - at < RECORD.size:
        return None
    checksum, number, size = RECORD.unpack_from(data, at)
    end = at + RECORD.size + size
    if not number or end > len(data) or zlib.crc32(data[at + 4 : end]) != checksum:
        return None
    return data[at:end]


def _heads(descriptor: int, size: int) -> list[bytes]:
    return [os.pread(descriptor, RECORD.size, at) for at in (0, size // 2)]


def _follows(data: bytes, start: int, number: int) -> bool:
    """Whether a whole record of this number stands anywhere behind `start`."""
    pattern = number.to_bytes(8, "little")
    at = data.find(pattern, start)
    while at >= 0:
        if at >= _NUMBER_AT and _whole_record(data, at - _NUMBER_AT) is not None:
            return True
        at = data.find(pattern, at + 1)
    return False

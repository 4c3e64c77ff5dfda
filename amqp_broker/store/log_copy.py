"""The log as somebody else reads it, be it while its writer goes on: a copy of the octets, cut into records.

It follows the rules of `log.Log.read` and opens nothing for writing. A reading may meet octets of two rounds, of which
the later one is being written over the earlier; but a record is only taken if its checksum holds and its number
follows that of the one before, so what comes out was in the log in just this order.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import Final

from amqp_broker.store.errors import StoreError
from amqp_broker.store.log import LOG_SIZE, RECORD

END: Final = bytes(RECORD.size)
_NUMBER: Final = slice(4, 12)


class LogCopy:
    """records: number and octets of each whole record from the front on, up to the first that is not whole.

    cut_short: the file ends within what it once had, so that a start would refuse it.
    """

    def __init__(self, data: bytes, size: int = LOG_SIZE) -> None:
        self.records: Final[list[tuple[int, bytes]]] = []
        self._data = data
        self._end = 0
        # The writer put an end here, beyond which nothing counts.
        self._ended = False
        self._read()
        self.cut_short: Final = self._leaves_off() and len(data) < size and any(data)

    def after(self, number: int) -> list[tuple[int, bytes]]:
        """The records of the batches that a store lacks whose last batch is `number`. Raises ValueError if it
        lacks others before them.
        """
        records = [record for record in self.records if record[0] > number]
        if records and records[0][0] != number + 1:
            raise ValueError(
                f"the log begins with batch {records[0][0]}, but the store ends with batch {number}: "
                "what lies between them is missing"
            )
        return records

    def broken_after(self, number: int) -> int:
        """The batch whose record is damaged although a whole one follows it, 0 if there is none.

        number: the store's last batch; those up to it no longer matter.
        """
        if self._ended:
            return 0
        broken = max(number, self.records[-1][0] if self.records else 0) + 1
        pattern = (broken + 1).to_bytes(8, "little")
        at = self._data.find(pattern, self._end)
        while at >= 0:
            found = _whole_record(self._data, at - _NUMBER.start)
            if found is not None:
                return broken
            at = self._data.find(pattern, at + 1)
        return 0

    def _read(self) -> None:
        number = 0
        while (record := _whole_record(self._data, self._end)) is not None:
            found = RECORD.unpack_from(record)[1]
            if number and found != number + 1:
                return
            number = found
            self.records.append((found, record))
            self._end += len(record)
        self._ended = self._data[self._end : self._end + len(END)] == END

    def _leaves_off(self) -> bool:
        """The file is over before the record at the end of those that are whole."""
        left = len(self._data) - self._end
        if left < RECORD.size:
            return True
        _, found, size = RECORD.unpack_from(self._data, self._end)
        follows = not self.records or found == self.records[-1][0] + 1
        return found > 0 and follows and bool(size > left - RECORD.size)


def read_log(path: str) -> LogCopy:
    """What is in the file now; as of an empty one if there is none. Raises StoreError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return LogCopy(b"".join(_octets(file.fileno())))
    except FileNotFoundError:
        return LogCopy(b"")
    except OSError as error:
        raise StoreError(path, f"cannot read the log: {error.strerror}", error.errno or 0) from error


def payload_of(record: bytes) -> bytes:
    """The batch that a record holds."""
    return record[RECORD.size :]


def _octets(descriptor: int) -> Iterator[bytes]:
    """The file's octets. From its front to its end: those who write do so in that order, too."""
    left = os.fstat(descriptor).st_size
    at = 0
    while left and (part := os.pread(descriptor, left, at)):
        yield part
        left -= len(part)
        at += len(part)


def _whole_record(data: bytes, at: int) -> bytes | None:
    """The record that begins there, if it is whole."""
    if len(data) - at < RECORD.size:
        return None
    checksum, number, size = RECORD.unpack_from(data, at)
    end = at + RECORD.size + size
    if not number or end > len(data) or zlib.crc32(data[at + 4 : end]) != checksum:
        return None
    return data[at:end]

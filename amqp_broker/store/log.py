"""The log of batches: what makes a batch durable with one write, before LMDB has it.

A commit of LMDB waits for the disk twice. A batch is therefore first written to this file, which is there in full
length from the start so that the write changes nothing but its octets, and is durable when that write returns.
`LoggedWriter` has LMDB follow in larger steps: when the broker pauses, or when enough has gathered. Each step notes in
LMDB how far it went, in the same transaction, so a start applies exactly the batches that LMDB lacks.
"""

from __future__ import annotations

import marshal
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

from amqp_broker.store.errors import StoreError
from amqp_broker.store.writer import Writer

# crc32 of what follows, batch number, size of the payload
RECORD: Final = struct.Struct("<IQQ")
_NUMBERED: Final = struct.Struct("<QQ")

LOG_SIZE: Final = 8 << 20
# What gathers before LMDB follows without waiting for a pause.
STEP: Final = 4 << 20
# A larger batch is not worth writing twice: it goes to LMDB at once, with all that came before it.
LARGEST: Final = 1 << 20


class Log:
    """The file. A record is valid if its checksum holds and its number follows that of the one before it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._end = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_DSYNC, 0o600)
            if os.fstat(self._file).st_size < LOG_SIZE:
                self._fill()
        except OSError as error:
            raise self._failure(error) from error

    @property
    def room(self) -> int:
        """Octets that still fit."""
        return LOG_SIZE - self._end

    def append(self, records: list[tuple[int, bytes | memoryview]]) -> None:
        """Write numbered payloads, which must fit; they are durable on return.

        Raises StoreError if they may not be, in which case they can be written again.
        """
        parts: list[bytes | memoryview] = []
        for number, payload in records:
            numbered = _NUMBERED.pack(number, len(payload))
            parts.append(struct.pack("<I", zlib.crc32(payload, zlib.crc32(numbered))))
            parts.append(numbered)
            parts.append(payload)
        data = b"".join(parts)
        try:
            written = os.pwrite(self._file, data, self._end)
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
        except OSError as error:
            raise self._failure(error) from error
        self._end += len(data)

    def rewind(self) -> None:
        """Begin again at the front: LMDB has all that was written."""
        self._end = 0

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The payloads that follow batch `after`, in order, up to the first record that is not whole."""
        try:
            data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        except OSError as error:
            raise self._failure(error) from error
        at = 0
        number = 0
        while len(data) - at >= RECORD.size:
            checksum, found, size = RECORD.unpack_from(data, at)
            start = at + RECORD.size
            whole = size <= len(data) - start and (not number or found == number + 1)
            if not whole or not found or zlib.crc32(data[at + 4 : start + size]) != checksum:
                return
            number = found
            if number > after:
                yield number, data[start : start + size]
            at = start + size

    def close(self) -> None:
        os.close(self._file)

    def _fill(self) -> None:
        """Give the file its length in real octets: space that is only reserved costs the first write to it."""
        zeros = bytes(1 << 20)
        size = os.fstat(self._file).st_size
        while size < LOG_SIZE:
            size += os.pwrite(self._file, zeros[: LOG_SIZE - size], size)
        directory = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(self._path, f"cannot write the log: {error.strerror}", error.errno or 0)


class LoggedWriter:
    """A `Writer` behind a log. Made, it has brought LMDB up to what the log holds.

    logged: False applies each batch to LMDB at once (durability "process" has no use for a log), but still takes
    over what a log holds.
    """

    def __init__(self, writer: Writer, path: str, *, logged: bool = True) -> None:
        self._writer = writer
        self._log = Log(path) if logged or os.path.exists(path) else None
        self._logged = logged
        self._pending: list[bytes | memoryview] = []
        self._pending_size = 0
        self._number = writer.log_number()
        if self._log is not None:
            self._catch_up(self._log)

    @property
    def behind(self) -> bool:
        """The log holds batches that LMDB lacks."""
        return bool(self._pending)

    @property
    def untidy(self) -> bool:
        return self._writer.untidy

    def tidy(self) -> None:
        self._writer.tidy()

    def apply(self, payloads: list[bytes | memoryview]) -> list[int]:
        """Make batches durable together, in order; returns the store ids that lost a reference meanwhile.

        Raises StoreError if they are not, and StoreDied; see `Writer.apply`.
        """
        size = sum(map(len, payloads)) + len(payloads) * RECORD.size
        log = self._log
        if log is None or not self._logged or size > LARGEST:
            return self._step(payloads)
        released: list[int] = []
        if size > log.room or self._pending_size > STEP:
            released = self._step([])
        log.append([(self._number + 1 + at, payload) for at, payload in enumerate(payloads)])
        self._number += len(payloads)
        self._pending += payloads
        self._pending_size += size
        return released

    def follow(self) -> list[int]:
        """Bring LMDB up to the log; returns released store ids. Raises StoreError, StoreDied."""
        return self._step([])

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _step(self, payloads: list[bytes | memoryview]) -> list[int]:
        """Apply what LMDB lacks and then `payloads`, in one transaction."""
        batches: list[list[Any]] = [marshal.loads(payload) for payload in [*self._pending, *payloads]]
        if not batches:
            return []
        number = self._number + len(payloads)
        released = self._writer.apply(batches, number)
        self._number = number
        self._pending = []
        self._pending_size = 0
        if self._log is not None:
            self._log.rewind()
        return released

    def _catch_up(self, log: Log) -> None:
        for number, payload in log.read(self._number):
            if number != self._number + 1:
                break
            self._writer.apply([marshal.loads(payload)], number)
            self._number = number

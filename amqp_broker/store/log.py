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
from amqp_broker.store.place import Place
from amqp_broker.store.writer import Writer

# crc32 of what follows, batch number, size of the payload
RECORD: Final[struct.Struct] = struct.Struct("<IQQ")
_NUMBERED: Final[struct.Struct] = struct.Struct("<QQ")
# No batch has number 0. Written behind each append, it keeps a reader from what an earlier round left there: the
# octets of a message, perhaps, that pass for a record.
_END: Final = bytes(RECORD.size)

LOG_SIZE: Final = 8 << 20
# What gathers before LMDB follows without waiting for a pause: this part of the log.
_STEP: Final = 2
# A larger batch is not worth writing twice: it goes to LMDB at once, with all that came before it.
_LARGEST: Final = 8


class Log:
    """The file. A record is valid if its checksum holds and its number follows that of the one before it.

    Use `read` first, then `prepare`, and only then `append`. size: of the file, in octets.
    """

    def __init__(self, path: str, size: int = LOG_SIZE) -> None:
        self.path: Final = path
        self.size: Final = size
        self._end = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_DSYNC, 0o600)
        except OSError as error:
            raise self._failure(error) from error

    @property
    def room(self) -> int:
        """Octets that still fit."""
        return self.size - len(_END) - self._end

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The payloads that follow batch `after`, in order, up to the first record that is not whole.

        Raises StoreError if the file cannot be read, or lacks an end that it once had.
        """
        data = self._content()
        at = 0
        number = 0
        while len(data) - at >= RECORD.size:
            checksum, found, size = RECORD.unpack_from(data, at)
            if not found or (number and found != number + 1):
                return
            start = at + RECORD.size
            if size > len(data) - start:
                break
            if zlib.crc32(data[at + 4 : start + size]) != checksum:
                return
            number = found
            if number > after:
                yield number, data[start : start + size]
            at = start + size
        # A file of full length ends with a torn record at worst. One that never had its length holds only zeros.
        if len(data) < self.size and any(data):
            raise StoreError(
                self.path,
                f"the log was cut short to {len(data)} octets: batches from {number + 1} on are missing",
            )

    def prepare(self) -> None:
        """Make sure that the file has its length and will be found under its name. Raises StoreError."""
        try:
            size = os.fstat(self._file).st_size
            # In real octets: space that is only reserved costs the first write to it.
            while size < self.size:
                size += os.pwrite(self._file, bytes(self.size - size), size)
            # Each time: whoever made the file may not have come to this.
            directory = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._failure(error) from error

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
        parts.append(_END)
        data = b"".join(parts)
        try:
            written = os.pwrite(self._file, data, self._end)
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
        except OSError as error:
            raise self._failure(error) from error
        self._end += len(data) - len(_END)

    def rewind(self) -> None:
        """Begin again at the front: LMDB has all that was written."""
        self._end = 0

    def close(self) -> None:
        os.close(self._file)

    def _content(self) -> bytes:
        parts: list[bytes] = []
        try:
            size = os.fstat(self._file).st_size
            # A read ends early before a sector that cannot be read; only the next one says so.
            while size and (part := os.pread(self._file, size, sum(map(len, parts)))):
                parts.append(part)
                size -= len(part)
        except OSError as error:
            raise self._failure(error) from error
        return b"".join(parts)

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(self.path, f"cannot use the log: {error.strerror}", error.errno or 0)


class LoggedWriter:
    """A `Writer` behind a log. Made, it has brought LMDB up to what the log holds.

    logged: False applies each batch to LMDB at once (durability "process" has no use for a log), but still takes
    over what a log holds. Raises StoreError if the log cannot be used, or does not go with what LMDB has.
    """

    def __init__(self, writer: Writer, path: str, *, logged: bool = True, log_size: int = LOG_SIZE) -> None:
        self._writer = writer
        self._logged = logged
        self._pending: list[bytes | memoryview] = []
        self._pending_size = 0
        # Store ids that nobody was told about yet.
        self._released: list[int] = []
        self._number = writer.log_number()
        self._log = Log(path, log_size) if logged or os.path.exists(path) else None
        if self._log is not None:
            try:
                self._catch_up(self._log)
                if logged:
                    # What LMDB has may be there without ever having been synced: see "process" in `environment`.
                    writer.sync()
                    self._log.prepare()
            except BaseException:
                self._log.close()
                raise
        self._places = [writer.place]
        if logged:
            self._places.append(Place(path))

    @property
    def behind(self) -> bool:
        """The log holds batches that LMDB lacks."""
        return bool(self._pending)

    @property
    def untidy(self) -> bool:
        return self._writer.untidy

    def tidy(self) -> None:
        """As `Writer.tidy`; what is to be removed was there before anything that LMDB lacks."""
        self._writer.tidy()

    def apply(self, payloads: list[bytes | memoryview]) -> list[int]:
        """Make batches durable together, in order; returns the store ids that lost a reference meanwhile.

        Raises StoreError if they are not, and StoreDied; see `Writer.apply`.
        """
        for place in self._places:
            place.check()
        size = sum(map(len, payloads)) + len(payloads) * RECORD.size
        log = self._log
        if log is None or not self._logged or size > log.size // _LARGEST:
            self._step(payloads)
        else:
            if size > log.room or self._pending_size > log.size // _STEP:
                self._step([])
            log.append([(self._number + 1 + at, payload) for at, payload in enumerate(payloads)])
            self._number += len(payloads)
            self._pending += payloads
            self._pending_size += size
        return self._take_released()

    def follow(self) -> list[int]:
        """Bring LMDB up to the log; returns released store ids. Raises StoreError, StoreDied."""
        self._step([])
        return self._take_released()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _take_released(self) -> list[int]:
        released = self._released
        self._released = []
        return released

    def _step(self, payloads: list[bytes | memoryview]) -> None:
        """Apply what LMDB lacks and then `payloads`, in one transaction."""
        batches: list[list[Any]] = [marshal.loads(payload) for payload in [*self._pending, *payloads]]
        if not batches:
            return
        number = self._number + len(payloads)
        self._released += self._writer.apply(batches, number)
        self._number = number
        self._pending = []
        self._pending_size = 0
        if self._log is not None:
            self._log.rewind()

    def _catch_up(self, log: Log) -> None:
        """Have LMDB apply what it lacks. Raises StoreError if that cannot be, or does not begin where LMDB ends."""
        stored = self._number
        for number, payload in log.read(stored):
            if number != self._number + 1:
                raise StoreError(
                    log.path,
                    f"the log begins with batch {number}, but the store ends with batch {stored}: "
                    "what lies between them is missing",
                )
            self._pending.append(payload)
            self._number = number
        try:
            self._step([])
        except (EOFError, LookupError, TypeError, ValueError, struct.error) as error:
            cause = f"batches {stored + 1} to {self._number} of the log make no sense: {error!r}"
            raise StoreError(log.path, cause) from error
        # References are counted when this is done.
        self._released = []
        self._writer.begin_telling()

"""The log of batches: what makes a batch durable with one write, before LMDB has it.

A commit of LMDB waits for the disk twice. A batch is therefore first written to this file, which is there in full
length from the start so that the write changes nothing but its octets, and is durable when that write returns. The file
has two halves: while LMDB takes over what one holds, the other is written. See `logged` for who does that.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final

from amqp_broker.store.errors import StoreError
from amqp_broker.store.log_copy import END, LOG_SIZE, LogCopy, payload_of, read_octets

_NUMBERED: Final[struct.Struct] = struct.Struct("<QQ")


class Log:
    """The file, for the one that writes it. Use `read` first, then `prepare`, and only then `append`.

    size: of the file, in octets. It is written to the half that `switch` made the current one, from its front on.
    """

    def __init__(self, path: str, size: int = LOG_SIZE) -> None:
        self.path: Final = path
        self.size: Final = size
        self._start = 0
        self._end = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_DSYNC, 0o600)
        except OSError as error:
            raise self._failure(error) from error

    @property
    def half(self) -> int:
        """Octets of a half."""
        return self.size // 2

    @property
    def room(self) -> int:
        """Octets that still fit in the current half."""
        return self._start + self.half - len(END) - self._end

    def read(self, after: int) -> list[tuple[int, bytes]]:
        """The payloads of the batches beyond `after`, in order: some may lack before or between them.

        Raises StoreError if the file cannot be read, or lacks an end that it once had.
        """
        copy = LogCopy(self._content(), self.size)
        if copy.cut_short:
            last = copy.records[-1][0] if copy.records else 0
            cause = f"the log was cut short to {copy.size} octets: batches from {last + 1} on are missing"
            raise StoreError(self.path, cause)
        return [(number, payload_of(record)) for number, record in copy.records if number > after]

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
        parts.append(END)
        data = b"".join(parts)
        try:
            written = os.pwrite(self._file, data, self._end)
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._end + written)
        except OSError as error:
            raise self._failure(error) from error
        self._end += len(data) - len(END)

    def switch(self) -> None:
        """Go on in the other half, of which LMDB must have all that was written."""
        self._start = self.half - self._start
        self._end = self._start

    def rewind(self) -> None:
        """Begin again at the front of the current half: LMDB has all that was written."""
        self._end = self._start

    def close(self) -> None:
        os.close(self._file)

    def _content(self) -> bytes:
        try:
            return read_octets(self._file)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(self.path, f"cannot use the log: {error.strerror}", error.errno or 0)

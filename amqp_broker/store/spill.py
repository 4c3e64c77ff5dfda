"""Runs of messages that memory has no room for: one file without a name, gone with the broker.

The file is written and read with plain calls, so what was read is not resident as the pages of a map would be. A run
takes a slot whose size is a multiple of SLOT, or a power of two when it is large; a slot that was given up is used
again for a run of the same size, and when nothing is left in it the file is cut to nothing.
"""

from __future__ import annotations

import os
import tempfile
from typing import Final

from amqp_broker.store.errors import StoreError

SLOT: Final = 4 << 10
_LARGE: Final = 512 << 10


class Spill:
    """directory: where the file is made when it is first needed. octets: of the slots in use."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = -1
        self._end = 0
        self._number = 0
        # Offset and size of the data by ticket.
        self._kept: dict[int, tuple[int, int]] = {}
        # Offsets of slots that can be used again, by their size.
        self._free: dict[int, list[int]] = {}
        self.octets = 0

    def __len__(self) -> int:
        return len(self._kept)

    def size(self) -> int:
        """Octets of the file."""
        return os.fstat(self._file).st_size if self._file >= 0 else 0

    def write(self, data: bytes) -> int:
        """Keep `data`; the ticket it is read with. Raises OSError, with nothing kept."""
        if self._file < 0:
            self._file = _nameless(self._directory)
        size = _slot_size(len(data))
        free = self._free.get(size)
        offset = free[-1] if free else self._end
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, memoryview(data)[written:], offset + written)
        if free:
            free.pop()
        else:
            self._end += size
        self._number += 1
        self._kept[self._number] = (offset, len(data))
        self.octets += size
        return self._number

    def read(self, ticket: int) -> bytes:
        """What was kept. Raises StoreError if the disk does not give it back."""
        offset, size = self._kept[ticket]
        try:
            data = os.pread(self._file, size, offset)
            while len(data) < size and (part := os.pread(self._file, size - len(data), offset + len(data))):
                data += part
        except OSError as error:
            raise StoreError(
                self._directory, f"cannot read spilled messages: {error.strerror}", error.errno or 0
            ) from error
        if len(data) < size:
            raise StoreError(self._directory, "spilled messages are cut short")
        return data

    def forget(self, ticket: int) -> None:
        offset, length = self._kept.pop(ticket)
        size = _slot_size(length)
        self.octets -= size
        if self._kept:
            self._free.setdefault(size, []).append(offset)
        else:
            os.ftruncate(self._file, 0)
            self._free = {}
            self._end = 0

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _nameless(directory: str) -> int:
    with tempfile.TemporaryFile(dir=directory, prefix="spill-") as file:
        return os.dup(file.fileno())


def _slot_size(size: int) -> int:
    if size <= _LARGE:
        return max(1, (size + SLOT - 1) // SLOT) * SLOT
    return 1 << (size - 1).bit_length()

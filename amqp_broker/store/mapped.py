"""How much of the files that it has mapped this process holds in memory.

LMDB reads its file through a map. The pages that were touched stay until the system wants them back or the map goes, so
that a process which went through a large file seems to hold all of it, though nobody else lacks that memory.
"""

from __future__ import annotations

import os
from typing import Final

_STATM: Final = "/proc/self/statm"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SHARED: Final = 2


def mapped() -> int:
    """Octets; 0 where that cannot be told."""
    try:
        with open(_STATM, "rb", buffering=0) as file:
            return int(file.read().split()[_SHARED]) * _PAGE
    except OSError:
        return 0


class Mapping:
    """When it is time to have a new map. limit: octets that may be resident beyond what is when it is made."""

    def __init__(self, limit: int) -> None:
        self._limit: int = limit
        self._least: int = mapped()
        self._moved: int = 0

    def outgrown(self, octets: int) -> bool:
        """Told how much was read or written since it was asked; whether the map should go. Says so once."""
        self._moved += octets
        if self._moved < self._limit >> 6:
            return False
        self._moved = 0
        return mapped() - self._least > self._limit

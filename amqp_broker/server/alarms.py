"""Memory and disk: when one runs short, connections that publish are blocked until it is over.

The texts of the reasons are RabbitMQ's. Looked at twice a second; nothing here touches a message.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from amqp_broker.config import Limits
from amqp_broker.config.memory import machine_memory
from amqp_broker.store.place import Place

_log = logging.getLogger(__name__)

LOW_MEMORY: Final = "low on memory"
LOW_DISK: Final = "low on disk"
NO_DIRECTORY: Final = "the data directory is missing"
# An alarm ends when there is more room than its limit asks for, by this share of it in percent: it is not to come and
# go with every message.
MARGIN: Final = 2
_STATM: Final = "/proc/self/statm"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def _trim() -> None:
    """Have the C library give freed memory back to the system, where it can (glibc)."""
    # Idle brokers do without it.
    import ctypes

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


class Watch:
    """memory_limit, disk_limit: octets, 0 to switch that alarm off.

    give_back: called when memory is short, to let go of what is only kept in case it is needed again.
    reusable: octets of the store's file that are free. It does not shrink, so where a backlog filled the disk and was
    drained, that is the room there is.
    """

    def __init__(
        self,
        directory: str,
        limits: Limits,
        give_back: Callable[[], None] | None = None,
        reusable: Callable[[], int] | None = None,
    ) -> None:
        self._give_back = give_back
        self._reusable = reusable
        self.memory_limit = limits.memory_high_watermark_absolute or int(
            machine_memory() * limits.memory_high_watermark_relative
        )
        self.disk_limit = limits.disk_free_limit
        self._directory = directory
        self._place = Place(directory)
        self._statm = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC) if os.path.exists(_STATM) else -1
        self._on: list[str] = []

    def resident(self) -> int:
        """Octets of its own that this process has resident, without pages of files; 0 where that cannot be told.

        What was read of the store's file is the system's to take back, and no reason to block anybody.
        """
        if self._statm < 0:
            return 0
        _, resident, shared, *_ = os.pread(self._statm, 256, 0).split()
        return (int(resident) - int(shared)) * _PAGE

    def reasons(self) -> list[str]:
        """The alarms that are on now, logging each change."""
        found: list[str] = []
        resident = self._settled_resident() if self.memory_limit else 0
        if resident > self._memory_bound():
            found.append(LOW_MEMORY)
        free = self._free()
        if free < 0:
            found.append(NO_DIRECTORY)
        elif self.disk_limit and free < self._disk_bound():
            if self._reusable is not None:
                free += self._reusable()
            if free < self._disk_bound():
                found.append(LOW_DISK)
        if found != self._on:
            self._on = found
            self._report(resident, free)
        return found

    def close(self) -> None:
        if self._statm >= 0:
            os.close(self._statm)

    def _settled_resident(self) -> int:
        """`resident`, after what nobody needs was let go of if there is much."""
        resident = self.resident()
        if resident > self._memory_bound():
            # What was freed may still be the allocator's: only memory in use is a reason for an alarm.
            if self._give_back is not None:
                self._give_back()
            _trim()
            resident = self.resident()
        return resident

    def _free(self) -> int:
        """Octets that are free for the data; -1 if the directory is not there, or another one is."""
        try:
            stat = os.statvfs(self._directory)
        except OSError:
            return -1
        return stat.f_bavail * stat.f_frsize if self._place.kept else -1

    def _memory_bound(self) -> int:
        limit = self.memory_limit
        return limit - limit * MARGIN // 100 if LOW_MEMORY in self._on else limit

    def _disk_bound(self) -> int:
        limit = self.disk_limit
        return limit + limit * MARGIN // 100 if LOW_DISK in self._on else limit

    def _report(self, resident: int, free: int) -> None:
        _log.warning(
            "alarms: %s (resident memory %d of %d octets, %s of disk free, limit %d)",
            ", ".join(self._on) or "none",
            resident,
            self.memory_limit,
            f"{free} octets" if free >= 0 else f"{self._directory} not found, no octets",
            self.disk_limit,
        )

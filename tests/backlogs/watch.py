"""What a broker takes while it is measured: memory of both its processes, disk, processor time.

Reads /proc and the data directory. Knows nothing of messages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.server.broker_process import BrokerProcess

MEBIBYTE: Final = 1 << 20
BLOCK: Final = 512
IDLE_TICKS: Final = 1
IDLE_LIMIT: Final = 300.0


class Memory(NamedTuple):
    """MiB: all that is resident, and what of it is not backed by a file."""

    resident: float = 0.0
    anonymous: float = 0.0

    def or_more(self, other: Memory) -> Memory:
        return Memory(max(self.resident, other.resident), max(self.anonymous, other.anonymous))


def memory_of(pid: int) -> Memory:
    """Nothing if the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return Memory()
    found = {key: float(rest.split()[0]) / 1024 for key, _, rest in (line.partition(":") for line in lines) if
             key in ("VmRSS", "RssAnon")}  # fmt: skip
    return Memory(found.get("VmRSS", 0.0), found.get("RssAnon", 0.0))


def ticks_of(pid: int) -> int:
    """Processor time that a process has had, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Watch:
    """peaks: of the broker's process and of the one that writes, since the beginning, over all restarts.

    idle: for how many seconds the latter must have done nothing to be idle.
    """

    def __init__(self, broker: BrokerProcess, idle: float) -> None:
        self.peaks = [Memory(), Memory()]
        self._broker = broker
        self._idle = idle
        self._pids: list[int] = []

    def follow(self) -> None:
        """The broker has started."""
        self._pids = [self._broker.pid, *self._broker.writers()[:1]]

    def look(self) -> None:
        for at, pid in enumerate(self._pids):
            self.peaks[at] = self.peaks[at].or_more(memory_of(pid))

    def disk(self) -> float:
        """MiB that the data directory takes, with the broker's files there that have no name."""
        total = 0
        for place, _, names in os.walk(self._broker.data):
            for name in names:
                total += os.stat(os.path.join(place, name)).st_blocks * BLOCK
        descriptors = Path(f"/proc/{self._broker.pid}/fd")
        for descriptor in descriptors.iterdir():
            target = os.readlink(descriptor)
            if target.startswith(str(self._broker.data)) and target.endswith("(deleted)"):
                total += descriptor.stat().st_blocks * BLOCK
        return total / MEBIBYTE

    def idle(self) -> Callable[[], bool]:
        """A question that is answered with true once the process that writes has done nothing for a while."""
        pid = self._pids[-1]
        ticks, since = ticks_of(pid), time.monotonic()

        def is_idle() -> bool:
            nonlocal ticks, since
            now = time.monotonic()
            if now - since < self._idle:
                return False
            before, ticks, since = ticks, ticks_of(pid), now
            return ticks - before <= IDLE_TICKS

        return is_idle

    def wait_until_idle(self) -> None:
        is_idle, deadline = self.idle(), time.monotonic() + IDLE_LIMIT
        while not is_idle():
            assert time.monotonic() < deadline, f"the store was busy for {IDLE_LIMIT} s"
            self.look()
            time.sleep(0.02)

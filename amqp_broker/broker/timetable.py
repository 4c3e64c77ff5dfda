"""What time it is, and what falls due when: expiring messages and queues, delays, leases.

One heap for the whole broker, with at most a few entries for each queue: a queue asks to be woken for the first
thing that falls due in it and looks for the next one then. So a message with a time to live costs nothing here
until it is at the head of its queue. Nothing reads a clock: the server, or a test, says what time it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from heapq import heappop, heappush

from mypy_extensions import mypyc_attr


class Clock:
    """milliseconds: since the epoch, set by whoever runs a turn."""

    __slots__ = ("milliseconds",)

    def __init__(self, milliseconds: int = 0) -> None:
        self.milliseconds: int = milliseconds


@mypyc_attr(allow_interpreted_subclasses=True)
class Timed(ABC):
    """Something that things fall due in. wake_at: when it wants to be woken, milliseconds; 0 if it does not."""

    __slots__ = ("wake_at",)

    def __init__(self) -> None:
        self.wake_at: int = 0

    @abstractmethod
    def time_is_up(self, now: int) -> None:
        """The time it asked for has come. It asks again for what falls due next."""


class Timetable:
    """clock: the time. next_due: when `run_due` has something to do, milliseconds; 0 if it never does."""

    __slots__ = ("_entries", "_number", "clock", "next_due")

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock
        self.next_due: int = 0
        self._entries: list[tuple[int, int, Timed]] = []
        self._number: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def wake(self, target: Timed, due: int) -> None:
        """Call `target.time_is_up` at `due` or earlier, if it asked for an earlier time before."""
        if target.wake_at and target.wake_at <= due:
            return
        target.wake_at = due
        self._number += 1
        heappush(self._entries, (due, self._number, target))
        self.next_due = self._entries[0][0]

    def run_due(self) -> None:
        """Wake all whose time has come."""
        entries = self._entries
        now = self.clock.milliseconds
        while entries and entries[0][0] <= now:
            due, _, target = heappop(entries)
            # Whoever asked for an earlier time since has been woken then.
            if target.wake_at == due:
                target.wake_at = 0
                target.time_is_up(now)
        self.next_due = entries[0][0] if entries else 0

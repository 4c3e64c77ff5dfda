"""What time it is, and what falls due when: expiring messages and queues, delays, leases.

One heap for the whole broker, with at most a few entries for each queue: a queue asks to be woken for the first
thing that falls due in it and looks for the next one then. So a message with a time to live costs nothing here
until it is at the head of its queue. Nothing reads a clock: the server, or a test, says what time it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from heapq import heapify, heappop, heappush
from typing import Final

from mypy_extensions import mypyc_attr

# Heap entries that nobody waits for and that are not worth a walk through the heap.
FEW: Final = 100


class Clock:
    """milliseconds: since the epoch, set by whoever runs a turn."""

    __slots__ = ("milliseconds",)

    def __init__(self, milliseconds: int = 0) -> None:
        self.milliseconds: int = milliseconds


@mypyc_attr(allow_interpreted_subclasses=True)
class Timed(ABC):
    """Something that things fall due in. wake_at: when it wants to be woken, milliseconds; 0 if it does not.

    wake_number: of its entry in the timetable; only the timetable sets either.
    """

    __slots__ = ("wake_at", "wake_number")

    def __init__(self) -> None:
        self.wake_at: int = 0
        self.wake_number: int = 0

    @abstractmethod
    def time_is_up(self, now: int) -> None:
        """The time it asked for has come. It asks again for what falls due next."""


class Timetable:
    """clock: the time. next_due: when `run_due` has something to do, milliseconds; 0 if it never does.

    A target has one entry. An entry in the heap that nobody waits for any more is thrown away when half of them are.
    """

    __slots__ = ("_entries", "_number", "_targets", "clock", "next_due")

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock
        self.next_due: int = 0
        self._entries: list[tuple[int, int]] = []
        self._targets: dict[int, Timed] = {}
        self._number: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def wake(self, target: Timed, due: int) -> None:
        """Call `target.time_is_up` at `due` or earlier, if it asked for an earlier time before."""
        if target.wake_at and target.wake_at <= due:
            return
        self.forget(target)
        target.wake_at = due
        self._number += 1
        target.wake_number = self._number
        self._targets[self._number] = target
        heappush(self._entries, (due, self._number))
        self.next_due = self._entries[0][0]

    def forget(self, target: Timed) -> None:
        """It need not be woken, and may be gone for good: nothing is kept of it here."""
        if not target.wake_at:
            return
        target.wake_at = 0
        del self._targets[target.wake_number]
        if len(self._entries) > FEW + 2 * len(self._targets):
            self._entries = [entry for entry in self._entries if entry[1] in self._targets]
            heapify(self._entries)

    def run_due(self) -> None:
        """Wake all whose time has come, each once: who asks for a time that has come already is woken in a turn
        of its own.
        """
        now = self.clock.milliseconds
        due: list[int] = []
        while self._entries and self._entries[0][0] <= now:
            due.append(heappop(self._entries)[1])
        called = 0
        try:
            for number in due:
                called += 1
                # Whoever asked for an earlier time since, or is not to be woken any more, is not there.
                target = self._targets.pop(number, None)
                if target is not None:
                    target.wake_at = 0
                    target.time_is_up(now)
        finally:
            # If one fails, the others' times have come all the same.
            for number in due[called:]:
                if number in self._targets:
                    heappush(self._entries, (self._targets[number].wake_at, number))
            self.next_due = self._entries[0][0] if self._entries else 0

"""The broker's time: what the clock says at the start of a turn, and the timer for what falls due next.

The one place in the broker that reads the wall clock. Everything below is told what time it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, time_ns
from typing import Final

from amqp_broker.broker.timetable import Timetable

# In a millisecond.
NANOSECONDS: Final = 1_000_000


class Timer:
    """finish_turn: called after what fell due was done."""

    def __init__(self, timetable: Timetable, finish_turn: Callable[[], None]) -> None:
        self._timetable = timetable
        self._finish_turn = finish_turn
        self._handle: asyncio.TimerHandle | None = None
        self._set_for = 0
        # It runs as soon as the event loop comes to it.
        self._soon = False

    def begin_turn(self) -> float:
        """Set the broker's clock; returns the monotonic time in seconds, for deadlines of sessions."""
        self._timetable.clock.milliseconds = time_ns() // NANOSECONDS
        return monotonic()

    def follow(self) -> None:
        """See to it that what falls due next is done in time; called at the end of a turn."""
        due = self._timetable.next_due
        is_due = 0 < due <= self._timetable.clock.milliseconds
        if self._soon and is_due:
            # Set again at the end of each turn, it would never run while turns follow each other.
            return
        # A clock that was put forward may have made it due before the timer thinks so.
        if due == self._set_for and not is_due:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._set_for = due
        self._soon = is_due
        if due:
            delay = max(0.0, (due - time_ns() / NANOSECONDS) / 1000)
            self._handle = asyncio.get_running_loop().call_later(delay, self._run)

    def _run(self) -> None:
        self._handle = None
        self._set_for = 0
        self._soon = False
        self.begin_turn()
        self._timetable.run_due()
        self._finish_turn()

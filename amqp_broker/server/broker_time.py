"""The broker's time: it begins with the wall clock and then goes by what elapses, whoever sets the wall clock.

If that is set, the broker's time follows it, but so slowly that no time to live, lease or delay becomes noticeably
longer or shorter for it, and it never goes back. This knows nothing of what falls due.
"""

from __future__ import annotations

import logging
from typing import Final

from amqp_broker.broker.timetable import Clock
from amqp_broker.server.clock import NANOSECONDS, ServerClock

_log = logging.getLogger(__name__)

# How much faster or slower than what elapses the broker's time is while it follows the wall clock, in millionths.
# What is to last an hour lasts 57:42 at the least and 62:30 at the most.
SLEW: Final = 40_000
MILLION: Final = 1_000_000
MILLISECOND: Final = NANOSECONDS // 1000
# Nanoseconds between two looks at the wall clock.
LOOK: Final = NANOSECONDS
# The time between two readings is no difference between the clocks, nanoseconds.
CLOSE_ENOUGH: Final = MILLISECOND
# A step of the wall clock that is worth a line in the log, nanoseconds.
TELL: Final = 5 * NANOSECONDS


class BrokerTime:
    """clock: what it goes by. turn: what it says the time is to, at the beginning of each turn.

    The wall clock is looked at when a turn begins and it has not been for a second.
    """

    __slots__ = (
        "_as_is_until",
        "_behind",
        "_elapsed_ns",
        "_look_at",
        "_monotonic",
        "_offset",
        "_since",
        "_slew",
        "_told",
        "_turn",
        "_wall_ns",
    )

    def __init__(self, clock: ServerClock, turn: Clock) -> None:
        self._turn = turn
        self._monotonic = clock.monotonic
        self._elapsed_ns = clock.elapsed_ns
        self._wall_ns = clock.wall_ns
        now = self._elapsed_ns()
        # What the broker's time was ahead of what has elapsed when it looked last, at `_since`, and how much faster
        # it goes from there on.
        self._offset = self._wall_ns() - now
        self._since = now
        self._slew = 0
        self._look_at = now + LOOK
        # Until then it goes as what elapses goes, which is nearly always.
        self._as_is_until = self._look_at
        # What it lacked of the wall clock then; and what the wall clock was ahead of what has elapsed when the log
        # told of it.
        self._behind = 0
        self._told = self._offset

    def begin_turn(self) -> float:
        """Set the time of the turn; returns the monotonic time in seconds, for deadlines of sessions."""
        now = self._elapsed_ns()
        if now < self._as_is_until:
            self._turn.milliseconds = (now + self._offset) // MILLISECOND
            return self._monotonic()
        if now >= self._look_at:
            self._look(now)
        self._turn.milliseconds = (now + self._offset + self._followed(now)) // MILLISECOND
        return self._monotonic()

    def seconds_until(self, milliseconds: int) -> float:
        """How much has to elapse until it is that time; 0 or less if it is."""
        now = self._elapsed_ns()
        left = milliseconds * MILLISECOND - now - self._offset - self._followed(now)
        return left * MILLION / ((MILLION + self._slew) * NANOSECONDS)

    def _followed(self, now: int) -> int:
        """How much of what it lacked of the wall clock it has made up for since it looked."""
        return (now - self._since) * self._slew // MILLION

    def _look(self, now: int) -> None:
        """Compare with the wall clock, and follow it from here on if it is somewhere else."""
        # Rounded like `_followed`, and no less than that: or its time might go back.
        most = (now - self._since) * SLEW // MILLION
        self._offset += max(-most, min(most, self._behind))
        self._since = now
        self._look_at = now + LOOK
        ahead = self._wall_ns() - now
        self._behind = behind = ahead - self._offset
        if -CLOSE_ENOUGH < behind < CLOSE_ENOUGH:
            self._behind = self._slew = 0
        else:
            self._slew = max(-SLEW, min(SLEW, behind * MILLION // LOOK))
        self._as_is_until = 0 if self._slew else self._look_at
        if abs(ahead - self._told) >= TELL:
            self._tell(ahead - self._told)
            self._told = ahead

    def _tell(self, step: int) -> None:
        apart = abs(self._behind) / NANOSECONDS
        _log.warning(
            "the wall clock was set %s by %.1f s: the broker's time is %.1f s %s it and comes nearer by %d%% "
            "of what elapses, for %.0f minutes",
            "forward" if step > 0 else "back",
            abs(step) / NANOSECONDS,
            apart,
            "behind" if self._behind > 0 else "ahead of",
            SLEW * 100 // MILLION,
            apart * MILLION / SLEW / 60,
        )

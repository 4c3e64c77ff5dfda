"""How many messages a producer with a rate limit may send at a given moment.

The average follows the rate exactly, however late the caller is woken, as long as it is never later than a
twentieth of a second; what a longer stall left unsent is given up, so that no burst exceeds 1/20 s of the
rate. Time comes in as an argument, in seconds of any monotonic clock; nothing here waits.
"""

from __future__ import annotations

from typing import Final

LONGEST_BURST: Final = 0.05  # seconds' worth of messages
TICK: Final = 0.002  # seconds between two wake-ups of a fast producer

# the sum of many small floats may fall short of a whole message by this much of a message
ROUNDING: Final = 1e-6


class Pacer:
    """Spreads messages evenly: the first is due at `start`, message n at `start + n / rate`."""

    __slots__ = ("_burst", "_origin", "_rate", "_sent")

    def __init__(self, rate: float, start: float) -> None:
        """`rate` is in messages per second, above 0."""
        self._rate: float = rate
        self._origin: float = start
        self._sent: int = 0
        self._burst: int = max(1, int(rate * LONGEST_BURST))

    def _due(self, now: float) -> int:
        if now < self._origin:
            return 0
        return int((now - self._origin) * self._rate + ROUNDING) + 1

    def allowance(self, now: float) -> int:
        """How many messages may be sent at `now`, from 0 to a twentieth of a second's worth (at least 1)."""
        late = self._due(now) - self._sent
        if late > self._burst:
            self._origin += (late - self._burst) / self._rate
            late = self._burst
        return max(0, late)

    def spend(self, messages: int) -> None:
        """Note that so many were sent."""
        self._sent += messages

    def next_due(self, now: float) -> float:
        """When to ask again: the next message's moment, or the next tick if that comes later."""
        return max(self._origin + self._sent / self._rate, now + TICK)

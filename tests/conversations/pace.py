"""Steps that have to follow each other in time, made again where the machine had no time for them."""

from __future__ import annotations

import time
from collections.abc import Callable

ATTEMPTS = 5


class Pace:
    """slowest: how long it took from one step to the next at most, seconds."""

    def __init__(self) -> None:
        self.slowest = 0.0
        self._last = time.monotonic()

    def step(self) -> None:
        now = time.monotonic()
        self.slowest = max(self.slowest, now - self._last)
        self._last = now


def in_pace(attempt: Callable[[Pace], None], limit: float) -> None:
    """Make an attempt again that failed where two of its steps, or the last and the failure, were `limit` seconds
    apart. Each has to begin with connections and queues of its own.
    """
    for left in reversed(range(ATTEMPTS)):
        pace = Pace()
        try:
            attempt(pace)
        except AssertionError:
            pace.step()
            if pace.slowest < limit or not left:
                raise
        else:
            return

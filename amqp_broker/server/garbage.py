"""When the garbage collector runs: not in the middle of a message.

Messages, entries and frames form no reference cycles, so they are freed the moment nobody holds them; the collector
would only walk through every message in memory to find nothing, again and again as a queue grows. What does form
cycles is a connection that was closed, so it runs after a number of those.
"""

from __future__ import annotations

import gc
from typing import Final

CLOSED_CONNECTIONS: Final = 2000


class Garbage:
    """`take_over` once the broker is up; `collect_if_due` where a pause is harmless."""

    def __init__(self) -> None:
        self._closed = 0
        self._ours = False

    def take_over(self) -> None:
        """No more collections but ours, which pass over what is there now: it stays for good."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._ours = True

    def connection_closed(self) -> None:
        self._closed += 1

    def collect_if_due(self) -> None:
        if self._ours and self._closed >= CLOSED_CONNECTIONS:
            self._closed = 0
            gc.collect()

    def give_back(self) -> None:
        """Leave the collector as it was found."""
        if self._ours:
            self._ours = False
            gc.unfreeze()
            gc.enable()

"""The clocks and timers that a broker runs by. Nothing else in the server reads a clock or sets a timer.

Whoever starts a `Server` may hand it another clock, as tests do that let days pass in a moment. What the clocks say is
the business of others: `BrokerTime` makes the broker's time of them, sessions count their deadlines by `monotonic`.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import anyio

# In a second.
NANOSECONDS: Final = 1_000_000_000

# The kind that goes on while the machine sleeps: on Linux BOOTTIME, elsewhere MONOTONIC is as near as it gets.
_ELAPSED: Final = time.CLOCK_BOOTTIME if hasattr(time, "CLOCK_BOOTTIME") else time.CLOCK_MONOTONIC


class Cancellable(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Do not call it. Harmless if it was called."""


class ServerClock(ABC):
    """Three clocks and two ways to wait for one of them: `call_later` and `sleep` count by `monotonic`."""

    @abstractmethod
    def wall_ns(self) -> int:
        """Nanoseconds since the epoch, as the system has it: somebody may set it, back as well as forward."""

    @abstractmethod
    def elapsed_ns(self) -> int:
        """Nanoseconds since some moment, nobody can set it. The machine's sleep counts where it can be told."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds since some moment, nobody can set it. The machine's sleep does not count: peers that slept with it
        have missed nothing.
        """

    @abstractmethod
    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Cancellable:
        """Have the event loop call `callback` after `delay` seconds; at once if that is not above 0."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait for so long, or a little longer."""


class SystemClock(ServerClock):
    """Those of the machine."""

    # Without a function of our own around them: one or the other is asked in each turn.
    wall_ns = staticmethod(time.time_ns)
    elapsed_ns = staticmethod(partial(time.clock_gettime_ns, _ELAPSED))
    monotonic = staticmethod(time.monotonic)

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Cancellable:
        return asyncio.get_running_loop().call_later(delay, callback, *arguments)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

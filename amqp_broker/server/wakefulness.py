"""Staying awake for a moment after a turn, because the next octets are often on their way.

A processor that has gone to sleep takes longer to wake than a small message takes through the broker. So after a
turn the event loop polls for a little while before it sleeps; other processes that want the processor get it
meanwhile. Nothing happens here while no client says anything.
"""

from __future__ import annotations

import asyncio
import os

from amqp_broker.server.clock import ServerClock


class Wakefulness:
    """busy_wait: seconds of `clock` to stay awake after a turn, 0 not to, as where that clock may stand still."""

    def __init__(self, busy_wait: float, clock: ServerClock) -> None:
        self._busy_wait = busy_wait
        self._monotonic = clock.monotonic
        self._until = 0.0
        self._awake = not busy_wait

    def turn_run(self, now: float) -> None:
        """Stay awake from `now`."""
        self._until = now + self._busy_wait
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._poll)

    def _poll(self) -> None:
        if self._monotonic() < self._until:
            os.sched_yield()
            asyncio.get_running_loop().call_soon(self._poll)
        else:
            self._awake = False

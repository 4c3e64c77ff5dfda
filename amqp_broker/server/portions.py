"""Work that takes longer than a turn may, in portions: each is a turn of its own, and clients have theirs in between.

What is done in one portion is durable, or undone by a crash, together; what is done in two is not. One piece of work
comes to its end before the next begins, so that what it has found at its beginning still holds at its end, but for what
clients do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.server.clock import ServerClock
    from amqp_broker.server.commits import Commits

# Seconds: of a portion; and between two looks whether the disk has caught up.
PORTION: Final = 0.002
CROWDED: Final = 0.05


class Portions:
    """commits: whose turns are taken. clock: what tells how long a portion takes."""

    def __init__(self, commits: Commits, clock: ServerClock) -> None:
        self._commits = commits
        self.clock = clock
        self._at_work = anyio.Lock()

    async def run(self, steps: Iterator[object]) -> None:
        """Take all steps, after those that are being taken. Raises what they raise, StoreError among it, after which
        the broker ends.
        """
        commits = self._commits
        async with self._at_work:
            while self._portion(steps):
                await anyio.lowlevel.checkpoint()
                while commits.crowded and not commits.ending:
                    await self.clock.sleep(CROWDED)

    def _portion(self, steps: Iterator[object]) -> bool:
        """Take steps for as long as a turn may be, one at least. Whether there may be more."""
        commits, clock = self._commits, self.clock
        until = commits.timer.begin_turn() + PORTION
        try:
            for _ in steps:
                if clock.monotonic() >= until:
                    return True
            return False
        except StoreError as error:
            commits.give_up(error)
            raise
        finally:
            commits.finish_turn()

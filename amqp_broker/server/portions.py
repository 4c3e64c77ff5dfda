"""Work that takes longer than a turn may, in portions: each is a turn of its own, and clients have theirs in between.

What is done in one portion is durable, or undone by a crash, together; what is done in two is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import anyio.lowlevel

from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.server.clock import ServerClock
    from amqp_broker.server.commits import Commits

# Seconds: of a portion; and between two looks whether the disk has caught up.
PORTION: Final = 0.002
CROWDED: Final = 0.05


async def run_in_portions(steps: Iterator[object], commits: Commits, clock: ServerClock) -> None:
    """Take all steps. Raises what they raise, StoreError among it, after which the broker ends."""
    while _portion(steps, commits, clock):
        await anyio.lowlevel.checkpoint()
        while commits.crowded and not commits.ending:
            await clock.sleep(CROWDED)


def _portion(steps: Iterator[object], commits: Commits, clock: ServerClock) -> bool:
    """Take steps for as long as a turn may be, one at least. Whether there may be more."""
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

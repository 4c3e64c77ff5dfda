"""Staying awake after a turn: polling for as long as configured, and then asleep until the next turn."""

from __future__ import annotations

import asyncio

from amqp_broker.server.clock import SystemClock
from amqp_broker.server.wakefulness import Wakefulness

TICK = 0.001


class Ticking(SystemClock):
    """A clock that goes on by a tick whenever it is looked at; `looks` says how often it was."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.looks * TICK


def polls(busy_wait: float, turns: int = 1) -> int:
    """How often a loop that goes round many times more polls, after turns at the same moment."""

    async def run() -> int:
        clock = Ticking()
        wakefulness = Wakefulness(busy_wait, clock)
        for _ in range(turns):
            wakefulness.turn_run(0.0)
        for _ in range(1000):
            await asyncio.sleep(0)
        return clock.looks

    return asyncio.run(run())


def test_after_a_turn_the_loop_polls_for_as_long_as_configured_and_then_sleeps() -> None:
    assert polls(20 * TICK) == 20
    assert polls(40 * TICK) == 40


def test_several_turns_poll_once_and_not_once_each() -> None:
    assert polls(20 * TICK, turns=50) == 20


def test_a_later_turn_keeps_it_awake_for_longer() -> None:
    async def run() -> int:
        clock = Ticking()
        wakefulness = Wakefulness(20 * TICK, clock)
        wakefulness.turn_run(0.0)
        for _ in range(5):
            await asyncio.sleep(0)
        wakefulness.turn_run(10 * TICK)
        for _ in range(1000):
            await asyncio.sleep(0)
        return clock.looks

    assert asyncio.run(run()) == 30


def test_nothing_polls_where_it_is_switched_off() -> None:
    assert polls(0.0) == 0

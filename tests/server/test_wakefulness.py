"""Staying awake after a turn: polling for as long as configured, and then asleep until the next turn."""

from __future__ import annotations

import asyncio
from time import monotonic

from amqp_broker.server.clock import SystemClock
from amqp_broker.server.wakefulness import Wakefulness


def polls(busy_wait: float, turns: int = 1) -> tuple[int, float]:
    """How often a loop with nothing else to do polls, and how long."""

    async def run() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        counted: list[float] = []
        ordinary = loop.call_soon

        def counting(callback: object, *args: object, **kwargs: object) -> asyncio.Handle:
            if getattr(callback, "__self__", None) is wakefulness:
                counted.append(monotonic())
            return ordinary(callback, *args, **kwargs)  # type: ignore[arg-type]

        loop.call_soon = counting  # type: ignore[method-assign,assignment]
        wakefulness = Wakefulness(busy_wait, SystemClock())
        started = monotonic()
        for _ in range(turns):
            wakefulness.turn_run(started)
        await asyncio.sleep(busy_wait * 3 + 0.02)
        return len(counted), counted[-1] - started if counted else 0.0

    return asyncio.run(run())


def test_after_a_turn_the_loop_polls_for_as_long_as_configured_and_then_sleeps() -> None:
    count, lasted = polls(0.02)
    assert count > 10
    # It takes longer where others have the processor, but not for as long as the loop goes on.
    assert lasted < 0.04


def test_several_turns_poll_once_and_not_once_each() -> None:
    count, _ = polls(0.0001, turns=50)
    assert count < 50


def test_nothing_polls_where_it_is_switched_off() -> None:
    assert polls(0.0) == (0, 0.0)

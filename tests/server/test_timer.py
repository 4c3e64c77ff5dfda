"""The timer for what falls due: once, in time, and also when the wall clock is put forward."""

from __future__ import annotations

import asyncio

import pytest

from amqp_broker.broker.timetable import Clock, Timed, Timetable
from amqp_broker.server import timer as timer_module
from amqp_broker.server.timer import NANOSECONDS, Timer


class Alarm(Timed):
    def __init__(self) -> None:
        super().__init__()
        self.rang: list[int] = []

    def time_is_up(self, now: int) -> None:
        self.rang.append(now)


def test_what_is_due_is_done_once_and_the_turn_finished() -> None:
    async def run() -> tuple[list[int], int]:
        timetable, alarm, finished = Timetable(Clock()), Alarm(), asyncio.Event()
        turns: list[int] = []

        def finish() -> None:
            turns.append(1)
            finished.set()

        timer = Timer(timetable, finish)
        timer.begin_turn()
        due = timetable.clock.milliseconds + 20
        timetable.wake(alarm, due)
        timer.follow()
        timer.follow()
        await finished.wait()
        await asyncio.sleep(0.03)
        assert alarm.rang[0] >= due
        return alarm.rang, len(turns)

    rang, turns = asyncio.run(asyncio.wait_for(run(), 10))
    assert (len(rang), turns) == (1, 1)


def test_a_clock_that_was_put_forward_makes_nothing_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[int]:
        timetable, alarm, finished = Timetable(Clock()), Alarm(), asyncio.Event()
        timer = Timer(timetable, finished.set)
        timer.begin_turn()
        timetable.wake(alarm, timetable.clock.milliseconds + 3_600_000)
        timer.follow()
        ordinary = timer_module.time_ns
        monkeypatch.setattr(timer_module, "time_ns", lambda: ordinary() + 7_200_000 * NANOSECONDS)
        timer.begin_turn()
        timer.follow()
        await finished.wait()
        return alarm.rang

    assert len(asyncio.run(asyncio.wait_for(run(), 10))) == 1


def test_turns_that_follow_each_other_do_not_put_off_what_is_due() -> None:
    async def run() -> int:
        timetable, alarm, finished = Timetable(Clock()), Alarm(), asyncio.Event()
        timer = Timer(timetable, finished.set)
        loop = asyncio.get_running_loop()
        turns = 0
        timer.begin_turn()
        timetable.wake(alarm, timetable.clock.milliseconds)

        def turn() -> None:
            nonlocal turns
            turns += 1
            timer.begin_turn()
            timer.follow()
            if turns < 1000 and not finished.is_set():
                loop.call_soon(turn)

        turn()
        await finished.wait()
        return turns

    assert asyncio.run(asyncio.wait_for(run(), 10)) < 10

"""The timer for what falls due: once, in time, and also where time does not pass as it thought."""

from __future__ import annotations

import asyncio

from amqp_broker.broker.timetable import Clock, Timed, Timetable
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.timer import Timer
from tests.server.moved_clock import DAY, HOUR, MovedClock


class Alarm(Timed):
    """rang: at what times of the broker."""

    def __init__(self) -> None:
        super().__init__()
        self.rang: list[int] = []

    def time_is_up(self, now: int) -> None:
        self.rang.append(now)


class Bell:
    """An alarm, the timer that has it ring, and the turns that this took."""

    def __init__(self) -> None:
        self.clock = MovedClock()
        self.timetable, self.alarm = Timetable(Clock()), Alarm()
        self.turns = 0
        self.timer = Timer(self.timetable, self.clock, self._finish_turn)

    def _finish_turn(self) -> None:
        self.turns += 1
        self.timer.follow()

    def set_for(self, seconds: float) -> int:
        """Ring in so many seconds; returns when that is."""
        self.timer.begin_turn()
        due = self.timetable.clock.milliseconds + round(seconds * 1000)
        self.timetable.wake(self.alarm, due)
        self.timer.follow()
        return due

    def turn(self) -> None:
        self.timer.begin_turn()
        self.timer.follow()


def test_what_is_due_is_done_once_and_the_turn_finished() -> None:
    async def run() -> None:
        bell = Bell()
        due = bell.set_for(0.02)
        bell.turn()
        await bell.clock.advance(HOUR)
        assert (bell.alarm.rang, bell.turns) == ([due], 1)

    asyncio.run(run())


def test_it_is_done_to_the_millisecond_however_far_away() -> None:
    async def run() -> None:
        bell = Bell()
        due = bell.set_for(400 * DAY)
        await bell.clock.advance(400 * DAY - 0.001)
        assert bell.alarm.rang == []
        await bell.clock.advance(0.002)
        assert bell.alarm.rang == [due]

    asyncio.run(run())


def test_an_earlier_time_takes_the_place_of_a_later_one() -> None:
    async def run() -> None:
        bell = Bell()
        bell.set_for(DAY)
        due = bell.set_for(HOUR)
        await bell.clock.advance(2 * DAY)
        assert bell.alarm.rang == [due]

    asyncio.run(run())


def test_what_fell_due_while_the_machine_slept_is_done_in_the_next_turn() -> None:
    async def run() -> None:
        bell = Bell()
        due = bell.set_for(HOUR)
        bell.clock.sleep_machine(2 * HOUR)
        bell.turn()
        await asyncio.sleep(0)
        assert bell.alarm.rang == [due + round(HOUR * 1000)]

    asyncio.run(run())


def test_a_timer_that_runs_too_early_is_set_again() -> None:
    async def run() -> None:
        bell = Bell()
        due = bell.set_for(HOUR)
        # From the next look on the broker's time is slow, which the timer could not know.
        bell.clock.set_wall(-2 * HOUR)
        await bell.clock.advance(1)
        bell.turn()
        await bell.clock.advance(HOUR - 1)
        assert bell.alarm.rang == []
        assert bell.turns > 0
        await bell.clock.advance(HOUR / 20)
        assert bell.alarm.rang == [due]

    asyncio.run(run())


def test_turns_that_follow_each_other_do_not_put_off_what_is_due() -> None:
    async def run() -> int:
        timetable, alarm, finished = Timetable(Clock()), Alarm(), asyncio.Event()
        timer = Timer(timetable, SystemClock(), finished.set)
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

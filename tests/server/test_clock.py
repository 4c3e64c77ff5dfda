"""The clocks of the machine, and the broker's time, which nobody can set while the broker runs."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from amqp_broker.broker.timetable import Clock
from amqp_broker.server.broker_time import SLEW, BrokerTime
from amqp_broker.server.clock import NANOSECONDS, SystemClock
from tests.examples import seeds
from tests.server.moved_clock import DAY, HOUR, MINUTE, SECOND, START, MovedClock

START_MILLISECONDS = START // 1_000_000
SHARE = SLEW / 1_000_000


class Course:
    """The broker's time and the clocks it goes by."""

    def __init__(self) -> None:
        self.clock = MovedClock()
        self._turn = Clock()
        self.time = BrokerTime(self.clock, self._turn)

    def now(self) -> float:
        """The broker's time, in seconds since the beginning."""
        self.time.begin_turn()
        return (self._turn.milliseconds - START_MILLISECONDS) / 1000

    def run(self, seconds: float, turns: int = 100) -> float:
        """Let time pass with so many turns on the way; returns the broker's time at the end."""
        for _ in range(turns):
            self.clock.awake += round(seconds / turns * NANOSECONDS)
            self.now()
        return self.now()


@pytest.fixture
def course() -> Course:
    return Course()


# -- the machine's clocks


def test_the_wall_clock_is_that_of_the_system() -> None:
    assert abs(SystemClock().wall_ns() - time.time_ns()) < NANOSECONDS


def test_what_elapses_while_the_machine_sleeps_counts_where_the_system_can_tell() -> None:
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime_ns(kind)
    assert before <= SystemClock().elapsed_ns() <= time.clock_gettime_ns(kind)


def test_a_call_comes_when_it_is_due_and_not_if_it_was_cancelled() -> None:
    async def run() -> list[str]:
        clock, called, done = SystemClock(), list[str](), asyncio.Event()
        clock.call_later(0.001, called.append, "cancelled").cancel()
        clock.call_later(0.002, called.append, "called")
        clock.call_later(0.003, done.set)
        await done.wait()
        return called

    assert asyncio.run(asyncio.wait_for(run(), 10)) == ["called"]


def test_who_sleeps_is_woken_not_too_early() -> None:
    async def run() -> float:
        clock = SystemClock()
        started = clock.monotonic()
        await clock.sleep(0.01)
        return clock.monotonic() - started

    assert asyncio.run(asyncio.wait_for(run(), 10)) >= 0.01


# -- the broker's time


def test_it_begins_with_the_wall_clock_and_goes_by_what_elapses(course: Course) -> None:
    assert course.now() == 0
    assert course.run(3 * DAY) == 3 * DAY


def test_the_time_of_sessions_is_that_in_which_the_machine_was_awake(course: Course) -> None:
    course.clock.awake += 5 * NANOSECONDS
    course.clock.sleep_machine(HOUR)
    assert course.time.begin_turn() == 5
    assert course.now() == HOUR + 5


@pytest.mark.parametrize("by", [6 * HOUR, -6 * HOUR, 1000 * DAY, -1000 * DAY])
def test_a_wall_clock_that_is_set_moves_it_by_a_small_share_of_what_elapses(
    course: Course, by: float
) -> None:
    course.clock.set_wall(by)
    assert course.run(2 * SECOND) == pytest.approx(2, abs=2 * SHARE)
    passed = course.run(10 * HOUR) / (10 * HOUR)
    assert passed == pytest.approx(1 + SHARE if by > 0 else 1 - SHARE, rel=0.001)


@pytest.mark.parametrize("by", [MINUTE, -MINUTE, 0.01, -0.01])
def test_it_comes_to_be_the_wall_clocks_and_stays_it(course: Course, by: float) -> None:
    course.clock.set_wall(by)
    course.run(2 * SECOND)
    long_enough = MINUTE / SHARE
    assert course.run(long_enough, 1600) == pytest.approx(long_enough + 2 + by, abs=0.002)
    assert course.run(DAY) == pytest.approx(long_enough + 2 + DAY + by, abs=0.002)


def test_what_it_does_not_follow_at_all_is_less_than_a_millisecond(course: Course) -> None:
    course.clock.set_wall(0.0009)
    assert course.run(HOUR) == HOUR


@pytest.mark.parametrize("seed", seeds(20))
def test_it_never_goes_back_and_never_runs_away(course: Course, seed: int) -> None:
    chance = random.Random(seed)
    before = course.now()
    for _ in range(1000):
        step = round(10 ** chance.uniform(3, 13))
        course.clock.awake += step
        if chance.random() < 0.2:
            course.clock.set_wall(chance.choice((-1, 1)) * 10 ** chance.uniform(-4, 5))
        now = course.now()
        # Milliseconds are what is told, and what followed before the look is rounded as well.
        assert (1 - SHARE) * step - 2e6 <= (now - before) * NANOSECONDS <= (1 + SHARE) * step + 2e6
        assert now >= before
        before = now


@pytest.mark.parametrize("by", [0, HOUR, -HOUR])
def test_what_has_to_elapse_until_a_time_is_told(course: Course, by: float) -> None:
    course.clock.set_wall(by)
    course.run(2 * SECOND)
    due = course.now() + 30 * MINUTE
    seconds = course.time.seconds_until(round(due * 1000) + START_MILLISECONDS)
    assert seconds == pytest.approx(30 * MINUTE, rel=SHARE * 1.1)
    assert course.run(seconds) == pytest.approx(due, abs=0.002)


# -- what the log says of it


def test_each_step_of_the_wall_clock_is_told_once_with_figures(
    course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    course.clock.set_wall(2 * HOUR)
    course.run(HOUR)
    course.clock.set_wall(-3 * HOUR)
    course.run(HOUR)
    assert [record.getMessage() for record in caplog.records] == [
        "the wall clock was set forward by 7200.0 s: the broker's time is 7200.0 s behind it and comes nearer by 4% "
        "of what elapses, for 3000 minutes",
        "the wall clock was set back by 10800.0 s: the broker's time is 3744.0 s ahead of it and comes nearer by 4% "
        "of what elapses, for 1560 minutes",
    ]


def test_seconds_are_not_worth_a_line_until_they_add_up(
    course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    course.clock.set_wall(4)
    course.run(DAY)
    assert caplog.records == []
    course.clock.set_wall(4)
    course.run(DAY)
    assert len(caplog.records) == 1


def test_the_sleep_of_the_machine_is_not_taken_for_a_step(
    course: Course, caplog: pytest.LogCaptureFixture
) -> None:
    course.clock.sleep_machine(8 * HOUR)
    assert course.now() == 8 * HOUR
    assert course.run(MINUTE) == 8 * HOUR + MINUTE
    assert caplog.records == []

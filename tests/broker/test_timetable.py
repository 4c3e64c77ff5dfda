"""What falls due when: in order, at most once for each time asked for, and next to nothing while it waits."""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import Message
from amqp_broker.broker.timetable import Clock, Timed, Timetable
from tests.broker.house import House, made


class Sleeper(Timed):
    """woken: when it was; again: what it asks for when it is."""

    def __init__(self, timetable: Timetable, *again: int) -> None:
        super().__init__()
        self.timetable = timetable
        self.again = list(again)
        self.woken: list[int] = []

    def time_is_up(self, now: int) -> None:
        self.woken.append(now)
        if self.again:
            self.timetable.wake(self, self.again.pop(0))


def run(timetable: Timetable, *moments: int) -> None:
    for moment in moments:
        timetable.clock.milliseconds = moment
        timetable.run_due()


def test_nothing_is_due_in_an_empty_timetable() -> None:
    timetable = Timetable(Clock(5))
    timetable.run_due()
    assert (timetable.next_due, len(timetable)) == (0, 0)


def test_a_target_is_woken_when_its_time_has_come_and_not_before() -> None:
    timetable = Timetable(Clock())
    sleeper = Sleeper(timetable)
    timetable.wake(sleeper, 10)
    run(timetable, 9)
    assert sleeper.woken == []
    run(timetable, 10, 11)
    assert sleeper.woken == [10]


def test_a_time_that_has_passed_is_due_at_once() -> None:
    timetable = Timetable(Clock(50))
    sleeper = Sleeper(timetable)
    timetable.wake(sleeper, 10)
    timetable.run_due()
    assert sleeper.woken == [50]


def test_the_earliest_time_asked_for_counts() -> None:
    timetable = Timetable(Clock())
    sleeper = Sleeper(timetable)
    for due in (30, 10, 20):
        timetable.wake(sleeper, due)
    assert timetable.next_due == 10
    run(timetable, 10)
    assert sleeper.woken == [10]
    assert sleeper.wake_at == 0


def test_a_later_time_is_asked_for_again_by_whoever_was_woken() -> None:
    timetable = Timetable(Clock())
    sleeper = Sleeper(timetable, 30)
    timetable.wake(sleeper, 30)
    timetable.wake(sleeper, 10)
    run(timetable, 10, 20, 30, 40)
    assert sleeper.woken == [10, 30]


def test_many_targets_are_woken_in_the_order_of_their_times() -> None:
    timetable = Timetable(Clock())
    order: list[int] = []

    class Noted(Sleeper):
        def time_is_up(self, now: int) -> None:
            order.append(self.wake_for)

        wake_for = 0

    for due in (40, 10, 30, 20, 10):
        sleeper = Noted(timetable)
        sleeper.wake_for = due
        timetable.wake(sleeper, due)
    run(timetable, 100)
    assert order == [10, 10, 20, 30, 40]
    assert timetable.next_due == 0


def test_who_asks_for_a_time_that_has_come_already_is_woken_the_next_time() -> None:
    timetable = Timetable(Clock())
    sleeper = Sleeper(timetable, 5, 50)
    timetable.wake(sleeper, 10)
    run(timetable, 20)
    assert (sleeper.woken, timetable.next_due) == ([20], 5)
    run(timetable, 20)
    assert sleeper.woken == [20, 20]
    assert timetable.next_due == 50


def test_asking_for_a_later_time_than_before_costs_nothing() -> None:
    timetable = Timetable(Clock())
    sleeper = Sleeper(timetable)
    for due in range(1000, 2000):
        timetable.wake(sleeper, due)
    assert len(timetable) == 1


def test_asking_for_ever_earlier_times_leaves_little_behind() -> None:
    timetable = Timetable(Clock())
    sleeper, other = Sleeper(timetable), Sleeper(timetable)
    timetable.wake(other, 5000)
    for due in range(10_000, 1000, -1):
        timetable.wake(sleeper, due)
    assert len(timetable) <= 200
    run(timetable, 1001, 5000, 20_000)
    assert (sleeper.woken, other.woken) == ([1001], [5000])
    assert len(timetable) == 0


def test_what_is_forgotten_is_not_woken_and_may_ask_again() -> None:
    timetable = Timetable(Clock())
    sleeper = Sleeper(timetable)
    timetable.wake(sleeper, 10)
    timetable.forget(sleeper)
    timetable.forget(sleeper)
    run(timetable, 20)
    assert sleeper.woken == []
    timetable.wake(sleeper, 30)
    run(timetable, 30)
    assert sleeper.woken == [30]


def test_queues_that_come_and_go_leave_little_behind() -> None:
    house = House()
    for number in range(1000):
        house.vhost.delete_queue(house.queue(f"q{number}", expires=86_400_000))
    assert len(house.timetable) <= 200


def test_two_hundred_thousand_messages_with_a_time_to_live_are_a_few_entries() -> None:
    house = House()
    queue = house.queue(message_ttl=60_000)
    header = made(b"1").header
    for _ in range(200_000):
        queue.publish(Message(b"\0\1q", header, b"1"))
    assert len(house.timetable) <= 2
    woken = queue.wake_at
    house.pass_time(59_999)
    assert queue.wake_at == woken, "nobody looked before the time"
    assert queue.ready_count() == 200_000
    house.pass_time(1)
    assert queue.ready_count() == 0
    assert len(house.timetable) == 0


def test_messages_that_expire_one_by_one_need_one_entry_at_a_time() -> None:
    house = House()
    queue = house.queue(message_ttl=1000)
    for number in range(100):
        queue.publish(made(b"%d" % number))
        house.jump(10)
    for left in range(99, -1, -1):
        house.pass_time(0 if left == 99 else 10)
        assert queue.ready_count() == left
        assert len(house.timetable) <= 1


class Failing(Timed):
    def time_is_up(self, now: int) -> None:
        raise LookupError(now)


def test_a_target_that_fails_takes_nobody_elses_time_with_it() -> None:
    timetable = Timetable(Clock())
    before, failing, after = Sleeper(timetable), Failing(), Sleeper(timetable)
    for target in (before, failing, after):
        timetable.wake(target, 10)
    with pytest.raises(LookupError):
        run(timetable, 10)
    assert (before.woken, after.woken, timetable.next_due) == ([10], [], 10)
    run(timetable, 11)
    assert (before.woken, after.woken) == ([10], [11])
    timetable.wake(after, 20)
    run(timetable, 20)
    assert after.woken == [11, 20]
    assert len(timetable) == 0

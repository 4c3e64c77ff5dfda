"""Rates under a clock that the test moves."""

from __future__ import annotations

import pytest

from amqp_broker.perf.pacer import TICK, Pacer


def run(pacer: Pacer, seconds: float, lateness: float = 0.0) -> list[tuple[float, int]]:
    """Send whenever the pacer asks to be asked, each time `lateness` too late; returns (moment, messages)."""
    now, sent = 0.0, []
    while now < seconds:
        messages = pacer.allowance(now)
        if messages:
            pacer.spend(messages)
            sent.append((now, messages))
        now = pacer.next_due(now) + lateness
    return sent


@pytest.mark.parametrize("rate", [0.5, 1, 7, 100, 333.3, 1000, 50_000, 300_000])
def test_the_average_is_the_rate(rate: float) -> None:
    total = sum(messages for _, messages in run(Pacer(rate, 0.0), 10))
    assert total == pytest.approx(rate * 10, abs=max(1, rate * TICK + 1))


@pytest.mark.parametrize("lateness", [0.0005, 0.003, 0.03])
def test_late_wake_ups_do_not_lower_the_average(lateness: float) -> None:
    total = sum(messages for _, messages in run(Pacer(1000, 0.0), 10, lateness))
    assert total == pytest.approx(10_000, abs=1000 * (lateness + TICK) + 1)


@pytest.mark.parametrize("rate", [10, 1000, 100_000])
def test_no_twentieth_of_a_second_holds_more_than_its_share_and_one_tick(rate: float) -> None:
    sent = run(Pacer(rate, 0.0), 2)
    for start, _ in sent:
        window = sum(messages for moment, messages in sent if start <= moment < start + 0.05)
        assert window <= rate * (0.05 + TICK) + 1


def test_slow_messages_come_at_even_distances() -> None:
    moments = [moment for moment, _ in run(Pacer(4, 0.0), 3)]
    assert moments == pytest.approx([index / 4 for index in range(12)])


def test_a_stall_is_not_made_up_for_by_a_burst() -> None:
    pacer = Pacer(1000, 0.0)
    pacer.spend(pacer.allowance(0.0))
    assert pacer.allowance(10.0) == 50
    pacer.spend(50)
    assert pacer.allowance(10.0) == 0
    assert pacer.allowance(10.01) == 10


def test_asking_does_not_spend() -> None:
    pacer = Pacer(1000, 0.0)
    assert pacer.allowance(0.01) == pacer.allowance(0.01) == 11


def test_nothing_is_due_before_the_start() -> None:
    pacer = Pacer(1000, 5.0)
    assert pacer.allowance(4.99) == 0
    assert pacer.next_due(1.0) == 5.0
    assert pacer.allowance(5.0) == 1

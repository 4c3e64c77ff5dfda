"""Percentiles against a sorted list, and the arithmetic of histograms."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.perf.latency import Histogram, bucket_of, histogram_of, middle_of

WANTED = (50.0, 75.0, 95.0, 99.0, 99.9)


def exact(values: list[int], percent: float) -> int:
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@given(st.integers(0, 2**62))
def test_a_value_differs_from_its_bucket_by_less_than_half_a_percent(value: int) -> None:
    assert abs(middle_of(bucket_of(value)) - value) <= value * 0.004


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_larger_values_never_fall_into_lower_buckets(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert bucket_of(low) <= bucket_of(high)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_sorted_values(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    for percent, found in zip(WANTED, histogram.percentiles(WANTED), strict=True):
        assert found == pytest.approx(exact(values, percent), rel=0.005)


def test_the_extremes_are_exact() -> None:
    histogram = Histogram()
    histogram.record(123_456_789)
    histogram.record(987_654_321, 3)
    assert (histogram.smallest, histogram.largest, histogram.count) == (123_456_789, 987_654_321, 4)


def test_a_percentile_never_lies_outside_the_values() -> None:
    histogram = Histogram()
    histogram.record(1_000_003)
    assert histogram.percentiles((50.0, 99.9)) == [1_000_003, 1_000_003]


def test_an_empty_histogram_has_zero_percentiles() -> None:
    assert Histogram().percentiles(WANTED) == [0, 0, 0, 0, 0]


def test_a_negative_latency_of_unequal_clocks_counts_as_zero() -> None:
    histogram = Histogram()
    histogram.record(-5)
    assert (histogram.count, histogram.smallest, histogram.largest) == (1, 0, 0)


def test_many_at_once_equal_many_one_by_one() -> None:
    once, singly = Histogram(), Histogram()
    once.record(777_777, 5)
    for _ in range(5):
        singly.record(777_777)
    assert once.state() == singly.state()


def test_histograms_add_up_and_travel() -> None:
    numbers = random.Random(7)
    together, first, second = Histogram(), Histogram(), Histogram()
    for index in range(1000):
        value = numbers.randrange(10**9)
        together.record(value)
        (first if index % 3 else second).record(value)
    total = histogram_of(*first.state())
    total.add(histogram_of(*second.state()))
    total.add(Histogram())
    assert total.state() == together.state()


def test_a_cleared_histogram_is_as_new() -> None:
    histogram = Histogram()
    histogram.record(9)
    histogram.clear()
    assert histogram.state() == Histogram().state()

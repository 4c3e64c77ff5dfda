"""Latencies in buckets that grow with the value: constant memory, a relative error below 0.4 %.

A `Histogram` takes nanoseconds and gives percentiles in nanoseconds. Values up to 255 ns are kept exactly;
above, the eight leading bits are kept. Histograms of several connections, processes and intervals add up
without loss. It reads no clock and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LEADING_BITS: Final = 8
SUB_BUCKETS: Final = 1 << (LEADING_BITS - 1)


def bucket_of(value: int) -> int:
    """The bucket of a value >= 0; buckets rise with the values."""
    shift = value.bit_length() - LEADING_BITS
    if shift <= 0:
        return value
    return shift * SUB_BUCKETS + (value >> shift)


def middle_of(bucket: int) -> int:
    """The value in the middle of a bucket, which stands for all values that fell into it."""
    if bucket < 2 * SUB_BUCKETS:
        return bucket
    shift = bucket // SUB_BUCKETS - 1
    lowest = (bucket - shift * SUB_BUCKETS) << shift
    return lowest + (1 << shift) // 2


class Histogram:
    """Counts of latencies; `count`, `smallest` and `largest` are exact, percentiles are bucket middles."""

    __slots__ = ("buckets", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count: int = 0
        self.total: int = 0
        self.smallest: int = 0
        self.largest: int = 0

    def record(self, nanoseconds: int, times: int = 1) -> None:
        """Count a latency `times` times; a negative one (clocks of two machines) counts as 0."""
        nanoseconds = max(nanoseconds, 0)
        if self.count == 0 or nanoseconds < self.smallest:
            self.smallest = nanoseconds
        self.largest = max(self.largest, nanoseconds)
        self.count += times
        self.total += nanoseconds * times
        bucket = bucket_of(nanoseconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def clear(self) -> None:
        self.buckets.clear()
        self.count = self.total = self.smallest = self.largest = 0

    def add(self, other: Histogram) -> None:
        """Add everything another histogram counted."""
        if other.count == 0:
            return
        if self.count == 0 or other.smallest < self.smallest:
            self.smallest = other.smallest
        self.largest = max(self.largest, other.largest)
        self.count += other.count
        self.total += other.total
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def percentiles(self, wanted: tuple[float, ...]) -> list[int]:
        """The smallest values, in ns, that at least so many percent do not exceed; 0 if empty.

        `wanted` rises and lies between 0 and 100.
        """
        found: list[int] = []
        ordered = sorted(self.buckets)
        position = 0
        seen = self.buckets[ordered[0]] if ordered else 0
        for percent in wanted:
            if self.count == 0:
                found.append(0)
                continue
            while seen * 100 < percent * self.count and position < len(ordered) - 1:
                position += 1
                seen += self.buckets[ordered[position]]
            found.append(min(max(middle_of(ordered[position]), self.smallest), self.largest))
        return found

    def state(self) -> tuple[int, int, int, int, dict[int, int]]:
        """Everything the histogram holds, to be sent to another process."""
        return self.count, self.total, self.smallest, self.largest, dict(self.buckets)


def histogram_of(
    count: int, total: int, smallest: int, largest: int, buckets: Mapping[int, int]
) -> Histogram:
    """The histogram whose `state()` this is."""
    histogram = Histogram()
    histogram.count, histogram.total = count, total
    histogram.smallest, histogram.largest = smallest, largest
    histogram.buckets = dict(buckets)
    return histogram

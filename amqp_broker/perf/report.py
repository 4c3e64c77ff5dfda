"""What a run tells: the progress line of each interval, the summary, and the document for machines.

It turns samples into text and numbers and keeps the totals. Rates are messages per second, latencies
microseconds. It reads no clock and writes to no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from amqp_broker.perf.latency import Histogram, histogram_of
from amqp_broker.perf.settings import Settings
from amqp_broker.perf.worker import Sample, first

PERCENTILES: Final = (50.0, 75.0, 95.0, 99.0, 99.9)
PERCENTILE_NAMES: Final = ("median", "75th", "95th", "99th", "99.9th")


@dataclass(frozen=True)
class Counts:
    """Messages since the start of the run, over all workers."""

    sent: int = 0
    returned: int = 0
    confirmed: int = 0
    nacked: int = 0
    received: int = 0


def counts_of(samples: Sequence[Sample]) -> Counts:
    return Counts(
        sent=sum(sample.sent for sample in samples),
        returned=sum(sample.returned for sample in samples),
        confirmed=sum(sample.confirmed for sample in samples),
        nacked=sum(sample.nacked for sample in samples),
        received=sum(sample.received for sample in samples),
    )


def per_second(messages: int, nanoseconds: int) -> float:
    """A rate; 0 where no time passed, because then there is none to tell."""
    return messages * 1e9 / nanoseconds if nanoseconds > 0 else 0.0


def microseconds(latency: Histogram) -> dict[str, float]:
    """Minimum, percentiles and maximum; empty if nothing was measured."""
    if latency.count == 0:
        return {}
    values = latency.percentiles(PERCENTILES)
    named = {"min": latency.smallest / 1000}
    named.update({name: value / 1000 for name, value in zip(PERCENTILE_NAMES, values, strict=True)})
    named["max"] = latency.largest / 1000
    return named


def latency_text(latency: Histogram) -> str:
    values = microseconds(latency)
    shown = [f"{values[name]:.0f}" for name in ("min", *PERCENTILE_NAMES)] if values else ["-"]
    return "/".join(shown) + " µs"


class Report:
    """The course of one run."""

    def __init__(self, settings: Settings) -> None:
        self.counts = Counts()
        self.intervals: list[dict[str, object]] = []
        self.notices: list[str] = []
        self.sending_rate = 0.0
        self.receiving_rate = 0.0
        self._settings = settings
        self._before = Counts()
        self._samples: Sequence[Sample] = ()
        self._interval_consumer, self._interval_confirm = Histogram(), Histogram()
        self._consumer, self._confirm = Histogram(), Histogram()

    def take(self, samples: Sequence[Sample]) -> None:
        """Add what the workers counted since the last call."""
        self._samples = samples
        self.counts = counts_of(samples)
        for sample in samples:
            self.notices.extend(sample.notices)
            for state, interval, total in (
                (sample.consumer_latency, self._interval_consumer, self._consumer),
                (sample.confirm_latency, self._interval_confirm, self._confirm),
            ):
                taken = histogram_of(*state)
                interval.add(taken)
                total.add(taken)

    def interval_line(self, time: float, elapsed: float) -> str:
        """The line of the interval that ends `time` seconds after the start and took `elapsed` seconds."""
        now, before = self.counts, self._before
        rates = {
            name: (getattr(now, name) - getattr(before, name)) / elapsed
            for name in ("sent", "returned", "confirmed", "nacked", "received")
        }
        shown = [f"time: {time:.3f} s"]
        shown += [f"{name}: {rates[name]:.0f} msg/s" for name in self._shown_rates()]
        if self._settings.consumers:
            shown.append(
                f"{self._percentile_title()} consumer latency: {latency_text(self._interval_consumer)}"
            )
        if self._settings.confirm:
            shown.append(f"confirm latency: {latency_text(self._interval_confirm)}")
        self.intervals.append(
            {
                "time": time,
                **{f"{name}_rate": rate for name, rate in rates.items()},
                "consumer_latency_us": microseconds(self._interval_consumer),
                "confirm_latency_us": microseconds(self._interval_confirm),
            }
        )
        self._before = now
        self._interval_consumer.clear()
        self._interval_confirm.clear()
        return self._line(", ".join(shown))

    def finish(self, ended: int) -> None:
        """Work out the averages of the run, which ended at `ended` in ns of the workers' clock."""
        samples = self._samples
        first_sent = first(sample.first_sent for sample in samples)
        first_received = first(sample.first_received for sample in samples)
        running = any(sample.producers_running for sample in samples)
        finished = ended if running else max((sample.finished_sending for sample in samples), default=0)
        last_received = max((sample.last_received for sample in samples), default=0)
        if first_sent:
            self.sending_rate = per_second(self.counts.sent, finished - first_sent)
        if first_received:
            self.receiving_rate = per_second(
                self.counts.received, last_received - (first_sent or first_received)
            )

    def summary(self) -> list[str]:
        settings, counts = self._settings, self.counts
        lines: list[str] = []
        if settings.producers:
            total = f"sent: {counts.sent}"
            if settings.mandatory:
                total += f", returned: {counts.returned}"
            if settings.confirm:
                total += f", confirmed: {counts.confirmed}, nacked: {counts.nacked}"
            lines += [total, f"sending rate avg: {self.sending_rate:.0f} msg/s"]
        if settings.consumers:
            lines += [f"received: {counts.received}", f"receiving rate avg: {self.receiving_rate:.0f} msg/s"]
            lines.append(f"consumer latency {self._percentile_title()} {latency_text(self._consumer)}")
        if settings.confirm and settings.producers:
            lines.append(f"confirm latency {self._percentile_title()} {latency_text(self._confirm)}")
        return [self._line(line) for line in lines]

    def document(self, seconds: float, failure: str) -> dict[str, object]:
        """All figures, in the types that JSON has. Field names are explained in docs/perf.md."""
        settings, counts = self._settings, self.counts
        return {
            "id": settings.name,
            "seconds": seconds,
            "producers": settings.producers,
            "consumers": settings.consumers,
            "size": settings.size,
            "sent": counts.sent,
            "returned": counts.returned,
            "confirmed": counts.confirmed,
            "nacked": counts.nacked,
            "received": counts.received,
            "sending_rate": self.sending_rate,
            "receiving_rate": self.receiving_rate,
            "consumer_latency_us": microseconds(self._consumer),
            "confirm_latency_us": microseconds(self._confirm),
            "intervals": self.intervals,
            "notices": self.notices,
            "failure": failure or None,
        }

    def _shown_rates(self) -> list[str]:
        settings = self._settings
        wanted = {
            "sent": settings.producers,
            "returned": settings.producers and settings.mandatory,
            "confirmed": settings.producers and settings.confirm,
            "nacked": settings.producers and settings.confirm,
            "received": settings.consumers,
        }
        return [name for name, shown in wanted.items() if shown]

    def _percentile_title(self) -> str:
        return "/".join(("min", *PERCENTILE_NAMES))

    def _line(self, text: str) -> str:
        return f"id: {self._settings.name}, {text}"

"""A whole run: declare, connect, start, watch, stop, report.

`run` is what the command calls. It drives one worker in this process or one in each of several, prints a line
each interval, ends when the limits are reached, the time is up, an interrupt comes or the broker fails, and
says how it went. It knows neither frames nor sockets.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from amqp_broker.perf.connection import PerfFailure, millisecond_clock, open_connection
from amqp_broker.perf.latency import Histogram
from amqp_broker.perf.loop import run_in_loop
from amqp_broker.perf.report import Report
from amqp_broker.perf.settings import Settings, shares
from amqp_broker.perf.topology import declare_topology
from amqp_broker.perf.worker import CLOSE_SECONDS, LocalWorker, RemoteWorker, Sample, Worker

POLL_SECONDS: Final = 0.05

Write = Callable[[str], None]


class Run:
    """One run of the load generator; `failure` says what ended it too early, if anything did."""

    def __init__(self, settings: Settings, write: Write, complain: Write) -> None:
        self.report = Report(settings)
        self.failure = ""
        self.started = False
        self.seconds = 0.0
        self._settings = settings
        self._write = write
        self._complain = complain
        self._interrupted = asyncio.Event()
        self._workers: list[Worker] = []
        self._samples: Sequence[Sample] = ()
        self._clock = millisecond_clock if settings.use_millis else time.monotonic_ns
        self._loop = asyncio.get_running_loop()
        self._last_progress = 0.0

    def interrupt(self) -> None:
        """End the run in good order, as if its time were up."""
        self._interrupted.set()

    async def execute(self) -> None:
        """Do everything; failures end up in `failure`."""
        try:
            await self._prepare()
            started = self._loop.time()
            self.started = True
            await asyncio.gather(*(worker.start() for worker in self._workers))
            await self._watch(started)
            await self._finish_producers()
            self.seconds = self._loop.time() - started
        except PerfFailure as failed:
            self.failure = str(failed)
        finally:
            self.report.finish(self._clock())
            await asyncio.gather(*(worker.close() for worker in self._workers))

    async def _prepare(self) -> None:
        settings = self._settings
        control = await open_connection(settings, Histogram(), self._clock)
        try:
            await declare_topology(control, settings)
        finally:
            await control.close(CLOSE_SECONDS)
        dealt = shares(settings)
        self._workers = (
            [LocalWorker(dealt[0])] if len(dealt) == 1 else [RemoteWorker(share) for share in dealt]
        )
        # consumers first, everywhere: what a producer of another process sends must find its queue
        await asyncio.gather(*(worker.prepare() for worker in self._workers))

    async def _watch(self, started: float) -> None:
        """Sample and print until the run is complete."""
        settings = self._settings
        deadline = started + settings.seconds if settings.seconds else float("inf")
        line_at, last_line = started + settings.interval, started
        self._last_progress = started
        while True:
            await self._pause(min(line_at, deadline, self._loop.time() + POLL_SECONDS))
            await self._sample()
            now = self._loop.time()
            if now >= line_at:
                self._write(self.report.interval_line(now - started, now - last_line))
                last_line = now
                line_at += settings.interval * max(1, 1 + (now - line_at) // settings.interval)
            if now >= deadline or self._interrupted.is_set() or self._complete(now):
                break
        if last_line == started:
            now = self._loop.time()
            self._write(self.report.interval_line(now - started, now - started))

    async def _pause(self, until: float) -> None:
        try:
            await asyncio.wait_for(self._interrupted.wait(), max(0.0, until - self._loop.time()))
        except TimeoutError:
            return

    async def _sample(self) -> None:
        """Raises PerfFailure if a worker's broker connection failed."""
        received = self.report.counts.received
        said = len(self.report.notices)
        self._samples = await asyncio.gather(*(worker.sample() for worker in self._workers))
        self.report.take(self._samples)
        if self.report.counts.received != received:
            self._last_progress = self._loop.time()
        for notice in self.report.notices[said:]:
            self._complain(f"{self._settings.name}: {notice}")
        for sample in self._samples:
            if sample.failure:
                raise PerfFailure(sample.failure)

    def _complete(self, now: float) -> bool:
        """Whether the counts that were asked for are reached, or cannot grow any more."""
        settings = self._settings
        sending = sum(sample.producers_running for sample in self._samples)
        receiving = sum(sample.consumers_running for sample in self._samples)
        if settings.consumer_messages and not receiving:
            return not sending or not settings.producer_messages
        if sending or not settings.producers:
            self._last_progress = now
            return False
        return (
            not settings.consumers
            or self._all_received()
            or now - self._last_progress > settings.drain_seconds
        )

    def _all_received(self) -> bool:
        copies = self._settings.copies()
        if copies is None or self._settings.consumer_messages:
            return False
        counts = self.report.counts
        return counts.received >= (counts.sent - counts.returned - counts.nacked) * copies

    async def _finish_producers(self) -> None:
        """Wait for outstanding confirms, and for the broker to take what was sent, but not for ever."""
        await asyncio.gather(*(worker.stop_producers() for worker in self._workers))
        await self._sample()
        patience = self._loop.time() + self._settings.drain_seconds
        while any(sample.producers_running for sample in self._samples):
            if self._loop.time() > patience:
                self._complain(f"{self._settings.name}: the broker has not taken everything that was sent")
                return
            await asyncio.sleep(POLL_SECONDS)
            await self._sample()


async def execute(settings: Settings, write: Write, complain: Write) -> Run:
    """Run to the end, an interrupt's included, and print the summary and the failure, if any."""
    current = Run(settings, write, complain)
    loop = asyncio.get_running_loop()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, current.interrupt)
    except (NotImplementedError, RuntimeError, ValueError):
        # without signal handlers (Windows, not the main thread) an interrupt ends the process at once
        complain("an interrupt will end this run without a summary")
    await current.execute()
    if current.started:
        for line in current.report.summary():
            write(line)
    if current.failure:
        complain(f"{settings.name}: {current.failure}")
    return current


def run(settings: Settings, json_file: Path | None) -> int:
    """The command's work: lines to stdout, complaints to stderr, the document to a file.

    Returns the exit status: 0, or 1 if the broker failed. Raises OSError if the file cannot be written.
    """

    def write(line: str) -> None:
        print(line, flush=True)

    def complain(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    done = run_in_loop(execute(settings, write, complain))
    if json_file is not None:
        document = done.report.document(done.seconds, done.failure)
        json_file.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if done.failure else 0

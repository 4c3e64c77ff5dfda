"""Work that takes its time, in a few threads: so many at once, so many in line, and no more.

The event loop hands in a `Job` and is called back when it is done. Each of those who bring jobs has a line, and they
are served in turn, so that one who brings many does not keep the others waiting; when all lines together are full,
the last of the longest has to go. A job that nobody wants any more is passed over.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from concurrent.futures import Executor


class Crowded(Exception):
    """A job was not done, as there were too many."""


class Job(ABC):
    """Something to be done in a thread. Everything but `work` is called by the event loop."""

    @property
    @abstractmethod
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""

    @abstractmethod
    def work(self) -> None:
        """Do it, in a thread. What it raises is what `done` gets."""

    @abstractmethod
    def done(self, error: BaseException | None) -> None:
        """It was done, or failed, or had to go (Crowded)."""

    @abstractmethod
    def passed_over(self) -> None:
        """It was not begun, as it was not wanted any more."""


class Workers:
    """most: jobs at work at a time. most_waiting: jobs in line behind them. waiting, begun: jobs now, and so far."""

    def __init__(self, name: str, most: int, most_waiting: int) -> None:
        self.waiting = 0
        self.begun = 0
        self._name = name
        self._most = most
        self._most_waiting = most_waiting
        self._executor: Executor | None = None
        self._under_way: set[asyncio.Future[None]] = set()
        self._lines: OrderedDict[str, deque[Job]] = OrderedDict()
        self._tidied_at = 0

    @property
    def idle(self) -> bool:
        return not self._under_way

    def take_nowait(self, job: Job, whose: str) -> bool:
        """Have it done. False if there are too many, most of them by the same one; nothing comes of it then."""
        if len(self._under_way) < self._most:
            self._start(job)
            return True
        if self.waiting >= self._most_waiting and not self._make_room(whose):
            return False
        self._lines.setdefault(whose, deque()).append(job)
        self.waiting += 1
        return True

    def close(self) -> None:
        """Begin nothing more, and tell nobody of what is under way."""
        self._lines.clear()
        self.waiting = 0
        for future in self._under_way:
            future.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _make_room(self, whose: str) -> bool:
        # Who floods the lines may not have them looked through each time.
        if self._tidied_at != self.begun:
            self._tidied_at = self.begun
            self._tidy()
            if self.waiting < self._most_waiting:
                return True
        longest = max(self._lines, key=lambda each: len(self._lines[each]))
        if len(self._lines[longest]) <= len(self._lines.get(whose, ())) + 1:
            return False
        asyncio.get_running_loop().call_soon(self._lines[longest].pop().done, Crowded())
        self.waiting -= 1
        return True

    def _tidy(self) -> None:
        for whose, line in list(self._lines.items()):
            unwanted = [job for job in line if not job.wanted]
            for job in unwanted:
                line.remove(job)
                job.passed_over()
            self.waiting -= len(unwanted)
            if not line:
                del self._lines[whose]

    def _start(self, job: Job) -> None:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(self._most, self._name)
        future = asyncio.get_running_loop().run_in_executor(self._executor, job.work)
        self._under_way.add(future)
        self.begun += 1
        future.add_done_callback(lambda ended: self._ended(job, ended))

    def _ended(self, job: Job, future: asyncio.Future[None]) -> None:
        if future.cancelled():
            return
        self._under_way.discard(future)
        # The next one first: whatever comes of this one, the threads go on.
        following = self._next()
        if following is not None:
            self._start(following)
        job.done(future.exception())

    def _next(self) -> Job | None:
        while self._lines:
            whose, line = self._lines.popitem(last=False)
            job = line.popleft()
            self.waiting -= 1
            if line:
                self._lines[whose] = line
            if job.wanted:
                return job
            job.passed_over()
        return None

"""Ready entries in the order in which they go out: the first in memory, then runs that are not, then what came last.

`ready` holds the head. Where there are more than memory is to hold, the middle is away (see `runs`), and what is
appended then gathers in `tail` until it goes away as well or the head has come to it. A queue is one lane, or one for
each priority.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.message import NOT_STORED, QueueEntry
from amqp_broker.broker.runs import RUN_LENGTH, RUN_OCTETS, Run, bring_back, delete, forget, headers, put_away
from amqp_broker.content.header import ContentHeader

if TYPE_CHECKING:
    from amqp_broker.broker.backlog import Backlog
    from amqp_broker.broker.ports import StoredLane


class Lane:
    """ready: never replaced. away_count, away_octets: entries of all runs, and the octets of their bodies.

    Nothing is in `tail` unless something is away.
    """

    __slots__ = ("away", "away_count", "away_octets", "ready", "tail")

    def __init__(self) -> None:
        self.ready: deque[QueueEntry] = deque()
        self.away: deque[Run] = deque()
        self.away_count: int = 0
        self.away_octets: int = 0
        self.tail: deque[QueueEntry] = deque()

    def append(self, entry: QueueEntry) -> None:
        if self.away_count:
            self.tail.append(entry)
        else:
            self.ready.append(entry)

    def put_back(self, queue: Backlog, entries: list[QueueEntry]) -> None:
        """Put entries, in seq order, where they belong, which is near the head."""
        ready = self.ready
        last = entries[len(entries) - 1].seq
        while self.away and self.away[0].first_seq < last:
            # Others that came back have left memory since.
            self._bring_next(queue)
        if len(entries) == 1:
            # One at a time is how most come back: those before it are not to be moved for each.
            ready.insert(bisect_left(ready, last, key=_seq), entries[0])
            return
        if ready and ready[0].seq < last:
            entries = list(entries)
            while ready and ready[0].seq < last:
                entries.append(ready.popleft())
            entries.sort(key=_seq)
        for entry in reversed(entries):
            ready.appendleft(entry)

    def refill(self, queue: Backlog) -> bool:
        """Called when `ready` is empty: bring the next run to the head; whether anything is ready now."""
        while self.away and not self.ready:
            self._bring_next(queue)
        return len(self.ready) > 0

    def _bring_next(self, queue: Backlog) -> None:
        """Put the next entries that are away behind those at the head."""
        run = self.away[0]
        count, octets = run.count, run.octets
        self.ready.extend(bring_back(queue, run))
        self.away_count -= count - run.count
        self.away_octets -= octets - run.octets
        lost = run.count if count == run.count else 0
        if lost:
            self.away_count -= lost
            self.away_octets -= run.octets
            queue.lost(lost, run.octets)
        if lost or not run.count:
            self.away.popleft()
        if self.tail and not self.away:
            self.ready.extend(self.tail)
            self.tail.clear()
        if lost:
            raise LookupError(
                f"{lost} messages are not in the store any more, from number {run.first_seq} on"
            )

    def page_out(self, queue: Backlog, keep: int, whole_runs: bool) -> None:
        """Have entries leave memory, all but about the first `keep`. whole_runs: no run shorter than RUN_LENGTH.

        What is not settled stays, and so does everything if there is nowhere to go.
        """
        readable = queue.store.readable()
        if readable == NOT_STORED:
            return
        if self.away:
            self._page_out_head(queue, keep, readable)
        elif len(self.ready) > keep:
            while len(self.ready) > keep:
                self.tail.appendleft(self.ready.pop())
        runs: list[Run] = []
        while self.tail:
            entries = self._first_of_tail(queue.store.settled)
            if not entries or (whole_runs and not self._is_whole(entries)):
                break
            run = put_away(queue, entries, readable)
            if run is None:
                break
            for _ in entries:
                self.tail.popleft()
            runs.append(run)
        for run in runs:
            self._add_last(run)
        if not self.away and self.tail:
            self.ready.extend(self.tail)
            self.tail.clear()

    def away_headers(self, queue: Backlog) -> Iterator[ContentHeader]:
        """Of all that is away; none of it is kept."""
        for run in self.away:
            yield from headers(queue, run)

    def drop_away(self, queue: Backlog) -> None:
        """What is away is gone, from the store as well."""
        delete(queue, self.away)
        self._forget_away(queue)

    def _forget_away(self, queue: Backlog) -> None:
        forget(queue, self.away)
        self.away.clear()
        self.away_count = 0
        self.away_octets = 0
        self.ready.extend(self.tail)
        self.tail.clear()

    def clear(self, queue: Backlog) -> None:
        """Nothing is ready any more; the store is not told of rows."""
        self._forget_away(queue)
        self.ready.clear()

    def recovered(self, stored: StoredLane) -> None:
        """Take over what the store holds; called once, before anything else."""
        if stored.count:
            self._add_last(Run(stored.first_seq, stored.last_seq, stored.count, stored.body_bytes))

    def resident_count(self) -> int:
        return len(self.ready) + len(self.tail)

    def __len__(self) -> int:
        return len(self.ready) + self.away_count + len(self.tail)

    def _add_last(self, run: Run) -> None:
        self.away_count += run.count
        self.away_octets += run.octets
        if self.away and not run.ticket and not self.away[len(self.away) - 1].ticket:
            last = self.away[len(self.away) - 1]
            last.last_seq = run.last_seq
            last.count += run.count
            last.octets += run.octets
        else:
            self.away.append(run)

    def _page_out_head(self, queue: Backlog, keep: int, readable: int) -> None:
        """Much is at the head while something is away: have the end of it go."""
        ready = self.ready
        while len(ready) > keep:
            entries: list[QueueEntry] = []
            octets = 0
            while len(ready) > keep and len(entries) < RUN_LENGTH and octets < RUN_OCTETS:
                entries.append(ready.pop())
                octets += entries[len(entries) - 1].message.header.body_size
            entries.reverse()
            run = None
            if all(entry.batch <= queue.store.settled for entry in entries):
                run = put_away(queue, entries, readable)
            if run is None:
                ready.extend(entries)
                return
            self.away.appendleft(run)
            self.away_count += run.count
            self.away_octets += run.octets

    def _first_of_tail(self, settled: int) -> list[QueueEntry]:
        """As much as makes a run."""
        entries: list[QueueEntry] = []
        octets = 0
        for entry in self.tail:
            if entry.batch > settled or len(entries) >= RUN_LENGTH or octets >= RUN_OCTETS:
                break
            octets += entry.message.header.body_size
            entries.append(entry)
        return entries

    def _is_whole(self, entries: list[QueueEntry]) -> bool:
        return len(entries) >= RUN_LENGTH or sum([e.message.header.body_size for e in entries]) >= RUN_OCTETS


def _seq(entry: QueueEntry) -> int:
    return entry.seq

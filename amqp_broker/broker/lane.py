"""Ready entries in the order in which they go out: the first in memory, then runs that are not, then what came last.

`ready` holds the head. Where there are more than memory is to hold, the middle is away (see `runs`), and what is
appended then gathers in `tail` until it goes away as well or the head has come to it. A queue is one lane, or one for
each priority.

Much that comes back at once is not put between what is ready, which would take a look at each entry: it stays the lane
that it came as, in `returned`, and what is next is the first of the lane's own entries or of one of those.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import NOT_STORED, QueueEntry
from amqp_broker.broker.runs import RUN_LENGTH, RUN_OCTETS, Run, bring_back, delete, forget, headers, put_away
from amqp_broker.content.header import ContentHeader

if TYPE_CHECKING:
    from amqp_broker.broker.backlog import Backlog
    from amqp_broker.broker.ports import StoredLane

# Behind all that could be.
NOWHERE: Final = 1 << 64
# Entries that come back are put between those that are ready if so many of these, and so many for each, are before.
FEW_BEFORE: Final = 64
BEFORE_EACH: Final = 4


class Lane:
    """ready, returned: never replaced. away_count, away_octets: entries of all runs, and the octets of their bodies.

    Nothing is in `tail` unless something is away. returned: what came back and is not put between the others: a heap
    of lanes that have nothing returned themselves and may be empty, each with a seq that is not above its first, and a
    number that tells lanes with the same one apart. returned_count: their entries.
    """

    __slots__ = (
        "_bound",
        "_first",
        "_latest",
        "_numbers",
        "away",
        "away_count",
        "away_octets",
        "ready",
        "returned",
        "returned_count",
        "tail",
    )

    def __init__(self) -> None:
        self.ready: deque[QueueEntry] = deque()
        self.away: deque[Run] = deque()
        self.away_count: int = 0
        self.away_octets: int = 0
        self.tail: deque[QueueEntry] = deque()
        self.returned: list[tuple[int, int, Lane]] = []
        self.returned_count: int = 0
        self._numbers: int = 0
        # Found to have what is next, as long as that is below the bound.
        self._first: Lane | None = None
        # Of `returned`, the one that was put there last a few at a time.
        self._latest: Lane | None = None
        self._bound: int = 0

    def append(self, entry: QueueEntry) -> None:
        if self.away_count:
            self.tail.append(entry)
        else:
            self.ready.append(entry)

    def put_back(self, queue: Backlog, entries: list[QueueEntry]) -> None:
        """Put entries, in seq order, where they belong, which mostly is near the head."""
        ready = self.ready
        self._first = None
        last = entries[len(entries) - 1].seq
        while self.away and self.away[0].first_seq < last:
            # Others that came back have left memory since.
            self._bring_next(queue)
        if len(entries) == 1:
            # One at a time is how most come back: those before it are not to be moved for each.
            ready.insert(bisect_left(ready, last, key=_seq), entries[0])
            return
        if ready and ready[0].seq < last:
            if bisect_left(ready, last, key=_seq) > FEW_BEFORE + BEFORE_EACH * len(entries):
                self._put_aside(entries)
                return
            entries = list(entries)
            while ready and ready[0].seq < last:
                entries.append(ready.popleft())
            entries.sort(key=_seq)
        for entry in reversed(entries):
            ready.appendleft(entry)

    # -- what came back as lanes of its own

    def _put_aside(self, entries: list[QueueEntry]) -> None:
        """Entries come back and are not put between those that are ready: behind what came back so before, if they
        follow it, as many that return a few at a time do.
        """
        latest = self._latest
        if latest is None or not len(latest) or latest.last_seq() > entries[0].seq:
            latest = self._latest = Lane()
        for entry in entries:
            latest.append(entry)
        if len(latest) == len(entries):
            self.add_returned(latest)
        else:
            self.returned_count += len(entries)

    def add_returned(self, lane: Lane) -> None:
        """Entries come back, in seq order and as many as there may be, each of which takes its turn by its seq."""
        if len(lane):
            self._numbers += 1
            self._first = None
            self.returned_count += len(lane)
            heappush(self.returned, (lane.first_seq(), self._numbers, lane))

    def first_seq(self) -> int:
        """Of the lane's own, or one that is lower but not lower than any before it; NOWHERE if it has none."""
        if self.ready:
            return self.ready[0].seq
        return self.away[0].first_seq if self.away else NOWHERE

    def last_seq(self) -> int:
        """Of the lane's own; only if it has any."""
        if self.away:
            return self.tail[len(self.tail) - 1].seq if self.tail else self.away[len(self.away) - 1].last_seq
        return self.ready[len(self.ready) - 1].seq

    def find_first(self, queue: Backlog) -> bool:
        """Something is in `returned`: have what is next of all in memory; whether there is anything."""
        lane = self._first
        if lane is not None:
            if lane.ready and lane.ready[0].seq < self._bound:
                return True
            self._first = None
        while self.returned:
            first, number, lane = self.returned[0]
            if not len(lane):
                heappop(self.returned)
            elif first != lane.first_seq():
                heapreplace(self.returned, (lane.first_seq(), number, lane))
            elif self.first_seq() < first:
                if self.ready:
                    return True
                self.refill(queue)
            elif lane.ready:
                self._first = lane
                self._bound = self._next_of_others()
                return True
            else:
                before = len(lane)
                try:
                    lane.refill(queue)
                finally:
                    self.returned_count -= before - len(lane)
        return len(self.ready) > 0 or (self.away_count > 0 and self.refill(queue))

    def _next_of_others(self) -> int:
        """What the first of `returned` has below this goes before all that others have, and the lane itself."""
        bound = self.first_seq()
        for position in range(1, min(3, len(self.returned))):
            bound = min(bound, self.returned[position][0])
        return bound

    def first(self) -> QueueEntry:
        """What is next; right after `find_first`."""
        return self.ready[0] if self._first is None else self._first.ready[0]

    def take_first(self) -> QueueEntry:
        """Take it out; right after `find_first`."""
        lane = self._first
        if lane is None:
            return self.ready.popleft()
        self.returned_count -= 1
        return lane.ready.popleft()

    # -- memory

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

    def page_out(self, queue: Backlog, keep: int, whole_runs: bool, most: int = NOWHERE) -> int:
        """Have entries leave memory, all but about the first `keep`. whole_runs: no run shorter than RUN_LENGTH.

        What is not settled stays, and so does everything if there is nowhere to go. Returns how many runs left, which
        are not more than `most`.
        """
        readable = queue.store.readable()
        if readable == NOT_STORED or most <= 0:
            return 0
        left = 0
        self._first = None
        first = keep
        for _, _, lane in self.returned:
            left += lane.page_out(queue, first, whole_runs, most - left)
            first = 0
        if left >= most:
            return left
        if self.away:
            left += self._page_out_head(queue, keep, readable, most - left)
        elif len(self.ready) > keep:
            kept = [self.ready.popleft() for _ in range(keep)]
            self.tail.extend(self.ready)
            self.ready.clear()
            self.ready.extend(kept)
        runs: list[Run] = []
        while self.tail and left + len(runs) < most:
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
        return left + len(runs)

    def away_headers(self, queue: Backlog) -> Iterator[ContentHeader]:
        """Of all that is away; none of it is kept."""
        for run in self.away:
            yield from headers(queue, run)
        for _, _, lane in self.returned:
            yield from lane.away_headers(queue)

    def drop_away(self, queue: Backlog) -> None:
        """What is away is gone, from the store as well."""
        delete(queue, self.away)
        self._forget_away(queue)
        lanes = list(self.returned)
        self._first = None
        self.returned.clear()
        self.returned_count = 0
        for _, _, lane in lanes:
            lane.drop_away(queue)
            self.add_returned(lane)

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
        for _, _, lane in self.returned:
            lane.clear(queue)
        self._first = None
        self.returned.clear()
        self.returned_count = 0

    def recovered(self, stored: StoredLane) -> None:
        """Take over what the store holds; called once, before anything else."""
        if stored.count:
            self._add_last(Run(stored.first_seq, stored.last_seq, stored.count, stored.body_bytes))

    def resident(self) -> list[QueueEntry]:
        """What is in memory."""
        entries = [*self.ready, *self.tail]
        for _, _, lane in self.returned:
            entries += lane.resident()
        return entries

    def resident_count(self) -> int:
        return len(self) - self.count_away()

    def count_away(self) -> int:
        """How many are not in memory, of what came back as well."""
        count = self.away_count
        for _, _, lane in self.returned:
            count += lane.away_count
        return count

    def octets_away(self) -> int:
        """Of their bodies."""
        octets = self.away_octets
        for _, _, lane in self.returned:
            octets += lane.away_octets
        return octets

    def __len__(self) -> int:
        return len(self.ready) + self.away_count + len(self.tail) + self.returned_count

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

    def _page_out_head(self, queue: Backlog, keep: int, readable: int, most: int) -> int:
        """Much is at the head while something is away: have the end of it go; how many runs that were."""
        ready = self.ready
        left = 0
        while len(ready) > keep and left < most:
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
                break
            left += 1
            self.away.appendleft(run)
            self.away_count += run.count
            self.away_octets += run.octets
        return left

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

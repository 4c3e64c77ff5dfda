"""What is ready in a queue, in order: in memory as far as memory goes, the rest brought back when its turn comes.

This is a queue's storage and order and nothing else: who takes entries, and what becomes of them, is `queue`'s
business; how entries leave memory and come back is that of `lane` and `runs`, and when they leave of `memory`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from amqp_broker.broker.lane import NOWHERE, Lane
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Store, StoredEntry, StoredLane, StoredQueue
from amqp_broker.broker.timetable import Timed
from amqp_broker.content.header import ContentHeader

BY_SEQ: Final = attrgetter("seq")


class Backlog(Timed):
    """ready_bytes: octets of the bodies that are ready. next_seq: of the next entry. store_id: 0 unless durable.

    ready, returned: those of the lane, for the hot path. watermark: entries of the store up to and including it
    had been handed out.
    """

    __slots__ = ("lane", "next_seq", "ready", "ready_bytes", "returned", "store", "store_id", "watermark")

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store: Store = store
        self.store_id: int = 0
        self.next_seq: int = 1
        self.watermark: int = 0
        self.lane: Lane = Lane()
        self.ready: deque[QueueEntry] = self.lane.ready
        self.returned: list[tuple[int, int, Lane]] = self.lane.returned
        self.ready_bytes: int = 0

    def append(self, entry: QueueEntry) -> None:
        """Put an entry behind all that are ready."""
        self.ready_bytes += entry.message.header.body_size
        self.lane.append(entry)

    def put_back(self, entries: list[QueueEntry], failed: bool = False) -> None:
        """Put delivered entries, in seq order, back where they were. failed: as for `Queue.requeue`."""
        for entry in entries:
            self.ready_bytes += entry.message.header.body_size
        self.lane.put_back(self, entries)

    def put_back_lane(self, lane: Lane) -> None:
        """The same for any number, in the order in which they go out. Their octets are the caller's to count."""
        self.lane.add_returned(lane)

    def available(self) -> bool:
        """Whether an entry is ready; brings the next run back to memory if need be."""
        if self.returned:
            return self.lane.find_first(self)
        return len(self.ready) > 0 or (self.lane.away_count > 0 and self.lane.refill(self))

    def head(self) -> QueueEntry:
        """The entry that is next; only if one is available."""
        return self.lane.first() if self.returned else self.ready[0]

    def take(self) -> QueueEntry:
        """Take the head out; only if one is available."""
        entry = self.lane.take_first() if self.returned else self.ready.popleft()
        self.ready_bytes -= entry.message.header.body_size
        return entry

    def lanes(self) -> list[Lane]:
        """Those of the queue, in the order in which they are served."""
        return [self.lane]

    def resident(self) -> list[QueueEntry]:
        """What is ready and in memory."""
        entries: list[QueueEntry] = []
        for lane in self.lanes():
            entries += lane.resident()
        return entries

    def headers(self) -> Iterator[ContentHeader]:
        """Of all that is ready; what is not in memory is read, a run at a time, and not kept."""
        for entry in self.resident():
            yield entry.message.header
        yield from self.away_headers()

    def away_headers(self) -> Iterator[ContentHeader]:
        """Of what is ready and not in memory."""
        for lane in self.lanes():
            yield from lane.away_headers(self)

    def clear(self) -> None:
        """Nothing is ready any more; the store is not told."""
        for lane in self.lanes():
            lane.clear(self)
        self.ready_bytes = 0

    def drop_away(self) -> None:
        """What is ready and not in memory is gone, from the store as well."""
        for lane in self.lanes():
            self.ready_bytes -= lane.octets_away()
            lane.drop_away(self)

    def lost(self, count: int, octets: int) -> None:
        """So many ready messages turned out not to be there any more."""
        self.ready_bytes -= octets

    def ready_count(self) -> int:
        return len(self.lane)

    def away_count(self) -> int:
        """How many of them are not in memory."""
        return sum([lane.count_away() for lane in self.lanes()])

    def resident_octets(self) -> int:
        """Of the bodies that are ready and in memory."""
        return self.ready_bytes - sum([lane.octets_away() for lane in self.lanes()])

    def page_out(self, keep: int, whole_runs: bool, most: int = NOWHERE) -> int:
        """Have what is ready leave memory, as far as that can be: see `Lane.page_out`."""
        left = 0
        for lane in self.lanes():
            left += lane.page_out(self, keep, whole_runs, most - left)
            keep = max(0, keep - lane.resident_count())
        return left

    def recovered(self, stored: StoredQueue) -> None:
        """Take over what the store holds; called once, before anything else."""
        for lane in stored.lanes:
            self.ready_bytes += lane.body_bytes
            watermark = lane.watermark
            if stored.interrupted:
                watermark = lane.last_seq
                self.store.mark_delivered(self.store_id, watermark)
            self.lane_recovered(lane, watermark)

    def lane_recovered(self, stored: StoredLane, watermark: int) -> None:
        self.lane.recovered(stored)
        self.next_seq = stored.last_seq + 1
        self.watermark = watermark

    def first_expiry(self) -> int:
        """When the head expires, of what a start found; nothing is brought to memory."""
        for lane in self.lanes():
            if lane.away:
                rows = self.store.read(self.store_id, lane.away[0].first_seq, 1)
                return rows[0].expiry if rows else 0
        return 0

    def handed_out(self, seq: int) -> bool:
        """Whether an entry of the store with this seq had been handed out, as far as the store knows."""
        return seq <= self.watermark

    @abstractmethod
    def entry(self, message: Message, seq: int) -> QueueEntry:
        """A new entry of this queue."""

    @abstractmethod
    def entry_of(self, stored: StoredEntry, header: ContentHeader) -> QueueEntry:
        """The entry that the store holds."""

"""What is ready in a queue, in order: in memory, and behind that what a restart found in the store.

Entries are read back in short runs when they come to the head. This is a queue's storage and order and nothing else:
who takes entries, and what becomes of them, is `queue`'s business.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.ports import Store, StoredEntry, StoredQueue
from amqp_broker.broker.timetable import Timed
from amqp_broker.content.header import ContentHeader, parse_header

RUN_LENGTH: Final = 1000
BY_SEQ: Final = attrgetter("seq")


class QueueStatistics:
    """ready, unacked: messages; consumers: how many; a picture of one moment."""

    __slots__ = ("consumers", "ready", "unacked")

    def __init__(self, ready: int, unacked: int, consumers: int) -> None:
        self.ready: int = ready
        self.unacked: int = unacked
        self.consumers: int = consumers


class Backlog(Timed):
    """ready_bytes: octets of the bodies that are ready. next_seq: of the next entry. store_id: 0 unless durable.

    watermark: entries of the store up to and including it had been handed out.
    """

    __slots__ = (
        "_on_disk",
        "_on_disk_next",
        "_tail",
        "next_seq",
        "ready",
        "ready_bytes",
        "store",
        "store_id",
        "watermark",
    )

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store: Store = store
        self.store_id: int = 0
        self.next_seq: int = 1
        self.watermark: int = 0
        self.ready: deque[QueueEntry] = deque()
        self.ready_bytes: int = 0
        self._on_disk: int = 0
        self._on_disk_next: int = 0
        self._tail: deque[QueueEntry] = deque()

    def append(self, entry: QueueEntry) -> None:
        """Put an entry behind all that are ready."""
        self.ready_bytes += entry.message.header.body_size
        if self._on_disk:
            self._tail.append(entry)
        else:
            self.ready.append(entry)

    def put_back(self, entries: list[QueueEntry], failed: bool = False) -> None:
        """Put delivered entries, in seq order, back where they were. failed: as for `Queue.requeue`."""
        ready = self.ready
        last = entries[len(entries) - 1].seq
        for entry in entries:
            self.ready_bytes += entry.message.header.body_size
        if ready and ready[0].seq < last:
            entries = list(entries)
            while ready and ready[0].seq < last:
                entries.append(ready.popleft())
            entries.sort(key=BY_SEQ)
        entries.reverse()
        ready.extendleft(entries)

    def available(self) -> bool:
        """Whether an entry is ready; brings the next run back from the store if need be."""
        return len(self.ready) > 0 or self._read_back()

    def head(self) -> QueueEntry:
        """The entry that is next; only if one is available."""
        return self.ready[0]

    def take(self) -> QueueEntry:
        """Take the head out; only if one is available."""
        entry = self.ready.popleft()
        self.ready_bytes -= entry.message.header.body_size
        return entry

    def resident(self) -> list[QueueEntry]:
        """What is ready and in memory."""
        return [*self.ready, *self._tail]

    def headers(self) -> Iterator[ContentHeader]:
        """Of all that is ready; for what is not in memory the store is read, a run at a time."""
        for entry in self.resident():
            yield entry.message.header
        yield from self.stored_headers()

    def stored_headers(self) -> Iterator[ContentHeader]:
        """Of what is ready and not in memory; none of it is kept."""
        seq, left = self._on_disk_next, self._on_disk
        while left:
            run = self.store.read(self.store_id, seq, min(RUN_LENGTH, left))
            if not run:
                return
            for stored in run:
                yield parse_header(stored.header)
            seq = run[len(run) - 1].seq + 1
            left -= len(run)

    def clear(self) -> None:
        """Nothing is ready any more; the store is not told."""
        self.ready.clear()
        self._tail.clear()
        self._on_disk = 0
        self.ready_bytes = 0

    def ready_count(self) -> int:
        return len(self.ready) + self._on_disk + len(self._tail)

    def recovered(self, stored: StoredQueue) -> None:
        """Take over what the store holds; called once, before anything else."""
        self._on_disk = stored.count
        self._on_disk_next = stored.first_seq
        self.ready_bytes = stored.body_bytes
        self.next_seq = stored.last_seq + 1
        self.watermark = stored.watermark

    def _read_back(self) -> bool:
        """Bring the next run of stored entries to the head; whether anything is ready now."""
        while self._on_disk:
            run = self.store.read(self.store_id, self._on_disk_next, min(RUN_LENGTH, self._on_disk))
            if not run:
                self._on_disk = 0
                break
            header = parse_header(run[0].header)
            for stored in run:
                if stored.header != header.payload:
                    header = parse_header(stored.header)
                self.ready.append(self.entry_of(stored, header))
            self._on_disk -= len(run)
            self._on_disk_next = run[len(run) - 1].seq + 1
            if self.ready:
                break
        if not self._on_disk and self._tail:
            self.ready.extend(self._tail)
            self._tail.clear()
        return len(self.ready) > 0

    @abstractmethod
    def entry_of(self, stored: StoredEntry, header: ContentHeader) -> QueueEntry:
        """The entry that the store holds."""

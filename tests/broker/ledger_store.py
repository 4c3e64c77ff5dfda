"""A store in memory that keeps only what was committed, and holds the model to the contract of `broker.ports`.

The test seals and commits batches by hand, in its own time, or crashes: `survivor` is what a start finds then. A
call that breaks the contract (an unknown queue id, a seq that does not rise, a removal of what is not there) is an
AssertionError at the place that made it.
"""

from __future__ import annotations

import marshal
from copy import copy

from amqp_broker.broker.message import NOT_STORED, QueueEntry
from amqp_broker.broker.ports import (
    LEVEL_SHIFT,
    CommitWaiter,
    Definition,
    Store,
    StoredEntry,
    StoredLane,
    StoredQueue,
)

Place = tuple[int, int]


class Record:
    """One entry as it lies on the disk."""

    def __init__(self, entry: QueueEntry) -> None:
        message = entry.message
        self.address = message.address
        self.header = message.header.payload
        self.body = b"".join(message.pieces())
        self.batch = entry.batch
        self.deliveries = entry.deliveries
        self.expiry = entry.expiry


class Disk:
    """What is durable: definitions by kind and key, entries by queue id and seq, watermarks by queue id and level."""

    def __init__(self) -> None:
        self.definitions: dict[tuple[str, bytes], dict[str, object]] = {}
        self.entries: dict[int, dict[int, Record]] = {}
        self.watermarks: dict[Place, int] = {}
        self.next_queue_id = 1

    def copy(self) -> Disk:
        other = Disk()
        other.definitions = dict(self.definitions)
        other.entries = {queue_id: dict(records) for queue_id, records in self.entries.items()}
        other.watermarks = dict(self.watermarks)
        other.next_queue_id = self.next_queue_id
        return other


class Changes:
    """A batch: what it removes, then what it puts. definitions: None for one that is deleted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.waiters: dict[CommitWaiter, None] = {}
        self.definitions: dict[tuple[str, bytes], dict[str, object] | None] = {}
        self.deletes: list[Place] = []
        self.ranges: list[tuple[int, int, int]] = []
        self.queues_gone: list[int] = []
        self.puts: dict[Place, Record] = {}
        self.marks: dict[Place, int] = {}
        self.counts: dict[Place, int] = {}

    @property
    def empty(self) -> bool:
        """Delivery marks alone are not worth a batch."""
        return not (
            self.waiters
            or self.definitions
            or self.deletes
            or self.ranges
            or self.queues_gone
            or self.puts
            or self.counts
        )

    def apply(self, disk: Disk) -> None:
        for key, value in self.definitions.items():
            if value is None:
                disk.definitions.pop(key, None)
            else:
                disk.definitions[key] = value
        for queue_id, seq in self.deletes:
            disk.entries.get(queue_id, {}).pop(seq, None)
        for queue_id, first, last in self.ranges:
            kept = disk.entries.get(queue_id, {})
            for seq in [seq for seq in kept if first <= seq <= last]:
                del kept[seq]
        for queue_id in self.queues_gone:
            disk.entries.pop(queue_id, None)
            for lane in [lane for lane in disk.watermarks if lane[0] == queue_id]:
                del disk.watermarks[lane]
        for (queue_id, seq), deliveries in self.counts.items():
            if seq in disk.entries.get(queue_id, {}):
                disk.entries[queue_id][seq].deliveries = deliveries
        for (queue_id, seq), record in self.puts.items():
            disk.entries.setdefault(queue_id, {})[seq] = record
        for lane, seq in self.marks.items():
            disk.watermarks[lane] = max(seq, disk.watermarks.get(lane, 0))


class LedgerStore(Store):
    """disk: what is durable. sealed: batches that are on their way, oldest first. lag: how many of the last durable
    batches `read` does not find yet. spilled: by ticket; spill_fails: there is no room for more.
    """

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()
        for kept in self.disk.entries.values():
            for seq, record in kept.items():
                kept[seq] = copy(record)
                kept[seq].batch = 0
        self.batch = 1
        self.settled = 0
        self.lag = 0
        self._readable = 0
        self.sealed: list[Changes] = []
        self.spilled: dict[int, list[object]] = {}
        self.spill_fails = False
        self._tickets = 0
        self._current = Changes(1)
        self._places: set[Place] = set()
        self._gone: set[int] = set()

    # -- the contract

    def recover(self) -> tuple[list[Definition], dict[int, StoredQueue]]:
        assert self.batch == 1, "recover comes before the first batch"
        assert self._current.empty, "recover comes before the first change"
        definitions = [
            Definition(kind, key, dict(value)) for (kind, key), value in sorted(self.disk.definitions.items())
        ]
        queues: dict[int, StoredQueue] = {}
        places = [(queue_id, seq) for queue_id, kept in self.disk.entries.items() for seq in kept]
        levels = {(queue_id, seq >> LEVEL_SHIFT) for queue_id, seq in places}
        for queue_id, level in sorted(levels | set(self.disk.watermarks)):
            lane = StoredLane(level)
            seqs = [seq for owner, seq in places if owner == queue_id and seq >> LEVEL_SHIFT == level]
            lane.watermark = self.disk.watermarks.get((queue_id, level), 0)
            lane.first_seq = min(seqs, default=0)
            lane.last_seq = max([lane.watermark, *seqs])
            lane.count = len(seqs)
            lane.body_bytes = sum(len(self.disk.entries[queue_id][seq].body) for seq in seqs)
            queues.setdefault(queue_id, StoredQueue()).lanes.append(lane)
        self._places |= set(places)
        return definitions, queues

    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        found: list[StoredEntry] = []
        for seq, record in sorted(self.disk.entries.get(queue_id, {}).items()):
            if seq < first_seq or len(found) >= limit or record.batch > self.readable():
                continue
            stored = StoredEntry(seq, record.address, record.header, record.body)
            stored.deliveries, stored.expiry = record.deliveries, record.expiry
            found.append(stored)
        return found

    def readable(self) -> int:
        self._readable = max(self._readable, self.settled - self.lag)
        return self._readable

    def spill(self, values: list[object]) -> int:
        if self.spill_fails:
            return 0
        self._tickets += 1
        self.spilled[self._tickets] = marshal.loads(marshal.dumps(values))
        return self._tickets

    def unspill(self, ticket: int) -> list[object]:
        return self.spilled[ticket]

    def forget_spilled(self, ticket: int) -> None:
        del self.spilled[ticket]

    def put(self, queue_id: int, entry: QueueEntry) -> None:
        self._check(queue_id)
        assert entry.batch == NOT_STORED, "an entry is put once"
        place = (queue_id, entry.seq)
        assert place not in self._places, f"there is an entry {place} already"
        self._places.add(place)
        entry.batch = self.batch
        self._current.puts[place] = Record(entry)

    def delete(self, queue_id: int, entry: QueueEntry) -> None:
        self._check(queue_id)
        place = (queue_id, entry.seq)
        assert entry.batch != NOT_STORED, "an entry that is not stored is not deleted"
        assert place in self._places, f"entry {place} is deleted twice or was never there"
        self._places.discard(place)
        if self._current.puts.pop(place, None) is None:
            self._current.deletes.append(place)
        entry.batch = NOT_STORED

    def delete_range(self, queue_id: int, first_seq: int, last_seq: int) -> None:
        self._check(queue_id)
        assert first_seq >> LEVEL_SHIFT == last_seq >> LEVEL_SHIFT, "a range lies in one lane"
        for changes in [*self.sealed, self._current]:
            for owner, seq in changes.puts:
                assert owner != queue_id or not first_seq <= seq <= last_seq, f"seq {seq} is not settled"
        for owner, seq in list(self._places):
            if owner == queue_id and first_seq <= seq <= last_seq:
                self._places.discard((owner, seq))
        self._current.ranges.append((queue_id, first_seq, last_seq))

    def delete_queue(self, queue_id: int) -> None:
        self._check(queue_id)
        self._gone.add(queue_id)
        self._places = {place for place in self._places if place[0] != queue_id}
        for place in [place for place in self._current.puts if place[0] == queue_id]:
            del self._current.puts[place]
        for lane in [lane for lane in self._current.marks if lane[0] == queue_id]:
            del self._current.marks[lane]
        self._current.queues_gone.append(queue_id)

    def mark_delivered(self, queue_id: int, seq: int) -> None:
        self._check(queue_id)
        lane = (queue_id, seq >> LEVEL_SHIFT)
        self._current.marks[lane] = max(seq, self._current.marks.get(lane, 0))

    def count_deliveries(self, queue_id: int, entry: QueueEntry) -> None:
        self._check(queue_id)
        place = (queue_id, entry.seq)
        assert place in self._places, f"entry {place} is not there to be counted"
        if place in self._current.puts:
            self._current.puts[place].deliveries = entry.deliveries - 1
        else:
            self._current.counts[place] = entry.deliveries - 1

    def put_definition(self, definition: Definition) -> None:
        self._current.definitions[definition.kind, definition.key] = definition.value

    def delete_definition(self, kind: str, key: bytes) -> None:
        self._current.definitions[kind, key] = None

    def wait(self, waiter: CommitWaiter) -> int:
        self._current.waiters[waiter] = None
        return self.batch

    def next_queue_id(self) -> int:
        self.disk.next_queue_id += 1
        return self.disk.next_queue_id - 1

    def _check(self, queue_id: int) -> None:
        assert 0 < queue_id < self.disk.next_queue_id, f"queue id {queue_id} was never given out"
        assert queue_id not in self._gone, f"queue id {queue_id} was deleted"

    # -- what a test does

    @property
    def idle(self) -> bool:
        """Nothing is on its way and nothing waits to be sealed."""
        return not self.sealed and self._current.empty

    def seal(self) -> bool:
        """Close the current batch and begin the next; False if there is nothing in it."""
        if self._current.empty:
            return False
        self.sealed.append(self._current)
        self.batch += 1
        self._current = Changes(self.batch)
        return True

    def commit_oldest(self) -> None:
        """The oldest sealed batch is durable: apply it, then tell those who wait for it."""
        changes = self.sealed.pop(0)
        changes.apply(self.disk)
        self.settled = changes.number
        for waiter in changes.waiters:
            waiter.committed(changes.number)

    def commit(self) -> None:
        """Make all that was changed so far durable."""
        self.seal()
        while self.sealed:
            self.commit_oldest()

    def survivor(self, written: int = 0) -> LedgerStore:
        """The store of the start after a crash now, the oldest `written` sealed batches having reached the disk."""
        disk = self.disk.copy()
        for changes in self.sealed[:written]:
            changes.apply(disk)
        return LedgerStore(disk)

    def stored(self, queue_id: int) -> list[bytes]:
        """The bodies that are durable for a queue, in order."""
        return [record.body for _, record in sorted(self.disk.entries.get(queue_id, {}).items())]

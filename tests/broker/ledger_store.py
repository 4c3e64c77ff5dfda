"""A store in memory that keeps only what was committed, and holds the model to the contract of `broker.ports`.

The test seals and commits batches by hand, in its own time, or crashes: `survivor` is what a start finds then. A
call that breaks the contract (an unknown queue id, a seq that does not rise, a removal of what is not there) is an
AssertionError at the place that made it.
"""

from __future__ import annotations

from amqp_broker.broker.message import NOT_STORED, QueueEntry
from amqp_broker.broker.ports import CommitWaiter, Definition, Store, StoredEntry, StoredQueue

Place = tuple[int, int]


class Record:
    """One entry as it lies on the disk."""

    def __init__(self, entry: QueueEntry) -> None:
        message = entry.message
        self.address = message.address
        self.header = message.header.payload
        self.body = b"".join(message.pieces())
        self.deliveries = entry.deliveries
        self.expiry = entry.expiry


class Disk:
    """What is durable: definitions by kind and key, entries by queue id and seq, watermarks by queue id."""

    def __init__(self) -> None:
        self.definitions: dict[tuple[str, bytes], dict[str, object]] = {}
        self.entries: dict[int, dict[int, Record]] = {}
        self.watermarks: dict[int, int] = {}
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
        self.marks: dict[int, int] = {}

    @property
    def empty(self) -> bool:
        """Delivery marks alone are not worth a batch."""
        return not (
            self.waiters or self.definitions or self.deletes or self.ranges or self.queues_gone or self.puts
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
            disk.watermarks.pop(queue_id, None)
        for (queue_id, seq), record in self.puts.items():
            disk.entries.setdefault(queue_id, {})[seq] = record
        disk.watermarks.update(self.marks)


class LedgerStore(Store):
    """disk: what is durable. sealed: batches that are on their way, oldest first."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()
        self.batch = 1
        self.sealed: list[Changes] = []
        self._current = Changes(1)
        self._last_seq: dict[int, int] = {}
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
        for queue_id, kept in self.disk.entries.items():
            if not kept:
                continue
            size = sum(len(record.body) for record in kept.values())
            watermark = self.disk.watermarks.get(queue_id, 0)
            last_seq = max(watermark, *kept)
            queues[queue_id] = StoredQueue(min(kept), last_seq, len(kept), size, watermark)
            self._last_seq[queue_id] = last_seq
            self._places |= {(queue_id, seq) for seq in kept}
        for queue_id, watermark in self.disk.watermarks.items():
            if queue_id not in queues:
                queues[queue_id] = StoredQueue(0, watermark, 0, 0, watermark)
        return definitions, queues

    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        found: list[StoredEntry] = []
        for seq, record in sorted(self.disk.entries.get(queue_id, {}).items()):
            if seq < first_seq or len(found) >= limit:
                continue
            stored = StoredEntry(seq, record.address, record.header, record.body)
            stored.deliveries, stored.expiry = record.deliveries, record.expiry
            found.append(stored)
        return found

    def put(self, queue_id: int, entry: QueueEntry) -> None:
        self._check(queue_id)
        assert entry.batch == NOT_STORED, "an entry is put once"
        assert entry.seq > self._last_seq.get(queue_id, 0), f"seq {entry.seq} does not rise"
        self._last_seq[queue_id] = entry.seq
        self._places.add((queue_id, entry.seq))
        self._current.puts[queue_id, entry.seq] = Record(entry)
        entry.batch = self.batch

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
        unsettled = [
            seq
            for changes in [*self.sealed, self._current]
            for owner, seq in changes.puts
            if owner == queue_id
        ]
        last_seq = min([last_seq, *(seq - 1 for seq in unsettled)])
        self._places -= {(queue_id, seq) for seq in range(first_seq, last_seq + 1)}
        self._current.ranges.append((queue_id, first_seq, last_seq))

    def delete_queue(self, queue_id: int) -> None:
        self._check(queue_id)
        self._gone.add(queue_id)
        self._places = {place for place in self._places if place[0] != queue_id}
        for place in [place for place in self._current.puts if place[0] == queue_id]:
            del self._current.puts[place]
        self._current.marks.pop(queue_id, None)
        self._current.queues_gone.append(queue_id)

    def mark_delivered(self, queue_id: int, seq: int) -> None:
        self._check(queue_id)
        self._current.marks[queue_id] = max(seq, self._current.marks.get(queue_id, 0))

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

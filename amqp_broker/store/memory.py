"""A store of which nothing survives: for tests, and for an embedded broker that need not be durable.

The server drives it as it drives the journal, but no batch has anything to write: each can be reported as
soon as it is sealed. What is put can be read back for as long as the store lives.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import NOT_STORED
from amqp_broker.broker.ports import Definition, StoredEntry, StoredQueue
from amqp_broker.store.batch import Batch, BatchStore

if TYPE_CHECKING:
    from amqp_broker.broker.message import QueueEntry

READ_BYTES: Final = 4 << 20


class MemoryStore(BatchStore):
    """Keeps entries in dictionaries, which hold the same bytes as the model's messages."""

    __slots__ = ("_changed", "_next_queue_id", "_queues")

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[int, dict[int, QueueEntry]] = {}
        self._next_queue_id: int = 1
        self._changed: bool = False

    def recover(self) -> tuple[list[Definition], dict[int, StoredQueue]]:
        return [], {}

    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        kept = self._queues.get(queue_id, {})
        seqs = list(kept)
        found: list[StoredEntry] = []
        size = 0
        for seq in seqs[bisect_left(seqs, first_seq) :]:
            entry = kept[seq]
            if len(found) >= limit or size >= READ_BYTES or entry.batch > self.settled:
                break
            message = entry.message
            body = b"".join(message.chunks) if message.chunks else message.body
            stored = StoredEntry(seq, message.address, message.header.payload, body)
            stored.deliveries = entry.deliveries
            stored.expiry = entry.expiry
            found.append(stored)
            size += len(body)
        return found

    def readable(self) -> int:
        """Reading back from memory saves none."""
        return NOT_STORED

    def spill(self, values: list[object]) -> int:
        return 0

    def unspill(self, ticket: int) -> list[object]:
        raise KeyError(ticket)

    def forget_spilled(self, ticket: int) -> None:
        raise KeyError(ticket)

    def put(self, queue_id: int, entry: QueueEntry) -> None:
        entry.batch = self.batch
        self._changed = True
        kept = self._queues.get(queue_id)
        if kept is None:
            kept = self._queues[queue_id] = {}
        kept[entry.seq] = entry

    def delete(self, queue_id: int, entry: QueueEntry) -> None:
        entry.batch = NOT_STORED
        kept = self._queues.get(queue_id)
        if kept is not None and kept.pop(entry.seq, None) is not None:
            self._changed = True

    def delete_range(self, queue_id: int, first_seq: int, last_seq: int) -> None:
        kept = self._queues.get(queue_id, {})
        seqs = list(kept)
        for seq in seqs[bisect_left(seqs, first_seq) :]:
            if seq > last_seq or kept[seq].batch > self.settled:
                break
            del kept[seq]
        self._changed = True

    def delete_queue(self, queue_id: int) -> None:
        self._queues.pop(queue_id, None)
        self._changed = True

    def mark_delivered(self, queue_id: int, seq: int) -> None:
        """Nobody will ask after a restart."""

    def count_deliveries(self, queue_id: int, entry: QueueEntry) -> None:
        """The entry that is kept is the model's own."""

    def put_definition(self, definition: Definition) -> None:
        self._changed = True

    def delete_definition(self, kind: str, key: bytes) -> None:
        self._changed = True

    def next_queue_id(self) -> int:
        queue_id = self._next_queue_id
        self._next_queue_id = queue_id + 1
        return queue_id

    @property
    def empty(self) -> bool:
        return not (self._changed or self.urgent)

    def seal(self, closing: bool = False) -> Batch | None:
        if self.empty:
            return None
        self._changed = False
        return self.begin_next(b"")

    def settle(self, batch: Batch) -> None:
        """There is nothing more to note."""

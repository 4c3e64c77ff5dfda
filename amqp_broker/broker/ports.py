"""The contract between the model and whatever makes it durable.

The model calls a `Store` in the middle of a turn, synchronously; nothing here waits. Changes gather in the
current batch, whose number is `Store.batch`. The server takes the batch away (`seal`), has it written in one
transaction, and reports it (`committed`); only then do the waiters of that batch speak to their clients.
A batch never splits a turn, so whatever one turn changes becomes durable together or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

if TYPE_CHECKING:
    from amqp_broker.broker.message import QueueEntry


# The bits of a seq below its lane.
LEVEL_SHIFT: Final = 56


@mypyc_attr(allow_interpreted_subclasses=True)
class CommitWaiter(ABC):
    """Someone who owes a client an answer once a batch is durable."""

    __slots__ = ()

    @abstractmethod
    def committed(self, batch: int) -> None:
        """Called once for each batch it waited on, in rising order, after that batch is durable."""


class Definition:
    """A durable exchange, queue, binding or other named thing, as the store keeps it.

    kind: one of "vhost", "exchange", "queue", "binding", "user", ...: the store does not interpret it.
    key: identifies it within its kind; value: msgpack-able plain data (dict, list, str, bytes, int, bool, None).
    """

    __slots__ = ("key", "kind", "value")

    def __init__(self, kind: str, key: bytes, value: dict[str, object]) -> None:
        self.kind: str = kind
        self.key: bytes = key
        self.value: dict[str, object] = value


class StoredLane:
    """What the store holds for one lane of a queue after a start: the entries whose seqs have `level` as top octet.

    first_seq and last_seq bound the entries; watermark: entries up to and including
    it had been handed out. count may be 0, and last_seq above that of the last entry.
    """

    __slots__ = ("body_bytes", "count", "first_seq", "last_seq", "level", "watermark")

    def __init__(self, level: int) -> None:
        self.level: int = level
        self.first_seq: int = 0
        self.last_seq: int = 0
        self.count: int = 0
        self.body_bytes: int = 0
        self.watermark: int = 0


class StoredQueue:
    """What the store holds for one queue id after a start: its lanes, lowest level first, see `Store.recover`.

    interrupted: more may have been handed out than the watermarks say.
    """

    __slots__ = ("interrupted", "lanes")

    def __init__(self) -> None:
        self.lanes: list[StoredLane] = []
        self.interrupted: bool = False

    @property
    def count(self) -> int:
        return sum([lane.count for lane in self.lanes])


class StoredEntry:
    """One entry read back by `Store.read`; the caller builds its QueueEntry from it (batch RECOVERED)."""

    __slots__ = ("address", "body", "deliveries", "expiry", "header", "seq", "store_id")

    def __init__(self, seq: int, address: bytes, header: bytes, body: bytes) -> None:
        self.seq: int = seq
        self.address: bytes = address
        self.header: bytes = header
        self.body: bytes = body
        self.deliveries: int = 0
        self.expiry: int = 0
        self.store_id: int = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class Store(ABC):
    """Keeps durable definitions and the persistent messages of durable queues.

    A seq is below 2^64, and its top octet is the lane it belongs to. batch: the number of the current batch.
    settled: that of the last batch that is known to be durable.
    """

    batch: int
    settled: int

    @abstractmethod
    def recover(self) -> tuple[list[Definition], dict[int, StoredQueue]]:
        """Everything that was durable, once, before the first change. Definitions come in key order by kind."""

    @abstractmethod
    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        """Up to `limit` durable entries with seq >= first_seq, in seq order, stopping early near 4 MiB of bodies.

        What was durable when the store was opened is seen, and so are the batches up to `readable`; what was put
        since may not be, even if its batch is durable. At least one entry is returned if there is one.
        """

    @abstractmethod
    def readable(self) -> int:
        """The last batch of this run whose entries `read` is sure to find; NOT_STORED if nothing can be read back."""

    @abstractmethod
    def put(self, queue_id: int, entry: QueueEntry) -> None:
        """Add an entry to the current batch and set `entry.batch`. Its seq is one that the queue has no entry for."""

    @abstractmethod
    def delete(self, queue_id: int, entry: QueueEntry) -> None:
        """Remove an entry that was put, or read back; one that is still in the current batch is never written."""

    @abstractmethod
    def delete_range(self, queue_id: int, first_seq: int, last_seq: int) -> None:
        """Remove every entry with first_seq <= seq <= last_seq, which lie in one lane and are all settled."""

    @abstractmethod
    def delete_queue(self, queue_id: int) -> None:
        """Remove all entries of a queue id, which will not be used again. Space is given back in the background."""

    @abstractmethod
    def mark_delivered(self, queue_id: int, seq: int) -> None:
        """Entries of that lane up to seq have been handed out; kept lazily, with a batch that is written anyway."""

    @abstractmethod
    def count_deliveries(self, queue_id: int, entry: QueueEntry) -> None:
        """Have `entry.deliveries` survive a restart; of an entry that has been handed out.

        What is kept does not include the last delivery, as the watermark tells of that.
        """

    # What does not fit into memory, and need not survive a restart.

    @abstractmethod
    def spill(self, values: list[object]) -> int:
        """Keep plain values (as for marshal) outside of memory; a ticket for `unspill`, 0 if that cannot be done."""

    @abstractmethod
    def unspill(self, ticket: int) -> list[object]:
        """The values that were spilled. The ticket goes on until `forget_spilled`."""

    @abstractmethod
    def forget_spilled(self, ticket: int) -> None:
        """Give up what was spilled."""

    @abstractmethod
    def put_definition(self, definition: Definition) -> None:
        """Create or replace a definition in the current batch."""

    @abstractmethod
    def delete_definition(self, kind: str, key: bytes) -> None:
        """Remove a definition; no error if there is none."""

    @abstractmethod
    def wait(self, waiter: CommitWaiter) -> int:
        """Have `waiter.committed` called when the current batch is durable; returns that batch's number.

        A waiter that asks several times in one batch is called once. Makes the batch urgent: a batch without
        a waiter holds only removals or work nobody waits for and may be written a few milliseconds later.
        """

    @abstractmethod
    def next_queue_id(self) -> int:
        """A queue id (1 to 2^32-1) never returned before, also not before a restart."""

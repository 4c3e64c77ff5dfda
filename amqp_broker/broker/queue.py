"""A queue: entries in publish order, and the consumers that take them in turn.

Between operations it holds that either no consumer is ready or no entry is: a message published to a queue
with a ready consumer goes to it at once, and `pump` runs until one side is exhausted. Entries that a restart
found in the store are read back in short runs when they come to the head. It decides nothing about protocol
errors, permissions or bindings; `vhost` does.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Final

from amqp_broker.broker.consumer import Consumer
from amqp_broker.broker.exchange import Binding
from amqp_broker.broker.message import RECOVERED, Message, QueueEntry
from amqp_broker.broker.ports import Store, StoredEntry, StoredQueue
from amqp_broker.content.header import ContentHeader, parse_header
from amqp_broker.content.table import Field

RUN_LENGTH: Final = 1000
_BY_SEQ: Final = attrgetter("seq")


class QueueStatistics:
    """ready, unacked: messages; consumers: how many; a picture of one moment."""

    __slots__ = ("consumers", "ready", "unacked")

    def __init__(self, ready: int, unacked: int, consumers: int) -> None:
        self.ready: int = ready
        self.unacked: int = unacked
        self.consumers: int = consumers


class Queue:
    """owner: the connection an exclusive queue belongs to, else None. store_id: 0 unless durable.

    definition: key of its definition in the store, b"" if it has none.
    """

    __slots__ = (
        "_on_disk",
        "_on_disk_next",
        "_tail",
        "active",
        "arguments",
        "auto_delete",
        "consumers",
        "definition",
        "deleted",
        "durable",
        "exclusive_consumer",
        "incoming",
        "mixed_priorities",
        "name",
        "next_seq",
        "owner",
        "ready",
        "single_active",
        "store",
        "store_id",
        "unacked",
        "vhost_name",
        "watermark",
    )

    def __init__(
        self, name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store
    ) -> None:
        self.name: str = name
        self.vhost_name: str = vhost_name
        self.durable: bool = durable
        self.auto_delete: bool = False
        self.arguments: dict[str, Field] = arguments
        self.store: Store = store
        self.store_id: int = 0
        self.definition: bytes = b""
        self.owner: object | None = None
        self.deleted: bool = False
        self.ready: deque[QueueEntry] = deque()
        self.unacked: int = 0
        self.next_seq: int = 1
        self.watermark: int = 0
        self.incoming: dict[Binding, None] = {}
        self.consumers: list[Consumer] = []
        self.active: deque[Consumer] = deque()
        self.exclusive_consumer: Consumer | None = None
        self.mixed_priorities: bool = False
        single_active = arguments.get("x-single-active-consumer")
        self.single_active: bool = single_active is not None and single_active.value is True
        self._on_disk: int = 0
        self._on_disk_next: int = 0
        self._tail: deque[QueueEntry] = deque()

    # -- messages in

    def publish(self, message: Message) -> None:
        """Append a message, or give it to the consumer whose turn it is. Next step: `Consumer.deliver`."""
        seq = self.next_seq
        self.next_seq = seq + 1
        active = self.active
        while active:
            consumer = active[0]
            if consumer.blocked:
                self._turn_over(consumer)
                continue
            if consumer.no_ack:
                consumer.hand_over(message, False)  # noqa: FBT003  a keyword costs a dictionary
            else:
                entry = QueueEntry(message, self, seq)
                if self.durable and message.persistent:
                    self.store.put(self.store_id, entry)
                self._deliver(consumer, entry)
            if len(active) > 1 or self.active[0].blocked:
                self._turn_over(consumer)
            return
        entry = QueueEntry(message, self, seq)
        if self.durable and message.persistent:
            self.store.put(self.store_id, entry)
        if self._on_disk:
            self._tail.append(entry)
        else:
            self.ready.append(entry)

    def requeue(self, entries: list[QueueEntry]) -> None:
        """Put delivered entries, in seq order, back where they were; they are redelivered from now on."""
        for entry in entries:
            entry.consumer = None
            entry.deliveries += 1
        self.unacked -= len(entries)
        if self.deleted:
            return
        ready = self.ready
        last = entries[len(entries) - 1].seq
        if ready and ready[0].seq < last:
            entries = list(entries)
            while ready and ready[0].seq < last:
                entries.append(ready.popleft())
            entries.sort(key=_BY_SEQ)
        entries.reverse()
        ready.extendleft(entries)
        self.pump()

    # -- messages out

    def pump(self) -> None:
        """Deliver while there is a ready consumer and an entry."""
        while self.active and (self.ready or self._read_back()):
            if self.active[0].blocked:
                self._turn_over(self.active[0])
                continue
            consumer = self.active[0]
            entry = self.ready.popleft()
            if consumer.no_ack:
                consumer.hand_over(entry.message, entry.deliveries > 0)
                self._forget(entry)
            else:
                self._deliver(consumer, entry)
            if consumer.blocked or len(self.active) > 1:
                self._turn_over(consumer)

    def get(self) -> QueueEntry | None:
        """Take the head for basic.get; it counts as unacknowledged until `settle` or `requeue`."""
        if not self.ready and not self._read_back():
            return None
        entry = self.ready.popleft()
        self.unacked += 1
        if entry.seq > self.watermark:
            self._mark_delivered(entry)
        return entry

    def settle(self, entry: QueueEntry) -> None:
        """A delivered entry was acknowledged, or rejected for good."""
        self.unacked -= 1
        if entry.batch >= 0 and not self.deleted:
            self.store.delete(self.store_id, entry)

    def purge(self) -> int:
        """Drop what is ready (not what is unacknowledged); how many that was."""
        count = self.ready_count()
        if self._on_disk:
            last_seq = self._tail[0].seq - 1 if self._tail else self.next_seq - 1
            self.store.delete_range(self.store_id, self._on_disk_next, last_seq)
            self._on_disk = 0
        for entry in self.ready:
            self._forget(entry)
        for entry in self._tail:
            self._forget(entry)
        self.ready.clear()
        self._tail.clear()
        return count

    def ready_count(self) -> int:
        return len(self.ready) + self._on_disk + len(self._tail)

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(self.ready_count(), self.unacked, len(self.consumers))

    def _deliver(self, consumer: Consumer, entry: QueueEntry) -> None:
        self.unacked += 1
        if entry.batch >= 0 and entry.seq > self.watermark:
            self._mark_delivered(entry)
        consumer.deliver(entry)

    def _mark_delivered(self, entry: QueueEntry) -> None:
        if entry.batch >= 0:
            self.watermark = entry.seq
            self.store.mark_delivered(self.store_id, entry.seq)

    def _forget(self, entry: QueueEntry) -> None:
        if entry.batch >= 0:
            self.store.delete(self.store_id, entry)

    def delete(self) -> None:
        """The queue is gone: drop what it holds and cancel its consumers. `vhost` has removed it by now."""
        self.deleted = True
        self.ready.clear()
        self._tail.clear()
        self._on_disk = 0
        self.active.clear()
        consumers = self.consumers
        self.consumers = []
        for consumer in consumers:
            consumer.waiting = False
            consumer.cancelled()

    # -- what a restart found

    def recovered(self, stored: StoredQueue) -> None:
        """Take over what the store holds; called once, before anything else."""
        self._on_disk = stored.count
        self._on_disk_next = stored.first_seq
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
                self.ready.append(self._entry(stored, header))
            self._on_disk -= len(run)
            self._on_disk_next = run[len(run) - 1].seq + 1
            if self.ready:
                break
        if not self._on_disk and self._tail:
            self.ready.extend(self._tail)
            self._tail.clear()
        return len(self.ready) > 0

    def _entry(self, stored: StoredEntry, header: ContentHeader) -> QueueEntry:
        message = Message(stored.address, header, stored.body)
        message.store_id = stored.store_id
        entry = QueueEntry(message, self, stored.seq)
        entry.batch = RECOVERED
        entry.expiry = stored.expiry
        entry.deliveries = stored.deliveries
        if stored.seq <= self.watermark and not entry.deliveries:
            entry.deliveries = 1
        return entry

    # -- consumers

    def add_consumer(self, consumer: Consumer) -> None:
        """Register a consumer; the caller lets it start with `activate` once its consume-ok is on its way."""
        self.consumers.append(consumer)
        if consumer.exclusive:
            self.exclusive_consumer = consumer
        self.mixed_priorities = any(other.priority != consumer.priority for other in self.consumers)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Take a consumer out. What it has unacknowledged stays so."""
        if consumer not in self.consumers:
            return
        self.consumers.remove(consumer)
        if consumer is self.exclusive_consumer:
            self.exclusive_consumer = None
        if consumer.waiting:
            self.active.remove(consumer)
            consumer.waiting = False
        if self.single_active and self.consumers:
            self.activate(self.consumers[0])

    def activate(self, consumer: Consumer) -> None:
        """A consumer is not, or no longer, blocked: put it at the end of its priority's line and pump."""
        if consumer.blocked or self.deleted:
            return
        if not consumer.waiting and (not self.single_active or consumer is self.consumers[0]):
            self._join_line(consumer)
        self.pump()

    def _join_line(self, consumer: Consumer) -> None:
        consumer.waiting = True
        if not self.mixed_priorities:
            self.active.append(consumer)
            return
        at = len(self.active)
        while at and self.active[at - 1].priority < consumer.priority:
            at -= 1
        self.active.insert(at, consumer)

    def _turn_over(self, consumer: Consumer) -> None:
        """The consumer at the front was served: to the back of its line, or out of it if it is blocked."""
        if not consumer.waiting:
            return
        self.active.popleft()
        consumer.waiting = False
        if not consumer.blocked:
            self._join_line(consumer)

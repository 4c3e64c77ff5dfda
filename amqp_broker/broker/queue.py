"""A queue: entries in publish order, and the consumers that take them in turn.

Between operations it holds that either no consumer is ready or no entry is: a message published to a queue
with a ready consumer goes to it at once, and `pump` runs until one side is exhausted. Entries that a restart
found in the store are read back in short runs when they come to the head. What leaves before its time (expired,
over a limit, rejected, come back too often) goes to the host as a dead letter, last of all in an operation. It
decides nothing about protocol errors, permissions or bindings; `vhost` does.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Final

from amqp_broker.broker.consumer import Consumer
from amqp_broker.broker.exchange import Binding
from amqp_broker.broker.features import DROP_HEAD, NO_LIMIT, REJECT_PUBLISH_DLX, QueueFeatures
from amqp_broker.broker.host import DELIVERY_LIMIT, EXPIRED, MAXLEN, REJECTED, QueueHost
from amqp_broker.broker.message import RECOVERED, Message, QueueEntry
from amqp_broker.broker.ports import Store, StoredEntry, StoredQueue
from amqp_broker.broker.timetable import Clock, Timed
from amqp_broker.content.header import ContentHeader, parse_header
from amqp_broker.content.table import Field

RUN_LENGTH: Final = 1000
_BY_SEQ: Final = attrgetter("seq")

# What became of a publish.
TAKEN: Final = 0
REFUSED: Final = 1


class QueueStatistics:
    """ready, unacked: messages; consumers: how many; a picture of one moment."""

    __slots__ = ("consumers", "ready", "unacked")

    def __init__(self, ready: int, unacked: int, consumers: int) -> None:
        self.ready: int = ready
        self.unacked: int = unacked
        self.consumers: int = consumers


class Queue(Timed):
    """owner: the connection an exclusive queue belongs to, else None. store_id: 0 unless durable.

    definition: key of its definition in the store, b"" if it has none. host: the virtual host, None outside one.
    features: what its arguments and policies come to; refuses, trims, ttl: the parts of them that a publish asks
    for. timed: some of its entries expire. ready_bytes: octets of the bodies that are ready. last_used: when it was last used by somebody else than a
    consumer, milliseconds.
    """

    __slots__ = (
        "_on_disk",
        "_on_disk_next",
        "_tail",
        "active",
        "arguments",
        "auto_delete",
        "clock",
        "consumers",
        "definition",
        "deleted",
        "durable",
        "exclusive_consumer",
        "features",
        "host",
        "incoming",
        "last_used",
        "mixed_priorities",
        "name",
        "next_seq",
        "owner",
        "ready",
        "ready_bytes",
        "refuses",
        "single_active",
        "store",
        "store_id",
        "timed",
        "trims",
        "ttl",
        "unacked",
        "vhost_name",
        "watermark",
    )

    def __init__(
        self, name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store
    ) -> None:
        super().__init__()
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
        self.host: QueueHost | None = None
        self.clock: Clock = Clock()
        self.features: QueueFeatures = QueueFeatures()
        self.refuses: bool = False
        self.trims: bool = False
        self.ttl: int = NO_LIMIT
        self.timed: bool = False
        self.last_used: int = 0
        self.ready: deque[QueueEntry] = deque()
        self.ready_bytes: int = 0
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

    def join(self, host: QueueHost) -> None:
        """The queue belongs to a virtual host from now on, and has its time from there."""
        self.host = host
        self.clock = host.timetable.clock
        self.last_used = self.clock.milliseconds
        if self._on_disk:
            first = self.store.read(self.store_id, self._on_disk_next, 1)
            if first and first[0].expiry:
                host.timetable.wake(self, first[0].expiry)
        self._watch_disuse()

    def apply(self, features: QueueFeatures) -> None:
        """Work by these features from now on; what is over a new limit goes at once."""
        self.features = features
        bounded = features.max_length != NO_LIMIT or features.max_length_bytes != NO_LIMIT
        self.trims = bounded and features.overflow == DROP_HEAD
        self.refuses = bounded and features.overflow != DROP_HEAD
        self.ttl = features.message_ttl
        self._watch_disuse()
        if self.trims:
            self._trim()

    # -- messages in

    def publish(self, message: Message) -> int:
        """Append a message, or give it to the consumer whose turn it is. Next step: `Consumer.deliver`.

        TAKEN, or REFUSED if it does not fit and is not to push others out.
        """
        if self.refuses and self._overflows(message):
            return REFUSED
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
                if self.ttl >= 0 or message.header.expiration is not None:
                    entry.expiry = self._expiry(message)
                if self.durable and message.persistent:
                    self.store.put(self.store_id, entry)
                self._deliver(consumer, entry)
            if len(active) > 1 or self.active[0].blocked:
                self._turn_over(consumer)
            return TAKEN
        entry = QueueEntry(message, self, seq)
        if self.ttl >= 0 or message.header.expiration is not None:
            entry.expiry = self._expiry(message)
        if self.durable and message.persistent:
            self.store.put(self.store_id, entry)
        self.append(entry)
        if self.trims:
            self._trim()
        if entry.expiry:
            self._watch_head()
        return TAKEN

    def append(self, entry: QueueEntry) -> None:
        """Put an entry behind all that are ready."""
        self.ready_bytes += entry.message.header.body_size
        if self._on_disk:
            self._tail.append(entry)
        else:
            self.ready.append(entry)

    def put_back(self, entries: list[QueueEntry]) -> None:
        """Put delivered entries, in seq order, back where they were."""
        ready = self.ready
        last = entries[len(entries) - 1].seq
        for entry in entries:
            self.ready_bytes += entry.message.header.body_size
        if ready and ready[0].seq < last:
            entries = list(entries)
            while ready and ready[0].seq < last:
                entries.append(ready.popleft())
            entries.sort(key=_BY_SEQ)
        entries.reverse()
        ready.extendleft(entries)

    def requeue(self, entries: list[QueueEntry]) -> None:
        """Delivered entries, in seq order, come back; they are redelivered from now on."""
        limit = self.features.delivery_limit
        exhausted: list[QueueEntry] = []
        returned: list[QueueEntry] = []
        for entry in entries:
            entry.consumer = None
            entry.deliveries += 1
            if limit != NO_LIMIT and entry.deliveries > limit:
                exhausted.append(entry)
            else:
                returned.append(entry)
        self.unacked -= len(entries)
        if self.deleted:
            return
        if returned:
            self.put_back(returned)
            self.pump()
            if self.trims:
                self._trim()
        if exhausted:
            self._drop(exhausted, DELIVERY_LIMIT)

    # -- messages out

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

    def pump(self) -> None:
        """Deliver while there is a ready consumer and an entry."""
        expired: list[QueueEntry] | None = None
        active = self.active
        while active and self.available():
            consumer = active[0]
            if consumer.blocked:
                self._turn_over(consumer)
                continue
            entry = self.take()
            if entry.expiry and entry.expiry <= self.clock.milliseconds:
                expired = expired or []
                expired.append(entry)
                continue
            if consumer.no_ack:
                consumer.hand_over(entry.message, entry.deliveries > 0)
                self._forget(entry)
            else:
                self._deliver(consumer, entry)
            if len(active) > 1 or self.active[0].blocked:
                self._turn_over(consumer)
        if self.timed:
            self._watch_head()
        if expired is not None:
            self._drop(expired, EXPIRED)

    def get(self) -> QueueEntry | None:
        """Take the head for basic.get; it counts as unacknowledged until `settle` or `requeue`."""
        self.last_used = self.clock.milliseconds
        self._drop_expired()
        if not self.available():
            return None
        entry = self.take()
        self.unacked += 1
        if entry.seq > self.watermark:
            self._mark_delivered(entry)
        if self.timed:
            self._watch_head()
        return entry

    def settle(self, entry: QueueEntry) -> None:
        """A delivered entry was acknowledged."""
        self.unacked -= 1
        if entry.batch >= 0 and not self.deleted:
            self.store.delete(self.store_id, entry)

    def reject(self, entry: QueueEntry) -> None:
        """A delivered entry is not wanted: it becomes a dead letter."""
        self.unacked -= 1
        if not self.deleted:
            self._drop([entry], REJECTED)

    def purge(self) -> int:
        """Drop what is ready (not what is unacknowledged); how many that was."""
        count = self.ready_count()
        if self._on_disk:
            last_seq = self._tail[0].seq - 1 if self._tail else self.next_seq - 1
            self.store.delete_range(self.store_id, self._on_disk_next, last_seq)
            self._on_disk = 0
        for entry in self.resident():
            self._forget(entry)
        self.clear()
        return count

    def resident(self) -> list[QueueEntry]:
        """What is ready and in memory."""
        return [*self.ready, *self._tail]

    def clear(self) -> None:
        """Nothing is ready any more; the store is not told."""
        self.ready.clear()
        self._tail.clear()
        self._on_disk = 0
        self.ready_bytes = 0

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
        self.clear()
        self.active.clear()
        consumers = self.consumers
        self.consumers = []
        for consumer in consumers:
            consumer.waiting = False
            consumer.cancelled()

    # -- what goes before its time

    def _overflows(self, message: Message) -> bool:
        """Whether the queue is full for this message; it is a dead letter then if the overflow says so."""
        features = self.features
        full = (features.max_length != NO_LIMIT and self.ready_count() >= features.max_length) or _exceeds(
            self.ready_bytes + message.header.body_size, features.max_length_bytes
        )
        if full and features.overflow == REJECT_PUBLISH_DLX and self.host is not None:
            self.host.dead_letter(self, [message], MAXLEN)
        return full

    def _trim(self) -> None:
        """Drop from the head what is over a limit."""
        features = self.features
        dropped: list[QueueEntry] = []
        while (
            _exceeds(self.ready_count(), features.max_length)
            or _exceeds(self.ready_bytes, features.max_length_bytes)
        ) and self.available():
            dropped.append(self.take())
        if dropped:
            if self.timed:
                self._watch_head()
            self._drop(dropped, MAXLEN)

    def _expiry(self, message: Message) -> int:
        """When a message that is published now expires: the earlier of what it and the queue say."""
        self.timed = True
        ttl = self.ttl
        expiration = message.header.expiration
        if expiration is not None:
            own = int(expiration)
            ttl = own if ttl < 0 else min(ttl, own)
        return self.clock.milliseconds + ttl

    def _drop_expired(self) -> None:
        """Drop the entries at the head whose time is up."""
        now = self.clock.milliseconds
        expired: list[QueueEntry] = []
        while self.available() and 0 < self.head().expiry <= now:
            expired.append(self.take())
        if expired:
            self._drop(expired, EXPIRED)

    def _drop(self, entries: list[QueueEntry], reason: str) -> None:
        """These were taken out: dead letters, if the queue has somewhere for them to go."""
        if self.features.dead_letter_exchange is not None and self.host is not None:
            self.host.dead_letter(self, [entry.message for entry in entries], reason)
        for entry in entries:
            self._forget(entry)

    # -- time

    def used(self) -> None:
        """Somebody asked for the queue: it is not to expire before its time has passed again."""
        self.last_used = self.clock.milliseconds

    def time_is_up(self, now: int) -> None:
        if self.deleted:
            return
        self._drop_expired()
        self._watch_head()
        self._watch_disuse()

    def _watch_head(self) -> None:
        """Be woken when the head expires: what expires behind it waits until it is the head, as in RabbitMQ."""
        if self.host is not None and self.available():
            due = self.head().expiry
            if due:
                self.host.timetable.wake(self, due)

    def _watch_disuse(self) -> None:
        """Be deleted when nobody has used the queue for as long as it is to be kept (x-expires)."""
        expires = self.features.expires
        host = self.host
        if not expires or host is None or self.deleted:
            return
        now = self.clock.milliseconds
        if self.consumers:
            self.last_used = now
        if self.last_used + expires <= now:
            host.expired(self)
        else:
            host.timetable.wake(self, self.last_used + expires)

    # -- what a restart found

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

    def entry_of(self, stored: StoredEntry, header: ContentHeader) -> QueueEntry:
        message = Message(stored.address, header, stored.body)
        message.store_id = stored.store_id
        entry = QueueEntry(message, self, stored.seq)
        entry.batch = RECOVERED
        entry.expiry = stored.expiry
        if stored.expiry:
            self.timed = True
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
        self.last_used = self.clock.milliseconds
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


def _exceeds(value: int, limit: int) -> bool:
    return limit != NO_LIMIT and value > limit

"""A queue: entries in publish order, and the consumers that take them in turn.

Between operations it holds that either no consumer is ready or no entry is, unless the queue is overdue: a message
published to a queue with a ready consumer goes to it at once, and `pump` runs until one side is exhausted. Entries
that a restart found in the store are read back in short runs when they come to the head. What leaves before its time
(expired, over a limit, rejected, come back too often) goes to the host as a dead letter, last of all in an operation;
how much at once, and what overdue means, is `mortal`'s business. It decides nothing about protocol errors, permissions
or bindings; `vhost` does.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import QUEUE_ARGUMENTS, queue_type
from amqp_broker.broker.backlog import BY_SEQ
from amqp_broker.broker.consumer import Consumer, Holder
from amqp_broker.broker.deduplication import Seen, deduplicate
from amqp_broker.broker.features import DROP_HEAD, NO_LIMIT, REJECT_PUBLISH_DLX, QueueFeatures
from amqp_broker.broker.host import EXPIRED, MAXLEN, REJECTED, QueueHost
from amqp_broker.broker.kept_arguments import looked_up, packed
from amqp_broker.broker.line import Line
from amqp_broker.broker.message import RECOVERED, Message, QueueEntry
from amqp_broker.broker.mortal import AT_ONCE, MOST_DELIVERED, Mortal
from amqp_broker.broker.outstanding import bring_back_messages, put_back_absent
from amqp_broker.broker.ports import Store, StoredEntry, StoredQueue
from amqp_broker.broker.redelivery import Leases, Retries, end_leases, returning
from amqp_broker.broker.statistics import QueueStatistics
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.comeback import Comeback
    from amqp_broker.broker.exchanges.base import Binding

# What became of a publish.
TAKEN: Final = 0
REFUSED: Final = 1
_ADMITTED: Final = 2
_NOBODY: Final[deque[Consumer]] = deque()


class Queue(Mortal):
    """owner: the connection an exclusive queue belongs to, else None.
    consumers, active: those of its line, all and those with room. definition: key of its definition in the store,
    b"" if it has none. host: the virtual host, None outside one. packed, arguments: see `kept_arguments`.
    features: what its arguments and policies come to; guarded, refuses, trims, tracks, ttl, seen and
    counts_deliveries are the parts of them that the hot path asks for. leases: of deliveries that must come back;
    retries: what waits for its next try. timed: some of its entries expire. last_used: when it was last used by
    somebody else than a consumer, milliseconds. seen_id: of the values that `seen` keeps in the store, or 0.
    absent: stands for messages that have left memory, see `outstanding`; None if none ever did.
    comebacks: deliveries on their way back, which are unacknowledged until they are there.
    """

    __slots__ = (
        "absent",
        "active",
        "arguments",
        "auto_delete",
        "comebacks",
        "consumers",
        "counts_deliveries",
        "definition",
        "deleted",
        "durable",
        "incoming",
        "is_quorum",
        "last_used",
        "leases",
        "line",
        "name",
        "owner",
        "packed",
        "refuses",
        "retries",
        "seen",
        "seen_id",
        "single_active",
        "tracks",
        "trims",
        "unacked",
        "vhost_name",
    )

    def __init__(
        self, name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store
    ) -> None:
        super().__init__(store)
        self.name: str = name
        self.vhost_name: str = vhost_name
        self.durable: bool = durable
        self.auto_delete: bool = False
        self.packed: bytes = packed(arguments)
        self.arguments: dict[str, Field] = looked_up(arguments, self.packed, QUEUE_ARGUMENTS)
        self.definition: bytes = b""
        self.owner: object | None = None
        self.deleted: bool = False
        self.seen: Seen | None = None
        self.seen_id: int = 0
        self.leases: Leases = Leases()
        self.retries: Retries = Retries()
        self.is_quorum: bool = queue_type(arguments) == "quorum"
        self.counts_deliveries: bool = self.is_quorum
        self.refuses: bool = False
        self.trims: bool = False
        self.tracks: bool = False
        self.last_used: int = 0
        self.unacked: int = 0
        self.absent: Message | None = None
        self.comebacks: list[Comeback] = []
        self.incoming: dict[Binding, None] = {}
        self.line: Line = Line()
        self.consumers: list[Consumer] = self.line.consumers
        self.active: deque[Consumer] = self.line.waiting
        single_active = arguments.get("x-single-active-consumer")
        self.single_active: bool = single_active is not None and single_active.value is True

    def join(self, host: QueueHost) -> None:
        """The queue belongs to a virtual host from now on, and has its time from there."""
        self.host = host
        self.clock = host.timetable.clock
        self.last_used = self.clock.milliseconds
        if self.away_count():
            self.timed = True
            # What is over time or a limit goes when there is somewhere to go for its dead letters.
            over = self.trims and self.features.over_limit(self.ready_count(), self.ready_bytes)
            self.watch(1 if over else self.first_expiry())
        if self.seen is not None:
            self.seen.recall(self.headers(), self.clock.milliseconds)
        self._watch_disuse()

    def apply(self, features: QueueFeatures) -> None:
        """Work by these features from now on; what is over a new limit goes at once."""
        if features.expires != self.features.expires:
            self.last_used = self.clock.milliseconds
        self.features = features
        bounded = features.max_length != NO_LIMIT or features.max_length_bytes != NO_LIMIT
        self.trims = bounded and features.overflow == DROP_HEAD
        self.refuses = bounded and features.overflow != DROP_HEAD
        deduplicate(self, features.deduplication)
        self._guard()
        self.tracks = features.lease > 0 or self.seen is not None
        if not features.lease:
            self.leases.clear()
        self.counts_deliveries = features.delivery_limit != NO_LIMIT or self.is_quorum
        self.ttl = features.message_ttl
        self._watch_disuse()
        if self.trims and (self.host is not None or not self.away_count()):
            self._trim()

    def _guard(self) -> None:
        self.guarded = self.refuses or self.seen is not None or self.overdue

    # -- messages in

    def publish(self, message: Message) -> int:  # noqa: C901  the hot path stands in one place
        """Append a message, or give it to the consumer whose turn it is. Next step: `Consumer.deliver`.

        TAKEN, or REFUSED if it does not fit and is not to push others out.
        """
        guarded = self.guarded
        if guarded:
            outcome = self._look_at(message)
            if outcome != _ADMITTED:
                return outcome
        seq = self.next_seq
        self.next_seq = seq + 1
        active = _NOBODY if guarded and self.overdue else self.active
        while active:
            consumer = active[0]
            if consumer.blocked:
                self.line.leave(consumer)
                continue
            if consumer.no_ack:
                consumer.hand_over(message, False)  # noqa: FBT003  a keyword costs a dictionary
                if guarded and self.seen is not None:
                    self.seen.gone(message.header)
            else:
                entry = QueueEntry(message, self, seq)
                if self.ttl >= 0 or message.header.expiration is not None:
                    entry.expiry = self._expiry(message)
                if self.durable and message.persistent:
                    self.store.put(self.store_id, entry)
                self._deliver(consumer, entry)
            if len(active) > 1:
                self.line.turn_over(consumer)
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

    def requeue(self, entries: list[QueueEntry], failed: bool = False, recovered: bool = False) -> None:
        """Delivered entries, in seq order, come back; they are redelivered from now on.

        entries: are taken over; the list is empty then, so that what leaves memory again is not held by it.
        failed: their consumer gave them back, and unless they are recovered it could not do with them.
        """
        self.unacked -= len(entries)
        if self.deleted:
            entries.clear()
            return
        returned = returning(self, entries, failed, recovered)
        if returned:
            self._come_back(returned, failed)

    def comes_back_last(self, failed: bool) -> bool:
        """Whether what comes back goes behind all that is ready."""
        return False

    def _come_back(self, entries: list[QueueEntry], failed: bool = False) -> None:
        if self.absent is None:
            self.put_back(entries, failed)
        else:
            put_back_absent(self, entries, failed)
        self.was_put_back()

    def was_put_back(self) -> None:
        """As in RabbitMQ, what is over time or over a limit now goes before consumers are looked at."""
        if self.trims:
            self._trim()
        if self.timed:
            self._drop_expired()
        self.pump()

    # -- messages out

    def pump(self) -> None:
        """Deliver while there is a ready consumer and an entry, but not too much, and not if too much has expired."""
        if self.overdue:
            return
        delivered = 0
        expired: list[QueueEntry] | None = None
        active = self.active
        while active and self.available():
            consumer = active[0]
            if consumer.blocked:
                self.line.leave(consumer)
                continue
            entry = self.take()
            if entry.expiry and entry.expiry <= self.clock.milliseconds:
                expired = expired or []
                expired.append(entry)
                if len(expired) >= AT_ONCE and self._postpone():
                    break
                continue
            if consumer.no_ack:
                if entry.deliveries:
                    consumer.hand_over_again(entry)
                else:
                    consumer.hand_over(entry.message, False)  # noqa: FBT003
                self._forget(entry)
            else:
                self._deliver(consumer, entry)
            if len(active) > 1:
                self.line.turn_over(consumer)
            delivered += 1
            if delivered >= MOST_DELIVERED and self._postpone():
                break
        if self.timed:
            self._watch_head()
        if expired is not None:
            self.drop(expired, EXPIRED)

    def get(self) -> QueueEntry | None:
        """Take the head for basic.get; it counts as unacknowledged until `settle` or `requeue`.

        None also if so much has expired that some of it is still at the head: what is alive behind it can be had
        when that is gone. Until then it counts as ready.
        """
        self.last_used = self.clock.milliseconds
        self._drop_expired()
        if not self.available() or (self.overdue and self._head_is_expired()):
            return None
        entry = self.take()
        self.unacked += 1
        if entry.seq > self.watermark:
            self._mark_delivered(entry)
        if self.timed:
            self._drop_expired()
            self._watch_head()
        return entry

    def settle(self, entry: QueueEntry) -> None:
        """A delivered entry was acknowledged."""
        self.unacked -= 1
        if entry.batch >= 0 and not self.deleted:
            self.store.delete(self.store_id, entry)
        if self.tracks:
            self._settled(entry)

    def _settled(self, entry: QueueEntry) -> None:
        self.leases.settled(entry)
        if self.seen is not None:
            self.seen.gone(entry.message.header)

    def reject(self, entry: QueueEntry) -> None:
        """A delivered entry is not wanted: it becomes a dead letter."""
        self.unacked -= 1
        self.leases.settled(entry)
        if not self.deleted:
            self.drop([entry], REJECTED)

    def purge(self) -> int:
        """Drop what is ready or waits for its next try (not what is unacknowledged); how many that was."""
        waiting = self.retries.entries()
        count = self.ready_count() + len(waiting)
        if self.away_count():
            if self.seen is not None:
                for header in self.away_headers():
                    self.seen.gone(header)
            self.drop_away()
        for entry in self.resident() + waiting:
            self._forget(entry)
        self.clear()
        return count

    def clear(self) -> None:
        super().clear()
        self.retries.clear()

    def statistics(self) -> QueueStatistics:
        return QueueStatistics(self.ready_count(), self.unacked, len(self.retries), len(self.consumers))

    def _deliver(self, consumer: Consumer, entry: QueueEntry) -> None:
        self.unacked += 1
        if entry.batch >= 0 and entry.seq > self.watermark:
            self._mark_delivered(entry)
        consumer.deliver(entry)
        if self.tracks:
            self.lease(entry, consumer, consumer.last_tag())

    def lease(self, entry: QueueEntry, holder: Holder, delivery_tag: int) -> None:
        """If deliveries are leased: this one returns unless it is settled in time. To be called after `get`."""
        if self.features.lease:
            due = self.clock.milliseconds + self.features.lease
            self.leases.add(entry, due, holder, delivery_tag)
            self.watch(due)

    def _mark_delivered(self, entry: QueueEntry) -> None:
        if entry.batch >= 0:
            self.watermark = entry.seq
            self.store.mark_delivered(self.store_id, entry.seq)

    def _forget(self, entry: QueueEntry) -> None:
        if entry.batch >= 0:
            self.store.delete(self.store_id, entry)
        if self.seen is not None:
            self.seen.gone(entry.message.header)

    def delete(self) -> None:
        """The queue is gone: drop what it holds and cancel its consumers. `vhost` has removed it by now."""
        self.deleted = True
        self.clear()
        if self.seen is not None:
            self.seen.clear()
        self.leases = Leases()
        for comeback in self.comebacks:
            comeback.clear()
        if self.host is not None:
            self.host.timetable.forget(self)
        for consumer in self.line.clear():
            consumer.cancelled()

    # -- what goes before its time

    def _look_at(self, message: Message) -> int:
        """Whether the queue lets a message in. A duplicate is taken, and that is all."""
        kept = self.durable and message.persistent
        if self.seen is not None and not self.seen.is_new(message.header, self.clock.milliseconds, kept):
            return TAKEN
        return REFUSED if self.refuses and self._overflows(message) else _ADMITTED

    def _overflows(self, message: Message) -> bool:
        """Whether the queue is full for this message; it is a dead letter then if the overflow says so."""
        features = self.features
        if not features.over_limit(self.ready_count() + 1, self.ready_bytes + message.header.body_size):
            return False
        if self.seen is not None:
            self.seen.forget(message.header)
        if features.overflow == REJECT_PUBLISH_DLX and self.host is not None:
            self.host.dead_letter(self, [message], MAXLEN)
        return True

    def drop(self, entries: list[QueueEntry], reason: str) -> None:
        """Dead letters, if the queue has somewhere for them to go."""
        if self.features.dead_letter_exchange is not None and self.host is not None:
            if self.absent is not None:
                bring_back_messages(self, entries)
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
        if self.seen is not None:
            self.seen.time_is_up(now)
        was_overdue = self.overdue
        self.overdue = False
        self._drop_expired()
        if self.trims:
            self._trim()
        if was_overdue:
            self._guard()
            self.pump()
        self._watch_head()
        self._watch_disuse()
        end_leases(self, now)
        due = self.retries.due(now)
        if due:
            due.sort(key=BY_SEQ)
            self._come_back(due)
        self.watch(self.retries.next_due())
        self.watch(self.leases.next_due())

    def _watch_disuse(self) -> None:
        """Be deleted when nobody has used the queue for as long as it is to be kept (x-expires)."""
        expires = self.features.expires
        if not expires or self.host is None or self.deleted or self.consumers:
            return
        if self.last_used + expires <= self.clock.milliseconds:
            self.host.expired(self)
        else:
            self.watch(self.last_used + expires)

    def recovered(self, stored: StoredQueue) -> None:
        if self.counts_deliveries:
            # A delivery that is not on record is not counted: it might be one too many.
            stored.interrupted = False
        super().recovered(stored)

    def entry(self, message: Message, seq: int) -> QueueEntry:
        return QueueEntry(message, self, seq)

    def entry_of(self, stored: StoredEntry, header: ContentHeader) -> QueueEntry:
        message = Message(stored.address, header, stored.body)
        message.store_id = stored.store_id
        entry = QueueEntry(message, self, stored.seq)
        entry.batch = RECOVERED
        entry.expiry = stored.expiry
        if stored.expiry:
            self.timed = True
        entry.deliveries = stored.deliveries
        if self.handed_out(stored.seq):
            entry.deliveries += 1
        return entry

    # -- consumers

    def add_consumer(self, consumer: Consumer) -> None:
        """Register a consumer; the caller lets it start with `activate` once its consume-ok is on its way."""
        self.line.add(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """Take a consumer out. What it has unacknowledged stays so. Next step: `next_active`."""
        if not self.line.remove(consumer):
            return
        self.last_used = self.clock.milliseconds
        self._watch_disuse()

    def next_active(self) -> None:
        """A consumer was taken out, and what it gave back is here again: the next one follows a single active one."""
        if self.single_active and self.consumers:
            self.activate(self.consumers[0])

    def join_line(self, consumer: Consumer) -> None:
        """As `activate`, but nothing is delivered yet."""
        if consumer.blocked or self.deleted:
            return
        if not consumer.waiting and (not self.single_active or consumer is self.consumers[0]):
            self.line.join(consumer)

    def activate(self, consumer: Consumer) -> None:
        """A consumer is not, or no longer, blocked: put it at the end of its priority's line and pump."""
        if consumer.blocked or self.deleted:
            return
        self.join_line(consumer)
        self.pump()

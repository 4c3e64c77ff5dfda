"""Which messages have been seen before, by the value of one header: what a queue or an exchange deduplicates by.

Without a size and a time to live a queue knows a value as long as a message with it is in the queue (`Present`): the
messages themselves say after a restart which values those are. Otherwise values are remembered, so many or so long,
whatever becomes of their messages (`Cache`): each is an entry of its own in the store, put in the batch of its message
and deleted when it is forgotten. A message without the header is never a duplicate. What becomes of a duplicate is the
business of `queue` and `exchanges.gate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.argument_values import LONGEST_MILLISECONDS
from amqp_broker.broker.features import NO_LIMIT, Deduplication
from amqp_broker.broker.message import RECOVERED, Message, QueueEntry
from amqp_broker.broker.outstanding import bring_back_messages
from amqp_broker.content.header import ContentHeader, build_header
from amqp_broker.content.table import INTEGER_KINDS, encode_field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

# With which a message says for how long its value is remembered, milliseconds.
TTL_HEADER: Final = "x-cache-ttl"
# Values that are too old may stay for so long, so that they are forgotten many at a time; they no longer count.
SLACK: Final = 1000

_RUN_LENGTH: Final = 1000
_FEW: Final = 100
_NO_ADDRESS: Final = b"\0\0"
_NO_MESSAGE: Final = Message(_NO_ADDRESS, build_header(0, {}), b"")


def value_of(header: ContentHeader, name: str) -> bytes | None:
    """What a message is told apart by, None if it lacks the header. An integer counts the same in every width."""
    if not header.has_headers:
        return None
    field = header.headers().get(name)
    if field is None:
        return None
    if field.kind in INTEGER_KINDS and isinstance(field.value, int):
        return b"%d" % field.value
    return encode_field(field)


def deduplicate(queue: Queue, terms: Deduplication | None) -> None:
    """Have duplicates stay out of a queue from now on, or not any more. What is known stays so if the terms allow it.

    Of what is in the queue already the values are known, too, whether it is ready or not. Raises LookupError if the
    store has lost a message whose value is asked for.
    """
    seen = queue.seen
    if seen is not None and terms is not None and seen.follow(terms):
        return
    if seen is not None and queue.seen_id:
        queue.store.delete_queue(queue.seen_id)
        queue.seen_id = 0
    queue.seen = None
    if terms is None:
        return
    out = _not_ready(queue)
    if not terms.remembers():
        queue.seen = Present(terms.header)
    else:
        if queue.durable and not queue.seen_id:
            queue.seen_id = queue.store.next_queue_id()
        queue.seen = Cache(queue, terms, queue.seen_id)
    if queue.host is not None:
        now = queue.clock.milliseconds
        queue.seen.take_in([entry.message.header for entry in out], now, queue.is_quorum)
        for comeback in queue.comebacks:
            for lane in comeback.lanes:
                queue.seen.take_in(lane.away_headers(queue), now, queue.is_quorum)
        queue.seen.take_in(queue.headers(), now, queue.is_quorum)


def _not_ready(queue: Queue) -> list[QueueEntry]:
    """What is in a queue and not ready: delivered, or waiting for its next try. The oldest first, with its messages.

    From now on none of them gives up its message: its value is asked for when it leaves.
    """
    if queue.host is None:
        return []
    entries = queue.host.outstanding(queue) + queue.retries.entries()
    entries.sort(key=_seq)
    if queue.absent is not None:
        bring_back_messages(queue, entries)
    return entries


def _seq(entry: QueueEntry) -> int:
    return entry.seq


class Seen(ABC):
    """name: of the header."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: str = name

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def is_new(self, header: ContentHeader, now: int, kept: bool) -> bool:
        """Whether no message with this header value was seen; it is from now on.

        kept: the message survives a restart, so that its value has to as well.
        """

    @abstractmethod
    def forget(self, header: ContentHeader) -> None:
        """A message was not let in after all."""

    @abstractmethod
    def gone(self, header: ContentHeader) -> None:
        """A message left the queue."""

    @abstractmethod
    def follow(self, terms: Deduplication) -> bool:
        """Work by other terms from now on; False if that takes another object."""

    @abstractmethod
    def time_is_up(self, now: int) -> None:
        """The time has come that was asked of the timetable for the queue: forget what was seen too long ago."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything; the store is not told."""

    @abstractmethod
    def recall(self, headers: Iterable[ContentHeader], now: int) -> None:
        """Know what was known before a restart. headers: of the messages that are there."""

    def take_in(self, headers: Iterable[ContentHeader], now: int, all_kept: bool) -> None:
        """These messages are in the queue already, the oldest first. all_kept: whatever their delivery mode."""
        for header in headers:
            self.is_new(header, now, all_kept or header.delivery_mode == 2)


class Present(Seen):
    """The values of the messages that are in a queue, each with how many have it: those that were there before
    anybody looked for duplicates may have the same.
    """

    __slots__ = ("_values",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._values: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def is_new(self, header: ContentHeader, now: int, kept: bool) -> bool:
        value = value_of(header, self.name)
        if value is None:
            return True
        if value in self._values:
            return False
        self._values[value] = 1
        return True

    def take_in(self, headers: Iterable[ContentHeader], now: int, all_kept: bool) -> None:
        for header in headers:
            value = value_of(header, self.name)
            if value is not None:
                self._values[value] = self._values.get(value, 0) + 1

    def forget(self, header: ContentHeader) -> None:
        value = value_of(header, self.name)
        count = 0 if value is None else self._values.get(value, 0)
        if value is None or not count:
            return
        if count > 1:
            self._values[value] = count - 1
        else:
            del self._values[value]

    def gone(self, header: ContentHeader) -> None:
        self.forget(header)

    def recall(self, headers: Iterable[ContentHeader], now: int) -> None:
        self.take_in(headers, now, all_kept=True)

    def follow(self, terms: Deduplication) -> bool:
        return terms.header == self.name and not terms.remembers()

    def time_is_up(self, now: int) -> None:
        return

    def clear(self) -> None:
        self._values.clear()


class Cache(Seen):
    """Values in the order they were seen, each with the entry that stands for it in the store.

    size: how many; ttl: for how many milliseconds, 0 for any time. own_ttl: a message may say another one. store_id:
    of the values in the store, 0 to keep none there. An entry's expiry is when its value is forgotten, 0 for never.
    """

    __slots__ = ("_due", "_entries", "_header", "_next_seq", "_owner", "own_ttl", "size", "store_id", "ttl")

    def __init__(self, owner: Queue, terms: Deduplication, store_id: int, own_ttl: bool = False) -> None:
        super().__init__(terms.header)
        self.size: int = terms.size
        self.ttl: int = terms.ttl
        self.own_ttl: bool = own_ttl
        self.store_id: int = store_id
        self._owner: Queue = owner
        self._entries: OrderedDict[bytes, QueueEntry] = OrderedDict()
        # When which entry is due, by its seq. Those that were forgotten for another reason stay for a while.
        self._due: list[tuple[int, int, bytes]] = []
        self._next_seq: int = 1
        self._header: ContentHeader = _NO_MESSAGE.header

    def __len__(self) -> int:
        return len(self._entries)

    def knows(self, value: bytes, now: int) -> bool:
        entry = self._entries.get(value)
        return entry is not None and (not entry.expiry or entry.expiry > now)

    def is_new(self, header: ContentHeader, now: int, kept: bool) -> bool:
        value = value_of(header, self.name)
        return value is None or self.admit(value, header, now, kept)

    def admit(self, value: bytes, header: ContentHeader, now: int, kept: bool) -> bool:
        """As `is_new`, of a header whose value was found already."""
        self._forget_outdated(now)
        if value in self._entries:
            return False
        ttl = self._ttl_of(header) if self.own_ttl else self.ttl
        entry = QueueEntry(_NO_MESSAGE, self._owner, self._next_seq)
        entry.expiry = now + ttl if ttl else 0
        self._add(value, entry)
        if kept and self.store_id:
            entry.message = self._message_of(value)
            self._owner.store.put(self.store_id, entry)
        if self.size != NO_LIMIT:
            self._forget_surplus()
        self._watch()
        return True

    def forget(self, header: ContentHeader) -> None:
        value = value_of(header, self.name)
        if value is not None and value in self._entries:
            self._delete(self._entries.pop(value))

    def gone(self, header: ContentHeader) -> None:
        return

    def follow(self, terms: Deduplication) -> bool:
        """What is remembered stays so for as long as it was to be, as far as a new size has room for it."""
        if terms.header != self.name or not terms.remembers():
            return False
        self.size = terms.size
        self.ttl = terms.ttl
        if self.size != NO_LIMIT:
            self._forget_surplus()
        return True

    def time_is_up(self, now: int) -> None:
        self._forget_outdated(now)
        self._watch()

    def clear(self) -> None:
        self._entries.clear()
        self._due.clear()

    def recall(self, headers: Iterable[ContentHeader], now: int) -> None:
        """Messages say nothing: the value of one that is still there may have been forgotten."""
        while self.store_id:
            run = self._owner.store.read(self.store_id, self._next_seq, _RUN_LENGTH)
            if not run:
                break
            for stored in run:
                entry = QueueEntry(_NO_MESSAGE, self._owner, stored.seq)
                entry.batch = RECOVERED
                entry.expiry = stored.expiry
                self._add(stored.body, entry)
        self._forget_outdated(now)
        if self.size != NO_LIMIT:
            self._forget_surplus()
        self._watch()

    def _ttl_of(self, header: ContentHeader) -> int:
        """A message's own time counts; without a size no longer one than the cache's, so that there is a bound."""
        field = header.headers().get(TTL_HEADER)
        if field is None or field.kind not in INTEGER_KINDS or not isinstance(field.value, int):
            return self.ttl
        if field.value <= 0:
            return self.ttl
        ttl = min(field.value, LONGEST_MILLISECONDS)
        return min(ttl, self.ttl) if self.size == NO_LIMIT else ttl

    def _add(self, value: bytes, entry: QueueEntry) -> None:
        self._entries[value] = entry
        self._next_seq = entry.seq + 1
        if not entry.expiry:
            return
        due = self._due
        heappush(due, (entry.expiry, entry.seq, value))
        if len(due) > _FEW + 2 * len(self._entries):
            self._due = [item for item in due if self._is_due_of(item)]
            heapify(self._due)

    def _message_of(self, value: bytes) -> Message:
        """Most values have the same length, and so one header does for many."""
        if self._header.body_size != len(value):
            self._header = build_header(len(value), {})
        return Message(_NO_ADDRESS, self._header, value)

    def _is_due_of(self, item: tuple[int, int, bytes]) -> bool:
        entry = self._entries.get(item[2])
        return entry is not None and entry.seq == item[1]

    def _watch(self) -> None:
        host = self._owner.host
        if self._due and host is not None:
            host.timetable.wake(self._owner, self._due[0][0] + SLACK)

    def _forget_outdated(self, now: int) -> None:
        due = self._due
        while due and due[0][0] <= now:
            item = heappop(due)
            if self._is_due_of(item):
                self._delete(self._entries.pop(item[2]))

    def _forget_surplus(self) -> None:
        while len(self._entries) > self.size:
            self._delete(self._entries.popitem(last=False)[1])

    def _delete(self, entry: QueueEntry) -> None:
        if entry.batch >= RECOVERED:
            self._owner.store.delete(self.store_id, entry)

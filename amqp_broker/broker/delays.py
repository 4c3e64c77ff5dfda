"""Messages that wait for their time before they are routed: what an x-delayed-message exchange holds.

To the store it is a queue like any other, whose entries expire when they are due; here they stand in a heap by that
time, and what a restart found stays on disk until then. Nothing consumes from it: when a message is due, the host
routes it through the exchange it waits in.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from amqp_broker.broker.argument_values import LONGEST_MILLISECONDS
from amqp_broker.broker.backlog import RUN_LENGTH
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Store, StoredQueue
from amqp_broker.broker.queue import TAKEN, Queue
from amqp_broker.content.header import HEADERS, ContentHeader, parse_header, with_headers
from amqp_broker.content.table import INTEGER_KINDS, Field

DELAY: Final = "x-delay"
DELIVER_AT: Final = "x-deliver-at"
_WORDS: Final = (b"\x07x-delay", b"\x0cx-deliver-at")


def due_at(header: ContentHeader, now: int) -> int:
    """When a message wants to be routed, milliseconds since the epoch; 0 for at once.

    x-deliver-at is that time itself; x-delay counts from now. Anything but an integer asks for nothing, as in the
    plugin that introduced x-delay. A wait is at most ten years.
    """
    if not header.flags & HEADERS or not any(word in header.payload for word in _WORDS):
        return 0
    headers = header.headers()
    due = _integer(headers.get(DELIVER_AT))
    if not due:
        delay = _integer(headers.get(DELAY))
        due = now + delay if delay > 0 else 0
    return min(due, now + LONGEST_MILLISECONDS) if due > now else 0


def _integer(field: Field | None) -> int:
    if field is None or field.kind not in INTEGER_KINDS or not isinstance(field.value, int):
        return 0
    return field.value


class DelayQueue(Queue):
    """name: that of the exchange. waiting: (due, seq, entry), the entry None while only the store has it."""

    __slots__ = ("waiting",)

    def __init__(self, name: str, vhost_name: str, durable: bool, store: Store) -> None:
        super().__init__(name, vhost_name, durable, {}, store)
        self.waiting: list[tuple[int, int, QueueEntry | None]] = []

    def publish(self, message: Message) -> int:
        seq = self.next_seq
        self.next_seq = seq + 1
        entry = QueueEntry(message, self, seq)
        entry.expiry = max(due_at(message.header, self.clock.milliseconds), 1)
        if self.durable and message.persistent:
            self.store.put(self.store_id, entry)
        heappush(self.waiting, (entry.expiry, seq, entry))
        self._watch(self.waiting[0][0])
        return TAKEN

    def time_is_up(self, now: int) -> None:
        """Have what is due routed, in the batch in which it leaves the store here."""
        waiting = self.waiting
        while waiting and waiting[0][0] <= now:
            _, seq, kept = heappop(waiting)
            entry = self._stored(seq) if kept is None else kept
            if entry is not None and self.host is not None:
                self.host.release(self.name, _as_released(entry.message))
                self._forget(entry)
        if waiting:
            self._watch(waiting[0][0])

    def ready_count(self) -> int:
        return len(self.waiting)

    def available(self) -> bool:
        return False

    def clear(self) -> None:
        super().clear()
        self.waiting.clear()

    def recovered(self, stored: StoredQueue) -> None:
        super().recovered(stored)
        self._on_disk = 0
        self.ready_bytes = 0
        seq = stored.first_seq
        left = stored.count
        while left > 0:
            run = self.store.read(self.store_id, seq, min(RUN_LENGTH, left))
            if not run:
                break
            for found in run:
                heappush(self.waiting, (found.expiry, found.seq, None))
            left -= len(run)
            seq = run[len(run) - 1].seq + 1
        if self.waiting:
            self._watch(self.waiting[0][0])

    def _stored(self, seq: int) -> QueueEntry | None:
        found = self.store.read(self.store_id, seq, 1)
        if not found or found[0].seq != seq:
            return None
        return self.entry_of(found[0], parse_header(found[0].header))


def _as_released(message: Message) -> Message:
    """The delay is negated once it has passed, so that the message is not delayed again on its way."""
    headers = dict(message.header.headers())
    delay = _integer(headers.get(DELAY))
    if delay <= 0:
        return message
    headers[DELAY] = Field("l", -delay)
    return Message(message.address, with_headers(message.header, headers), message.body, message.chunks)

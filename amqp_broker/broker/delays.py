"""Messages that wait for their time before they are routed: what an x-delayed-message exchange holds.

To the store it is a queue like any other, except that a seq tells when its message is due: SLICE milliseconds of time
in its upper bits, a number that rises in the lower ones. So the store holds the messages in the order of their times,
and only those that are due first need be in memory. All of them are stored, whatever their delivery mode. Nothing
consumes from it: when a message is due, the host routes it through the exchange it waits in.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from amqp_broker.broker.argument_values import LONGEST_MILLISECONDS
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Store, StoredQueue
from amqp_broker.broker.queue import TAKEN, Queue
from amqp_broker.broker.runs import HEADERS, RUN_LENGTH
from amqp_broker.content.header import ContentHeader, Rewritten, with_headers
from amqp_broker.content.table import INTEGER_KINDS, Field

DELAY: Final = "x-delay"
DELIVER_AT: Final = "x-deliver-at"
_DELAY_OCTETS: Final = b"\x07x-delay"
_DELIVER_AT_OCTETS: Final = b"\x0cx-deliver-at"

# Milliseconds, and the bits of a seq for the number: room for times until the year 2109, and for 268 million messages
# before a number is used again.
SLICE: Final = 64
NUMBER_BITS: Final = 28
_NUMBERS: Final = 1 << NUMBER_BITS
# How many messages are released in one turn.
RELEASED: Final = 1000
# How many in one batch of the store, and after how many milliseconds to look whether the next has begun: what is
# released must not pile up before a disk that is slower.
IN_A_BATCH: Final = 8192
PAUSE: Final = 5
# So many that are due may be in memory for the sake of their order.
MANY: Final = 16384
NOWHERE: Final = 1 << 64


class _Wish:
    """What a header asks for: deliver_at in milliseconds since the epoch, delay in milliseconds, 0 for nothing."""

    __slots__ = ("delay", "deliver_at", "header")

    def __init__(self) -> None:
        self.header: ContentHeader | None = None
        self.deliver_at: int = 0
        self.delay: int = 0

    def read(self, header: ContentHeader) -> None:
        """Have this header's. It is asked for at each step of a message's way."""
        if header is self.header:
            return
        deliver_at = delay = 0
        payload = header.payload
        if header.has_headers and (_DELAY_OCTETS in payload or _DELIVER_AT_OCTETS in payload):
            headers = header.headers()
            deliver_at = _integer(headers.get(DELIVER_AT))
            delay = _integer(headers.get(DELAY))
        self.header = header
        self.deliver_at = deliver_at
        self.delay = delay

    def negate(self, negated: ContentHeader) -> None:
        """The header that was read was rewritten to this one, with the delay negated."""
        self.header = negated
        self.delay = -self.delay


# That of the header which was looked at last.
_WISH: Final = _Wish()


def due_at(header: ContentHeader, now: int) -> int:
    """When a message wants to be routed, milliseconds since the epoch; 0 for at once.

    x-deliver-at is that time itself; x-delay counts from now. Anything but an integer asks for nothing, as in the
    plugin that introduced x-delay. A wait is at most ten years.
    """
    wish = _WISH
    wish.read(header)
    due = wish.deliver_at
    if not due and wish.delay > 0:
        due = now + wish.delay
    return min(due, now + LONGEST_MILLISECONDS) if due > now else 0


def _integer(field: Field | None) -> int:
    if field is None or field.kind not in INTEGER_KINDS or not isinstance(field.value, int):
        return 0
    return field.value


class DelayQueue(Queue):
    """name: that of the exchange. waiting: (due, seq, entry) of those that are due first, a heap.

    later: the entries that are in memory although their seqs are from `boundary` on, by seq. Others from there on
    are in the store alone, `away` of them.
    """

    __slots__ = (
        "_batch",
        "_in_batch",
        "_later_from",
        "_negated",
        "_number",
        "_released",
        "away",
        "boundary",
        "later",
        "waiting",
    )

    def __init__(self, name: str, vhost_name: str, durable: bool, store: Store) -> None:
        super().__init__(name, vhost_name, durable, {}, store)
        self.waiting: list[tuple[int, int, QueueEntry]] = []
        self.later: dict[int, QueueEntry] = {}
        self.boundary: int = NOWHERE
        self.away: int = 0
        self._number: int = 0
        # The last slice of time that something was released of.
        self._released: int = 0
        # How many were released in this batch of the store.
        self._batch: int = 0
        self._in_batch: int = 0
        # No entry of `later` has a lower seq.
        self._later_from: int = NOWHERE
        # Headers with their delays negated.
        self._negated: Rewritten = Rewritten()

    def publish(self, message: Message) -> int:
        due = max(due_at(message.header, self.clock.milliseconds), 1)
        seq = self._new_seq(due)
        # A message of its own: other queues that hold it store it no other than they should.
        entry = QueueEntry(Message(message.address, message.header, message.body, message.chunks), self, seq)
        entry.expiry = due
        if self.store_id:
            self.store.put(self.store_id, entry)
            self.store.mark_delivered(self.store_id, self._number)
        self._add(entry)
        message.header.forget_headers()
        self._watch_first()
        return TAKEN

    def time_is_up(self, now: int) -> None:
        """Have what is due routed, in the batch in which it leaves the store here."""
        released = 0
        if self.store.batch != self._batch:
            self._batch = self.store.batch
            self._in_batch = 0
        elif self._in_batch >= IN_A_BATCH and self.store_id:
            self.watch(now + PAUSE)
            return
        while released < RELEASED:
            if not self._is_due(now):
                break
            _, _, entry = heappop(self.waiting)
            self.ready_bytes -= entry.message.header.body_size
            released += 1
            self._released = max(self._released, entry.seq >> NUMBER_BITS)
            if self.host is not None:
                self.host.release(self.name, self._as_released(entry.message))
                self._forget(entry)
        self._in_batch += released
        self._watch_first()

    def ready_count(self) -> int:
        return len(self.waiting) + len(self.later) + self.away

    def away_count(self) -> int:
        return self.away

    def resident(self) -> list[QueueEntry]:
        return [*(entry for _, _, entry in self.waiting), *self.later.values()]

    def available(self) -> bool:
        return False

    def clear(self) -> None:
        super().clear()
        self.waiting.clear()
        self.later.clear()
        self.away = 0
        self.boundary = NOWHERE

    def recovered(self, stored: StoredQueue) -> None:
        for lane in stored.lanes:
            self.away += lane.count
            if lane.count and self.boundary == NOWHERE:
                self.boundary = lane.first_seq
            if lane.level == 0:
                self._number = lane.watermark
        self._watch_first()

    def resident_octets(self) -> int:
        return self.ready_bytes

    def page_out(self, keep: int, whole_runs: bool, most: int = NOWHERE) -> int:
        """Have those that are due last leave memory, as one run: they are in the store already."""
        readable = self.store.readable()
        if not self.store_id or len(self.waiting) + len(self.later) <= keep:
            return 0
        if len(self.waiting) > keep:
            self.waiting.sort(key=_second)
            # Beyond what was released: of that, the store may still have rows.
            boundary = max(self.waiting[keep][1], (self._released + 1) << NUMBER_BITS)
            self.boundary = min(self.boundary, boundary)
            for _, seq, entry in self.waiting[keep:]:
                if seq >= self.boundary:
                    self._put_later(seq, entry)
            self.waiting = [waiting for waiting in self.waiting if waiting[1] < self.boundary]
            heapify(self.waiting)
        for seq in [seq for seq, entry in self.later.items() if 0 <= entry.batch <= readable]:
            self.ready_bytes -= self.later.pop(seq).message.header.body_size
            self.away += 1
        return 1

    def use_numbers_from(self, number: int) -> None:
        """Go on as if so many messages had been held."""
        self._number = number

    def _as_released(self, message: Message) -> Message:
        """The delay is negated once it has passed, so that the message is not delayed again on its way."""
        header = message.header
        negated = self._negated.find(header, 0)
        if negated is None:
            _WISH.read(header)
            delay = _WISH.delay
            if delay <= 0:
                return message
            headers = dict(header.headers())
            headers[DELAY] = Field("l", -delay)
            negated = with_headers(header, headers)
            self._negated.keep(header, 0, negated)
            _WISH.negate(negated)
        return Message(message.address, negated, message.body, message.chunks)

    def _new_seq(self, due: int) -> int:
        if not self.ready_count():
            self._number = 0
        while True:
            self._number += 1
            seq = due // SLICE << NUMBER_BITS | self._number % _NUMBERS
            if self._number < _NUMBERS or not self._is_taken(seq):
                return seq

    def _is_taken(self, seq: int) -> bool:
        """Whether a message waits under this seq: to be asked when numbers are used for the second time."""
        if seq in self.later or any(waiting[1] == seq for waiting in self.waiting):
            return True
        found = self.store.read(self.store_id, seq, 1) if self.away else []
        return len(found) > 0 and found[0].seq == seq

    def _add(self, entry: QueueEntry) -> None:
        self.ready_bytes += entry.message.header.body_size
        if entry.seq < self.boundary:
            heappush(self.waiting, (entry.expiry, entry.seq, entry))
        else:
            self._put_later(entry.seq, entry)

    def _put_later(self, seq: int, entry: QueueEntry) -> None:
        self.later[seq] = entry
        self._later_from = min(self._later_from, seq)

    def _is_due(self, now: int) -> bool:
        """Whether the first in the heap is due, after what may be due before it was brought there."""
        while self.boundary >> NUMBER_BITS <= now // SLICE:
            if len(self.waiting) > MANY and self.waiting[0][0] <= now:
                # The rest of the slice comes when there is room for it: within a slice order is not worth memory.
                break
            self._bring_next()
        return len(self.waiting) > 0 and self.waiting[0][0] <= now

    def _bring_next(self) -> None:
        """Move the boundary past the next run of the store, and what lies before it into the heap."""
        rows = self.store.read(self.store_id, self.boundary, RUN_LENGTH) if self.away else []
        if rows:
            self.boundary = rows[len(rows) - 1].seq + 1
        else:
            self.boundary = NOWHERE
            self.away = 0
        for row in rows:
            if row.seq not in self.later:
                self.away -= 1
                self._add(self.entry_of(row, HEADERS.parsed(row.header)))
        if self._later_from < self.boundary:
            for seq in [seq for seq in self.later if seq < self.boundary]:
                entry = self.later.pop(seq)
                heappush(self.waiting, (entry.expiry, seq, entry))
            self._later_from = min(self.later, default=NOWHERE)

    def _watch_first(self) -> None:
        """Be woken when the first in memory is due, or what is next in the store may be."""
        due = self.waiting[0][0] if self.waiting else 0
        if self.boundary != NOWHERE:
            slice_begins = (self.boundary >> NUMBER_BITS) * SLICE
            due = min(due, slice_begins) if due else slice_begins
        self.watch(due)


def _second(waiting: tuple[int, int, QueueEntry]) -> int:
    return waiting[1]

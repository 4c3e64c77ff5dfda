"""The store as the model sees it: gathers the changes of the current batch and hands them over whole.

`put` and `delete` only take note; the encoding is done by `seal`, so an entry that came and went within one
batch is never encoded and never written. A batch travels as one byte string that a carrier has a writer
apply; `committed` reports it and wakes those who waited. A message that one batch puts into several queues is
written once and referenced. This module reads through a `Reader`, and starts no thread, process or
transaction.
"""

from __future__ import annotations

import marshal
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from amqp_broker.broker.message import NOT_STORED, RECOVERED
from amqp_broker.broker.ports import LEVEL_SHIFT, Definition, StoredEntry, StoredQueue
from amqp_broker.store import records
from amqp_broker.store.batch import Batch, BatchStore
from amqp_broker.store.definitions import definition_key, encode_definition
from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.broker.message import Message, QueueEntry
    from amqp_broker.store.reader import Reader
    from amqp_broker.store.spill import Spill

QUEUE_ID_STEP: Final = 1000
# How many batches go by until it is found out which of them can be read, if nobody asks.
MANY_UNREAD: Final = 1000
# What a message takes in memory besides its body, in octets, roughly.
OBJECTS: Final = 450
# What a removal takes in memory that does not go on where the one before it ended, roughly.
REMOVAL: Final = 80
# Octets of a batch that are sure to be there.
MUCH: Final = 1 << 20
_MARSHAL_VERSION: Final = 2


class JournalStore(BatchStore):
    """A `Store` over the LMDB environment that `reader` reads and some carrier's writer writes.

    spill: for what memory has no room for; without one it stays there. spill_failure: why nothing was taken there
    when it was tried last, "" if it was.
    A batch that a carrier failed to commit has to be offered to it again before any later one.
    """

    __slots__ = (
        "_counter",
        "_counts",
        "_definitions",
        "_deletes",
        "_dropped",
        "_marks",
        "_next_queue_id",
        "_next_store_id",
        "_puts",
        "_queue_id_limit",
        "_queues_gone",
        "_ranges",
        "_readable",
        "_reader",
        "_reference_deletes",
        "_references",
        "_sealed_number",
        "_spill",
        "_unread",
        "spill_failure",
    )

    def __init__(self, reader: Reader, spill: Spill | None = None) -> None:
        super().__init__()
        self._reader: Reader = reader
        self._spill: Spill | None = spill
        self.spill_failure: str = ""
        # What the log's number is after each batch that `read` may not find yet, and that batch's number.
        self._unread: deque[tuple[int, int]] = deque()
        self._sealed_number: int = 0
        self._readable: int = RECOVERED
        self._puts: dict[int, list[QueueEntry]] = {}
        self._deletes: dict[int, list[object]] = {}
        self._reference_deletes: list[int] = []
        self._ranges: list[int] = []
        self._queues_gone: list[int] = []
        self._marks: dict[tuple[int, int], int] = {}
        self._counts: dict[int, dict[int, int]] = {}
        self._definitions: dict[bytes, bytes] = {}
        self._references: dict[int, int] = {}
        self._dropped: list[int] = []
        self._next_store_id: int = 1
        self._next_queue_id: int = 1
        self._queue_id_limit: int = 0
        self._counter: bool = False

    # ---- what the model calls

    def put(self, queue_id: int, entry: QueueEntry) -> None:
        entry.batch = self.batch
        message = entry.message
        message.stored_refs += 1
        if message.stored_refs == 1:
            size = message.header.body_size + OBJECTS
            self._held_now += size
            self.pending_bytes += size
        puts = self._puts.get(queue_id)
        if puts is None:
            self._puts[queue_id] = [entry]
        else:
            puts.append(entry)

    def delete(self, queue_id: int, entry: QueueEntry) -> None:
        batch = entry.batch
        entry.batch = NOT_STORED
        message = entry.message
        if batch == self.batch:
            message.stored_refs -= 1
            if message.stored_refs == 0:
                size = message.header.body_size + OBJECTS
                self._held_now -= size
                self.pending_bytes -= size
        elif batch != NOT_STORED:
            seq = entry.seq
            if message.store_id:
                self._reference_deletes.append(queue_id)
                self._reference_deletes.append(seq)
                self._held_now += REMOVAL
                self.pending_bytes += REMOVAL
                return
            # One object in both places: there may be many.
            number: object = seq
            runs = self._deletes.get(queue_id)
            if runs is None:
                self._deletes[queue_id] = [number, number]
            elif cast(int, runs[-1]) + 1 == seq:
                runs[-1] = number
            else:
                runs.append(number)
                runs.append(number)
                self._held_now += REMOVAL
                self.pending_bytes += REMOVAL

    def delete_range(self, queue_id: int, first_seq: int, last_seq: int) -> None:
        if first_seq <= last_seq:
            self._ranges.append(queue_id)
            self._ranges.append(first_seq)
            self._ranges.append(last_seq)

    def delete_queue(self, queue_id: int) -> None:
        for entry in self._puts.pop(queue_id, ()):
            if entry.batch == self.batch:
                self.delete(queue_id, entry)
        self._deletes.pop(queue_id, None)
        self._counts.pop(queue_id, None)
        for lane in [lane for lane in self._marks if lane[0] == queue_id]:
            del self._marks[lane]
        self._queues_gone.append(queue_id)

    def mark_delivered(self, queue_id: int, seq: int) -> None:
        lane = (queue_id, seq >> LEVEL_SHIFT)
        if self._marks.get(lane, -1) < seq:
            self._marks[lane] = seq

    def count_deliveries(self, queue_id: int, entry: QueueEntry) -> None:
        # What is still to be written is written with its count, and without one none was before.
        if entry.deliveries > 1 and entry.batch != self.batch and entry.batch != NOT_STORED:
            counts = self._counts.get(queue_id)
            if counts is None:
                counts = self._counts[queue_id] = {}
            counts[entry.seq] = entry.deliveries - 1

    def spill(self, values: list[object]) -> int:
        if self._spill is None:
            return 0
        try:
            ticket = self._spill.write(marshal.dumps(values, _MARSHAL_VERSION))
        except OSError as error:
            # Then it stays in memory, where the alarms see it.
            self.spill_failure = error.strerror or repr(error)
            return 0
        self.spill_failure = ""
        return ticket

    def unspill(self, ticket: int) -> list[object]:
        assert self._spill is not None
        values: list[object] = marshal.loads(self._spill.read(ticket))  # noqa: S302  our own file
        return values

    def forget_spilled(self, ticket: int) -> None:
        assert self._spill is not None
        self._spill.forget(ticket)

    def put_definition(self, definition: Definition) -> None:
        key = definition_key(definition.kind, definition.key)
        self._definitions[key] = encode_definition(definition)

    def delete_definition(self, kind: str, key: bytes) -> None:
        self._definitions[definition_key(kind, key)] = b""

    def next_queue_id(self) -> int:
        queue_id = self._next_queue_id
        if queue_id > records.MAX_QUEUE_ID:
            raise OverflowError("all queue ids are used up")
        if queue_id > self._queue_id_limit:
            self._queue_id_limit = min(queue_id + QUEUE_ID_STEP, records.MAX_QUEUE_ID)
            self._counter = True
        self._next_queue_id = queue_id + 1
        return queue_id

    def recover(self) -> tuple[list[Definition], dict[int, StoredQueue]]:
        found = self._reader.scan()
        self._references = found.references
        self._dropped = [store_id for store_id in found.store_ids if store_id not in found.references]
        self._next_store_id = found.store_ids[-1] + 1 if found.store_ids else 1
        self._queue_id_limit = found.queue_id_limit
        self._next_queue_id = found.queue_id_limit + 1
        self._sealed_number = self._reader.log_number()
        return found.definitions, found.queues

    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        return self._reader.read(queue_id, first_seq, limit)

    def readable(self) -> int:
        if self._unread:
            number = self._reader.log_number()
            while self._unread and self._unread[0][0] <= number:
                self._readable = self._unread.popleft()[1]
        return self._readable

    # ---- what the server calls

    @property
    def empty(self) -> bool:
        return not (
            self.urgent
            or self._puts
            or self._deletes
            or self._reference_deletes
            or self._ranges
            or self._queues_gone
            or self._definitions
            or self._dropped
            or self._counter
            or self._counts
        )

    def seal(self, closing: bool = False) -> Batch | None:
        if self.empty and not (closing and self._marks):
            return None
        self._check_memory()
        sections = self._definition_sections()
        self._delete_sections(sections)
        self._put_sections(sections)
        payload = b""
        if sections or closing:
            for lane in sorted(self._marks):
                sections += (records.MARK, [lane[0], self._marks[lane]])
            self._marks = {}
        if sections:
            payload = marshal.dumps(sections, _MARSHAL_VERSION)
        batch = self.begin_next(payload)
        self._puts = {}
        if payload:
            self._sealed_number += 1
            self._unread.append((self._sealed_number, batch.number))
            if len(self._unread) % MANY_UNREAD == 0:
                self.readable()
        return batch

    def _check_memory(self) -> None:
        """Raises StoreError if a large batch cannot be put together, while nothing has changed yet."""
        size = self._held_now + (self._held_now >> 3)
        if size > MUCH:
            try:
                bytes(size)
            except MemoryError:
                raise StoreError(self._reader.path, f"no memory for a batch of {size} octets") from None

    def settle(self, batch: Batch) -> None:
        self._release(batch.released)

    def _release(self, store_ids: list[int]) -> None:
        """Count down the shared messages that lost a reference; one without any goes with the next batch."""
        references = self._references
        for store_id in store_ids:
            count = references.get(store_id, 0) - 1
            if count > 0:
                references[store_id] = count
            elif references.pop(store_id, 0):
                self._dropped.append(store_id)

    # ---- encoding a batch

    def _definition_sections(self) -> list[object]:
        sections: list[object] = []
        for key in sorted(self._definitions):
            value = self._definitions[key]
            if value:
                sections += (records.DEFINE, [key, value])
            else:
                sections += (records.UNDEFINE, [key])
        self._definitions = {}
        if self._counter:
            sections += (records.COUNTER, [self._queue_id_limit])
            self._counter = False
        return sections

    def _delete_sections(self, sections: list[object]) -> None:
        for queue_id in sorted(self._deletes):
            sections += (records.DELETE, [queue_id, self._deletes[queue_id]])
        self._deletes = {}
        if self._reference_deletes:
            sections += (records.DELETE_REFERENCE, self._reference_deletes)
            self._reference_deletes = []
        for queue_id in sorted(self._counts):
            counts: list[object] = []
            for seq, deliveries in self._counts[queue_id].items():
                counts += (seq, deliveries)
            sections += (records.COUNT, [queue_id, counts])
        self._counts = {}
        if self._ranges:
            sections += (records.DELETE_RANGE, self._ranges)
            self._ranges = []
        if self._queues_gone:
            sections += (records.DELETE_QUEUE, self._queues_gone)
            self._queues_gone = []
        if self._dropped:
            sections += (records.DELETE_MESSAGES, self._dropped)
            self._dropped = []

    def _put_sections(self, sections: list[object]) -> None:
        messages: list[object] = []
        for queue_id in sorted(self._puts):
            inline: list[object] = []
            shared: list[object] = []
            number = self.batch
            for entry in self._puts[queue_id]:
                if entry.batch != number:
                    continue
                message = entry.message
                extras: object = 0
                if entry.expiry or entry.deliveries:
                    deliveries = entry.deliveries
                    if deliveries and entry.seq <= self._marks.get((queue_id, entry.seq >> LEVEL_SHIFT), -1):
                        deliveries -= 1
                    extras = (entry.expiry, deliveries)
                if (message.stored_refs > 1 or message.store_id) and self._share(message, messages):
                    shared += (entry.seq, extras, message.store_id, message.header.body_size)
                else:
                    message.stored_refs = 0
                    body: object = message.body
                    if message.chunks:
                        body = message.chunks
                    inline += (entry.seq, extras, message.address, message.header.payload, body)
            if inline:
                sections += (records.PUT, [queue_id, inline])
            if shared:
                sections += (records.PUT_REFERENCE, [queue_id, shared])
        if messages:
            sections += (records.PUT_MESSAGES, messages)

    def _share(self, message: Message, messages: list[object]) -> bool:
        """Count a reference to a shared message, storing the message if need be; False: keep it inline."""
        references = self._references
        store_id = message.store_id
        count = references.get(store_id, 0)
        if store_id and not count:
            # Its last reference went in the meantime, and the stored copy with it.
            store_id = message.store_id = 0
        if not store_id:
            if message.stored_refs < 2:
                return False
            store_id = self._next_store_id
            self._next_store_id = store_id + 1
            message.store_id = store_id
            body: object = message.body
            if message.chunks:
                body = message.chunks
            messages += (store_id, message.address, message.header.payload, body)
        message.stored_refs = 0
        references[store_id] = count + 1
        return True

"""What a batch changes in LMDB: rows put, removed and counted within one write transaction.

Compiled, for nearly all that the writer does is done here, once for each row. Begins and ends no transaction, and
remembers nothing from one to the next but the ranges whose rows are still to be removed, which it keeps in `meta`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import lmdb

from amqp_broker.store import records

_ENTRY_KEY: Final[struct.Struct] = records.ENTRY_KEY
_HEAD: Final[struct.Struct] = records.HEAD
_HEAD_SIZE: Final = 5
# Of each message in a section PUT.
_PUT_FIELDS: Final = 5


class Databases:
    """Handles of the databases, made if they are missing."""

    __slots__ = ("definitions", "entries", "lanes", "messages", "meta")

    def __init__(self, environment: lmdb.Environment) -> None:
        self.meta = environment.open_db(records.META)
        self.definitions = environment.open_db(records.DEFINITIONS)
        self.entries = environment.open_db(records.ENTRIES)
        self.messages = environment.open_db(records.MESSAGES)
        self.lanes = environment.open_db(records.LANES)


class _Gain:
    """What a lane gains in a transaction, or loses."""

    __slots__ = ("entries", "octets", "references", "watermark")

    def __init__(self) -> None:
        self.entries = 0
        self.octets = 0
        self.references = 0
        self.watermark = 0

    def lose(self, value: memoryview) -> None:
        """An entry of this value goes."""
        octets, references = records.body_size(value)
        self.entries -= 1
        self.octets -= octets
        self.references -= references


class Changes:
    """One write transaction in the making; it holds the puts back, so that they go in sorted.

    untold: ranges, by queue id, whose rows are removed without telling what they released. budget: how many rows of
    ranges it may remove; what goes beyond that is remembered. released: store ids that lost a reference.
    untidy: something was left to remove.
    """

    __slots__ = (
        "_budget",
        "_cursor",
        "_databases",
        "_items",
        "_lanes",
        "_txn",
        "_untold",
        "released",
        "untidy",
    )

    def __init__(
        self,
        txn: lmdb.Transaction[memoryview],
        databases: Databases,
        untold: dict[int, list[tuple[int, int]]],
        budget: int,
    ) -> None:
        self._txn: Any = txn
        self._untold: dict[int, list[tuple[int, int]]] = untold
        self._databases: Databases = databases
        self._cursor: Any = txn.cursor(databases.entries)
        self._items: list[tuple[bytes, bytes]] = []
        self._budget: int = budget
        # By lane what it gains, or loses: entries, octets, references; and its watermark.
        self._lanes: dict[tuple[int, int], _Gain] = {}
        self.released: list[int] = []
        self.untidy: bool = False

    def apply(self, sections: list[Any]) -> None:
        """Apply the sections of one batch, in their order."""
        for at in range(0, len(sections), 2):
            if self._items and sections[at] in _LOOKING:
                self.finish()
            _APPLY[sections[at]](self, sections[at + 1])

    def finish(self) -> None:
        """Write the entries that were held back; called once more at the end of the transaction.

        The more of them there are, the more of those that are neighbours are written together.
        """
        items = self._items
        if items:
            # Of one batch, which comes in order of queues and seqs, only references are out of line.
            items.sort()
            # Behind the last row of all pages are filled to the end. Elsewhere LMDB leaves room for one more row,
            # which for rows of 1 KiB is a third of a page.
            cursor = self._cursor
            last = bytes(cursor.key()) if cursor.last() else b""
            cursor.putmulti(items, append=_rises(items, last))
            self._items = []

    def count_up(self) -> None:
        """Write what the lanes came to; called once, at the end of the transaction."""
        lanes = self._databases.lanes
        for (queue_id, level), gain in self._lanes.items():
            key = records.LANE_KEY.pack(queue_id, level)
            kept = self._txn.get(key, db=lanes)
            watermark, entries, octets, references = records.LANE.unpack(kept) if kept else (0, 0, 0, 0)
            value = records.LANE.pack(
                max(watermark, gain.watermark),
                entries + gain.entries,
                octets + gain.octets,
                references + gain.references,
            )
            self._txn.put(key, value, db=lanes)
        self._lanes = {}

    def _lane(self, queue_id: int, seq: int) -> _Gain:
        lane = (queue_id, seq >> records.LEVEL_SHIFT)
        gain = self._lanes.get(lane)
        if gain is None:
            gain = self._lanes[lane] = _Gain()
        return gain

    def define(self, content: list[bytes]) -> None:
        self._txn.put(content[0], content[1], db=self._databases.definitions)

    def undefine(self, content: list[bytes]) -> None:
        self._txn.delete(content[0], db=self._databases.definitions)

    def counter(self, content: list[int]) -> None:
        self._txn.put(records.QUEUE_ID_KEY, records.U64.pack(content[0]), db=self._databases.meta)

    def delete(self, content: list[Any]) -> None:
        queue_id: int = content[0]
        runs: list[int] = content[1]
        for at in range(0, len(runs), 2):
            self._delete_run(queue_id, runs[at], runs[at + 1])

    def _delete_run(self, queue_id: int, first: int, last: int) -> None:
        cursor = self._cursor
        entries = octets = 0
        first_key = _ENTRY_KEY.pack(queue_id, first)
        last_key = first_key if first == last else _ENTRY_KEY.pack(queue_id, last)
        # It often stands there already, where the run before ended.
        found: bool = bytes(cursor.key()) == first_key or cursor.set_range(first_key)
        while found:
            key = bytes(cursor.key())
            if key > last_key:
                break
            value = cursor.value()
            if value[0] & records.REFERENCE:
                self._lane(queue_id, first).lose(value)
            else:
                octets += len(value) - int.from_bytes(value[1:5], "big")
                entries += 1
            # Behind the last row of all the cursor stands at nothing.
            found = cursor.delete() and key < last_key and len(cursor.key()) > 0
        lane = self._lane(queue_id, first)
        lane.entries -= entries
        lane.octets -= octets

    def delete_reference(self, content: list[int]) -> None:
        cursor = self._cursor
        each = iter(content)
        for queue_id, seq in zip(each, each, strict=True):
            if cursor.set_key(_ENTRY_KEY.pack(queue_id, seq)):
                self._lane(queue_id, seq).lose(cursor.value())
                self._release(cursor.value())
                cursor.delete()

    def delete_range(self, content: list[int]) -> None:
        each = iter(content)
        for queue_id, first, last in zip(each, each, each, strict=True):
            reached = self._remove(queue_id, first, last)
            if reached >= 0:
                # Entries put later may fall below an open-ended `last`: keep no more than there is now.
                self._remember(queue_id, reached, self._last_seq(queue_id, last))

    def delete_queue(self, content: list[int]) -> None:
        for queue_id in content:
            self._forget_lanes(queue_id)
            reached = self._remove(queue_id, 0, records.MAX_SEQ, counted=False)
            if reached >= 0:
                self._remember(queue_id, reached, records.MAX_SEQ)

    def _forget_lanes(self, queue_id: int) -> None:
        for lane in [lane for lane in self._lanes if lane[0] == queue_id]:
            del self._lanes[lane]
        prefix = records.QUEUE_ID.pack(queue_id)
        cursor = self._txn.cursor(self._databases.lanes)
        found = cursor.set_range(prefix)
        while found and cursor.key()[: len(prefix)] == prefix:
            found = cursor.delete()

    def delete_messages(self, content: list[int]) -> None:
        cursor = self._txn.cursor(self._databases.messages)
        for store_id in content:
            if cursor.set_key(records.U64.pack(store_id)):
                cursor.delete()

    def put_messages(self, content: list[Any]) -> None:
        each = iter(content)
        items = [
            (records.U64.pack(store_id), _encode_message(0, address, header, body))
            for store_id, address, header, body in zip(each, each, each, each, strict=True)
        ]
        self._txn.cursor(self._databases.messages).putmulti(items)

    def put(self, content: list[Any]) -> None:
        queue_id: int = content[0]
        fields: list[Any] = content[1]
        items = self._items
        if len(fields) % _PUT_FIELDS:
            raise ValueError(f"{len(fields)} fields of messages")
        for at in range(0, len(fields), _PUT_FIELDS):
            seq: int = fields[at]
            extras = fields[at + 1]
            address: bytes = fields[at + 2]
            header: bytes = fields[at + 3]
            body = fields[at + 4]
            items.append((_ENTRY_KEY.pack(queue_id, seq), _encode_message(extras, address, header, body)))
        self._count_puts(queue_id, fields[::_PUT_FIELDS], fields[4::_PUT_FIELDS])

    def _count_puts(self, queue_id: int, seqs: list[int], bodies: list[Any]) -> None:
        """Nearly always all are of one lane, and then they are counted together."""
        if len(seqs) == 1 and type(bodies[0]) is bytes:
            lane = self._lane(queue_id, seqs[0])
            lane.entries += 1
            lane.octets += len(bodies[0])
            return
        sizes = [len(body) if type(body) is bytes else sum(map(len, body)) for body in bodies]
        if min(seqs) >> records.LEVEL_SHIFT == max(seqs) >> records.LEVEL_SHIFT:
            lane = self._lane(queue_id, seqs[0])
            lane.entries += len(seqs)
            lane.octets += sum(sizes)
            return
        for seq, size in zip(seqs, sizes, strict=True):
            lane = self._lane(queue_id, seq)
            lane.entries += 1
            lane.octets += size

    def put_reference(self, content: list[Any]) -> None:
        queue_id, fields = content
        each = iter(fields)
        for seq, extras, store_id, body_size in zip(each, each, each, each, strict=True):
            flags, encoded = records.encode_extras(*extras) if extras else (0, b"")
            value = records.encode_reference(flags, encoded, store_id, body_size)
            lane = self._lane(queue_id, seq)
            lane.entries += 1
            lane.octets += body_size
            lane.references += 1
            self._items.append((_ENTRY_KEY.pack(queue_id, seq), value))

    def mark(self, content: list[int]) -> None:
        queue_id, seq = content
        lane = self._lane(queue_id, seq)
        lane.watermark = max(lane.watermark, seq)

    def count(self, content: list[Any]) -> None:
        queue_id, counts = content
        cursor = self._cursor
        each = iter(counts)
        for seq, deliveries in zip(each, each, strict=True):
            key = _ENTRY_KEY.pack(queue_id, seq)
            if cursor.set_key(key):
                cursor.put(key, records.with_deliveries(bytes(cursor.value()), deliveries))

    def continue_range(self) -> bool:
        """Go on with the first range that was remembered; whether any is left after that."""
        cursor = self._txn.cursor(self._databases.meta)
        if not at_range(cursor):
            return False
        _, queue_id, first = records.RANGE_KEY.unpack(cursor.key())
        last = records.U64.unpack(cursor.value())[0]
        cursor.delete()
        reached = self._remove(queue_id, first, last, counted=last != records.MAX_SEQ)
        if reached >= 0:
            self._remember(queue_id, reached, last)
        return at_range(cursor)

    def _remember(self, queue_id: int, first: int, last: int) -> None:
        key = records.RANGE_KEY.pack(records.RANGE_PREFIX, queue_id, first)
        self._txn.put(key, records.U64.pack(last), db=self._databases.meta)
        self.untidy = True

    def _remove(self, queue_id: int, first: int, last: int, *, counted: bool = True) -> int:
        """Remove the rows of a range as far as this transaction's budget goes; -1 or the seq it came to.

        counted: the queue's lanes still count them.
        """
        cursor = self._cursor
        untold = self._untold.get(queue_id, ())
        found = cursor.set_range(_ENTRY_KEY.pack(queue_id, first))
        while found and cursor.key():
            row_queue_id, seq = _ENTRY_KEY.unpack_from(cursor.key())
            if row_queue_id != queue_id or seq > last:
                break
            if self._budget <= 0:
                return int(seq)
            self._budget -= 1
            if not any(start <= seq <= end for start, end in untold):
                self._release(cursor.value())
            if counted:
                self._lane(queue_id, seq).lose(cursor.value())
            found = cursor.delete()
        return -1

    def _last_seq(self, queue_id: int, last: int) -> int:
        """The highest seq up to `last` that the queue has a row for; there must be one."""
        cursor = self._cursor
        key = _ENTRY_KEY.pack(queue_id, last)
        if not cursor.set_range(key):
            cursor.last()
        elif cursor.key() != key:
            cursor.prev()
        return int(_ENTRY_KEY.unpack_from(cursor.key())[1])

    def _release(self, value: memoryview) -> None:
        if value[0] & records.REFERENCE:
            self.released.append(records.decode_row(value).store_id)


def _rises(items: list[tuple[bytes, bytes]], last: bytes) -> bool:
    """Whether each key is higher than the one before it, and the first higher than `last`."""
    for key, _ in items:
        if key <= last:
            return False
        last = key
    return True


def removed_rows(sections: list[Any]) -> int:
    """How many rows the sections of a batch remove one by one."""
    rows = 0
    for at in range(0, len(sections), 2):
        if sections[at] == records.DELETE:
            runs: list[int] = sections[at + 1][1]
            for run in range(0, len(runs), 2):
                rows += runs[run + 1] - runs[run] + 1
        elif sections[at] == records.DELETE_REFERENCE:
            rows += len(sections[at + 1]) // 2
    return rows


def at_range(cursor: lmdb.Cursor[memoryview]) -> bool:
    prefix = records.RANGE_PREFIX
    return cursor.set_range(prefix) and cursor.key()[: len(prefix)] == prefix


def _encode_message(extras: Any, address: bytes, header: bytes, body: bytes | tuple[bytes, ...]) -> bytes:
    if not extras and type(body) is bytes:
        return b"".join((_HEAD.pack(0, _HEAD_SIZE + len(address) + len(header)), address, header, body))
    flags, encoded = records.encode_extras(*extras) if extras else (0, b"")
    body_offset = _HEAD_SIZE + len(encoded) + len(address) + len(header)
    chunks = body if isinstance(body, tuple) else (body,)
    return b"".join((_HEAD.pack(flags, body_offset), encoded, address, header, *chunks))


_Section: TypeAlias = Callable[[Changes, Any], None]
_APPLY: Final[dict[int, _Section]] = {
    records.DEFINE: Changes.define,
    records.UNDEFINE: Changes.undefine,
    records.COUNTER: Changes.counter,
    records.DELETE: Changes.delete,
    records.DELETE_REFERENCE: Changes.delete_reference,
    records.DELETE_RANGE: Changes.delete_range,
    records.DELETE_QUEUE: Changes.delete_queue,
    records.DELETE_MESSAGES: Changes.delete_messages,
    records.PUT_MESSAGES: Changes.put_messages,
    records.PUT: Changes.put,
    records.PUT_REFERENCE: Changes.put_reference,
    records.MARK: Changes.mark,
    records.COUNT: Changes.count,
}
# The sections that there are, and those that look for entries.
KINDS: Final = frozenset(_APPLY)
_LOOKING: Final = frozenset(
    (records.DELETE, records.DELETE_REFERENCE, records.DELETE_RANGE, records.DELETE_QUEUE, records.COUNT)
)

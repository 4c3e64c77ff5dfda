"""The writing side of the store: applies batches to an LMDB environment, one write transaction at a time.

A transaction holds one or more whole batches and is on disk when `apply` returns (with durability "commit").
Removing many rows is left to `tidy`, which works in steps while there is nothing else to do; what is left to
remove is kept in `meta`, so a restart goes on with it. It knows no sockets, and must only be used by one
thread.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final, TypeAlias

import lmdb

from amqp_broker.store import records
from amqp_broker.store.environment import data_file
from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.place import Place

RANGE_STEP: Final = 5000
_GROWTH: Final = 2

_pack_key: Final = records.ENTRY_KEY.pack
_unpack_key: Final = records.ENTRY_KEY.unpack_from
_pack_head: Final = records.HEAD.pack
_unpack_head: Final = records.HEAD.unpack_from
_HEAD_SIZE: Final = records.HEAD.size


class Databases:
    """Handles of the databases, made if they are missing."""

    __slots__ = ("definitions", "entries", "lanes", "messages", "meta")

    def __init__(self, environment: lmdb.Environment) -> None:
        self.meta = environment.open_db(records.META)
        self.definitions = environment.open_db(records.DEFINITIONS)
        self.entries = environment.open_db(records.ENTRIES)
        self.messages = environment.open_db(records.MESSAGES)
        self.lanes = environment.open_db(records.LANES)


class Writer:
    """Owns every write transaction of an environment.

    resizing: held while this process's map changes its size, which LMDB forbids while anyone reads.
    place: of the file.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        path: str,
        resizing: AbstractContextManager[object] | None = None,
    ) -> None:
        self._environment = environment
        self._path = path
        self._resizing = resizing or nullcontext()
        self._databases = Databases(environment)
        self.place: Final = Place(data_file(path))
        # Store ids whose references `tidy` removed and which nobody was told about yet.
        self._released: list[int] = []
        # First and last seqs by queue id, see `begin_telling`.
        self._untold: dict[int, list[tuple[int, int]]] = {}
        # Tidying failed, and is not tried again until a batch gets through.
        self._stalled = False
        with environment.begin(buffers=True) as txn:
            self._untidy = _at_range(txn.cursor(self._databases.meta))
        self.begin_telling()

    @property
    def untidy(self) -> bool:
        """There are rows left for `tidy` to remove."""
        return self._untidy and not self._stalled

    def log_number(self) -> int:
        """The number of the last batch of the log that was applied, 0 if none was: see `log`."""
        with self._environment.begin(buffers=True) as txn:
            number = txn.get(records.LOG_KEY, db=self._databases.meta)
            return 0 if number is None else int(records.U64.unpack(number)[0])

    def begin_telling(self) -> None:
        """Tell from now on what is released; called before a start counts references, which tells it all else.

        A start passes over rows that are still to be removed, so to tell of those would count them down twice.
        """
        self._released = []
        self._untold = {}
        with self._environment.begin(buffers=True) as txn:
            cursor = txn.cursor(self._databases.meta)
            positioned = _at_range(cursor)
            while positioned and bytes(cursor.key()).startswith(records.RANGE_PREFIX):
                _, queue_id, first = records.RANGE_KEY.unpack(cursor.key())
                last = records.U64.unpack(cursor.value())[0]
                self._untold.setdefault(queue_id, []).append((first, last))
                positioned = cursor.next()

    def sync(self) -> None:
        """Have all that was ever applied on disk, whatever the durability was. Raises StoreError."""
        try:
            self._environment.sync(force=True)
        except lmdb.Error as error:
            raise self._failure(error) from error

    def apply(self, payloads: list[list[object]], log_number: int = 0) -> list[int]:
        """Make batches durable together, in order; returns the store ids that lost a reference, once for
        each. log_number: what `log_number` is to say from then on, if not 0.

        Raises StoreError if nothing of them was written; they can be applied again later, unless it is
        StoreDied.
        """
        while True:
            try:
                with self._environment.begin(write=True, buffers=True) as txn:
                    changes = _Changes(txn, self._databases, self._untold)
                    for sections in payloads:
                        changes.apply(sections)
                        changes.finish()
                    changes.count_up()
                    if log_number:
                        txn.put(records.LOG_KEY, records.U64.pack(log_number), db=self._databases.meta)
                break
            except lmdb.MapFullError:
                self._grow()
            except lmdb.PanicError as error:
                # Not even the page that names the last transaction could be written: LMDB gives up for good.
                raise StoreDied(self._path, f"the store is out of order: {error}") from error
            except lmdb.Error as error:
                raise self._failure(error) from error
        self._untidy = self._untidy or changes.untidy
        self._stalled = False
        released = self._released + changes.released
        self._released = []
        return released

    def tidy(self) -> None:
        """Remove the next RANGE_STEP rows of what is left to remove. Raises StoreError."""
        try:
            with self._environment.begin(write=True, buffers=True) as txn:
                changes = _Changes(txn, self._databases, self._untold)
                more = changes.continue_range()
                changes.count_up()
        except lmdb.MapFullError:
            self._grow()
            return
        except lmdb.Error as error:
            self._stalled = True
            raise self._failure(error) from error
        self._untidy = more
        self._released += changes.released

    def _grow(self) -> None:
        size = self._environment.info()["map_size"]
        try:
            # LMDB lets go of the map that it has before it asks for another, and cannot go on without one.
            mmap.mmap(-1, size * (_GROWTH - 1), prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE).close()
            with self._resizing:
                self._environment.set_mapsize(size * _GROWTH)
        except lmdb.Error as error:
            cause = f"the map of {size} bytes is full and cannot grow: {error}"
            raise StoreDied(self._path, cause) from error
        except OSError as error:
            cause = f"the map of {size} bytes is full and cannot grow: {error.strerror}"
            raise StoreError(self._path, cause, error.errno or 0) from error

    def _failure(self, error: lmdb.Error) -> StoreError:
        cause = f"cannot write the store: {error}"
        with suppress(OSError):
            # A disk without room is an I/O error to LMDB.
            stat = os.statvfs(self._path)
            cause += f" ({stat.f_bavail * stat.f_frsize} octets of disk free)"
        return StoreError(self._path, cause, getattr(error, "code", 0))


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


class _Changes:
    """One write transaction in the making; it holds the puts back, so that they go in sorted.

    untold: ranges, by queue id, whose rows are removed without telling what they released.
    """

    def __init__(
        self,
        txn: lmdb.Transaction[memoryview],
        databases: Databases,
        untold: dict[int, list[tuple[int, int]]],
    ) -> None:
        self._txn = txn
        self._untold = untold
        self._databases = databases
        self._cursor = txn.cursor(databases.entries)
        self._items: list[tuple[bytes, bytes]] = []
        self._budget = RANGE_STEP
        # By lane what it gains, or loses: entries, octets, references; and its watermark.
        self._lanes: dict[tuple[int, int], _Gain] = {}
        self.released: list[int] = []
        self.untidy = False

    def apply(self, sections: list[Any]) -> None:
        """Apply the sections of one batch, in their order."""
        each = iter(sections)
        for kind, content in zip(each, each, strict=True):
            _APPLY[kind](self, content)

    def finish(self) -> None:
        """Write the entries that were held back; called before the next batch of the transaction."""
        items = self._items
        if items:
            # Batches arrive in queue order and queues in seq order: only references come out of line.
            items.sort()
            self._cursor.putmulti(items)
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
        queue_id, runs = content
        cursor = self._cursor
        each = iter(runs)
        for first, last in zip(each, each, strict=True):
            entries = octets = 0
            found = cursor.set_range(_pack_key(queue_id, first))
            while found and (key := cursor.key()):
                row_queue_id, seq = _unpack_key(key)
                if seq > last or row_queue_id != queue_id:
                    break
                value = cursor.value()
                flags, body_offset = _unpack_head(value)
                if flags & records.REFERENCE:
                    self._lane(queue_id, seq).lose(value)
                else:
                    octets += len(value) - body_offset
                    entries += 1
                found = cursor.delete()
            lane = self._lane(queue_id, first)
            lane.entries -= entries
            lane.octets -= octets

    def delete_reference(self, content: list[int]) -> None:
        cursor = self._cursor
        each = iter(content)
        for queue_id, seq in zip(each, each, strict=True):
            if cursor.set_key(_pack_key(queue_id, seq)):
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
        queue_id, fields = content
        items = self._items
        each = iter(fields)
        for seq, extras, address, header, body in zip(each, each, each, each, each, strict=True):
            items.append((_pack_key(queue_id, seq), _encode_message(extras, address, header, body)))
        self._count_puts(queue_id, fields[::5], fields[4::5])

    def _count_puts(self, queue_id: int, seqs: list[int], bodies: list[Any]) -> None:
        """Nearly always all are of one lane, and then they are counted together."""
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
            self._items.append((_pack_key(queue_id, seq), value))

    def mark(self, content: list[int]) -> None:
        queue_id, seq = content
        lane = self._lane(queue_id, seq)
        lane.watermark = max(lane.watermark, seq)

    def count(self, content: list[Any]) -> None:
        queue_id, counts = content
        cursor = self._cursor
        each = iter(counts)
        for seq, deliveries in zip(each, each, strict=True):
            key = _pack_key(queue_id, seq)
            if cursor.set_key(key):
                cursor.put(key, records.with_deliveries(bytes(cursor.value()), deliveries))

    def continue_range(self) -> bool:
        """Go on with the first range that was remembered; whether any is left after that."""
        cursor = self._txn.cursor(self._databases.meta)
        if not _at_range(cursor):
            return False
        _, queue_id, first = records.RANGE_KEY.unpack(cursor.key())
        last = records.U64.unpack(cursor.value())[0]
        cursor.delete()
        reached = self._remove(queue_id, first, last, counted=last != records.MAX_SEQ)
        if reached >= 0:
            self._remember(queue_id, reached, last)
        return _at_range(cursor)

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
        found = cursor.set_range(_pack_key(queue_id, first))
        while found and cursor.key():
            row_queue_id, seq = _unpack_key(cursor.key())
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
        key = _pack_key(queue_id, last)
        if not cursor.set_range(key):
            cursor.last()
        elif cursor.key() != key:
            cursor.prev()
        return int(_unpack_key(cursor.key())[1])

    def _release(self, value: memoryview) -> None:
        if value[0] & records.REFERENCE:
            self.released.append(records.decode_row(value).store_id)


def _at_range(cursor: lmdb.Cursor[memoryview]) -> bool:
    prefix = records.RANGE_PREFIX
    return cursor.set_range(prefix) and cursor.key()[: len(prefix)] == prefix


def _encode_message(extras: Any, address: bytes, header: bytes, body: bytes | tuple[bytes, ...]) -> bytes:
    if not extras and type(body) is bytes:
        return b"".join((_pack_head(0, _HEAD_SIZE + len(address) + len(header)), address, header, body))
    flags, encoded = records.encode_extras(*extras) if extras else (0, b"")
    body_offset = _HEAD_SIZE + len(encoded) + len(address) + len(header)
    chunks = body if isinstance(body, tuple) else (body,)
    return b"".join((_pack_head(flags, body_offset), encoded, address, header, *chunks))


_Section: TypeAlias = Callable[[_Changes, Any], None]
_APPLY: Final[dict[int, _Section]] = {
    records.DEFINE: _Changes.define,
    records.UNDEFINE: _Changes.undefine,
    records.COUNTER: _Changes.counter,
    records.DELETE: _Changes.delete,
    records.DELETE_REFERENCE: _Changes.delete_reference,
    records.DELETE_RANGE: _Changes.delete_range,
    records.DELETE_QUEUE: _Changes.delete_queue,
    records.DELETE_MESSAGES: _Changes.delete_messages,
    records.PUT_MESSAGES: _Changes.put_messages,
    records.PUT: _Changes.put,
    records.PUT_REFERENCE: _Changes.put_reference,
    records.MARK: _Changes.mark,
    records.COUNT: _Changes.count,
}

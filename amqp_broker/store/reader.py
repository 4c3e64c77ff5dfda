"""The reading side of the store: what is durable, found again.

It opens one read transaction per call and closes it before it returns, because LMDB can reuse no page that a
reader might still see. It writes nothing. What a committed batch removed counts as gone, even where the
writer has not got round to removing the rows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import lmdb

from amqp_broker.broker.ports import Definition, StoredEntry, StoredLane, StoredQueue
from amqp_broker.store import records
from amqp_broker.store.definitions import decode_definition
from amqp_broker.store.environment import can_be_opened, data_file
from amqp_broker.store.errors import StoreError
from amqp_broker.store.mapped import Mapping
from amqp_broker.store.place import Place

READ_BYTES: Final = 4 << 20
# Octets of the map that may be resident before the environment is opened anew, and those of a row besides its body,
# roughly.
RESIDENT: Final = 32 << 20
_ROW: Final = 64
# Octets of a body from which on it is not copied twice.
LARGE_ROW: Final = 4096
# Where the time of a row ends that has one and no count of deliveries.
_TIME_END: Final = 13
# Entries that a start looks at between two lines in the log: a second or two.
TELL: Final = 1_000_000

_log = logging.getLogger(__name__)

_unpack_key: Final = records.ENTRY_KEY.unpack_from
_pack_key: Final = records.ENTRY_KEY.pack
_unpack_head: Final = records.HEAD.unpack_from


class Found:
    """What a start finds. references: how many entries refer to each shared message.

    store_ids: every shared message in the store, rising. queue_id_limit: the highest queue id ever reserved.
    """

    __slots__ = ("definitions", "queue_id_limit", "queues", "references", "store_ids")

    def __init__(self) -> None:
        self.definitions: list[Definition] = []
        self.queues: dict[int, StoredQueue] = {}
        self.references: dict[int, int] = {}
        self.store_ids: list[int] = []
        self.queue_id_limit: int = 0


class _Neighbour:
    """The row before, which the next is often like in all but its body and its time."""

    __slots__ = ("_address", "_beginning", "_head", "_header", "_size")

    def __init__(self) -> None:
        # All before the body, or what of it comes before and behind the time.
        self._head: bytes = b""
        self._beginning: bytes = b""
        self._size: int = 0
        self._address: bytes = b""
        self._header: bytes = b""

    def note(self, entry: StoredEntry, value: bytes | memoryview) -> None:
        flags, body_offset = _unpack_head(value)
        self._address = entry.address
        self._header = entry.header
        self._size = body_offset if flags in (0, records.EXPIRY) else 0
        self._head = bytes(value[: records.HEAD.size]) if flags else b""
        self._beginning = bytes(value[_TIME_END if flags else 0 : body_offset])

    def like(self, seq: int, value: bytes | memoryview) -> StoredEntry | None:
        """The entry of a row that is like it; None if it is not."""
        size = self._size
        if not size:
            return None
        if not self._head:
            if value[:size] != self._beginning:
                return None
            return StoredEntry(seq, self._address, self._header, bytes(value[size:]))
        if value[: len(self._head)] != self._head or value[_TIME_END:size] != self._beginning:
            return None
        entry = StoredEntry(seq, self._address, self._header, bytes(value[size:]))
        entry.expiry = records.U64.unpack_from(value, len(self._head))[0]
        return entry


class Progress:
    """Tells the log how far a start has come that has much to look at. step: entries between two lines."""

    __slots__ = ("_looked", "_step")

    def __init__(self, step: int = TELL) -> None:
        self._looked: int = 0
        self._step: int = step

    def look(self) -> None:
        """One more entry is looked at."""
        self._looked += 1
        if self._looked % self._step == 0:
            _log.info("recovering: %d entries of queues that share bodies looked at", self._looked)


class Reader:
    """Reads an LMDB environment that has the databases of this schema version.

    path: the data directory.
    resizing: held by whoever changes the size of this process's map, which LMDB forbids while anyone reads.
    reopen: opens the environment anew, which is done now and then (see `mapped`); None where this process has it open
    for others as well.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        path: str,
        resizing: threading.Lock,
        reopen: Callable[[], lmdb.Environment] | None = None,
    ) -> None:
        self.path = path
        self._resizing = resizing
        self._reopen = reopen
        self._place = Place(data_file(path))
        self._mapping = Mapping(RESIDENT)
        self._octets_read = 0
        # Rows were small when some were read last: to copy them whole costs less than to look at them in the map.
        self._copies = True
        self._use(environment)

    def _use(self, environment: lmdb.Environment) -> None:
        self.environment = environment
        self._entries = environment.open_db(records.ENTRIES, create=False)
        self._messages = environment.open_db(records.MESSAGES, create=False)
        self._definitions = environment.open_db(records.DEFINITIONS, create=False)
        self._meta = environment.open_db(records.META, create=False)
        self._lanes = environment.open_db(records.LANES, create=False)

    def scan(self) -> Found:
        """Everything a start needs. Entries are looked at only where some are references, or are being removed.

        Raises StoreError.
        """
        found = Found()
        with self._resizing:
            try:
                with self._begin() as txn:
                    self._scan_meta(txn, found)
                    self._scan_definitions(txn, found)
                    self._scan_lanes(txn, found)
                    keys = txn.cursor(self._messages).iternext(keys=True, values=False)
                    found.store_ids = [records.U64.unpack(key)[0] for key in keys]
            except (lmdb.Error, ValueError) as error:
                raise self._failure(error) from error
        return found

    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        """As `Store.read`. Raises StoreError."""
        with self._resizing:
            try:
                if self._reopen is not None and self._outgrown() and self._can_be_opened():
                    self.environment.close()
                    self._use(self._reopen())
                with self._begin_copying() if self._copies else self._begin() as txn:
                    return self._read(txn, queue_id, first_seq, limit)
            except (lmdb.Error, ValueError) as error:
                raise self._failure(error) from error

    def _can_be_opened(self) -> bool:
        # Without its name the file could not be opened anew either.
        return self._place.kept and can_be_opened(self.path)

    def _outgrown(self) -> bool:
        octets = self._octets_read
        self._octets_read = 0
        return self._mapping.outgrown(octets)

    def log_number(self) -> int:
        """The number of the last batch of the log that LMDB has, see `log`. Raises StoreError."""
        with self._resizing:
            try:
                with self._begin() as txn:
                    number = txn.get(records.LOG_KEY, db=self._meta)
                    return 0 if number is None else int(records.U64.unpack(number)[0])
            except (lmdb.Error, ValueError) as error:
                raise self._failure(error) from error

    def reusable(self) -> int:
        """Octets of the file that hold nothing any more and are written again before it grows. Raises StoreError.

        The list of free pages itself counts as free, which is not much beside what it lists.
        """
        databases = (self._entries, self._messages, self._definitions, self._meta, self._lanes)
        with self._resizing:
            try:
                with self._begin() as txn:
                    held = [txn.stat(database) for database in databases]
                    # The one without a name, which lists the others.
                    held.append(self.environment.stat())
                    pages: int = self.environment.info()["last_pgno"] + 1
            except lmdb.Error as error:
                raise self._failure(error) from error
        for each in held:
            pages -= each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"]
        return max(0, pages * int(held[0]["psize"]))

    def _begin(self) -> lmdb.Transaction[memoryview]:
        try:
            return self.environment.begin(buffers=True)
        except lmdb.MapResizedError:
            self._take_over_size()
            return self.environment.begin(buffers=True)

    def _begin_copying(self) -> lmdb.Transaction[bytes]:
        try:
            return self.environment.begin()
        except lmdb.MapResizedError:
            self._take_over_size()
            return self.environment.begin()

    def _take_over_size(self) -> None:
        """The writer's process has grown the file past our map."""
        self.environment.set_mapsize(0)

    def _failure(self, error: Exception) -> StoreError:
        return StoreError(self.path, f"cannot read the store: {error}", getattr(error, "code", 0))

    def _scan_meta(self, txn: lmdb.Transaction[memoryview], found: Found) -> None:
        limit = txn.get(records.QUEUE_ID_KEY, db=self._meta)
        if limit is not None:
            found.queue_id_limit = records.U64.unpack(limit)[0]

    def _scan_definitions(self, txn: lmdb.Transaction[memoryview], found: Found) -> None:
        for value in txn.cursor(self._definitions).iternext(keys=False, values=True):
            found.definitions.append(decode_definition(bytes(value)))
        found.definitions.sort(key=_definition_order)

    def _scan_lanes(self, txn: lmdb.Transaction[memoryview], found: Found) -> None:
        ranges = self._ranges(txn)
        cursor = txn.cursor(self._entries)
        progress = Progress()
        for key, value in txn.cursor(self._lanes).iternext():
            queue_id, level = records.LANE_KEY.unpack(key)
            lane = StoredLane(level)
            lane.watermark, lane.count, lane.body_bytes, references = records.LANE.unpack(value)
            first = _pack_key(queue_id, level << records.LEVEL_SHIFT)
            removed = [
                (start, end)
                for start, end in ranges.get(queue_id, ())
                if start >> records.LEVEL_SHIFT == level
            ]
            if references or removed:
                _scan_lane(cursor, first, lane, found.references, removed, progress)
            elif lane.count:
                _bound_lane(cursor, first, lane)
            # New entries must lie above everything that was ever handed out or is still to be removed.
            lane.last_seq = max([lane.last_seq, lane.watermark, *(end for _, end in removed)])
            queue = found.queues.get(queue_id)
            if queue is None:
                queue = found.queues[queue_id] = StoredQueue()
            queue.lanes.append(lane)

    def _ranges(self, txn: lmdb.Transaction[Any], queue_id: int = -1) -> dict[int, list[tuple[int, int]]]:
        """What is still to be removed: first and last seqs by queue; queue_id: only that queue's."""
        ranges: dict[int, list[tuple[int, int]]] = {}
        prefix = records.RANGE_PREFIX
        if queue_id >= 0:
            prefix += records.QUEUE_ID.pack(queue_id)
        cursor = txn.cursor(self._meta)
        if cursor.set_range(prefix):
            for key, value in cursor.iternext():
                if key[: len(prefix)] != prefix:
                    break
                _, found_id, first = records.RANGE_KEY.unpack(key)
                ranges.setdefault(found_id, []).append((first, records.U64.unpack(value)[0]))
        return ranges

    def _read(
        self, txn: lmdb.Transaction[Any], queue_id: int, first_seq: int, limit: int
    ) -> list[StoredEntry]:
        entries: list[StoredEntry] = []
        gone = self._ranges(txn, queue_id).get(queue_id, [])
        size = 0
        neighbour = _Neighbour()
        cursor = txn.cursor(self._entries)
        if not cursor.set_range(records.ENTRY_KEY.pack(queue_id, first_seq)):
            return entries
        prefix = records.QUEUE_ID.pack(queue_id)
        for key, value in cursor.iternext():
            if len(entries) >= limit or size >= READ_BYTES or key[: len(prefix)] != prefix:
                break
            seq = _seq_of(bytes(key))
            if gone and _covered(gone, seq):
                continue
            entry = neighbour.like(seq, value)
            if entry is None:
                entry = self._entry(txn, queue_id, seq, records.decode_row(value))
                neighbour.note(entry, value)
            entries.append(entry)
            size += len(entry.body)
        self._octets_read += size + len(entries) * _ROW
        self._copies = size < len(entries) * LARGE_ROW
        return entries

    def _entry(self, txn: lmdb.Transaction[Any], queue_id: int, seq: int, row: records.Row) -> StoredEntry:
        message = row
        if row.store_id:
            shared = txn.get(records.U64.pack(row.store_id), db=self._messages)
            if shared is None:
                raise ValueError(f"message {row.store_id} of queue {queue_id} is missing")
            message = records.decode_row(shared)
        entry = StoredEntry(seq, message.address, message.header, message.body)
        entry.expiry = row.expiry
        entry.deliveries = row.deliveries
        entry.store_id = row.store_id
        return entry


def _seq_of(key: bytes) -> int:
    """As unpacking the key would have it, and faster."""
    high = (key[4] << 24) | (key[5] << 16) | (key[6] << 8) | key[7]
    return (high << 32) | (key[8] << 24) | (key[9] << 16) | (key[10] << 8) | key[11]


def _scan_lane(
    cursor: lmdb.Cursor[memoryview],
    first: bytes,
    lane: StoredLane,
    references: dict[int, int],
    removed: list[tuple[int, int]],
    progress: Progress,
) -> None:
    """Count the entries of a lane one by one, and the references among them. first: the lowest key it may have."""
    count = 0
    body_bytes = 0
    prefix = first[: records.LANE_KEY.size]
    if cursor.set_range(first):
        for key, value in cursor.iternext():
            if key[: len(prefix)] != prefix:
                break
            progress.look()
            seq = _unpack_key(key)[1]
            if removed and _covered(removed, seq):
                continue
            if not count:
                lane.first_seq = seq
            count += 1
            lane.last_seq = seq
            size, is_reference = records.body_size(value)
            body_bytes += size
            if is_reference:
                store_id = records.decode_row(value).store_id
                references[store_id] = references.get(store_id, 0) + 1
    lane.count = count
    lane.body_bytes = body_bytes


def _bound_lane(cursor: lmdb.Cursor[memoryview], first: bytes, lane: StoredLane) -> None:
    """Find the first and the last entry of a lane that has some."""
    prefix = first[: records.LANE_KEY.size]
    if not cursor.set_range(first) or cursor.key()[: len(prefix)] != prefix:
        raise ValueError(f"lane {prefix.hex()} has {lane.count} entries, but none is there")
    lane.first_seq = _unpack_key(cursor.key())[1]
    if cursor.set_range(prefix + b"\xff" * (records.ENTRY_KEY.size - len(prefix))):
        if cursor.key()[: len(prefix)] != prefix:
            cursor.prev()
    else:
        cursor.last()
    lane.last_seq = _unpack_key(cursor.key())[1]


def _covered(ranges: list[tuple[int, int]], seq: int) -> bool:
    return any(first <= seq <= last for first, last in ranges)


def _definition_order(definition: Definition) -> tuple[str, bytes]:
    return definition.kind, definition.key

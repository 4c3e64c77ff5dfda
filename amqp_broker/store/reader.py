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
RESIDENT: Final = 16 << 20
_ROW: Final = 64
# Octets that a look at a row or two may bring in: each transaction writes them elsewhere, and the system maps a page
# with its neighbours.
_LOOK: Final = 128 << 10
# Octets of a row, on average, up to which LMDB's binding makes copies faster than it tells where rows lie, and from
# which on the body is not copied twice.
SMALL_ROW: Final = 512
LARGE_ROW: Final = 4096
# Where the extras of a row begin.
_EXTRAS_AT: Final = 5
# Entries that a start looks at between two lines in the log: a second or two.
TELL: Final = 1_000_000

_log = logging.getLogger(__name__)

_unpack_key: Final = records.ENTRY_KEY.unpack_from
_pack_key: Final = records.ENTRY_KEY.pack


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


class _Rows:
    """Makes entries of rows. Between its extras and its body a row is mostly like the one before it."""

    __slots__ = ("_address", "_beginning", "_header")

    def __init__(self) -> None:
        self._beginning: bytes = b""
        self._address: bytes = b""
        self._header: bytes = b""

    def entry(self, seq: int, data: bytes, start: int, end: int) -> StoredEntry | None:
        """That of a row that lies in data from start to end; None if it takes more to read it."""
        flags = data[start]
        at = start + _EXTRAS_AT
        body_at = start + _u32(data, start + 1)
        expiry = 0
        if flags:
            if flags != records.EXPIRY:
                return None
            expiry = _u64(data, at)
            at += 8
        if not at < body_at <= end:
            return None
        beginning = data[at:body_at]
        if beginning != self._beginning:
            key_at = 1 + beginning[0]
            header_at = key_at + 1 + beginning[key_at]
            self._beginning = beginning
            self._address = beginning[:header_at]
            self._header = beginning[header_at:]
        entry = StoredEntry(seq, self._address, self._header, data[body_at:end])
        entry.expiry = expiry
        return entry


class _FoundRows:
    """Where rows of a queue lie, until there are enough, and their seqs; what `gone` covers is passed over.

    size: their octets.
    """

    __slots__ = ("_gone", "_limit", "_prefix", "seqs", "size", "values")

    def __init__(self, queue_id: int, limit: int, gone: list[tuple[int, int]]) -> None:
        self._prefix: bytes = records.QUEUE_ID.pack(queue_id)
        self._limit: int = limit
        self._gone: list[tuple[int, int]] = gone
        self.seqs: list[int] = []
        self.values: list[memoryview] = []
        self.size: int = 0

    def look_for_neighbours(self, cursor: lmdb.Cursor[memoryview]) -> bool:
        """Find the rows from the cursor on without a look at each key. False if some seq is missing between them.

        Keys rise, so that the first and the last tell.
        """
        if self._gone:
            return False
        first = bytes(cursor.key())
        for value in cursor.iternext(keys=False, values=True):
            self._add(value)
            if self._enough():
                break
        last = bytes(cursor.key())
        if first.startswith(self._prefix) and last.startswith(self._prefix):
            seq = _seq_of(first)
            if _seq_of(last) - seq == len(self.values) - 1:
                self.seqs = list(range(seq, seq + len(self.values)))
                return True
        self.values = []
        self.size = 0
        return False

    def look_for_each(self, cursor: lmdb.Cursor[memoryview]) -> None:
        """Find the rows from the cursor on."""
        for view, value in cursor.iternext():
            key = bytes(view)
            if not key.startswith(self._prefix):
                break
            seq = _seq_of(key)
            if self._gone and _covered(self._gone, seq):
                continue
            self.seqs.append(seq)
            self._add(value)
            if self._enough():
                break

    def _add(self, value: memoryview) -> None:
        self.values.append(value)
        self.size += len(value)

    def _enough(self) -> bool:
        return len(self.values) >= self._limit or self.size >= READ_BYTES


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
                self._renew_map()
                if self._copies:
                    with self._begin_copying() as copying:
                        return self._read_small(copying, queue_id, first_seq, limit)
                with self._begin() as txn:
                    return self._read_large(txn, queue_id, first_seq, limit)
            except (lmdb.Error, LookupError, ValueError) as error:
                raise self._failure(error) from error

    def _renew_map(self) -> None:
        if self._reopen is not None and self._outgrown() and self._can_be_opened():
            self.environment.close()
            self._use(self._reopen())

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
                self._renew_map()
                self._octets_read += _LOOK
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

    def _read_small(
        self, txn: lmdb.Transaction[bytes], queue_id: int, first_seq: int, limit: int
    ) -> list[StoredEntry]:
        """`read` of rows that cost little to copy: each is copied whole, with its key."""
        entries: list[StoredEntry] = []
        gone = self._ranges(txn, queue_id).get(queue_id, [])
        size = 0
        rows = _Rows()
        cursor = txn.cursor(self._entries)
        if not cursor.set_range(_pack_key(queue_id, first_seq)):
            return entries
        prefix = records.QUEUE_ID.pack(queue_id)
        for key, value in cursor.iternext():
            if not key.startswith(prefix):
                break
            seq = _seq_of(key)
            if gone and _covered(gone, seq):
                continue
            entry = rows.entry(seq, value, 0, len(value))
            if entry is None:
                entry = self._entry(txn, queue_id, seq, value)
            entries.append(entry)
            size += len(value)
            if len(entries) >= limit or size >= READ_BYTES:
                break
        self._note_read(size, len(entries))
        return entries

    def _read_large(
        self, txn: lmdb.Transaction[memoryview], queue_id: int, first_seq: int, limit: int
    ) -> list[StoredEntry]:
        """`read` of rows that are looked at where they lie."""
        first_key = _pack_key(queue_id, first_seq)
        cursor = txn.cursor(self._entries)
        if not cursor.set_range(first_key):
            return []
        found = _FoundRows(queue_id, limit, self._ranges(txn, queue_id).get(queue_id, []))
        if not found.look_for_neighbours(cursor) and cursor.set_range(first_key):
            found.look_for_each(cursor)
        self._note_read(found.size, len(found.values))
        entries: list[StoredEntry] = []
        rows = _Rows()
        # Rows of a middling size are copied together, and then each body out of that.
        large = found.size >= len(found.values) * LARGE_ROW
        data = b"" if large else b"".join(found.values)
        start = 0
        for seq, value in zip(found.seqs, found.values, strict=True):
            if large:
                data = bytes(value[: _u32(bytes(value[:_EXTRAS_AT]), 1)])
                entry = rows.entry(seq, data, 0, len(data))
                if entry is not None:
                    entry.body = bytes(value[len(data) :])
            else:
                end = start + len(value)
                entry = rows.entry(seq, data, start, end)
                start = end
            if entry is None:
                entry = self._entry(txn, queue_id, seq, value)
            entries.append(entry)
        return entries

    def _note_read(self, octets: int, count: int) -> None:
        self._octets_read += octets + count * _ROW
        self._copies = octets < count * SMALL_ROW

    def _entry(
        self, txn: lmdb.Transaction[Any], queue_id: int, seq: int, value: bytes | memoryview
    ) -> StoredEntry:
        """Of any row."""
        row = message = records.decode_row(value)
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


def _u32(data: bytes, at: int) -> int:
    """As unpacking would have it, and faster."""
    return (data[at] << 24) | (data[at + 1] << 16) | (data[at + 2] << 8) | data[at + 3]


def _u64(data: bytes, at: int) -> int:
    return (_u32(data, at) << 32) | _u32(data, at + 4)


def _seq_of(key: bytes) -> int:
    return _u64(key, 4)


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

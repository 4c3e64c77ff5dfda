"""What must be true of a store, checked row by row in one snapshot of it; nothing is repaired.

The log is read before LMDB, for the reason that `backup` gives, so a broker may go on writing meanwhile. Rows that are
still to be removed no longer count: what they refer to may be gone. A shared message without a reference is no
damage: a start drops it, and a broker with its next batch. What definitions mean is the caller's business, who
says which queue ids they own.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import struct
from collections.abc import Callable, Container, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import lmdb

from amqp_broker.broker.ports import Definition
from amqp_broker.content.header import parse_header
from amqp_broker.store import records
from amqp_broker.store.backup import open_for_reading
from amqp_broker.store.changes import KINDS
from amqp_broker.store.definitions import decode_definition, definition_key
from amqp_broker.store.environment import DEFAULT_MAP_SIZE, data_file, environment_path, log_path
from amqp_broker.store.errors import StoreError
from amqp_broker.store.log_copy import LogCopy, payload_of, read_log
from amqp_broker.store.mark import log_is_lost

# Findings of either sort that are told; of more it is said how many.
MOST_TOLD: Final = 1000

_DATABASES: Final = (records.META, records.DEFINITIONS, records.LANES, records.ENTRIES, records.MESSAGES)
_NUMBERS: Final = (records.SCHEMA_KEY, records.QUEUE_ID_KEY, records.LOG_KEY)
_CUT_SHORT: Final = (IndexError, struct.error)
_BEYOND_READING: Final = (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError)


class Report:
    """What was found. damage: what no intact store has; warnings: what may be, but is worth knowing.

    messages, octets: of the entries that belong to somebody, and of their bodies; shared: bodies that several
    queues share. pending: batches of the log that LMDB does not have yet, so that nothing else here knows of them.
    pages: whether the structure of LMDB's file was checked.
    """

    def __init__(self, path: str) -> None:
        self.path: Final = path
        self.damage: list[str] = []
        self.warnings: list[str] = []
        self.untold = 0
        self.queues = 0
        self.definitions = 0
        self.messages = 0
        self.octets = 0
        self.shared = 0
        self.pending = 0
        self.pages = False

    @property
    def damaged(self) -> bool:
        return bool(self.damage)

    def add(self, where: str, what: object) -> None:
        """Damage."""
        self._tell(self.damage, where, what)

    def warn(self, where: str, what: object) -> None:
        self._tell(self.warnings, where, what)

    def _tell(self, kind: list[str], where: str, what: object) -> None:
        if len(kind) < MOST_TOLD:
            kind.append(f"{where}: {what}" if where else str(what))
        else:
            self.untold += 1


class Inspection:
    """One snapshot of a store, open for checking: `readable`, `definitions`, then `entries`; `close` in any case.

    Raises StoreError if there is no store, or one of a later schema. What is wrong goes into `report`.
    """

    def __init__(self, path: str, map_size: int = DEFAULT_MAP_SIZE) -> None:
        self.report: Final = Report(path)
        self.readable = False
        self._path = path
        self._log = LogCopy(b"")
        self._open = contextlib.ExitStack()
        self._databases: dict[bytes, Any] = {}
        self._txn: lmdb.Transaction[memoryview]
        self._queue_id_limit = 0
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        if not os.path.exists(data_file(path)):
            raise StoreError(path, "there is no store in it")
        with self._whatever_lmdb_finds():
            try:
                self._begin(map_size)
            except BaseException:
                self._open.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()

    @contextlib.contextmanager
    def _whatever_lmdb_finds(self) -> Iterator[None]:
        """Take down that LMDB could not go on, rather than fail. Raises StoreError for what is no damage."""
        try:
            yield
        except StoreError as error:
            if not isinstance(error.__cause__, _BEYOND_READING):
                raise
            self.readable = False
            self.report.add("store/data.mdb", error.__cause__)
        except _BEYOND_READING as error:
            self.readable = False
            self.report.add("store/data.mdb", error)
        except lmdb.Error as error:
            raise StoreError(self._path, f"cannot read the store: {error}") from error

    def _begin(self, map_size: int) -> None:
        environment = open_for_reading(self._path, map_size)
        self._open.callback(environment.close)
        self.report.pages = self._check_pages(environment)
        if self.report.damaged:
            # Reading rows by way of damaged pages may end the process.
            return
        self._log = read_log(log_path(self._path))
        try:
            txn = environment.begin(buffers=True)
        except lmdb.MapResizedError:
            environment.set_mapsize(0)
            txn = environment.begin(buffers=True)
        self._txn = self._open.enter_context(txn)
        for name in _DATABASES:
            with contextlib.suppress(lmdb.NotFoundError):
                self._databases[name] = environment.open_db(name, txn=txn, create=False)
        self._check_schema()
        if self.readable:
            self._check_meta()
            self._check_log()

    # ---- the file

    def _check_pages(self, environment: lmdb.Environment) -> bool:
        """Have the pages of the file checked, as far as nobody changes them meanwhile; whether that could be."""
        try:
            from lmdb import verify
        except ImportError:
            self.report.warn("store/data.mdb", "its pages are not checked: that takes lmdb 3 or newer")
            return False
        walk: Callable[[str], list[str]] = verify.verify
        earlier = environment.info()["last_txnid"]
        try:
            found = walk(environment_path(self._path))
        except verify.VerifyError as error:
            found = [str(error)]
        except OSError as error:
            raise StoreError(self._path, f"cannot read the store: {error.strerror}") from error
        if environment.info()["last_txnid"] != earlier:
            return False
        for problem in found:
            self.report.add("store/data.mdb", problem)
        return True

    # ---- meta

    def _check_schema(self) -> None:
        version = self._number(records.SCHEMA_KEY)
        if version > records.SCHEMA_VERSION:
            known = records.SCHEMA_VERSION
            raise StoreError(
                self._path, f"its schema version is {version}, this command knows versions up to {known}"
            )
        if 0 < version < records.SCHEMA_VERSION:
            raise StoreError(
                self._path,
                f"its schema version is {version}: it can be verified when a broker has been started on it, which "
                f"brings it up to {records.SCHEMA_VERSION}",
            )
        missing = [name.decode() for name in _DATABASES if name not in self._databases]
        if version:
            for name in missing:
                self.report.add("store", f"the database '{name}' is missing")
        elif not any(self._txn.stat(database)["entries"] for database in self._databases.values()):
            raise StoreError(self._path, "there is no store in it, but the beginning of one")
        else:
            self.report.add("meta", "the schema version is missing")
        self.readable = not missing

    def _number(self, key: bytes) -> int:
        if records.META not in self._databases:
            return 0
        value = self._txn.get(key, db=self._databases[records.META])
        return (
            int(records.U64.unpack(value)[0]) if value is not None and len(value) == records.U64.size else 0
        )

    def _check_meta(self) -> None:
        self._queue_id_limit = self._number(records.QUEUE_ID_KEY)
        for key, value in self._rows(records.META):
            if key in _NUMBERS:
                if len(value) != records.U64.size:
                    self.report.add("meta", f"'{key.decode()}' is no number")
            elif key.startswith(records.RANGE_PREFIX):
                self._check_range(key, value)
            else:
                self.report.warn("meta", f"unknown row {key!r}")

    def _check_range(self, key: bytes, value: memoryview) -> None:
        if len(key) != records.RANGE_KEY.size or len(value) != records.U64.size:
            self.report.add("meta", f"the range {key!r} makes no sense")
            return
        _, queue_id, first = records.RANGE_KEY.unpack(key)
        last = records.U64.unpack(value)[0]
        if first > last:
            self.report.add("meta", f"the range {first} to {last} of queue id {queue_id} has nothing in it")
        self._ranges.setdefault(queue_id, []).append((first, last))

    # ---- the log

    def _check_log(self) -> None:
        log, number = self._log, self._number(records.LOG_KEY)
        where = os.path.basename(log_path(self._path))
        if log.cut_short:
            self.report.add(where, "was cut short: batches are missing")
        elif log_is_lost(self._path):
            self.report.add(where, "is gone, or a part of it, and with it the last batches")
        try:
            pending = log.after(number)
        except ValueError as error:
            self.report.add("", error)
            return
        broken = log.broken_after(number)
        # A writer at work may have been seen in the middle of a record, but not twice.
        if broken and read_log(log_path(self._path)).broken_after(number) == broken:
            self.report.add(where, f"batch {broken} is damaged, and with it those that follow are lost")
        self.report.pending = len(pending)
        for batch, record in pending:
            try:
                each = iter(marshal.loads(payload_of(record)))  # noqa: S302  of our own log
                unknown = {kind for kind, _ in zip(each, each, strict=True)} - KINDS
                if unknown:
                    self.report.add(where, f"batch {batch} has sections of unknown kinds {sorted(unknown)}")
            except (EOFError, TypeError, ValueError) as error:
                self.report.add(where, f"batch {batch} makes no sense: {error}")

    # ---- definitions

    def definitions(self) -> list[Definition]:
        """Those that can be read."""
        found: list[Definition] = []
        with self._whatever_lmdb_finds():
            for key, value in self._rows(records.DEFINITIONS):
                self.report.definitions += 1
                try:
                    definition = decode_definition(bytes(value))
                except ValueError as error:
                    self.report.add(f"definition {key!r}", f"makes no sense: {error}")
                    continue
                if definition_key(definition.kind, definition.key) != key:
                    self.report.add(f"definition {key!r}", f"is that of another {definition.kind}")
                found.append(definition)
        return found

    def check_queue_id(self, where: str, queue_id: int) -> None:
        """A queue id that is in use must never be given out again."""
        if not 0 < queue_id <= self._queue_id_limit:
            self.report.add(
                where, f"its queue id {queue_id} is none of those given out, 1 to {self._queue_id_limit}"
            )

    # ---- entries and messages

    def entries(self, owners: Mapping[int, str], holders: Container[int]) -> None:
        """Check every entry and every message.

        owners: what has a queue id, in words. holders: the queue ids whose entries are messages to be counted.
        """
        with self._whatever_lmdb_finds():
            referred: set[int] = set()
            counts: dict[int, int] = {}
            lanes: dict[bytes, _Count] = {}
            for key, value in self._rows(records.ENTRIES):
                if len(key) != records.ENTRY_KEY.size:
                    self.report.add("q", f"a row with the key {key.hex()} is no entry")
                    continue
                queue_id, seq = records.ENTRY_KEY.unpack(key)
                ranges = self._ranges.get(queue_id, ())
                # A lane counts what is still to be removed, unless its queue is gone.
                if not any(first <= seq <= last == records.MAX_SEQ for first, last in ranges):
                    lanes.setdefault(key[: records.LANE_KEY.size], _Count()).take(value)
                if any(first <= seq <= last for first, last in ranges):
                    continue
                counts[queue_id] = counts.get(queue_id, 0) + 1
                size = self._check_entry(f"{_name(owners, queue_id)}, entry {seq}", value, referred)
                if queue_id in holders:
                    self.report.messages += 1
                    self.report.octets += size
            self._check_lanes(lanes, counts, owners)
            self._check_owners(counts, owners)
            self._check_messages(referred)

    def _check_lanes(
        self, lanes: dict[bytes, _Count], counts: dict[int, int], owners: Mapping[int, str]
    ) -> None:
        for key, value in self._rows(records.LANES):
            if len(key) != records.LANE_KEY.size or len(value) != records.LANE.size:
                self.report.add("lanes", f"the row with the key {key.hex()} makes no sense")
                continue
            queue_id, level = records.LANE_KEY.unpack(key)
            counts.setdefault(queue_id, 0)
            where = f"{_name(owners, queue_id)}, lane {level}"
            watermark, *kept = records.LANE.unpack(value)
            if watermark and watermark >> records.LEVEL_SHIFT != level:
                self.report.add(where, f"its watermark {watermark} belongs to another lane")
            there = lanes.pop(key, _Count()).numbers()
            if there != kept:
                self.report.add(
                    where, f"entries, octets and references are {there}, not {kept} as was counted"
                )
        for key in lanes:
            queue_id, level = records.LANE_KEY.unpack(key)
            self.report.add(f"{_name(owners, queue_id)}, lane {level}", "its entries were not counted")

    def _check_entry(self, where: str, value: memoryview, referred: set[int]) -> int:
        """The octets of its body, 0 if there is no telling."""
        try:
            row = records.decode_row(value)
            if not value[0] & records.REFERENCE:
                _check_message(row)
            else:
                if records.HEAD.unpack_from(value)[1] != len(value):
                    raise ValueError("entry cut short")
                referred.add(row.store_id)
                self._check_reference(row)
        except _CUT_SHORT:
            self.report.add(where, "entry cut short")
            return 0
        except ValueError as error:
            self.report.add(where, error)
            return 0
        return row.body_size

    def _check_reference(self, row: records.Row) -> None:
        shared = self._txn.get(records.U64.pack(row.store_id), db=self._databases[records.MESSAGES])
        if shared is None:
            raise ValueError(f"its message {row.store_id} is missing")
        size = len(shared) - records.HEAD.unpack_from(shared)[1]
        if size != row.body_size:
            raise ValueError(
                f"its message {row.store_id} has a body of {size} octets instead of {row.body_size}"
            )

    def _check_owners(self, counts: dict[int, int], owners: Mapping[int, str]) -> None:
        for queue_id, count in counts.items():
            if queue_id not in owners:
                self.report.warn(
                    f"queue id {queue_id}", f"{count} entries belong to nothing; a start removes them"
                )
                self.check_queue_id(_name(owners, queue_id), queue_id)

    def _check_messages(self, referred: set[int]) -> None:
        for key, value in self._rows(records.MESSAGES):
            if len(key) != records.U64.size:
                self.report.add("msg", f"a row with the key {key.hex()} is no message")
                continue
            store_id = records.U64.unpack(key)[0]
            if store_id in referred:
                self.report.shared += 1
            try:
                if value[0]:
                    raise ValueError(f"unexpected flags {value[0]:#x}")
                _check_message(records.decode_row(value))
            except _CUT_SHORT:
                self.report.add(f"shared message {store_id}", "cut short")
            except ValueError as error:
                self.report.add(f"shared message {store_id}", error)

    def _rows(self, database: bytes) -> Iterator[tuple[bytes, memoryview]]:
        for key, value in self._txn.cursor(self._databases[database]).iternext():
            yield bytes(key), value


class _Count:
    """Entries, the octets of their bodies, and how many of them are references."""

    def __init__(self) -> None:
        self._entries = 0
        self._octets = 0
        self._references = 0

    def take(self, value: memoryview) -> None:
        self._entries += 1
        with contextlib.suppress(*_CUT_SHORT):
            octets, references = records.body_size(value)
            self._octets += octets
            self._references += references

    def numbers(self) -> list[int]:
        return [self._entries, self._octets, self._references]


def _name(owners: Mapping[int, str], queue_id: int) -> str:
    return owners.get(queue_id) or f"queue id {queue_id}"


def _check_message(row: records.Row) -> None:
    """Raises ValueError for a message that no client could be sent."""
    header = parse_header(row.header)
    if header.body_size != row.body_size:
        raise ValueError(f"its body has {row.body_size} octets, its header says {header.body_size}")

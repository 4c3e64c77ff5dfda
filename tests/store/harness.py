"""A store with its carrier and directory, driven as the server drives it, for the tests of this folder."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import anyio

from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import StoredEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import ContentHeader, parse_header
from amqp_broker.store import records
from amqp_broker.store.batch import Batch, BatchStore, Notice
from amqp_broker.store.carrier import Carrier
from amqp_broker.store.errors import StoreError
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.memory import MemoryStore
from amqp_broker.store.open import DataDirectory, open_data_directory
from amqp_broker.store.process import ProcessCarrier
from amqp_broker.store.thread import ThreadCarrier

ADDRESS = b"\x06orders\x03new"
CARRIERS: dict[str, type[ThreadCarrier | ProcessCarrier]] = {
    "thread": ThreadCarrier,
    "process": ProcessCarrier,
}

DURABLE = ("thread", "process", "process-logged")


def header(body_size: int) -> ContentHeader:
    """A persistent message's content header with no other property."""
    return parse_header(struct.pack(">HHQHB", 60, 0, body_size, 0x1000, 2))


def message(body: bytes = b"hello", chunks: tuple[bytes, ...] = ()) -> Message:
    size = sum(map(len, chunks)) if chunks else len(body)
    return Message(ADDRESS, header(size), b"" if chunks else body, chunks)


class Waiter:
    """Writes down the batches that `notice` was told of."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.notice = Notice(self.batches.append)


class Subject:
    """A store under test.

    kind: "memory", "thread" or "process", the last two with "-logged" behind if batches are to go through the
    log. What is committed then gets to LMDB a moment later; the methods that read wait for that.
    """

    def __init__(self, kind: str, path: Path, **options: Any) -> None:
        self.kind, _, logged = kind.partition("-")
        self.logged = logged == "logged"
        self.path = path
        self.options = options
        # How far LMDB was when the store was opened, and the batches that it was sent since.
        self._log_number = 0
        self._written: set[int] = set()
        self.store: BatchStore = MemoryStore()
        self.directory: DataDirectory | None = None
        self.carrier: Carrier | None = None
        self.queue = Queue("q", "/", True, {}, self.store)

    async def open(self) -> None:
        if self.kind != "memory":
            embedded = self.kind == "thread"
            self.directory = open_data_directory(
                str(self.path), embedded=embedded, logged=self.logged, **self.options
            )
            self.store = JournalStore(self.directory.reader)
            self.carrier = CARRIERS[self.kind](self.directory)
            await self.carrier.start()
            self._log_number = self.log_number()
            self._written.clear()

    async def close(self) -> None:
        if self.carrier is not None:
            await self.carrier.close()
            self.carrier = None
        if self.directory is not None:
            self.directory.close()
            self.directory = None

    async def reopen(self) -> None:
        """As after a restart; nothing is recovered yet."""
        await self.close()
        await self.open()

    def entry(self, seq: int, of: Message | None = None) -> QueueEntry:
        return QueueEntry(of or message(b"body %d" % seq), self.queue, seq)

    def put(self, queue_id: int, *seqs: int) -> list[QueueEntry]:
        entries = [self.entry(seq) for seq in seqs]
        for entry in entries:
            self.store.put(queue_id, entry)
        return entries

    def put_many(self, queue_id: int, count: int) -> None:
        """Entries 1 to count, all of one small body each."""
        self.put(queue_id, *range(1, count + 1))

    async def write(self, batch: Batch) -> None:
        if batch.payload:
            assert self.carrier is not None
            self._written.add(batch.number)
            try:
                await self.carrier.commit(batch)
            except StoreError:
                self._written.discard(batch.number)
                raise

    async def commit(self, closing: bool = False) -> Batch | None:
        batch = self.store.seal(closing)
        if batch is not None:
            await self.write(batch)
            self.store.committed(batch.number)
        return batch

    def read(self, queue_id: int, first_seq: int = 0, limit: int = 1_000_000) -> list[StoredEntry]:
        self.until_followed()
        return self.store.read(queue_id, first_seq, limit)

    def seqs(self, queue_id: int) -> list[int]:
        """All durable seqs, read in as many runs as it takes."""
        found: list[int] = []
        while run := self.read(queue_id, found[-1] + 1 if found else 0):
            found += [entry.seq for entry in run]
        return found

    def bodies(self, queue_id: int) -> list[bytes]:
        return [entry.body for entry in self.read(queue_id)]

    def shared_messages(self) -> list[int]:
        """The store ids of the messages that are kept apart from the queues' entries."""
        assert self.directory is not None
        self.until_followed()
        return self.directory.reader.scan().store_ids

    def log_number(self) -> int:
        """The last batch that LMDB has, counted as the log counts them."""
        assert self.directory is not None
        with self.directory.reader._begin() as txn:
            number = txn.get(records.LOG_KEY, db=self.directory.reader._meta)
            return 0 if number is None else int(records.U64.unpack(number)[0])

    def until_followed(self) -> None:
        """Wait until LMDB has what was committed."""
        if self.directory is not None:
            deadline = time.monotonic() + 30
            while self.log_number() < self._log_number + len(self._written):
                assert time.monotonic() < deadline, "LMDB does not follow the log"
                time.sleep(0.001)

    def rows(self) -> int:
        """How many rows there physically are in the entries' database, removed from view or not."""
        assert self.directory is not None
        with self.directory.reader._begin() as txn:
            return int(txn.stat(self.directory.reader._entries)["entries"])

    async def until_rows(self, count: int) -> None:
        """Wait until the writer has tidied up down to so many rows."""
        self.until_followed()
        deadline = time.monotonic() + 30
        while self.rows() != count:
            assert time.monotonic() < deadline, f"{self.rows()} rows are left"
            await anyio.sleep(0.005)

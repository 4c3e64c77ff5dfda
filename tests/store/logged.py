"""What the tests of the writer behind a log share: small batches, and everything that LMDB holds of them."""

from __future__ import annotations

import marshal
import threading
from pathlib import Path
from typing import Any

import lmdb

from amqp_broker.store import records
from amqp_broker.store.environment import PROCESS, environment_path, log_path, open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.logged import LoggedWriter
from amqp_broker.store.writer import Writer

LOG_SIZE = 8192
MAP_SIZE = 1 << 30

Sections = list[Any]


def encoded(*sections: Sections) -> list[bytes | memoryview]:
    return [marshal.dumps(each, 2) for each in sections]


def putting(seq: int, body: bytes = b"body", queue_id: int = 1) -> Sections:
    return [records.PUT, [queue_id, [seq, 0, b"\0\1k", b"header", body]]]


def sharing(store_id: int, seq: int, *queue_ids: int) -> Sections:
    """One message, and a reference to it in each queue."""
    sections: Sections = [records.PUT_MESSAGES, [store_id, b"\0\1k", b"header", b"shared"]]
    for queue_id in queue_ids:
        sections += [records.PUT_REFERENCE, [queue_id, [seq, 0, store_id, 6]]]
    return sections


def dereferencing(queue_id: int, seq: int) -> Sections:
    return [records.DELETE_REFERENCE, [queue_id, seq]]


def contents(environment: lmdb.Environment) -> dict[bytes, dict[bytes, bytes]]:
    """Every row by database, but for the number that only the log needs."""
    found: dict[bytes, dict[bytes, bytes]] = {}
    for name in (records.META, records.DEFINITIONS, records.ENTRIES, records.MESSAGES):
        with environment.begin() as txn:
            # Without a transaction to open it in, LMDB would begin one that writes, and wait for the writer's thread.
            database = environment.open_db(name, txn, create=False)
            rows = txn.cursor(database)
            found[name] = {bytes(key): bytes(value) for key, value in rows if key != records.LOG_KEY}
    return found


class FailingWriter(Writer):
    """A `Writer` that fails while `failing`; `calls` says what it was asked for. It goes on when the gate is open."""

    def __init__(self, environment: lmdb.Environment, path: str) -> None:
        super().__init__(environment, path)
        self.failing = False
        self._left = -1
        self.error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[str] = []

    def fail_after(self, transactions: int) -> None:
        """Fail when so many more have been made."""
        self._left = transactions

    def sync(self) -> None:
        self.calls.append("sync")
        super().sync()

    def apply(self, payloads: list[list[object]], log_number: int = 0) -> list[int]:
        self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.failing:
            raise StoreError(self._path, "the disk refuses")
        if self._left == 0:
            self._left = -1
            self.failing = True
            raise StoreError(self._path, "the disk refuses")
        self._left -= self._left > 0
        self.calls.append(f"apply {len(payloads)}")
        return super().apply(payloads, log_number)


class LoggedStore:
    """An environment with a writer behind a small log; nothing is synced, so that tests are quick."""

    def __init__(self, path: Path, *, logged: bool = True) -> None:
        self.path = path
        self.log_file = Path(log_path(str(path)))
        Path(environment_path(str(path))).mkdir(parents=True, exist_ok=True)
        self.open(logged=logged)

    def open(self, *, logged: bool = True) -> None:
        self.complaints: list[str] = []
        self.environment = open_environment(str(self.path), MAP_SIZE, PROCESS)
        try:
            self.inner = FailingWriter(self.environment, str(self.path))
            self.writer = LoggedWriter(
                self.inner,
                str(self.log_file),
                logged=logged,
                log_size=LOG_SIZE,
                complain=self.complaints.append,
            )
        except BaseException:
            self.environment.close()
            raise

    def close(self) -> None:
        """As a kill does: nothing is brought up to anything."""
        self.writer.close()
        self.environment.close()

    def reopen(self, *, logged: bool = True) -> None:
        self.close()
        self.open(logged=logged)

    def apply(self, *sections: Sections) -> list[int]:
        return self.writer.apply(encoded(*sections))

    def seqs(self, queue_id: int = 1) -> list[int]:
        """What LMDB has of a queue."""
        keys = [
            key for key in contents(self.environment)[records.ENTRIES] if len(key) == records.ENTRY_KEY.size
        ]
        unpacked = [records.ENTRY_KEY.unpack(key) for key in keys]
        return [seq for found_id, seq in unpacked if found_id == queue_id]

"""What the store does when what it finds on disk, or the disk itself, is not as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lmdb
import pytest

from amqp_broker.store import records
from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.open import DataDirectory, open_data_directory
from amqp_broker.store.reader import Reader
from amqp_broker.store.writer import Writer


def put_row(directory: DataDirectory, value: bytes) -> None:
    """Put a raw value where the entry 1 of queue 1 lies."""
    with directory.environment.begin(write=True, db=directory.reader._entries) as txn:
        txn.put(records.ENTRY_KEY.pack(1, 1), value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (records.HEAD.pack(128, 5), "unknown entry flags 0x80"),
        (records.HEAD.pack(0, 5), "entry cut short"),
        (records.HEAD.pack(0, 500) + b"\0\0", "entry cut short"),
        (records.encode_reference(0, b"", 77, 5), "message 77 of queue 1 is missing"),
    ],
)
def test_an_entry_that_makes_no_sense_is_reported(tmp_path: Path, value: bytes, complaint: str) -> None:
    directory = open_data_directory(str(tmp_path), embedded=True)
    put_row(directory, value)
    with pytest.raises(StoreError, match=f"{tmp_path}: cannot read the store: {complaint}"):
        directory.reader.read(1, 0, 10)
    directory.close()


class Panicking:
    """An environment that LMDB has given up on: every further transaction is refused."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment

    def open_db(self, *arguments: Any) -> object:
        return self._environment.open_db(*arguments)

    def begin(self, write: bool = False, **options: Any) -> object:
        if write:
            raise lmdb.PanicError("mdb_txn_begin", -30795)
        return self._environment.begin(**options)


def test_an_environment_that_is_beyond_repair_ends_the_writer(tmp_path: Path) -> None:
    directory = open_data_directory(str(tmp_path), embedded=True)
    environment = cast(lmdb.Environment, Panicking(directory.environment))
    with pytest.raises(StoreDied, match="out of order"):
        Writer(environment, directory.path).apply([[records.COUNTER, [1]]])
    directory.close()


def test_a_read_only_environment_refuses_what_is_applied(tmp_path: Path) -> None:
    open_data_directory(str(tmp_path)).close()
    directory = open_data_directory(str(tmp_path))
    assert isinstance(directory.reader, Reader)
    with pytest.raises(StoreError, match="cannot write the store"):
        Writer(directory.environment, directory.path).apply([[records.COUNTER, [1]]])
    directory.close()

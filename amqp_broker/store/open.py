"""A data directory: made if it is missing, locked against other brokers, its schema checked.

Two locks keep order. broker.lock belongs to the broker for its life. store.lock belongs to whatever writes:
it passes to the writer process, so that a broker started after a crash waits until the old writer has
finished.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
from functools import partial
from typing import Final

import lmdb

from amqp_broker.store import records
from amqp_broker.store.changes import Databases
from amqp_broker.store.environment import (
    COMMIT,
    DEFAULT_MAP_SIZE,
    data_file,
    environment_path,
    log_path,
    open_environment,
)
from amqp_broker.store.errors import StoreError
from amqp_broker.store.mark import leave_mark, log_is_lost, note_log, remove_mark, sync_directory
from amqp_broker.store.migration import migrate
from amqp_broker.store.reader import Reader

_log = logging.getLogger(__name__)

ORPHAN_PATIENCE: Final = 10.0
_POLL: Final = 0.01
_MAKING: Final = "making"


class DataDirectory:
    """An open data directory.

    resizing: see `Reader`.
    logged: batches go to the log first (see `log`). was_killed: whoever had it open last did not close it.
    """

    def __init__(self, path: str, broker_lock: int, store_lock: int) -> None:
        self.path: Final = path
        self.map_size = DEFAULT_MAP_SIZE
        self.durability = COMMIT
        self.resizing: Final = threading.Lock()
        self.was_killed = False
        self.logged = True
        self.reader: Reader
        self._broker_lock = broker_lock
        self._store_lock = store_lock

    @property
    def environment(self) -> lmdb.Environment:
        """The one that is open now: the reader opens it anew now and then, unless it is embedded."""
        return self.reader.environment

    def store_lock(self) -> int:
        """The descriptor of the locked store.lock, for a writer process to inherit."""
        if self._store_lock < 0:
            raise StoreError(self.path, "the store already has a writer")
        return self._store_lock

    def give_store_lock(self) -> None:
        """Leave store.lock to the process that inherited it."""
        os.close(self._store_lock)
        self._store_lock = -1

    def note_log(self) -> None:
        """The writer is ready: leave word whether there is a log from now on, which is to be missed if it goes."""
        # What a full disk has no room for is not worth a refusal to start.
        with contextlib.suppress(OSError):
            note_log(self.path, used=self.logged)

    def close(self, *, in_order: bool = True) -> None:
        """Give the directory up; the writer must have ended. in_order: all there was to write is written."""
        self.environment.close()
        if in_order:
            # In a directory that became read-only the mark stays, as after a crash.
            with contextlib.suppress(OSError):
                remove_mark(self.path)
        if self._store_lock >= 0:
            os.close(self._store_lock)
        os.close(self._broker_lock)


def open_data_directory(
    path: str,
    *,
    map_size: int = DEFAULT_MAP_SIZE,
    durability: str = COMMIT,
    embedded: bool = False,
    logged: bool = True,
    patience: float = ORPHAN_PATIENCE,
) -> DataDirectory:
    """Open or make a data directory. Raises StoreError, at once if another broker has it.

    embedded: the writer will be a thread of this process. logged: commits go to the log first, for fewer waits
    for the disk; without it LMDB has a batch as soon as it is durable. patience: how long to wait, in seconds, for the
    writer of a broker that was killed.
    """
    path = os.path.abspath(path)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.makedirs(environment_path(path), mode=0o700, exist_ok=True)
        broker_lock = _lock_broker(path)
    except OSError as error:
        raise StoreError(
            path, f"cannot use the data directory: {error.strerror}", error.errno or 0
        ) from error
    store_lock = -1
    try:
        store_lock = _lock_store(path, patience)
        directory = DataDirectory(path, broker_lock, store_lock)
        directory.map_size = map_size
        directory.durability = durability
        directory.logged = logged and durability == COMMIT
        _check_schema(path, map_size)
        reopen = None if embedded else partial(open_environment, path, map_size, durability, readonly=True)
        environment = open_environment(path, map_size, durability, readonly=not embedded)
        directory.reader = Reader(environment, path, directory.resizing, reopen)
        if log_is_lost(path):
            _log.warning(
                "%s: the log is gone, or a part of it, after an end out of order: what was written last may be lost",
                log_path(path),
            )
        directory.was_killed = leave_mark(path)
    except BaseException:
        if store_lock >= 0:
            os.close(store_lock)
        os.close(broker_lock)
        raise
    return directory


def _lock_broker(path: str) -> int:
    descriptor = os.open(os.path.join(path, "broker.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _try_lock(descriptor):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return descriptor
    holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    os.close(descriptor)
    raise StoreError(
        path, f"data directory is in use by another broker (pid {holder or 'unknown'})", errno.EWOULDBLOCK
    )


def _lock_store(path: str, patience: float) -> int:
    descriptor = os.open(os.path.join(path, "store.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    told = False
    while not _try_lock(descriptor):
        if not told:
            told = True
            _log.info("the writer of an earlier broker is still at work: waiting for up to %g s", patience)
        if time.monotonic() >= deadline:
            os.close(descriptor)
            cause = f"the writer of an earlier broker has not finished within {patience:g} s"
            raise StoreError(path, cause, errno.EWOULDBLOCK)
        time.sleep(_POLL)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_schema(path: str, map_size: int) -> None:
    """Refuse a store that this version cannot read; give a new one its version. Raises StoreError."""
    version = _schema_version(path, map_size)
    if version == 0:
        _create(path, map_size)
    elif version > records.SCHEMA_VERSION:
        cause = f"its schema version is {version}, this broker knows versions up to {records.SCHEMA_VERSION}"
        raise StoreError(path, cause)
    elif version < records.SCHEMA_VERSION:
        _migrate(path, map_size, version)


def _schema_version(path: str, map_size: int) -> int:
    """0 if there is no store."""
    if not os.path.exists(data_file(path)) or not os.path.getsize(data_file(path)):
        return 0
    environment = open_environment(path, map_size, readonly=True)
    try:
        meta = environment.open_db(records.META, create=False)
        with environment.begin() as txn:
            version = txn.get(records.SCHEMA_KEY, db=meta)
    except lmdb.NotFoundError:
        version = None
    except lmdb.Error as error:
        raise StoreError(path, f"cannot read the store: {error}", getattr(error, "code", 0)) from error
    finally:
        environment.close()
    if version is None:
        raise StoreError(path, "what is there is no store of this broker: it has no schema version")
    return int(records.U64.unpack(version)[0])


def _migrate(path: str, map_size: int, version: int) -> None:
    environment = open_environment(path, map_size)
    try:
        migrate(environment, version)
    except lmdb.Error as error:
        cause = (
            f"cannot bring the store from schema version {version} up to {records.SCHEMA_VERSION}: {error}"
        )
        raise StoreError(path, cause, getattr(error, "code", 0)) from error
    finally:
        environment.close()


def _create(path: str, map_size: int) -> None:
    """Make a store under another name first: LMDB cannot open one whose making was cut short."""
    making = os.path.join(path, _MAKING)
    try:
        _remove(making)
        os.makedirs(environment_path(making), mode=0o700)
        _create_environment(making, map_size)
        os.rename(data_file(making), data_file(path))
        # A file is only there after a power failure if the directory that names it was synced, too.
        for directory in (environment_path(path), path, os.path.dirname(path)):
            sync_directory(directory)
        _remove(making)
    except OSError as error:
        raise StoreError(path, f"cannot make a store: {error.strerror}", error.errno or 0) from error


def _remove(directory: str) -> None:
    """The directory and all in it, if it is there. Raises OSError."""
    for place, directories, names in os.walk(directory, topdown=False):
        for name in names:
            os.unlink(os.path.join(place, name))
        for name in directories:
            os.rmdir(os.path.join(place, name))
    if os.path.exists(directory):
        os.rmdir(directory)


def _create_environment(path: str, map_size: int) -> None:
    environment = open_environment(path, map_size)
    try:
        databases = Databases(environment)
        with environment.begin(write=True) as txn:
            txn.put(records.SCHEMA_KEY, records.U64.pack(records.SCHEMA_VERSION), db=databases.meta)
        environment.sync(True)  # noqa: FBT003  lmdb before 3.0 takes it by place only
    except lmdb.Error as error:
        raise StoreError(path, f"cannot make a store: {error}", getattr(error, "code", 0)) from error
    finally:
        environment.close()

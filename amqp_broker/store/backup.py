"""A consistent, compacted copy of a data directory, which a broker may be using meanwhile.

First the log is copied, then LMDB, as one read transaction has it. That order is what makes the two fit together:

- A batch is confirmed when it is in the log or in LMDB, and a half of the log begins again only when LMDB has all that
  it held. So a batch that was confirmed before the log was read is among the records that were read, or was in
  LMDB before the reading was over. LMDB takes nothing back, so in the second case the snapshot, which is later, has it.
- What was read are whole records with consecutive numbers (see `log_copy`), the first of them n. When n was written,
  LMDB had all batches below n; so has the later snapshot. Nothing is missing between the two.
- The snapshot may well be ahead of the log that was read. A transaction of LMDB contains the number of its last batch,
  and of the log only what goes beyond that number is kept, as a start would do.

The other order would lose what went from the log to LMDB in between. Nothing is locked and nothing is written in the
data directory, but for LMDB's table of readers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Final

import lmdb

from amqp_broker.store import records
from amqp_broker.store.environment import (
    DEFAULT_MAP_SIZE,
    data_file,
    environment_path,
    log_path,
    open_environment,
)
from amqp_broker.store.errors import StoreError
from amqp_broker.store.log_copy import END, LOG_SIZE, read_log
from amqp_broker.store.mark import RUNNING, log_is_lost, mark_of_log, sync_directory

BROKER_LOCK: Final = "broker.lock"
STORE_LOCK: Final = "store.lock"
_LOCK_FILE: Final = "lock.mdb"


class BackedUp:
    """octets: of the copy. batches: how many of them stand in its log, as LMDB did not have them yet."""

    __slots__ = ("batches", "octets")

    def __init__(self, octets: int, batches: int) -> None:
        self.octets = octets
        self.batches = batches


def back_up(data_directory: str, destination: str, map_size: int = DEFAULT_MAP_SIZE) -> BackedUp:
    """Copy a data directory, which is to be there under its name whole and durable or not at all.

    destination: a directory that is empty, or not there in one that is. What was confirmed before the call is in the
    copy, which is itself a data directory. Raises StoreError.
    """
    source = os.path.abspath(data_directory)
    destination = os.path.realpath(destination)
    if not os.path.exists(data_file(source)):
        raise StoreError(source, "there is no store in it")
    _check_destination(source, destination)
    parent, name = os.path.split(destination)
    try:
        partial = tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent)
    except OSError as error:
        raise _failure(destination, error) from error
    try:
        done = _copy(source, partial, map_size)
        os.rename(partial, destination)
        sync_directory(parent)
    except OSError as error:
        raise _failure(destination, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return done


def open_for_reading(path: str, map_size: int = DEFAULT_MAP_SIZE) -> lmdb.Environment:
    """The environment of a data directory or of a copy of one. Raises StoreError.

    Nothing is left behind in a copy, where nobody has locked anything yet. Elsewhere readers that were killed are
    crossed out, as they keep LMDB from using its free pages again.
    """
    traces = (os.path.join(path, BROKER_LOCK), os.path.join(environment_path(path), _LOCK_FILE))
    lock = any(map(os.path.exists, traces))
    environment = open_environment(path, map_size, readonly=True, lock=lock)
    if lock:
        environment.reader_check()
    return environment


def last_batch(path: str) -> int:
    """The number of the last batch that the LMDB of a copy has, 0 if none ever came from a log. Raises StoreError."""
    environment = open_environment(path, readonly=True, lock=False)
    try:
        meta = environment.open_db(records.META, create=False)
        with environment.begin(db=meta) as txn:
            number = txn.get(records.LOG_KEY)
            return 0 if number is None else int(records.U64.unpack(number)[0])
    except lmdb.Error as error:
        raise StoreError(path, f"cannot read the store: {error}") from error
    finally:
        environment.close()


def sync_file(path: str) -> int:
    """Have a file on the disk; its size in octets."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _check_destination(source: str, destination: str) -> None:
    if os.path.lexists(destination) and not os.path.isdir(destination):
        raise StoreError(destination, "is there already, and is no directory")
    if os.path.isdir(destination) and os.listdir(destination):
        raise StoreError(destination, "is there already, and is not empty")
    if os.path.commonpath([os.path.realpath(source), destination]) == os.path.realpath(source):
        raise StoreError(destination, f"lies in the data directory {source} itself")


def _copy(source: str, target: str, map_size: int) -> BackedUp:
    environment = open_for_reading(source, map_size)
    try:
        mark = os.path.join(source, RUNNING)
        was_running = os.path.exists(mark)
        earlier = environment.info()["last_txnid"]
        log = read_log(log_path(source))
        if log.cut_short:
            raise StoreError(log_path(source), "the log was cut short")
        if log_is_lost(source):
            raise StoreError(log_path(source), "the log is gone, or a part of it")
        os.mkdir(environment_path(target), 0o700)
        _copy_environment(environment, source, target)
        # A broker that came and went meanwhile may have delivered messages without that being on record.
        changed = os.path.exists(mark) or environment.info()["last_txnid"] != earlier
    finally:
        environment.close()
    try:
        lacking = [record for _, record in log.after(last_batch(target))]
    except ValueError as error:
        raise StoreError(log_path(source), str(error)) from error
    octets = sync_file(data_file(target))
    if lacking:
        octets += _write(log_path(target), _log_of(lacking))
    if was_running or changed:
        _write(os.path.join(target, RUNNING), mark_of_log(target) if lacking else b"")
    sync_directory(environment_path(target))
    sync_directory(target)
    return BackedUp(octets, len(lacking))


def _log_of(lacking: list[bytes]) -> bytes:
    """The octets of a log with these records, laid out in its halves.

    With an end it may be of any length; a start gives it its own.
    """
    first: list[bytes] = []
    room = LOG_SIZE // 2 - len(END)
    for record in lacking:
        room -= len(record)
        if room < 0:
            break
        first.append(record)
    octets = b"".join([*first, END])
    rest = lacking[len(first) :]
    return b"".join([octets.ljust(LOG_SIZE // 2, b"\0"), *rest, END]) if rest else octets


def _copy_environment(environment: lmdb.Environment, source: str, target: str) -> None:
    path = environment_path(target)
    try:
        try:
            environment.copy(path, compact=True)
        except lmdb.MapResizedError:
            # The writer has grown the file past our map since.
            environment.set_mapsize(0)
            if os.path.exists(data_file(target)):
                os.unlink(data_file(target))
            environment.copy(path, compact=True)
    except lmdb.Error as error:
        raise StoreError(source, f"cannot copy the store: {error}", getattr(error, "code", 0)) from error
    os.chmod(data_file(target), 0o600)


def _write(path: str, data: bytes) -> int:
    """Make a file that is on the disk when this returns; its size."""
    with open(path, "xb", opener=_for_the_owner, buffering=0) as file:
        written = 0
        while written < len(data):
            written += file.write(memoryview(data)[written:])
        os.fsync(file.fileno())
    return len(data)


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _failure(path: str, error: OSError) -> StoreError:
    return StoreError(path, f"cannot write the backup: {error.strerror}", error.errno or 0)

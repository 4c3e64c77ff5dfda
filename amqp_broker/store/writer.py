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
from typing import Final

import lmdb

from amqp_broker.store import records
from amqp_broker.store.changes import Changes, Databases, at_range
from amqp_broker.store.environment import can_be_opened, data_file
from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.mapped import Mapping
from amqp_broker.store.place import Place

RANGE_STEP: Final = 5000
# Octets of the map that may be resident before the environment is opened anew.
RESIDENT: Final = 32 << 20
_GROWTH: Final = 2


class Writer:
    """Owns every write transaction of an environment.

    resizing: held while this process's map changes its size, which LMDB forbids while anyone reads.
    place: of the file. reopen: opens the environment anew, which is done now and then (see `mapped`); None where this
    process has it open for others as well.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        path: str,
        resizing: AbstractContextManager[object] | None = None,
        reopen: Callable[[], lmdb.Environment] | None = None,
    ) -> None:
        self._environment = environment
        self._reopen = reopen
        self._mapping = Mapping(RESIDENT)
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
            self._untidy = at_range(txn.cursor(self._databases.meta))
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
            positioned = at_range(cursor)
            while positioned and bytes(cursor.key()).startswith(records.RANGE_PREFIX):
                _, queue_id, first = records.RANGE_KEY.unpack(cursor.key())
                last = records.U64.unpack(cursor.value())[0]
                self._untold.setdefault(queue_id, []).append((first, last))
                positioned = cursor.next()

    def sync(self) -> None:
        """Have all that was ever applied on disk, whatever the durability was. Raises StoreError."""
        try:
            self._environment.sync(True)  # noqa: FBT003  lmdb before 3.0 takes it by place only
        except lmdb.Error as error:
            raise self._failure(error) from error

    def apply(self, payloads: list[list[object]], log_number: int = 0) -> list[int]:
        """Make batches durable together, in order; returns the store ids that lost a reference, once for
        each. log_number: what `log_number` is to say from then on, if not 0.

        Raises StoreError if nothing of them was written; they can be applied again later, unless it is
        StoreDied.
        """
        self._renew_map()
        while True:
            try:
                with self._environment.begin(write=True, buffers=True) as txn:
                    changes = Changes(txn, self._databases, self._untold, RANGE_STEP)
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
                if self._outlive(error, log_number):
                    break
                raise self._failure(error) from error
            except lmdb.Error as error:
                raise self._failure(error) from error
        self._untidy = self._untidy or changes.untidy
        self._stalled = False
        released = self._released + changes.released
        self._released = []
        return released

    def tidy(self) -> None:
        """Remove the next RANGE_STEP rows of what is left to remove. Raises StoreError."""
        self._renew_map()
        try:
            with self._environment.begin(write=True, buffers=True) as txn:
                changes = Changes(txn, self._databases, self._untold, RANGE_STEP)
                more = changes.continue_range()
                changes.count_up()
        except lmdb.MapFullError:
            self._stalled = True
            self._grow()
            self._stalled = False
            return
        except lmdb.PanicError as error:
            self._stalled = True
            self._outlive(error, -1)
            raise self._failure(error) from error
        except lmdb.Error as error:
            self._stalled = True
            raise self._failure(error) from error
        self._untidy = more
        self._released += changes.released

    def _renew_map(self) -> None:
        """Called before each transaction. Raises StoreDied."""
        reopen = self._reopen
        if reopen is None or not self._mapping.outgrown(RESIDENT >> 4):
            return
        if self.place.kept and can_be_opened(self._path):
            self._open_anew(reopen)

    def _open_anew(self, reopen: Callable[[], lmdb.Environment]) -> None:
        self._environment.close()
        try:
            self._environment = reopen()
            self._databases = Databases(self._environment)
        except StoreError as error:
            raise StoreDied(error.path, error.cause, error.code) from error
        except lmdb.Error as error:
            raise StoreDied(self._path, f"cannot open the store again: {error}") from error

    def _outlive(self, error: lmdb.PanicError, log_number: int) -> bool:
        """Not even the page that names the last transaction could be written, and LMDB gives up its environment.

        Open another; whether the transaction is there all the same, and on the disk. Raises StoreDied.
        """
        if self._reopen is None:
            raise StoreDied(self._path, f"the store is out of order: {error}") from error
        self._open_anew(self._reopen)
        if self.log_number() != log_number:
            return False
        self.sync()
        return True

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

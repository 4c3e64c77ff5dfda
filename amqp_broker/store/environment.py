"""How the LMDB environment is opened: the one place that knows the file names, flags and the size of the map.

An environment must not be opened twice in one process, and a handle must not cross a fork.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

import lmdb

from amqp_broker.store.errors import StoreError

COMMIT: Final = "commit"
PROCESS: Final = "process"
DURABILITIES: Final = (COMMIT, PROCESS)

DEFAULT_MAP_SIZE: Final = 1 << 40
SMALLEST_MAP_SIZE: Final = 1 << 30
_DATABASES: Final = 8
_TWO_ENGINES: Final = 3


def environment_path(directory: str) -> str:
    """Where in a data directory the environment lies."""
    return os.path.join(directory, "store")


def log_path(directory: str) -> str:
    """The log of a data directory: see `log`."""
    return os.path.join(directory, "batches.log")


def data_file(directory: str) -> str:
    """The environment's one file of data."""
    return os.path.join(environment_path(directory), "data.mdb")


def can_be_opened(directory: str) -> bool:
    """Whether the environment could be opened again: also to read it LMDB writes to its table of readers."""
    files = (data_file(directory), os.path.join(environment_path(directory), "lock.mdb"))
    return all(os.access(file, os.R_OK | os.W_OK) for file in files)


def open_environment(
    directory: str,
    map_size: int = DEFAULT_MAP_SIZE,
    durability: str = COMMIT,
    readonly: bool = False,
    *,
    lock: bool = True,
) -> lmdb.Environment:
    """Open the environment of a data directory, making it if it is missing (unless readonly). Raises
    StoreError.

    map_size: in bytes, of address space rather than disk; where there is not so much, less is taken.
    durability: COMMIT syncs each transaction; PROCESS leaves that to the kernel, which a power failure does
    not forgive. lock: False leaves no trace, and is only for reading what nobody can be writing.
    """
    path = environment_path(directory)
    options: dict[str, Any] = {
        "max_dbs": _DATABASES,
        "mode": 0o600,
        "readonly": readonly,
        "sync": durability != PROCESS,
        "create": not readonly,
        "lock": lock,
    }
    if int(lmdb.__version__.split(".")[0]) >= _TWO_ENGINES:
        # LMDB 0.9's format, whatever the environment variable of the binding says: 1.0's cannot be read by
        # it.
        options["lib_version"] = 0
    while True:
        try:
            environment = lmdb.open(path, map_size=map_size, **options)
            if not readonly:
                # A reader that was killed would keep pages from being used again for as long as its slot stands.
                environment.reader_check()
            return environment
        except lmdb.Error as error:
            code = getattr(error, "code", 0)
            if map_size > SMALLEST_MAP_SIZE and (isinstance(error, lmdb.MemoryError) or code == errno.ENOMEM):
                map_size //= 4
                continue
            raise StoreError(path, f"cannot open the store: {error}", code) from error

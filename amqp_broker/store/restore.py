"""Putting a backup where a broker will look for its data. What was there before is set aside, and never removed.

All of the copy is on the disk before anything of the old data is touched, and from then on files are only renamed
within the data directory, so that neither its parent nor a second file system comes into it. Both of its locks are
held meanwhile. The order of the renames sees to it that a log never lies beside a store that it does not belong to
without a start finding out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Final

from amqp_broker.store.backup import BROKER_LOCK, STORE_LOCK, sync_file
from amqp_broker.store.environment import data_file, environment_path, log_path
from amqp_broker.store.errors import StoreError
from amqp_broker.store.mark import RUNNING, sync_directory
from amqp_broker.store.open import ORPHAN_PATIENCE, _lock_broker, _lock_store

_SET_ASIDE: Final = "replaced-"
_IN_THE_MAKING: Final = "restoring-"
# What a data directory may contain and still be empty. A broker that was killed leaves its control socket.
_NOTHING: Final = (BROKER_LOCK, STORE_LOCK, "control.sock", "lost+found")


class Restored:
    """octets: that were copied. set_aside: where the data lie that were there before, "" if there were none."""

    __slots__ = ("octets", "set_aside")

    def __init__(self, octets: int, set_aside: str) -> None:
        self.octets = octets
        self.set_aside = set_aside


def restore(
    backup: str, data_directory: str, *, force: bool = False, patience: float = ORPHAN_PATIENCE
) -> Restored:
    """Make a data directory what a backup says, or leave it as it is. Raises StoreError, also if a broker has it.

    force: set aside what is there; without it the directory has to be empty or missing. patience: as for
    `open_data_directory`. Whether the backup is sound is for the caller to find out before.
    """
    backup = os.path.realpath(backup)
    path = os.path.realpath(data_directory)
    if not os.path.exists(data_file(backup)):
        raise StoreError(backup, "there is no store in it")
    if backup == path:
        raise StoreError(path, "is the backup itself")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if not os.path.exists(os.path.join(path, BROKER_LOCK)):
            # Nothing is left behind in a directory that is not a broker's.
            _check_empty(path, force)
        with _held(path, patience):
            _check_empty(path, force)
            return _replace(backup, path)
    except OSError as error:
        raise StoreError(path, f"cannot restore: {error.strerror}", error.errno or 0) from error


def _check_empty(path: str, force: bool) -> None:
    if force:
        return
    there = [name for name in os.listdir(path) if name not in _NOTHING and not name.startswith(_SET_ASIDE)]
    if there:
        raise StoreError(path, f"is not empty: there is {', '.join(sorted(there)[:3])}", errno.ENOTEMPTY)


@contextlib.contextmanager
def _held(path: str, patience: float) -> Iterator[None]:
    """Keep brokers and their writers out."""
    broker_lock = _lock_broker(path)
    try:
        store_lock = _lock_store(path, patience)
        try:
            yield
        finally:
            os.close(store_lock)
    finally:
        os.close(broker_lock)


def _replace(backup: str, path: str) -> Restored:
    made = tempfile.mkdtemp(prefix=_IN_THE_MAKING, dir=path)
    try:
        octets = _copy(backup, made)
        aside = _set_aside(path)
        # The store last: a log without its store is refused by a start, a store would do without its log.
        for name in (log_path(made), os.path.join(made, RUNNING), environment_path(made)):
            if os.path.exists(name):
                os.rename(name, os.path.join(path, os.path.basename(name)))
        sync_directory(path)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Restored(octets, aside)


def _copy(backup: str, made: str) -> int:
    octets = 0
    os.mkdir(environment_path(made), 0o700)
    for source, target in (
        (data_file(backup), data_file(made)),
        (log_path(backup), log_path(made)),
        (os.path.join(backup, RUNNING), os.path.join(made, RUNNING)),
    ):
        if os.path.exists(source):
            shutil.copyfile(source, target)
            os.chmod(target, 0o600)
            octets += sync_file(target)
    sync_directory(environment_path(made))
    sync_directory(made)
    return octets


def _set_aside(path: str) -> str:
    """Move the data that are there into a directory of their own; its path, "" if there are none."""
    there = [
        name
        # The store first, for the reason given in `_replace`.
        for name in (environment_path(path), os.path.join(path, RUNNING), log_path(path))
        if os.path.exists(name)
    ]
    if not there:
        return ""
    number = 1
    while os.path.lexists(aside := os.path.join(path, f"{_SET_ASIDE}{number}")):
        number += 1
    os.mkdir(aside, 0o700)
    for name in there:
        os.rename(name, os.path.join(aside, os.path.basename(name)))
    sync_directory(aside)
    return aside

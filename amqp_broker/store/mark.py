"""The mark in a data directory that somebody has open: left when it is opened, removed by an end in good order.

What it holds tells whether batches go to the log, so that a log that is lost after a crash is not taken for one that
there never was.
"""

from __future__ import annotations

import os
from typing import Final

from amqp_broker.store.environment import log_path

RUNNING: Final = "running"
# What it holds then.
WITH_LOG: Final = b"with log\n"


def leave_mark(path: str) -> bool:
    """Whether there was one already. Raises OSError."""
    mark = _mark(path)
    if os.path.exists(mark):
        return True
    os.close(os.open(mark, os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync_directory(path)
    return False


def note_log(path: str, *, used: bool) -> None:
    """Say in the mark whether batches go to the log, which is there by now. Raises OSError."""
    descriptor = os.open(_mark(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, WITH_LOG if used else b"")
    finally:
        os.close(descriptor)


def log_is_lost(path: str) -> bool:
    """Whether somebody who used the log did not end in good order, and now it is gone, or has nothing in it."""
    try:
        with open(_mark(path), "rb") as mark:
            used = mark.read() == WITH_LOG
    except FileNotFoundError:
        return False
    try:
        return used and os.path.getsize(log_path(path)) == 0
    except FileNotFoundError:
        return True


def remove_mark(path: str) -> None:
    """Raises OSError."""
    os.unlink(_mark(path))


def sync_directory(path: str) -> None:
    """Have the names in a directory survive a power failure. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mark(path: str) -> str:
    return os.path.join(path, RUNNING)

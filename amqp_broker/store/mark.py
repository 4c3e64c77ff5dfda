"""The mark in a data directory that somebody has open: left when it is opened, removed by an end in good order.

It says how long the log is that batches go to, so that one that is lost after a crash, or a part of it, is not taken
for one that there never was.
"""

from __future__ import annotations

import os
from typing import Final

from amqp_broker.store.environment import log_path

RUNNING: Final = "running"


def leave_mark(path: str) -> bool:
    """Whether there was one already. Raises OSError."""
    mark = _mark(path)
    if os.path.exists(mark):
        return True
    os.close(os.open(mark, os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync_directory(path)
    return False


def note_log(path: str, *, used: bool) -> None:
    """Say in the mark whether batches go to the log, which has its full length by now. Raises OSError."""
    text = mark_of_log(path) if used else b""
    descriptor = os.open(_mark(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def mark_of_log(path: str) -> bytes:
    """What the mark says of the log as it is. Raises OSError."""
    return b"%d\n" % os.path.getsize(log_path(path))


def log_is_lost(path: str) -> bool:
    """Whether somebody who used the log did not end in good order, and now it is gone, or shorter than it was."""
    try:
        with open(_mark(path), "rb") as mark:
            size = int(mark.read() or b"0")
    except (FileNotFoundError, ValueError):
        return False
    try:
        return os.path.getsize(log_path(path)) < size
    except FileNotFoundError:
        return size > 0


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

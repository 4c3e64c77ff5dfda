"""Directories in memory, if there is a file system for that: for tests of which nothing has to last."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_IN_MEMORY: Final = Path("/dev/shm")


def fast_place() -> str | None:
    """Where to make a temporary directory; None for the usual place."""
    return str(_IN_MEMORY) if os.access(_IN_MEMORY, os.W_OK) else None


@contextlib.contextmanager
def fast_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="amqp-broker-", dir=fast_place()) as path:
        yield Path(path)

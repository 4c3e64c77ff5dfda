"""Loaded by every Python that has this directory on its path: calls of the system that fail when a test wants it.

The file that AMQP_TEST_FAULTS names has lines `CALL PART`: from when on it does, that call fails with EIO for open
files whose name has that part. The broker knows nothing of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_switch = os.environ.get("AMQP_TEST_FAULTS", "")


def _failing(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def perhaps(descriptor: int, *arguments: Any) -> Any:
        if os.path.exists(_switch):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            for line in Path(_switch).read_text().splitlines():
                failing, _, part = line.partition(" ")
                if failing == name and part in target:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(descriptor, *arguments)

    return perhaps


if _switch:
    for _name in ("pread", "pwrite"):
        setattr(os, _name, _failing(_name, getattr(os, _name)))

"""File descriptors 0, 1 and 2, of which others believe that they are standard input, output and error.

Whoever starts a program may have closed them. The next files to be opened would get these numbers: a socket or the
store, into which a traceback, or a library that prints a warning, would then be written.
"""

from __future__ import annotations

import os
import sys
from typing import Final

STANDARD: Final = (0, 1, 2)


def occupy_standard() -> None:
    """Have /dev/null stand wherever one of them is closed, here and in the processes that are started."""
    closed = [descriptor for descriptor in STANDARD if not _is_open(descriptor)]
    for _ in closed:
        # The lowest that is free, and those below it are not.
        opened = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(opened, True)  # noqa: FBT003
    if closed:
        sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True

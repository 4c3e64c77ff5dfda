"""Unix sockets to listen on: who may connect, and whose file it is.

The file is made with its final mode, so that there is no moment in which others may connect. A file that nobody
listens on any more is replaced; anything else that is in the way stays, and is said.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import Final

# What is taken from rw for all: owner and group may connect.
UMASK: Final = 0o117


class UnixSocket:
    """A listening socket and its file. umask: see UMASK. Raises OSError with what is wrong."""

    def __init__(self, path: str, backlog: int, umask: int = UMASK) -> None:
        _remove_stale(path)
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(umask)
            try:
                self.socket.bind(path)
            finally:
                os.umask(before)
            # At once: a file that nobody listens on looks like one that was left behind.
            self.socket.listen(backlog)
            self.socket.settimeout(0)
            self._identity = _identity(path)
        except OSError:
            self.socket.close()
            raise

    def remove(self) -> None:
        """Remove the file, unless it is another one by now."""
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                os.unlink(self.path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            # So many want to connect that it cannot be told; somebody listens, then.
            pass
    raise OSError(errno.EADDRINUSE, "somebody listens there")

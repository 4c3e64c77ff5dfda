"""Where the control socket of a broker is: a file in its data directory, which only its owner can open.

Both ends come here, the broker and the commands that speak to it. A path of a socket may have about a hundred octets;
where that of the data directory is longer, the directory is opened and the socket named from there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

NAME: Final = "control.sock"
# The least of what systems take is 104, with a NUL at the end.
LONGEST: Final = 100
# Seconds that a command waits for an answer: longer than the broker tries for one.
PATIENCE: Final = 60.0
# In one turn of reading an answer.
_PIECE: Final = 65536
_TIME: Final = struct.Struct("ll")


def control_path(directory: str | os.PathLike[str]) -> str:
    return os.path.join(os.path.abspath(directory), NAME)


@contextlib.contextmanager
def short_path(directory: str | os.PathLike[str]) -> Iterator[str]:
    """A path to the socket that the system takes for one, good for this block. Raises OSError."""
    path = control_path(directory)
    if len(os.fsencode(path)) <= LONGEST or not os.path.isdir("/proc/self/fd"):
        yield path
        return
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def connect(directory: str | os.PathLike[str]) -> socket.socket | None:
    """A connection to the broker that runs on this data directory; None if nobody listens there.

    Raises OSError, PermissionError among them, which names the socket.
    """
    path = control_path(directory)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Where many want to connect at once, only a socket that blocks waits for its turn.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(int(PATIENCE), 0))
        with short_path(directory) as short:
            connected.connect(short)
        connected.settimeout(PATIENCE)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connected.close()
        return None
    except OSError as error:
        connected.close()
        raise OSError(error.errno, error.strerror or str(error), path) from None
    except BaseException:
        connected.close()
        raise
    return connected


def exchange(connected: socket.socket, line: bytes) -> bytes:
    """Send a request and wait for its answer; b"" if the broker ends before that. Raises OSError."""
    # A broker that hung up may have said why before.
    with contextlib.suppress(ConnectionError):
        connected.sendall(line)
    pieces: list[bytes] = []
    while True:
        try:
            piece = connected.recv(_PIECE)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return b""
        pieces.append(piece)
        if piece.endswith(b"\n"):
            return b"".join(pieces)

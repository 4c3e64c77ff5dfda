"""One client's socket: a task that reads and runs turns, and a task that writes.

The reader is the first step of a message's path: `receive`, then `Connection.receive`, then `finish_turn`. The
writer is the last: it takes all the output there is and sends it in one go. Not calling `receive` is the back-pressure.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import ByteStream

if TYPE_CHECKING:
    from amqp_broker.server.commits import Commits
    from amqp_broker.session.connection import Connection

_log = logging.getLogger(__name__)

RECEIVE: Final = 262144
# Output above this is sent in pieces, so that a large message is not copied once more into one string.
JOIN: Final = 262144
LINGER: Final = 3.0


class Client:
    """finished_at: when the session ended and only output is left; None while it lives."""

    def __init__(self, stream: ByteStream, connection: Connection, commits: Commits) -> None:
        self.stream = stream
        self.connection = connection
        self.finished_at: float | None = None
        self._commits = commits
        self._waiting = False
        self._wake = anyio.Event()
        self._resume = anyio.Event()

    def wake(self) -> None:
        """There is output, or the session has finished."""
        if self._waiting:
            self._waiting = False
            self._wake.set()

    def resume(self) -> None:
        """The alarm that paused this client is over."""
        self._resume.set()

    async def read(self) -> None:
        """Run turns on what arrives until the peer or the session ends. Next step: `Connection.receive`."""
        connection, commits = self.connection, self._commits
        try:
            while not connection.finished:
                data = await self.stream.receive(RECEIVE)
                connection.receive(data, monotonic())
                commits.finish_turn()
                if commits.crowded:
                    await commits.wait_room()
                while connection.paused and not connection.finished:
                    self._resume = anyio.Event()
                    await self._resume.wait()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            if not connection.finished:
                connection.close_reason = "client unexpectedly closed TCP connection"
        except Exception:
            _log.exception("%s: internal error", connection.name)
            connection.close_reason = "internal error"
            connection.crashed()

    async def write(self) -> None:
        """Send output until the session has finished and all is sent, then close the socket."""
        connection = self.connection
        output = connection.output
        try:
            while True:
                if not output:
                    if connection.finished:
                        break
                    self._wake = anyio.Event()
                    self._waiting = True
                    await self._wake.wait()
                    continue
                size = connection.output_size
                frames = output[:]
                output.clear()
                if size <= JOIN or size < len(frames) * 4096:
                    await self.stream.send(b"".join(frames))
                else:
                    for frame in _joined(frames):
                        await self.stream.send(frame)
                connection.sent(size, monotonic())
                self._commits.finish_turn()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self.stream) if output else await self.stream.aclose()


def _joined(frames: list[bytes]) -> list[bytes]:
    """The same octets in fewer strings: small ones are joined with their neighbours, large ones stay as they are."""
    joined: list[bytes] = []
    small: list[bytes] = []
    size = 0
    for frame in frames:
        if len(frame) > JOIN // 4 and size:
            joined.append(b"".join(small))
            small, size = [], 0
        if len(frame) > JOIN // 4:
            joined.append(frame)
            continue
        small.append(frame)
        size += len(frame)
        if size > JOIN:
            joined.append(b"".join(small))
            small, size = [], 0
    if small:
        joined.append(b"".join(small))
    return joined

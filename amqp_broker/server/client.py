"""One client's socket, as callbacks of the event loop: octets in run a turn, the end of a turn writes.

This is where a message's path starts (`buffer_updated`, then `Connection.receive`) and ends (`flush`). A turn runs
in the callback that brought its octets and its output is written before that callback returns: no task is woken in
between. Back-pressure is `pause_reading`, and not taking output from a connection whose socket is full.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

from amqp_broker.server.blocks import BodyBuffer
from amqp_broker.session.connection import Connection
from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.server.commits import Commits
    from amqp_broker.server.listening import Origin
    from amqp_broker.server.server import Server

_log = logging.getLogger(__name__)

RECEIVE: Final = 524288
# Where a large message may start, no more than its beginning is read: the rest goes where it will stay.
BEGINNING: Final = 4096
# Output of larger pieces than this on average is handed on piece by piece, so that it is not copied once more.
JOIN: Final = 16384

# A turn takes its octets out of the buffer before the next socket is read, so all clients can share one.
_BUFFER: Final = bytearray(RECEIVE)
_OCTETS: Final = memoryview(_BUFFER)
_FIRST_OCTETS: Final = _OCTETS[:BEGINNING]


class Client(asyncio.BufferedProtocol):
    """finished_at: when the session ended and only output is left; None while it lives.

    adding: what came last made more wait for the disk. origin: where it comes from, if its socket does not tell.
    """

    __slots__ = (
        "_body",
        "_clock",
        "_commits",
        "_full",
        "_room",
        "_server",
        "adding",
        "connection",
        "finished_at",
        "origin",
        "reading",
        "transport",
    )

    connection: Connection
    transport: asyncio.Transport

    def __init__(self, server: Server, commits: Commits, origin: Origin | None = None) -> None:
        self._server = server
        self._commits = commits
        self._clock = server.clock
        self._full = False
        self._body = BodyBuffer(server.blocks)
        self._room: memoryview | None = None
        self.reading = True
        self.adding = False
        self.finished_at: float | None = None
        self.origin = origin

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        connection = self._server.admit(self)
        if connection is None:
            self.transport.abort()
            return
        self.connection = connection
        limits = self._server.config.limits
        self.transport.set_write_buffer_limits(limits.output_high_watermark, limits.output_low_watermark)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        reader = self.connection.reader
        self._room = None
        if reader.large is not None:
            due = reader.body_due()
            if due > 0:
                try:
                    self._room = self._body.room(due)
                except MemoryError:
                    # There may be enough for the pieces.
                    self._room = None
                return _OCTETS[:due] if self._room is None else self._room
        elif reader.large_before:
            return _FIRST_OCTETS
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Run a turn on what arrived. Next step: `Connection.receive`."""
        connection = self.connection
        store = self._commits.store
        pending = store.pending_bytes
        now = self._commits.timer.begin_turn()
        try:
            if self._room is None:
                # Only octets that came may change what is expected: a buffer is also asked for in vain.
                if connection.reader.large is None:
                    connection.reader.large_before = False
                connection.receive(bytes(_OCTETS[:nbytes]), now)
            else:
                room, self._room = self._room, None
                connection.receive_body(self._body.filled(room, nbytes), now)
            if connection.reader.large is None:
                self._body.end()
        except StoreError as error:
            self._commits.give_up(error)
            return
        except MemoryError:
            _log.error("%s: no memory for what it sent: closed", connection.name)
            connection.crashed()
        except Exception:
            _log.exception("%s: internal error", connection.name)
            connection.crashed()
        self.adding = store.pending_bytes > pending
        self._commits.moved += nbytes
        self._commits.finish_turn()
        self._server.wakefulness.turn_run(now)
        if connection.paused or (self.adding and self._commits.crowded) or self.backed_up:
            self.stop_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not hasattr(self, "connection"):
            return
        connection = self.connection
        self._commits.timer.begin_turn()
        if not connection.finished and connection.close_reason is None:
            connection.close_reason = "client unexpectedly closed TCP connection"
        try:
            connection.lost()
        finally:
            self._server.forget(self)
        self._commits.finish_turn()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._commits.timer.begin_turn()
        self.flush()
        self._commits.finish_turn()
        self._commits.release_held_back()

    @property
    def backed_up(self) -> bool:
        """The peer does not take what it asked for: it may not ask for more until it does."""
        return self._full and self.connection.output_size > self._server.config.limits.output_high_watermark

    # -- called by the end of a turn

    def flush(self) -> None:
        """Write the output there is, unless the socket is full; close it if the session has finished."""
        connection = self.connection
        output = connection.output
        if output and not self._full:
            size = connection.output_size - connection.held_size
            try:
                if len(output) == 1:
                    self.transport.write(output[0])
                elif size < len(output) * JOIN:
                    self.transport.write(b"".join(output))
                else:
                    self.transport.writelines(output[:])
            except MemoryError:
                _log.error("%s: no memory to send it %d octets: closed", connection.name, size)
                connection.end("no memory")
                self.transport.abort()
            output.clear()
            self._commits.moved += size
            connection.sent(size, self._clock.monotonic())
        if connection.finished and not output:
            self.transport.close()

    def stop_reading(self) -> None:
        """No more octets from this client until `go_on`."""
        if self.reading and not self.transport.is_closing():
            self.reading = False
            self.connection.unread = True
            self.transport.pause_reading()
            self._commits.held_back.append(self)

    def go_on(self) -> None:
        if not self.reading and not self.transport.is_closing():
            self.reading = True
            self.connection.unread = False
            self.connection.last_received = self._clock.monotonic()
            self.transport.resume_reading()


class TlsClient(Client):
    """A client whose octets come and go through TLS. Unlike a socket's own transport, that of asyncio goes on
    reading while it is being closed, and fills what it is given in slices, which must not be copies.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        room = super().get_buffer(sizehint)
        return _OCTETS if room is _BUFFER else room

    def buffer_updated(self, nbytes: int) -> None:
        if not self.connection.finished:
            super().buffer_updated(nbytes)

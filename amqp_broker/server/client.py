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
from amqp_broker.session.handshake import GREETING, RUNNING
from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.server.commits import Commits
    from amqp_broker.server.listening import Origin
    from amqp_broker.server.server import Server

_log = logging.getLogger(__name__)

RECEIVE: Final = 524288
# Where a large message may start, no more than its beginning is read: the rest goes where it will stay.
BEGINNING: Final = 4096
# Why a connection was closed that was none for the log, but for whoever debugs: a health check, a scan of ports.
NOTHING_SENT: Final = "it sent nothing"
# Of who is not let in yet no more is read at once: it is what may have to be kept until there is time for it.
STRANGERS: Final = 16384
# Output of larger pieces than this on average is handed on piece by piece, so that it is not copied once more.
JOIN: Final = 16384

# A turn takes its octets out of the buffer before the next socket is read, so all clients can share one.
_BUFFER: Final = bytearray(RECEIVE)
_OCTETS: Final = memoryview(_BUFFER)
_FIRST_OCTETS: Final = _OCTETS[:BEGINNING]
_STRANGERS_OCTETS: Final = _OCTETS[:STRANGERS]


class Client(asyncio.BufferedProtocol):
    """finished_at: when the session ended and only output is left; None while it lives.

    adding: what came last made more wait for the disk. origin: where it comes from, if its socket does not tell.
    reading: its socket is read; else it is behind, as its last turn was not long enough for all that came, or held back
    until there is room for what it sends.
    """

    __slots__ = (
        "_body",
        "_clock",
        "_commits",
        "_full",
        "_room",
        "_server",
        "adding",
        "behind",
        "connection",
        "finished_at",
        "held_back",
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
        self.behind = False
        self.held_back = False
        self.adding = False
        self.finished_at: float | None = None
        self.origin = origin

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        try:
            connection = self._server.admit(self)
        except BaseException:
            # Without a session nothing would ever end it.
            self.transport.abort()
            raise
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
        elif self.connection.phase < RUNNING:
            return _STRANGERS_OCTETS
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Run a turn on what arrived. Next step: `Connection.receive`."""
        self._run_turn(nbytes)
        if nbytes == RECEIVE:
            # There is more. The event loop would read it at once, up to 32 times, before it looks at anybody else.
            self.fall_behind(sent_more=True)

    def catch_up(self) -> None:
        """Run a turn on what was left by the one before, unless there is a reason to wait."""
        self.behind = False
        if self.connection.paused:
            self.stop_reading()
        if self.held_back or self.transport.is_closing():
            return
        if self.connection.reader.unhandled:
            self._room = None
            self._run_turn(0)
        if not self.behind and not self.held_back:
            self._read_again()

    def _run_turn(self, nbytes: int) -> None:
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
        crowded = self.adding and self._commits.crowded
        if connection.paused or crowded or self.backed_up or self.is_judged:
            self.stop_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not hasattr(self, "connection"):
            return
        connection = self.connection
        self._commits.timer.begin_turn()
        if not connection.finished and connection.close_reason is None:
            unheard = connection.phase == GREETING and not connection.greeting
            connection.close_reason = NOTHING_SENT if unheard else "client unexpectedly closed TCP connection"
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

    def greeted(self) -> None:
        """It is more than a look whether anybody listens."""
        tls = self.transport.get_extra_info("ssl_object")
        how = "" if tls is None else f" ({tls.version()}, {tls.cipher()[0]})"
        _log.info("accepted connection %s%s", self.connection.name, how)

    @property
    def is_judged(self) -> bool:
        """What it asked for is not known to be allowed, or not done yet: the rest can wait where it is."""
        connection = self.connection
        return (connection.question is not None and connection.phase == RUNNING) or connection.settling.holds

    @property
    def backed_up(self) -> bool:
        """The peer does not take what it asked for: it may not ask for more until it does.

        Deliveries are no reason, as queues stop them. A client that works on what was delivered may not read on until
        its acknowledgements were taken.
        """
        return self._full and self.connection.output_size > self.connection.most_output

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

    def fall_behind(self, *, sent_more: bool = False) -> None:
        """The turn had no time for all that came: read no more until it is handled. Next step: `catch_up`.

        sent_more: what came was handled, but there is more in the socket.
        """
        if self.behind or self.transport.is_closing():
            return
        if not self.connection.reader.unhandled and not sent_more:
            return
        self._read_no_more()
        if not self.held_back:
            self.behind = True
            self._server.behind.add(self)

    def stop_reading(self) -> None:
        """No more octets from this client until `go_on`."""
        if not self.held_back and not self.transport.is_closing():
            self._read_no_more()
            self.held_back = True
            self._commits.held_back.append(self)

    def go_on(self) -> None:
        if self.held_back and not self.transport.is_closing():
            self.held_back = False
            self.fall_behind()
            if not self.behind:
                self._read_again()

    def _read_no_more(self) -> None:
        if self.reading:
            self.reading = False
            self.connection.unread = True
            self.transport.pause_reading()

    def _read_again(self) -> None:
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

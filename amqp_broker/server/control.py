"""The control socket of a running broker: who may open it, and the way of a request to its answer.

A request is a line of JSON (see `control.request`), is run in a turn of its own, or in several if it is long, and is
answered when what it changed is durable. Requests of a connection are answered one after the other. What is too long,
too slow or too much at once is refused; nothing that comes here is more to the broker than one client among others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from amqp_broker import build_info
from amqp_broker.control.node import Connected, Node
from amqp_broker.server.control_place import control_path, short_path
from amqp_broker.server.definitions import definitions_text
from amqp_broker.server.unix_socket import UnixSocket
from amqp_broker.session.auth import shown
from amqp_broker.session.handshake import PHASE_NAMES, RUNNING
from amqp_broker.store.batch import Notice
from amqp_broker.store.errors import StoreError

if TYPE_CHECKING:
    from amqp_broker.control.request import Request
    from amqp_broker.server.client import Client
    from amqp_broker.server.commits import Commits
    from amqp_broker.server.server import Server

_log = logging.getLogger(__name__)

# Connections at a time.
MOST: Final = 16
BACKLOG: Final = 64
# Octets of a request.
LONGEST_REQUEST: Final = 32 << 20
_PIECE: Final = 65536
# Seconds: for the next request to come, for its change to become durable, for its answer to be taken.
REQUEST_PATIENCE: Final = 20.0
COMMIT_PATIENCE: Final = 30.0
ANSWER_PATIENCE: Final = 30.0
# Between two attempts to accept where the system has refused the first.
PAUSE: Final = 1.0
# Passwords hashed at a time, beside those of logins.
HASHES: Final = 1
_CREDENTIALS: Final = struct.Struct("3i")
# What is taken from rw for all: only the owner may connect.
ONLY_OWNER: Final = 0o177

# The state of a connection that published during an alarm, as RabbitMQ calls it.
BLOCKED: Final = "blocked"

T = TypeVar("T")


class Overdue(Exception):
    """Something took longer than it may."""


class RunningNode(Node):
    running = True

    def __init__(self, server: Server) -> None:
        self.broker = server.broker
        self._server = server
        self._started = server.clock.monotonic()

    def connections(self) -> list[Connected]:
        return [OpenConnection(client) for client in self._server.clients if not client.connection.finished]

    def status(self) -> dict[str, object]:
        server = self._server
        return {
            "running": self.running,
            "version": build_info.version_line(),
            "process": os.getpid(),
            "data_directory": str(server.config.data.directory),
            "uptime_seconds": int(server.clock.monotonic() - self._started),
            "listeners": server.addresses,
        }

    def definitions(self) -> str:
        return definitions_text(self.broker, self._server.config)


class OpenConnection(Connected):
    def __init__(self, client: Client) -> None:
        connection = client.connection
        self._client = client
        self.name = connection.name
        self.user = "" if connection.user is None else connection.user.name
        self.vhost = "" if connection.vhost is None else connection.vhost.name
        self.channels = len(connection.channels)

    def row(self) -> dict[str, object]:
        connection = self._client.connection
        blocked = connection.paused and connection.phase == RUNNING
        return {
            "name": self.name,
            "user": self.user,
            "vhost": self.vhost,
            "state": BLOCKED if blocked else PHASE_NAMES[connection.phase],
            "channels": self.channels,
            "tls": self._client.transport.get_extra_info("ssl_object") is not None,
            "provided_name": self._said("connection_name"),
            "product": self._said("product"),
        }

    def _said(self, name: str) -> str:
        """What the client says of itself."""
        field = self._client.connection.client_properties.get(name)
        value = None if field is None else field.value
        return shown(value.decode(errors="replace")) if isinstance(value, bytes) else ""

    def close(self, reason: str) -> bool:
        connection = self._client.connection
        if connection.phase > RUNNING:
            return False
        if connection.phase < RUNNING:
            connection.end(reason)
        else:
            connection.force_closed(reason)
        # One that is not read from would not be heard to close.
        self._client.go_on()
        return True


class Control:
    """`open` once the broker has its data directory and can serve, `run`, then `close`, in any case."""

    def __init__(self, server: Server, commits: Commits) -> None:
        self._server = server
        self.clock = server.clock
        self._commits = commits
        self._directory = str(server.config.data.directory)
        self._listener: UnixSocket | None = None
        self._node: RunningNode | None = None
        self._open = 0
        self._threads = anyio.CapacityLimiter(HASHES)

    def open(self) -> None:
        """Listen. Where that cannot be, the broker serves all the same, and the log says so."""
        self._node = RunningNode(self._server)
        try:
            with short_path(self._directory) as path:
                self._listener = UnixSocket(path, BACKLOG, ONLY_OWNER)
            self._listener.path = control_path(self._directory)
        except OSError as error:
            reason = error.strerror or str(error)
            _log.warning("there is no control socket in %s: %s", self._directory, reason)

    def close(self) -> None:
        """May be called more than once."""
        if self._listener is not None:
            self._listener.remove()
            self._listener.socket.close()
            self._listener = None

    async def run(self) -> None:
        """Answer requests until it is cancelled."""
        if self._listener is None:
            return
        async with anyio.create_task_group() as tasks:
            await self._accept(self._listener.socket, tasks)

    async def _accept(self, listening: socket.socket, tasks: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    loop.call_exception_handler({"message": "control socket", "exception": error})
                    await self.clock.sleep(PAUSE)
                continue
            tasks.start_soon(self._attend, connection)
            await anyio.lowlevel.checkpoint()

    async def _attend(self, connection: socket.socket) -> None:
        self._open += 1
        try:
            refusal = self._unwanted(connection)
            if refusal:
                await self._refuse(connection, refusal)
            else:
                await self._serve(connection)
        except (OSError, Overdue):
            # Whoever asked does not listen any more.
            pass
        except Exception:
            # Not even the lack of memory for a request ends a broker.
            _log.exception("control: internal error")
        finally:
            self._open -= 1
            connection.close()

    def _unwanted(self, connection: socket.socket) -> str:
        """Why this one is not heard; "" if it is."""
        if self._open > MOST:
            return f"there are {MOST} connections to the control socket already"
        user = peer(connection)[1]
        if user not in (-1, 0, os.geteuid()):
            _log.warning("user id %d may not use the control socket", user)
            return f"permission denied: the control socket is for user id {os.geteuid()} and for root"
        return ""

    async def _serve(self, connection: socket.socket) -> None:
        """Answer one request after the other. Raises OSError or Overdue when that is over."""
        received = bytearray()
        loop = asyncio.get_running_loop()
        while True:
            line = await self._within(REQUEST_PATIENCE, self._line(connection, received))
            if line is None:
                return
            if len(line) > LONGEST_REQUEST:
                await self._refuse(connection, f"a request of more than {LONGEST_REQUEST} octets is too long")
                return
            answer = await self._answer(line, connection)
            await self._within(ANSWER_PATIENCE, loop.sock_sendall(connection, answer))
            # Neither of the two need have waited: however much is asked, clients have their turns.
            await anyio.lowlevel.checkpoint()

    async def _line(self, connection: socket.socket, received: bytearray) -> bytes | None:
        """The next line, or as much as is too long for one; None at the end."""
        loop = asyncio.get_running_loop()
        end = received.find(b"\n")
        while end < 0 and len(received) <= LONGEST_REQUEST:
            piece = await loop.sock_recv(connection, _PIECE)
            if not piece:
                return None
            looked_at = len(received)
            received += piece
            end = received.find(b"\n", looked_at)
            await anyio.lowlevel.checkpoint()
        end = end if end >= 0 else len(received)
        line = bytes(received[:end])
        del received[: end + 1]
        return line

    async def _refuse(self, connection: socket.socket, text: str) -> None:
        from amqp_broker.control.request import write_refusal
        from amqp_broker.control.verb import INVALID, Refused

        answer = write_refusal(Refused(INVALID, text))
        await self._within(ANSWER_PATIENCE, asyncio.get_running_loop().sock_sendall(connection, answer))

    async def _within(self, seconds: float, awaited: Awaitable[T]) -> T:
        """Raises Overdue."""
        with anyio.CancelScope() as scope:
            patience = self.clock.call_later(seconds, scope.cancel)
            try:
                return await awaited
            finally:
                patience.cancel()
        raise Overdue

    # -- one request

    async def _answer(self, line: bytes, connection: socket.socket) -> bytes:
        from amqp_broker.control.request import read_request, write_refusal, write_result
        from amqp_broker.control.verb import INTERNAL, Refused

        assert self._node is not None
        try:
            request = read_request(line)
            if request.changes:
                process, user = peer(connection)
                _log.info("control: %s, by user id %d, process %d", shown(str(request)), user, process)
            work = request.work(self._node)
            found = None if work is None else await anyio.to_thread.run_sync(work, limiter=self._threads)
            result = await self._run(request, found)
            return write_result(result)
        except Refused as refusal:
            return write_refusal(refusal)
        except StoreError as error:
            return write_refusal(Refused(INTERNAL, str(error)))
        except Exception:
            _log.exception("control: internal error")
            return write_refusal(Refused(INTERNAL, "internal error: the broker's log says more"))

    async def _run(self, request: Request, found: object) -> object:
        """Run it in a turn, and wait until its change is durable. Raises Refused or StoreError."""
        from amqp_broker.control.verb import INTERNAL, Refused

        assert self._node is not None
        commits, durable = self._commits, anyio.Event()
        node = self._node
        steps = request.steps(node, found)
        if steps is None:
            result = self._in_turn(lambda: request.run(node, found), durable if request.changes else None)
        else:
            results: list[object] = []
            await self._server.portions.run(self._finishing(steps, results, durable))
            result = results[0]
        if request.changes:
            with contextlib.suppress(Overdue):
                await self._within(COMMIT_PATIENCE, durable.wait())
            if not durable.is_set():
                reason = commits.failing or "the store is slow"
                raise Refused(
                    INTERNAL, f"done, but not on the disk yet, so that a restart may undo it: {reason}"
                )
        return result

    def _finishing(
        self, steps: Generator[None, None, object], results: list[object], durable: anyio.Event
    ) -> Iterator[None]:
        """The same steps. results: gets what comes of them; durable: is set when what they changed is."""
        results.append((yield from steps))
        self._commits.store.wait(Notice(lambda _batch: durable.set()))

    def _in_turn(self, run: Callable[[], object], durable: anyio.Event | None) -> object:
        """durable: is set when what the turn changed is."""
        commits = self._commits
        commits.timer.begin_turn()
        try:
            result = run()
            if durable is not None:
                commits.store.wait(Notice(lambda _batch: durable.set()))
        except StoreError as error:
            commits.give_up(error)
            raise
        finally:
            commits.finish_turn()
        return result


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user id at the other end; -1 for each where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return -1, -1
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _group = _CREDENTIALS.unpack(credentials)
    return process, user

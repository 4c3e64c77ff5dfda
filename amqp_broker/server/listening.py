"""Where clients come in: the configured addresses, and the way of a connection until AMQP begins on it.

A connection to a plain listener becomes a `Client` at once, by the event loop's own server. One that has to bring a
PROXY header or make a TLS handshake first is accepted here and handed over when that is done; who takes too long
or does it wrong is closed without an answer. What is said after that is none of this module's business.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from amqp_broker.config import Address, Config
from amqp_broker.server.address_limits import AddressLimits
from amqp_broker.server.clock import ServerClock
from amqp_broker.server.tls import Certificates, handshake_fault
from amqp_broker.server.unix_socket import UnixSocket

if TYPE_CHECKING:
    from amqp_broker.server.proxy import Ends

_log = logging.getLogger(__name__)

# Between two attempts to accept a connection where the system has refused the first.
PAUSE: Final = 1.0
# The event loop's own deadline is out of the way: ours goes by the broker's clock.
NEVER: Final = 86400.0
# An address that this machine has not, while others of the same name are there.
ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_CREDENTIALS: Final = struct.Struct("3i")
_local_numbers: Final = itertools.count(1)


class Origin:
    """name: both ends of a connection. from_loopback: its peer is on this machine. is_tcp: or else a Unix socket.

    host: the peer's address, "" for a Unix socket. since: when it was accepted, for who has been seen in; else None.
    taken: there is a client for it now.
    """

    __slots__ = ("from_loopback", "host", "is_tcp", "name", "since", "taken")

    def __init__(self, peer: object, here: object, *, from_loopback: bool, is_tcp: bool = True) -> None:
        self.name = f"{address_text(peer)} -> {address_text(here)}"
        self.host = host_of(peer)
        self.from_loopback = from_loopback
        self.is_tcp = is_tcp
        self.since: float | None = None
        self.taken = False


class Refused(Exception):
    """A connection does not get as far as AMQP; the text is for the log, which "" does not trouble."""


class NeverBegun(Refused):
    """It was closed before anything came: somebody looked whether anybody listens."""


class Door:
    """A socket to listen on whose connections do not begin with AMQP. secure: they make a TLS handshake."""

    def __init__(self, bound: socket.socket, *, secure: bool) -> None:
        self.socket = bound
        self.secure = secure


class Listening:
    """`bind`, `listen`, then `run`; `close` in any case.

    new_client: makes the protocol for a connection; origin: where it comes from, if the socket does not tell;
    secure: whether it is one with TLS.
    has_room: whether one more connection may stay that has this file descriptor. limits: on those of one address.
    addresses: where it listens. arriving: connections that are not handed over yet.
    """

    def __init__(
        self,
        config: Config,
        clock: ServerClock,
        new_client: Callable[..., asyncio.BaseProtocol],
        has_room: Callable[[int], bool],
        limits: AddressLimits,
    ) -> None:
        self.addresses: list[str] = []
        self.arriving = 0
        self._options = config.listeners
        self._tls = config.tls
        self._patience = config.protocol.handshake_timeout
        self.clock = clock
        self._new_client = new_client
        self._has_room = has_room
        self._limits = limits
        self._certificates: Certificates | None = None
        self._servers: list[asyncio.Server] = []
        self._doors: list[Door] = []
        self._unix: list[UnixSocket] = []

    async def bind(self) -> None:
        """Take the configured addresses. Raises OSError or ConfigError naming what cannot be had."""
        options = self._options
        if options.tls:
            self._certificates = Certificates(self._tls)
        for address in options.tcp:
            for bound in await _bind(address):
                self.addresses.append(address_text(bound.getsockname()))
                if options.proxy_protocol:
                    self._doors.append(Door(bound, secure=False))
                else:
                    await self._serve(bound)
        for address in options.tls:
            for bound in await _bind(address):
                self.addresses.append(address_text(bound.getsockname()) + " (TLS)")
                self._doors.append(Door(bound, secure=True))
        for path in options.unix:
            try:
                listener = UnixSocket(path, options.backlog)
            except OSError as error:
                raise _cannot_listen(f"unix:{path}", error) from error
            self._unix.append(listener)
            self.addresses.append(f"unix:{path}")
            await self._serve(listener.socket)

    async def listen(self) -> None:
        """Accept connections from now on; those that have to do something before AMQP wait for `run`.

        Raises OSError naming the address that somebody else has taken meanwhile.
        """
        for server in self._servers:
            where = address_text(server.sockets[0].getsockname())
            try:
                await server.start_serving()
            except OSError as error:
                raise _cannot_listen(where, error) from error
        for door in self._doors:
            try:
                door.socket.listen(self._options.backlog)
            except OSError as error:
                raise _cannot_listen(address_text(door.socket.getsockname()), error) from error

    async def run(self) -> None:
        """See connections in that have to do something before AMQP, until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            for door in self._doors:
                tasks.start_soon(self._accept, door, tasks)

    def close(self) -> None:
        """Give the addresses back. May be called more than once."""
        for server in self._servers:
            server.close()
        for door in self._doors:
            door.socket.close()
        for listener in self._unix:
            listener.remove()

    def reload_certificates(self) -> None:
        if self._certificates is not None:
            self._certificates.reload()

    async def _serve(self, bound: socket.socket) -> None:
        """Have the event loop accept on a socket, but not yet."""
        loop = asyncio.get_running_loop()
        serve: Any = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
        backlog = self._options.backlog
        self._servers.append(await serve(self._new_client, sock=bound, backlog=backlog, start_serving=False))

    async def _accept(self, door: Door, tasks: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(door.socket)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:
                    loop.call_exception_handler({"message": "cannot accept connections", "exception": error})
                    await self.clock.sleep(PAUSE)
                continue
            if self._has_room(connection.fileno()):
                tasks.start_soon(self._see_in, connection, peer, door.secure)
            else:
                connection.close()
            # However many want to come, those who are here have their turns.
            await anyio.lowlevel.checkpoint()

    async def _see_in(self, connection: socket.socket, peer: object, secure: bool) -> None:
        """Next step: `Client.connection_made`, by the event loop."""
        try:
            here = connection.getsockname()
        except OSError:
            # It is gone again, on systems that then do not know where it was.
            connection.close()
            return
        name, fault, level = f"{address_text(peer)} -> {address_text(here)}", "", logging.WARNING
        since = self.clock.monotonic()
        origin: Origin | None = None
        self.arriving += 1
        with anyio.CancelScope() as scope:
            patience = self.clock.call_later(self._patience, scope.cancel)
            try:
                origin = await self._let_in(connection, (peer, here), since)
                await self._hand_over(connection, origin, secure)
            except Refused as refusal:
                fault = str(refusal)
                level = logging.DEBUG if isinstance(refusal, NeverBegun) else level
            except Exception:
                _log.exception("%s: internal error", name)
                connection.close()
            finally:
                patience.cancel()
                self.arriving -= 1
                if origin is not None and not origin.taken:
                    self._limits.leave(origin.host)
        if scope.cancelled_caught:
            fault = "handshake timeout"
        if fault:
            _log.log(level, "closed connection %s: %s", name, fault)

    async def _let_in(self, connection: socket.socket, ends: tuple[object, object], since: float) -> Origin:
        """Find out where a connection comes from, and whether its address may have one more.

        Raises Refused, with the connection closed.
        """
        try:
            said = await _proxy_header(connection) if self._options.proxy_protocol else None
            origin = _origin(ends, said)
            if not self._limits.enter(origin.host, self.clock.monotonic()):
                raise Refused
        except BaseException:
            connection.close()
            raise
        origin.since = since
        return origin

    async def _hand_over(self, connection: socket.socket, origin: Origin, secure: bool) -> None:
        """Raises Refused, with the connection closed."""
        factory = partial(self._new_client, origin=origin, secure=secure)
        tls: dict[str, Any] = {}
        if self._certificates is not None and secure:
            tls = {"ssl": self._certificates.context, "ssl_handshake_timeout": NEVER}
        try:
            # Without TLS it waits for nobody. uvloop does not tell a protocol of its end that is cancelled just now.
            with anyio.CancelScope(shield=not tls):
                await asyncio.get_running_loop().connect_accepted_socket(factory, connection, **tls)
        except ConnectionError as error:
            # Who does not like the handshake says so by an alert.
            raise NeverBegun(_fault(error, secure)) from None
        except OSError as error:
            raise Refused(_fault(error, secure)) from None
        except UnicodeDecodeError:
            # The standard library reads all names in a certificate, and gives up on one of no known encoding.
            raise Refused("TLS handshake failed: its certificate cannot be read") from None


def origin_of(transport: asyncio.BaseTransport) -> Origin | None:
    """Where a connection comes from whose peer speaks for itself; None if it is gone again."""
    peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if isinstance(here, str) and here:
        return _local_origin(transport.get_extra_info("socket"), here)
    return _origin((peer, here), None) if peer and here else None


def address_text(address: object) -> str:
    """host:port, with an IPv6 host in brackets."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(address: object) -> str:
    """An address without its port; "" for what has none."""
    return str(address[0]) if isinstance(address, tuple) else ""


def is_loopback(address: object) -> bool:
    host = host_of(address)
    return host == "::1" or host.startswith(("127.", "::ffff:127."))


async def _proxy_header(connection: socket.socket) -> Ends | None:
    from amqp_broker.server.proxy import MalformedHeader, NoHeader, read_header

    try:
        return await read_header(connection)
    except NoHeader as error:
        raise NeverBegun(str(error)) from None
    except MalformedHeader as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(error.strerror or str(error)) from None


def _origin(ends: tuple[object, object], said: Ends | None) -> Origin:
    """said: the ends that a proxy has told, which the connection is named by.

    A proxy on another machine can say of its own loopback address what it likes: that is not this machine's.
    """
    from_loopback = is_loopback(ends[0]) and (said is None or is_loopback(said[0]))
    peer, here = said or ends
    return Origin(peer, here, from_loopback=from_loopback)


def _local_origin(raw: Any, path: str) -> Origin:
    """The other end of a Unix socket has no name, but a process."""
    process = 0
    if hasattr(socket, "SO_PEERCRED"):
        credentials = raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process = _CREDENTIALS.unpack(credentials)[0]
    peer = f"unix:{process}#{next(_local_numbers)}"
    return Origin(peer, f"unix:{path}", from_loopback=True, is_tcp=False)


def _fault(error: OSError, secure: bool) -> str:
    return f"TLS handshake failed: {handshake_fault(error)}" if secure else error.strerror or str(error)


async def _bind(address: Address) -> list[socket.socket]:
    """A socket for each address that a host name has; not listening yet. Raises OSError that names the address."""
    bound: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        absent: OSError | None = None
        for family, _kind, protocol, _name, where in dict.fromkeys(found):
            try:
                bound.append(_bind_one(family, protocol, where))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
        if not bound:
            raise absent or OSError(errno.EADDRNOTAVAIL, "the name has no address")
    except OSError as error:
        for taken in bound:
            taken.close()
        raise _cannot_listen(str(address), error) from error
    return bound


def _bind_one(family: int, protocol: int, where: Any) -> socket.socket:
    taken = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Whether [::] takes IPv4 as well would else depend on the system's settings.
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind(where)
        taken.settimeout(0)
    except OSError:
        taken.close()
        raise
    return taken


def _cannot_listen(where: str, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {where}: {error.strerror or error}")

"""The way through a door, whatever happens on it: who is counted is forgotten once, and nobody stays."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec
import pytest
import uvloop

from amqp_broker.config import Config, Listeners, Protocol, Tls
from amqp_broker.server.address_limits import AddressLimits
from amqp_broker.server.listening import Listening, Origin
from tests.server.moved_clock import MovedClock
from tests.server.secure import Authority
from tests.server.wire import BrokersEnd, Service

PEER = ("192.0.2.1", 40000)
TIMEOUT = 10.0
PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\n"
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.SelectorEventLoop, uvloop.new_event_loop]


class Counted(asyncio.Protocol):
    """What a `Client` does about the count of its address. at: where the way of this one is interrupted."""

    def __init__(self, site: Site, at: str, origin: Origin) -> None:
        self._site = site
        self._at = at
        self._origin = origin
        site.interrupted(at == "factory")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._site.interrupted(self._at == "before")
        if self._at == "without memory":
            cast(asyncio.Transport, transport).abort()
            raise MemoryError
        self._origin.taken = True
        self._site.interrupted(self._at == "after")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._origin.taken:
            self._site.limits.leave(self._origin.host)


class Site:
    """A door, and how the deadline of who comes through it ends: at once, when it is told to."""

    def __init__(self, authority: Authority | None, at: str) -> None:
        certificate, key = authority.server() if authority else ("", "")
        config = Config(
            protocol=Protocol(handshake_timeout=TIMEOUT),
            listeners=Listeners(
                tcp=(), tls=cast(Any, ("somewhere",)) if authority else (), proxy_protocol=not authority
            ),
            tls=Tls(certificate=str(certificate), key=str(key)),
        )
        self.clock = MovedClock()
        self.limits = AddressLimits(1, 0)
        self.at = at
        self._authority = authority
        made = partial(Counted, self, at)
        self.listening = Listening(
            config, self.clock, lambda origin, secure: made(origin), lambda _: True, self.limits
        )
        if authority:
            from amqp_broker.server.tls import Certificates

            self.listening._certificates = Certificates(config.tls)

    def interrupted(self, here: bool) -> None:
        """The deadline is over in the middle of a callback."""
        if here:
            for _, _, entry in self.clock._entries:
                entry.run()

    async def visit(self) -> None:
        """A client comes, does all it has to and goes; or it is closed in the midst of a TLS handshake."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.listening._see_in, ours, PEER, self._authority is not None)
            await self._come(theirs)
        for _ in range(1000):
            if not self.limits._connections:
                break
            await asyncio.sleep(0)

    async def _come(self, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if self._authority is None:
            await loop.sock_sendall(theirs, PROXY)
            theirs.close()
            return
        try:
            reader, writer = await asyncio.open_connection(
                sock=theirs, ssl=self._authority.trusting(), server_hostname="localhost"
            )
            if self.at:
                assert await reader.read(1) == b""
            writer.close()
        except (OSError, ssl.SSLError):
            assert self.at


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("at", ["", "factory", "before", "after", "without memory"])
def test_a_deadline_in_the_same_pass_as_the_connection_counts_it_down_once(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], secure: bool, at: str
) -> None:
    site = Site(Authority(tmp_path) if secure else None, at)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.get_loop().set_exception_handler(lambda *_: None)
        runner.run(asyncio.wait_for(site.visit(), 20))
    assert site.limits._connections == {}
    assert site.listening.arriving == 0


# -- a connection that the server cannot make a session for


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Its sockets do not take an option that is set on each, as a system may refuse it to one that is gone again."""
    service = Service(tmp_path / "data")
    service.config = msgspec.structs.replace(
        service.config, listeners=msgspec.structs.replace(service.config.listeners, nodelay=False)
    )
    service._address_limits = AddressLimits(1, 0)
    yield service
    anyio.run(service.close)


class Obstinate(BrokersEnd):
    """A transport whose socket takes no options."""

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        raise OSError(22, "Invalid argument")


@pytest.mark.parametrize("seen_in", [False, True])
def test_what_no_session_can_be_made_for_is_closed_and_not_counted(service: Service, seen_in: bool) -> None:
    origin = Origin(PEER, ("192.0.2.2", 5672), from_loopback=False)
    if seen_in:
        origin.since = service.clock.monotonic()
        assert service._address_limits.enter(origin.host, 0.0)
    client = service._new_client(origin)
    transport = Obstinate(client)
    transport.socket.setsockopt = transport.setsockopt  # type: ignore[method-assign]
    with pytest.raises(OSError, match="Invalid"):
        client.connection_made(transport)
    assert transport.closing
    client.connection_lost(None)
    # Who has seen it in counts it down himself.
    assert not origin.taken
    assert bool(service._address_limits._connections) is seen_in
    assert not service._commits.clients

"""One client connection: the handshake, calls that wait for their reply, heartbeats, and how it ends.

It feeds what arrives to a FrameScanner and then tells the agents (producers, consumers) of the channels
concerned. Every failure, the broker's or the network's, is said once, in one sentence, through `on_failure`.
It decides nothing about what is published or acknowledged.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, cast

from amqp_broker.perf import methods
from amqp_broker.perf.frames import (
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    BrokenStream,
    ChannelInbox,
    ConfirmWindow,
    FrameScanner,
    frame,
)
from amqp_broker.perf.latency import Histogram
from amqp_broker.perf.settings import Address, Settings

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME: Final = frame(FRAME_HEARTBEAT, 0, b"")
PRODUCT: Final = "amqp-broker perf"
WRITE_BUFFER: Final = 256 * 1024
HANDSHAKE_SECONDS: Final = 30.0
FRAME_MAX_UNLIMITED: Final = 131072
CHANNEL_MAX: Final = 65535

Clock = Callable[[], int]


class PerfFailure(Exception):
    """The broker or the network ended what the run needs; the text is for the user."""


def millisecond_clock() -> int:
    """Wall clock in ns, in steps of a millisecond: comparable between machines whose clocks are set."""
    return time.time_ns() // 1_000_000 * 1_000_000


class Agent(ABC):
    """What uses a channel. The connection calls it from the event loop, one call at a time."""

    @abstractmethod
    def received(self, now: int) -> None:
        """Deliveries, returns or confirms have been counted in its inbox; `now` in ns."""

    @abstractmethod
    def writable(self) -> None:
        """The connection takes bytes again, after `Connection.writable` was False."""

    @abstractmethod
    def flow(self, active: bool) -> None:
        """The broker asked to stop or resume publishing (channel.flow)."""


class Connection(asyncio.Protocol):
    """An open connection once `open_connection` returned it."""

    def __init__(self, address: Address, settings: Settings, latency: Histogram, clock: Clock) -> None:
        self.address = address
        self.frame_max = settings.frame_max
        self.heartbeat = settings.heartbeat
        self.clock = clock
        self.writable = False
        self.failure: PerfFailure | None = None
        self.on_failure: Callable[[str], None] = lambda text: None
        self.on_notice: Callable[[str], None] = lambda text: None
        self.last_received = 0
        self._scanner = FrameScanner(latency, max(settings.frame_max, FRAME_MAX_UNLIMITED))
        self._scanner.open(0)
        self._agents: dict[int, Agent] = {}
        self._waiting: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        self._closing = False
        self._channels = 0
        self._channel_max = CHANNEL_MAX
        self._transport: asyncio.Transport | None = None
        self._beat_handle: asyncio.TimerHandle | None = None
        self._lost = asyncio.get_running_loop().create_future()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.writable = True

    def data_received(self, data: bytes) -> None:
        now = self.clock()
        self.last_received = now
        scanner = self._scanner
        try:
            scanner.feed(data, now)
            if scanner.methods:
                self._dispatch()
        except (BrokenStream, methods.UnreadableMethod) as broken:
            self.fail(f"the broker broke the protocol: {broken}")
            return
        for inbox in scanner.active:
            agent = self._agents.get(inbox.number)
            if agent is not None:
                agent.received(now)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        for agent in list(self._agents.values()):
            agent.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable = False
        if self._beat_handle is not None:
            self._beat_handle.cancel()
        if not self._closing:
            self.fail(
                f"connection lost: {exc}" if exc else "the broker dropped the connection without a reason"
            )
        if not self._lost.done():
            self._lost.set_result(None)

    # what agents and workers call

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._closing:
            self._transport.write(data)

    def send(self, channel: int, payload: bytes) -> None:
        self.write(frame(FRAME_METHOD, channel, payload))

    async def call(self, channel: int, payload: bytes, reply: int) -> bytes:
        """Send a method and return the payload of the reply that it must have. Raises PerfFailure."""
        if self.failure is not None:
            raise self.failure
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[channel] = (reply, waiting)
        self.write(payload if payload is PROTOCOL_HEADER else frame(FRAME_METHOD, channel, payload))
        return await waiting

    async def open_channel(self, confirms: ConfirmWindow | None = None) -> ChannelInbox:
        if self._channels >= self._channel_max:
            raise PerfFailure(f"the broker allows {self._channel_max} channels on a connection")
        self._channels += 1
        inbox = self._scanner.open(self._channels, confirms)
        await self.call(inbox.number, methods.pack_channel_open(), methods.CHANNEL_OPEN_OK)
        return inbox

    async def close_channel(self, channel: int) -> None:
        """Returns when the broker has taken everything sent on the channel before."""
        self._agents.pop(channel, None)
        closing = methods.pack_close(methods.CHANNEL_CLOSE, "done")
        await self.call(channel, closing, methods.CHANNEL_CLOSE_OK)

    def attach(self, channel: int, agent: Agent) -> None:
        self._agents[channel] = agent

    async def close(self, patience: float) -> None:
        """Close in good order, or after `patience` seconds without; never raises PerfFailure."""
        self._agents.clear()
        if self.failure is None:
            closing = methods.pack_close(methods.CONNECTION_CLOSE, "done")
            try:
                await asyncio.wait_for(self.call(0, closing, methods.CONNECTION_CLOSE_OK), patience)
            except (PerfFailure, TimeoutError):
                self.on_notice("a connection did not close in good order")
        self._closing = True
        if self._transport is not None:
            self._transport.close()
            # what the broker does not read would keep the transport open for ever
            await asyncio.wait((self._lost,), timeout=patience if self.writable else 0)
            self._transport.abort()
            await self._lost

    def fail(self, text: str) -> None:
        """End the connection, its calls and the run; only the first reason counts."""
        if self.failure is not None:
            return
        self.failure = PerfFailure(text)
        waiting, self._waiting = self._waiting, {}
        for _, reply in waiting.values():
            if not reply.done():
                reply.set_exception(self.failure)
        self._agents.clear()
        self.on_failure(text)
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    async def handshake(self) -> None:
        start = await self.call(0, PROTOCOL_HEADER, methods.CONNECTION_START)
        if len(start) < 6 or start[4:6] != b"\x00\x09":
            raise PerfFailure("the broker does not speak AMQP 0-9-1")
        address = self.address
        start_ok = methods.pack_start_ok(PRODUCT, address.user, address.password)
        tune = methods.read_tune(await self.call(0, start_ok, methods.CONNECTION_TUNE))
        self._channel_max = min(tune[0] or CHANNEL_MAX, CHANNEL_MAX)
        self.frame_max = min(tune[1] or self.frame_max, self.frame_max)
        self.heartbeat = min(tune[2], self.heartbeat)
        self._scanner.frame_max = self.frame_max
        self.send(0, methods.pack_tune_ok(self._channel_max, self.frame_max, self.heartbeat))
        await self.call(0, methods.pack_connection_open(address.vhost), methods.CONNECTION_OPEN_OK)
        if self.heartbeat:
            self._beat()

    def _beat(self) -> None:
        """Send a sign of life, and miss the broker's after two intervals (AMQP 0-9-1, section 4.2.7)."""
        if self.failure is not None or self._closing:
            return
        if self.clock() - self.last_received > 2 * self.heartbeat * 1_000_000_000:
            self.fail(f"the broker was silent for two heartbeat intervals of {self.heartbeat} s")
            return
        if self.writable:
            self.write(HEARTBEAT_FRAME)
        self._beat_handle = asyncio.get_running_loop().call_later(self.heartbeat / 2, self._beat)

    def _dispatch(self) -> None:
        arrived = self._scanner.methods[:]
        self._scanner.methods.clear()
        for channel, payload in arrived:
            method = methods.method_of(payload)
            reply, waiting = self._waiting.get(channel, (0, None))
            if waiting is not None and method == reply:
                del self._waiting[channel]
                if not waiting.done():
                    waiting.set_result(payload)
                continue
            handler = UNASKED.get(method)
            if handler is None:
                raise BrokenStream(f"unexpected method {method >> 16}.{method & 0xFFFF} on channel {channel}")
            handler(self, channel, payload)

    def _connection_close(self, channel: int, payload: bytes) -> None:
        code, text = methods.read_close(payload)
        self.send(0, methods.pack_empty(methods.CONNECTION_CLOSE_OK))
        self.fail(f"the broker closed the connection: {code} {text}")

    def _channel_close(self, channel: int, payload: bytes) -> None:
        code, text = methods.read_close(payload)
        self.send(channel, methods.pack_empty(methods.CHANNEL_CLOSE_OK))
        refused = ChannelRefused(f"the broker closed channel {channel}: {code} {text}", code)
        _, waiting = self._waiting.pop(channel, (0, None))
        self._agents.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(refused)
        else:
            self.fail(str(refused))

    def _channel_flow(self, channel: int, payload: bytes) -> None:
        active = payload[4:5] == b"\x01"
        self.send(channel, methods.pack_flow_ok(active))
        if channel in self._agents:
            self._agents[channel].flow(active)

    def _cancelled(self, channel: int, payload: bytes) -> None:
        self.fail(f"the broker cancelled consumer {methods.read_name(payload)!r}; was its queue deleted?")

    def _blocked(self, channel: int, payload: bytes) -> None:
        self.on_notice(f"the broker blocks publishers: {methods.read_name(payload)}")

    def _unblocked(self, channel: int, payload: bytes) -> None:
        self.on_notice("the broker no longer blocks publishers")

    def _late_reply(self, channel: int, payload: bytes) -> None:
        """A reply whose caller stopped waiting."""


class ChannelRefused(PerfFailure):
    """The broker answered a call by closing the channel; `code` is its reply code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


UNASKED: Final[dict[int, Callable[[Connection, int, bytes], None]]] = {
    methods.CONNECTION_CLOSE: Connection._connection_close,
    methods.CHANNEL_CLOSE: Connection._channel_close,
    methods.CHANNEL_FLOW: Connection._channel_flow,
    methods.BASIC_CANCEL: Connection._cancelled,
    methods.CONNECTION_BLOCKED: Connection._blocked,
    methods.CONNECTION_UNBLOCKED: Connection._unblocked,
    methods.CHANNEL_CLOSE_OK: Connection._late_reply,
    methods.CONNECTION_CLOSE_OK: Connection._late_reply,
}


async def open_connection(settings: Settings, latency: Histogram, clock: Clock) -> Connection:
    """Connect and shake hands. Raises PerfFailure, which names the address."""
    address = settings.address
    tls = ssl.create_default_context() if address.tls else None
    connection = Connection(address, settings, latency, clock)
    where = f"{address.host}:{address.port}"
    try:
        await asyncio.wait_for(
            asyncio.get_running_loop().create_connection(
                lambda: connection, address.host, address.port, ssl=tls
            ),
            HANDSHAKE_SECONDS,
        )
        await asyncio.wait_for(connection.handshake(), HANDSHAKE_SECONDS)
    except PerfFailure as refused:
        connection.fail(str(refused))
        raise PerfFailure(f"{where}, vhost {address.vhost!r}: {refused}") from None
    except TimeoutError:
        connection.fail("no answer")
        raise PerfFailure(
            f"{where} did not complete the handshake within {HANDSHAKE_SECONDS:.0f} s"
        ) from None
    except OSError as unreachable:
        raise PerfFailure(f"cannot connect to {where}: {unreachable}") from None
    return connection

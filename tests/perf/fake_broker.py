"""Just enough of a broker to run the load generator against, and to misbehave on request.

One queue for everything: what is published, whatever the exchange, goes round-robin to the consumers there
are. Methods are read by pamqp, so that the generator's own packing is judged by somebody else's.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pamqp import base, commands
from pamqp import frame as frames
from pamqp.header import ContentHeader

START = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US"


class FakeBroker:
    """What a test may set before the run, and look at after it."""

    def __init__(self) -> None:
        self.port = 0
        self.methods: list[base.Frame] = []
        self.bodies: list[bytes] = []
        self.deliver_modes: set[int | None] = set()
        self.acks: list[tuple[int, bool]] = []
        self.connections: list[Session] = []
        self.consumers: list[tuple[Session, int, str]] = []
        # what went wrong in reading the generator's bytes; raised when the fake stops
        self.errors: list[Exception] = []
        self.frame_max = 131072
        self.heartbeat = 0
        self.confirming = True
        self.nacking = False
        self.returning = False
        # called before a method is handled; returns whether it took care of the method itself
        self.intercept: Callable[[Session, int, base.Frame], bool] = lambda session, channel, method: False
        self._next_consumer = 0

    def named(self, name: str) -> list[base.Frame]:
        """The methods received of one name, such as `Queue.Declare`, in order."""
        return [method for method in self.methods if method.name == name]

    def deliver(self, exchange: str, routing_key: str, body: bytes) -> None:
        if self.consumers:
            session, channel, tag = self.consumers[self._next_consumer % len(self.consumers)]
            self._next_consumer += 1
            session.tags[channel] = session.tags.get(channel, 0) + 1
            deliver = commands.Basic.Deliver(tag, session.tags[channel], False, exchange, routing_key)
            session.send(channel, deliver)
            session.send_content(channel, body)


class Session(asyncio.Protocol):
    """One connection of the generator."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.tags: dict[int, int] = {}
        self._published: dict[int, int] = {}
        self._confirms: set[int] = set()
        self._buffer = b""
        self._publish: commands.Basic.Publish | None = None
        self._left = -1
        self._body = b""
        self._greeted = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.broker.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.broker.consumers = [entry for entry in self.broker.consumers if entry[0] is not self]

    def data_received(self, data: bytes) -> None:
        try:
            self._received(data)
        except Exception as wrong:
            self.broker.errors.append(wrong)
            self.transport.abort()

    def _received(self, data: bytes) -> None:
        self._buffer += data
        if not self._greeted:
            assert self._buffer.startswith(b"AMQP\x00\x00\x09\x01")
            self._greeted, self._buffer = True, self._buffer[8:]
            self.raw(1, 0, START)
        while len(self._buffer) >= 8:
            kind, channel, size = struct.unpack_from(">BHI", self._buffer)
            if len(self._buffer) < size + 8:
                return
            assert size + 8 <= self.broker.frame_max
            whole, self._buffer = self._buffer[: size + 8], self._buffer[size + 8 :]
            assert whole[-1] == 0xCE
            self._frame(kind, channel, whole)

    def raw(self, kind: int, channel: int, payload: bytes) -> None:
        self.transport.write(struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce")

    def send(self, channel: int, method: base.Frame) -> None:
        self.transport.write(frames.marshal(method, channel))

    def send_content(self, channel: int, body: bytes) -> None:
        self.raw(2, channel, struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 1))
        most = self.broker.frame_max - 8
        for start in range(0, len(body), most):
            self.raw(3, channel, body[start : start + most])

    def _frame(self, kind: int, channel: int, whole: bytes) -> None:
        if kind == 3:
            self._body += whole[7:-1]
            self._left -= len(whole) - 8
            if self._left == 0:
                self._message(channel)
            return
        method = frames.unmarshal(whole)[2]
        if kind == 1:
            assert isinstance(method, base.Frame)
            self.broker.methods.append(method)
            if not self.broker.intercept(self, channel, method):
                self._method(channel, method)
        elif kind == 2:
            self._left, self._body = struct.unpack_from(">Q", whole, 11)[0], b""
            assert isinstance(method, ContentHeader)
            self.broker.deliver_modes.add(method.properties.delivery_mode)
            if self._left == 0:
                self._message(channel)

    def _message(self, channel: int) -> None:
        publish, self._publish = self._publish, None
        if publish is None:
            # the test answered the publish; its content follows all the same
            return
        self.broker.bodies.append(self._body)
        exchange, routing_key = publish.exchange, publish.routing_key
        if self.broker.returning and publish.mandatory:
            self.send(channel, commands.Basic.Return(312, "NO_ROUTE", exchange, routing_key))
            self.send_content(channel, self._body)
        else:
            self.broker.deliver(exchange, routing_key, self._body)
        self._published[channel] = self._published.get(channel, 0) + 1
        if channel in self._confirms and self.broker.confirming:
            confirm = commands.Basic.Nack if self.broker.nacking else commands.Basic.Ack
            self.send(channel, confirm(self._published[channel], False))

    def _method(self, channel: int, method: base.Frame) -> None:
        if isinstance(method, commands.Basic.Publish):
            self._publish = method
        elif isinstance(method, commands.Basic.Ack):
            self.broker.acks.append((method.delivery_tag, method.multiple))
        elif isinstance(method, commands.Connection.StartOk):
            self.send(0, commands.Connection.Tune(2047, self.broker.frame_max, self.broker.heartbeat))
        elif isinstance(method, commands.Queue.Declare):
            name = (method.queue or "amq.gen-1").encode()
            # by hand: pamqp refuses to send some names that it reads
            self.raw(1, channel, b"\x00\x32\x00\x0b" + bytes((len(name),)) + name + bytes(8))
        elif isinstance(method, commands.Basic.Consume):
            self.broker.consumers.append((self, channel, method.consumer_tag))
            self.send(channel, commands.Basic.ConsumeOk(method.consumer_tag))
        elif isinstance(method, commands.Confirm.Select):
            self._confirms.add(channel)
            self.send(channel, commands.Confirm.SelectOk())
        elif method.name in PLAIN_REPLIES:
            self.send(channel, PLAIN_REPLIES[method.name]())
        else:
            assert method.name in SILENT, method.name


PLAIN_REPLIES: dict[str, Callable[[], base.Frame]] = {
    "Connection.Open": commands.Connection.OpenOk,
    "Connection.Close": commands.Connection.CloseOk,
    "Channel.Open": commands.Channel.OpenOk,
    "Channel.Close": commands.Channel.CloseOk,
    "Exchange.Declare": commands.Exchange.DeclareOk,
    "Queue.Bind": commands.Queue.BindOk,
    "Basic.Qos": commands.Basic.QosOk,
}
SILENT = {"Connection.TuneOk", "Connection.CloseOk", "Channel.CloseOk", "Channel.FlowOk"}


@asynccontextmanager
async def running_fake_broker() -> AsyncIterator[FakeBroker]:
    broker = FakeBroker()
    server = await asyncio.get_running_loop().create_server(lambda: Session(broker), "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        for session in broker.connections:
            session.transport.abort()
        await server.wait_closed()
    if broker.errors:
        raise broker.errors[0]

"""One connection to a broker: frames out as they are given, and everything that comes back, in order.

A close from the broker is answered at once, since what follows depends on it. Replies to the round trips that
only ask whether something is still on its way are counted and left out of what was heard.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from typing import Any, Final

from . import codec

DEADLINE: Final = 20.0
LONGEST_SHOWN: Final = 256
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
CAPABILITIES: Final = dict.fromkeys(
    (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ),
    True,
)
# what a client asks to learn that all before it has been seen: answered by both brokers, and changes nothing
ROUND_TRIP: Final = "channel.flow"


def shown(body: bytes) -> str:
    """A body, or what tells a long one from others."""
    if len(body) <= LONGEST_SHOWN:
        return codec.text_of(body)
    return f"{len(body)} octets, sha256 {hashlib.sha256(body).hexdigest()}"


class Heard:
    """Something that came: a method, with its content where it has one; or one of the player's own remarks."""

    def __init__(self, channel: int, name: str, values: list[Any]) -> None:
        self.channel = channel
        self.name = name
        self.values = values
        self.size = 0
        self.properties: list[list[Any]] | None = None
        self.body = b""

    def row(self, link: int) -> list[Any]:
        """As it is recorded: ["1.1", name, arguments] and, with content, properties and body."""
        row: list[Any] = [f"{link}.{self.channel}", self.name, self.values]
        if self.properties is not None:
            row += [self.properties, shown(self.body)]
        return row


class Confirms:
    """What became of the publishes of a channel in confirm mode; `fresh` is what is not yet written down."""

    def __init__(self) -> None:
        self.published = 0
        self.fates: dict[int, str] = {}
        self.fresh: dict[int, str] = {}
        self.given_up = False

    def note(self, fate: str, tag: int, *, multiple: bool) -> bool:
        """False if it says nothing new."""
        first = 1 if multiple else tag
        new = {number: fate for number in range(first, tag + 1) if number not in self.fates}
        self.fates |= new
        self.fresh |= new
        return bool(new)

    @property
    def owed(self) -> bool:
        return len(self.fates) < self.published and not self.given_up

    def row(self, place: str) -> list[Any]:
        fresh, self.fresh = self.fresh, {}
        return [place, "confirms", [[tag, fresh[tag]] for tag in sorted(fresh)]]


class Link(asyncio.Protocol):
    """`heard` is what came and was not yet taken; `channels` are those that are open."""

    def __init__(self) -> None:
        self.confirms: dict[int, Confirms] = {}
        self.heard: list[Heard] = []
        self.channels: set[int] = set()
        self.closed = False
        self.closing = False  # connection.close has been said, by either side
        self.ready = False  # connection.open-ok has come
        self.frame_max = 131072
        self.round_trips: dict[int, int] = {}
        self.owing: set[int] = set()  # channels that wait for what closes them
        self.transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._seen = 0
        self._content: dict[int, Heard] = {}
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._forget_all()
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            self._read_frames()
        except (codec.Malformed, struct.error) as error:
            self.heard.append(Heard(0, "malformed", [str(error)]))
            self.drop()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read_frames(self) -> None:
        while len(self._data) >= 7:
            if self._data[:4] == b"AMQP" and not self.ready:
                self.heard.append(Heard(0, "protocol-header", [list(self._data[4:8])]))
                del self._data[:8]
                continue
            kind, channel, size = struct.unpack_from(">BHI", self._data)
            if len(self._data) < size + 8:
                return
            payload, end = bytes(self._data[7 : 7 + size]), self._data[7 + size]
            if end != codec.FRAME_END:
                raise codec.Malformed(f"a frame ends with {end}")
            del self._data[: size + 8]
            self._frame(kind, channel, payload)

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == codec.HEARTBEAT:
            return
        if kind == codec.METHOD:
            name, values = codec.decode_method(payload)
            heard = Heard(channel, name, values)
            if channel in self._content:
                raise codec.Malformed(f"{name} in the middle of a content")
            if name in codec.WITH_CONTENT:
                self._content[channel] = heard
            else:
                self._method(heard)
            return
        if channel not in self._content:
            raise codec.Malformed(f"a frame of type {kind} without a method")
        heard = self._content[channel]
        if kind == codec.HEADER:
            heard.size, heard.properties = codec.decode_header(payload)
        else:
            heard.body += payload
        if len(heard.body) >= heard.size:
            if len(heard.body) > heard.size:
                raise codec.Malformed("a body longer than announced")
            del self._content[channel]
            confirms = self.confirms.get(channel)
            if heard.name == "basic.return" and confirms is not None and not confirms.owed:
                self.heard.append(Heard(channel, "return after its confirm", []))
            self.heard.append(heard)

    def _method(self, heard: Heard) -> None:
        channel = heard.channel
        if heard.name == f"{ROUND_TRIP}-ok" and self.round_trips.get(channel, 0) > 0:
            self.round_trips[channel] -= 1
            return
        confirms = self.confirms.get(channel)
        if confirms is not None and heard.name in ("basic.ack", "basic.nack"):
            tag, multiple = heard.values[:2]
            if confirms.note(heard.name.removeprefix("basic."), tag, multiple=multiple):
                return
            heard = Heard(channel, "confirmed again", heard.values)
        self.heard.append(heard)
        if heard.name == "channel.close":
            self._forget(channel)
            self.say(channel, "channel.close-ok")
        elif heard.name == "channel.close-ok":
            self._forget(channel)
        elif heard.name == "tx.commit-ok":
            self.owing.discard(channel)
        elif heard.name == "channel.open-ok":
            self.channels.add(channel)
        elif heard.name == "confirm.select-ok":
            self.select_confirms(channel)
        elif heard.name == "connection.close":
            self.closing = True
            self._forget_all()
            self.say(0, "connection.close-ok")
        elif heard.name == "connection.close-ok":
            self._forget_all()
        elif heard.name == "connection.open-ok":
            self.ready = True

    def _forget_all(self) -> None:
        for channel in {*self.channels, *self.round_trips, *self.confirms, *self.owing}:
            self._forget(channel)

    def _forget(self, channel: int) -> None:
        self.channels.discard(channel)
        self.round_trips.pop(channel, None)
        self.owing.discard(channel)
        confirms = self.confirms.get(channel)
        if confirms is not None:
            confirms.given_up = True  # nothing more will come, but what came is still to be written down

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.closed:
            self.transport.write(data)

    def say(self, channel: int, name: str, **arguments: Any) -> None:
        payload = codec.encode_method(name, arguments)
        self.write(codec.encode_frame(codec.METHOD, channel, payload))

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def ask(self, channel: int) -> None:
        """Begin a round trip on an open channel."""
        self.round_trips[channel] = self.round_trips.get(channel, 0) + 1
        self.say(channel, ROUND_TRIP, active=True)

    def select_confirms(self, channel: int) -> None:
        self.confirms.setdefault(channel, Confirms())

    @property
    def answered(self) -> bool:
        """Whether nothing is owed: every round trip has come back, or there is nobody left to answer."""
        if self.closed or self.closing:
            return self.closed
        return not any(self.round_trips.values()) and not self.owing

    async def wait(self, deadline: float) -> bool:
        """Until something comes; False if nothing does before the deadline (of the loop's clock)."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        try:
            await asyncio.wait_for(self._waiter, max(0.0, deadline - loop.time()))
        except TimeoutError:
            return False
        finally:
            self._waiter = None
        return True

    async def next(self, name: str) -> Heard | None:
        """The next that comes, if it has that name; otherwise None, once the broker has said all it will."""
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not self.fresh() and not self.closed:
            if not await self.wait(deadline):
                return None
        if self.closing:
            await self.settled()
        heard = self.heard[self._seen] if self.fresh() else None
        self._seen = len(self.heard)
        return heard if heard is not None and heard.name == name else None

    def fresh(self) -> bool:
        return len(self.heard) > self._seen

    async def ended(self) -> None:
        """Until the socket is closed, which `drop` asks for."""
        while not self.closed:
            await self.wait(asyncio.get_running_loop().time() + DEADLINE)

    async def settled(self) -> bool:
        """Until every round trip has been answered; False if the broker owes one for DEADLINE seconds."""
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while not self.answered:
            if not await self.wait(deadline) and not self.answered:
                return False
        return True

    def take(self) -> list[Heard]:
        heard, self.heard, self._seen = self.heard, [], 0
        return heard


async def dial(port: int) -> Link:
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(Link, "127.0.0.1", port)
    return link


async def version_of(port: int) -> str:
    """The product and version that a broker announces."""
    link = await dial(port)
    link.write(PROTOCOL_HEADER)
    start = await link.next("connection.start")
    link.drop()
    await link.ended()
    if start is None:
        return "no AMQP broker"
    properties = {key: value for key, _, value in start.values[2]}
    return f"{properties.get('product')} {properties.get('version')}"

"""A client that is cheaper than the broker it measures: frames in bulk over plain sockets.

Publishes go out as blocks of octets that were made before and are only numbered; deliveries are counted by their
length, as all of one queue are equally long, and looked at by columns: the n-th octet of every delivery of a read. A
message begins with its number: four octets that count blocks, one that counts messages within a block.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from tests.conversations import codec
from tests.conversations.codec import BODY, FRAME_END, HEADER, METHOD, Frame

PATIENCE: Final = 120.0
ACK_FRAME: Final = 21
ACK: Final = struct.pack(">HH", 60, 80)
NUMBER: Final = 5
# Read at once.
READ: Final = 1 << 20
LOOK_SECONDS: Final = 0.05

Look = Callable[[], None]


def method(name: str, **arguments: Any) -> bytes:
    return Frame(METHOD, 1, codec.encode_method(name, arguments)).encoded()


def publish(exchange: str, routing_key: str, body: bytes, properties: dict[str, Any]) -> bytes:
    """The three frames of a message whose body fits into one."""
    return (
        method("basic.publish", exchange=exchange, routing_key=routing_key)
        + Frame(HEADER, 1, codec.encode_header(len(body), properties)).encoded()
        + Frame(BODY, 1, body).encoded()
    )


class Block:
    """Publishes that are sent together, equally long, each numbered within the block."""

    def __init__(self, publishes: Sequence[bytes], body: int) -> None:
        self.count = len(publishes)
        self._unit = len(publishes[0])
        assert all(len(each) == self._unit for each in publishes), "messages of one block are equally long"
        self._data = bytearray(b"".join(publishes))
        self._number = self._unit - 1 - body
        self._set(4, bytes(at & 255 for at in range(self.count)))

    def _set(self, octet: int, column: bytes) -> None:
        self._data[self._number + octet :: self._unit] = column

    def numbered(self, number: int) -> bytearray:
        """The block as it is sent the `number`-th time; valid until it is numbered again."""
        for octet, value in enumerate(struct.pack(">I", number)):
            self._set(octet, bytes([value]) * self.count)
        return self._data


class Wire:
    """A connection as guest with channel 1 open. `look` is called about every LOOK_SECONDS while it is busy."""

    def __init__(self, port: int, look: Look) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._look = look
        self._looked = 0.0
        self._published = 0
        self._confirmed = 0
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.receive()
        self._call_zero("connection.start-ok", mechanism="PLAIN", response="\0guest\0guest", locale="en_US")
        self._send_zero("connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
        self._call_zero("connection.open", virtual_host="/")
        self.call("channel.open")

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def _send_zero(self, name: str, **arguments: Any) -> None:
        self._socket.sendall(Frame(METHOD, 0, codec.encode_method(name, arguments)).encoded())

    def _call_zero(self, name: str, **arguments: Any) -> None:
        self._send_zero(name, **arguments)
        self.receive()

    def send(self, data: bytes | bytearray) -> None:
        self._socket.sendall(data)

    def tell(self, name: str, **arguments: Any) -> None:
        self._socket.sendall(method(name, **arguments))

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Say it and return the answer's arguments; the answer must be the next frame, and of the same kind."""
        self.tell(name, **arguments)
        answer, found = self.receive()
        assert answer == f"{name}-ok", f"{answer} {found} after {name}"
        return found

    def receive(self) -> tuple[str, dict[str, Any]]:
        """The next frame, which must be a method."""
        kind, payload = self._frame()
        assert kind == METHOD, f"a frame of type {kind}"
        return codec.decode_method(payload)

    def _frame(self) -> tuple[int, bytes]:
        kind, _channel, size = struct.unpack(">BHI", self._peek(7)[:7])
        whole = bytes(self._peek(8 + size)[: 8 + size])
        assert whole[-1] == FRAME_END, whole[:20]
        del self._received[: len(whole)]
        return kind, whole[7:-1]

    def _peek(self, count: int) -> bytearray:
        while len(self._received) < count:
            self._received += self._some()
        return self._received

    def _some(self, patience: float = PATIENCE) -> bytes:
        """What has come, looking around while nothing comes. Raises TimeoutError after `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            now = time.monotonic()
            if now - self._looked > LOOK_SECONDS:
                self._looked = now
                self._look()
            if select.select([self], [], [], LOOK_SECONDS)[0]:
                break
            if now > deadline:
                raise TimeoutError(f"the broker said nothing for {patience} s")
        data = self._socket.recv(READ)
        if not data:
            raise ConnectionError("the broker closed the connection")
        return data

    # -- publishing

    def fill(self, numbered: Iterable[tuple[Block, int]], window: int) -> list[tuple[float, int]]:
        """Publish blocks with at most `window` messages unconfirmed; when how many were confirmed.

        The channel is in confirm mode from now on. All are confirmed when it returns.
        """
        if not self._published:
            self.call("confirm.select")
        times: list[tuple[float, int]] = [(time.monotonic(), 0)]
        before = self._confirmed
        for block, number in numbered:
            self._socket.sendall(block.numbered(number))
            self._published += block.count
            if self._published - self._confirmed >= window:
                self._take_confirms(self._published - window + block.count)
                times.append((time.monotonic(), self._confirmed - before))
        self._take_confirms(self._published)
        times.append((time.monotonic(), self._confirmed - before))
        return times

    def _take_confirms(self, until: int) -> None:
        """Read confirms until that many were confirmed. They come in order, so the last one tells."""
        while self._confirmed < until:
            self._peek(ACK_FRAME)
            whole = len(self._received) // ACK_FRAME * ACK_FRAME
            last = self._received[whole - ACK_FRAME : whole]
            assert last[7:11] == ACK and last[-1] == FRAME_END, f"not a confirm: {bytes(last)!r}"
            (self._confirmed,) = struct.unpack(">Q", last[11:19])
            del self._received[:whole]

    # -- consuming

    def reader(self) -> Deliveries:
        return Deliveries(self)

    def ready(self, queue: str) -> int:
        """How many messages wait; nothing else may be on its way on this connection."""
        count: int = self.call("queue.declare", queue=queue, passive=True)["message_count"]
        return count


class Chunk(NamedTuple):
    """Some deliveries, one behind the other, each `unit` octets long; the message's body is the end of it."""

    data: memoryview
    unit: int
    body: int

    @property
    def size(self) -> int:
        return len(self.data) // self.unit

    def column(self, octet: int) -> bytes:
        """An octet of every message's body."""
        return bytes(self.data[self.unit - 1 - self.body + octet :: self.unit])

    def messages(self) -> Iterable[tuple[bytes, int]]:
        """Each message's consumer tag, of six octets, and its number."""
        data, unit = bytes(self.data), self.unit
        at_body, unpack = unit - 1 - self.body, struct.Struct(">I").unpack_from
        for at in range(0, len(data), unit):
            yield data[at + 12 : at + 18], unpack(data, at + at_body)[0]


class Deliveries:
    """What one connection is delivered from now on. All deliveries must be equally long."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._unit = 0
        self._body = 0
        self.taken = 0

    def _learn(self) -> None:
        """Find out from the first delivery how long one is: a method, a header and one body frame."""
        wire, at = self._wire, 0
        for kind in (METHOD, HEADER, BODY):
            head = wire._peek(at + 7)[at : at + 7]
            found, _channel, size = struct.unpack(">BHI", head)
            assert found == kind, f"no delivery: {bytes(wire._received[:100])!r}"
            at += 8 + size
        self._unit, self._body = at, size

    def next(self) -> Chunk:
        """The whole deliveries that have come, at least one, not acknowledged. The last chunk is gone then."""
        wire = self._wire
        if not self._unit:
            self._learn()
        data = wire._peek(self._unit)
        whole = len(data) // self._unit * self._unit
        chunk = Chunk(memoryview(bytes(data[:whole])), self._unit, self._body)
        del data[:whole]
        frames = chunk.size
        assert chunk.data[:: self._unit] == b"\x01" * frames, "deliveries of different lengths"
        assert chunk.data[self._unit - 1 :: self._unit] == b"\xce" * frames, "deliveries of different lengths"
        self.taken += frames
        return chunk

    def acknowledge(self) -> None:
        """All that were taken."""
        self._wire.tell("basic.ack", delivery_tag=self.taken, multiple=True)

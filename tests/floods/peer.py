"""A client that has lost its manners: sends as fast as the broker takes it, and reads without looking.

`Peer` opens a connection as guest with channel 1 and does ordinary calls while a flood is prepared; after that `send`
and `read_on` only move octets. It judges nothing of what comes.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from types import TracebackType
from typing import Any, Final, Self

from tests.conversations import codec
from tests.conversations.codec import BODY, FRAME_END, HEADER, METHOD, Frame

PATIENCE: Final = 60.0
FRAME_MAX: Final = 131072
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
READ: Final = 1 << 18
# How long nothing must have come for `read_on` to believe that nothing more will.
QUIET: Final = 0.01


def method(name: str, channel: int = 1, **arguments: Any) -> bytes:
    return Frame(METHOD, channel, codec.encode_method(name, arguments)).encoded()


def header(size: int, properties: dict[str, Any] | None = None, channel: int = 1) -> bytes:
    return Frame(HEADER, channel, codec.encode_header(size, properties or {})).encoded()


def body(data: bytes, channel: int = 1) -> bytes:
    return Frame(BODY, channel, data).encoded()


def publish(
    exchange: str, routing_key: str, data: bytes = b"", properties: dict[str, Any] | None = None
) -> bytes:
    said = method("basic.publish", exchange=exchange, routing_key=routing_key)
    return said + header(len(data), properties) + (body(data) if data else b"")


def start_ok(response: bytes = b"\0guest\0guest") -> bytes:
    return method("connection.start-ok", 0, mechanism="PLAIN", response=response, locale="en_US")


def opening() -> bytes:
    """All that a client has to say until channel 1 is open, at once."""
    tune_ok = method("connection.tune-ok", 0, channel_max=2047, frame_max=FRAME_MAX, heartbeat=0)
    opened = method("connection.open", 0, virtual_host="/") + method("channel.open")
    return PROTOCOL_HEADER + start_ok() + tune_ok + opened


class Peer:
    """One connection of a flood. received: octets that came since the preparations. deadline: when to stop."""

    def __init__(self, port: int, deadline: float = float("inf")) -> None:
        self.port = port
        self.deadline = deadline
        self.received = 0
        self.sent = 0
        self._data = bytearray()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(opening())
        while self._next()[0] != "channel.open-ok":
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Go at once: what the broker has not read yet is not to be read any more."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline

    # -- while a flood is prepared

    def call(self, name: str, channel: int = 1, **arguments: Any) -> dict[str, Any]:
        """Say it and wait for its answer, passing over whatever else comes. Raises AssertionError for a close."""
        self._socket.sendall(method(name, channel, **arguments))
        return self.answer(f"{name}-ok")

    def answer(self, name: str) -> dict[str, Any]:
        while True:
            said, found = self._next()
            assert said not in ("channel.close", "connection.close"), found
            if said == name:
                return found

    def tell_all(self, frames: list[bytes]) -> None:
        """Say many things that have no answer (`nowait`), then wait until they are done."""
        self._socket.setblocking(True)
        self._socket.sendall(b"".join(frames))
        self.call("channel.flow", active=True)

    def _next(self) -> tuple[str, dict[str, Any]]:
        while True:
            kind, _channel, size = struct.unpack(">BHI", self._take(7))
            payload = self._take(size + 1)
            assert payload[-1] == FRAME_END
            if kind == METHOD:
                return codec.decode_method(payload[:-1])

    def _take(self, count: int) -> bytes:
        while len(self._data) < count:
            piece = self._socket.recv(READ)
            assert piece, "the broker closed the connection"
            self._data += piece
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    # -- while it goes on

    def send(self, data: bytes) -> None:
        """All of it unless time is up, reading what comes meanwhile. Raises OSError when the broker has closed."""
        self._socket.setblocking(False)
        rest = memoryview(data)
        while rest and not self.over:
            readable, writable, _ = select.select([self._socket], [self._socket], [], 0.05)
            if readable:
                self._read()
            if writable:
                count = self._socket.send(rest)
                self.sent += count
                rest = rest[count:]

    def send_unread(self, data: bytes) -> None:
        """As `send`, but read nothing."""
        self._socket.setblocking(False)
        rest = memoryview(data)
        while rest and not self.over:
            if select.select([], [self._socket], [], 0.05)[1]:
                count = self._socket.send(rest)
                self.sent += count
                rest = rest[count:]

    def read_on(self) -> None:
        """Read until nothing comes any more."""
        self._socket.setblocking(False)
        while not self.over and select.select([self._socket], [], [], QUIET)[0]:
            self._read()

    def _read(self) -> None:
        piece = self._socket.recv(READ)
        if not piece:
            raise ConnectionError("the broker closed the connection")
        self.received += len(piece)

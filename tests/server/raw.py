"""A few frames by hand, for tests that must see a content header as the bytes on the wire.

Clients decode a header and lose how it was encoded: widths of integers, order, the difference between an
absent and an empty table. This one publishes and gets whole header payloads, and knows nothing else.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Final, Self

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END: Final = b"\xce"
FRAME_MAX: Final = 131072


def short_string(text: str) -> bytes:
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded


def long_string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def content_header(body_size: int, flags: int, properties: bytes) -> bytes:
    """The payload of a content header frame of class basic."""
    return struct.pack(">HHQH", 60, 0, body_size, flags) + properties


class RawChannel:
    """One connection as guest with channel 1 open in confirm mode. Use it in a `with` block."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._received = b""
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        start_ok = (
            long_string(b"")
            + short_string("PLAIN")
            + long_string(b"\x00guest\x00guest")
            + short_string("en_US")
        )
        self.send_method(0, 10, 11, start_ok)
        self.expect(10, 30)
        self.send_method(0, 10, 31, struct.pack(">HIH", 2047, FRAME_MAX, 0))
        self.send_method(0, 10, 40, short_string("/") + b"\x00\x00")
        self.expect(10, 41)
        self.send_method(1, 20, 10, b"\x00")
        self.expect(20, 11)
        self.send_method(1, 85, 10, b"\x00")
        self.expect(85, 11)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send_frame(self, kind: int, channel: int, payload: bytes) -> None:
        self._socket.sendall(struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END)

    def send_method(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> None:
        self.send_frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            piece = self._socket.recv(262144)
            assert piece, "the broker closed the connection"
            self._received += piece
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def receive_frame(self) -> tuple[int, bytes]:
        kind, _channel, size = struct.unpack(">BHI", self._take(7))
        payload = self._take(size + 1)
        assert payload[-1:] == FRAME_END
        return (kind, payload[:-1]) if kind != HEARTBEAT else self.receive_frame()

    def expect(self, class_id: int, method_id: int) -> bytes:
        """The arguments of the next frame, which must be that method."""
        kind, payload = self.receive_frame()
        assert (kind, struct.unpack(">HH", payload[:4])) == (METHOD, (class_id, method_id)), payload
        return payload[4:]

    def publish(self, queue: str, header: bytes, body: bytes) -> None:
        """Publish to a queue by the default exchange and wait for the confirm."""
        self.send_method(1, 60, 40, b"\x00\x00" + short_string("") + short_string(queue) + b"\x00")
        self.send_frame(HEADER, 1, header)
        for start in range(0, len(body), FRAME_MAX - 8):
            self.send_frame(BODY, 1, body[start : start + FRAME_MAX - 8])
        self.expect(60, 80)

    def get(self, queue: str) -> tuple[bytes, bytes]:
        """The header payload and the body of the next message of a queue, acknowledged."""
        self.send_method(1, 60, 70, b"\x00\x00" + short_string(queue) + b"\x01")
        self.expect(60, 71)
        kind, header = self.receive_frame()
        assert kind == HEADER
        (size,) = struct.unpack(">Q", header[4:12])
        body = b""
        while len(body) < size:
            kind, piece = self.receive_frame()
            assert kind == BODY
            body += piece
        return header, body

"""A relay between a client and the broker: counts for what a client cannot do or see by itself.

It passes octets both ways, can fall silent while both connections stay open (a peer that was stopped), notices when
the broker gives up on its side, and compares the content headers that went in with those that came out. It looks at
frames only to find those headers, and changes nothing.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Final

HEADER_FRAME: Final = 2
PROTOCOL_HEADER_SIZE: Final = 8
FRAME_OVERHEAD: Final = 8
PIECE: Final = 65536


def content_headers(octets: bytes, *, from_client: bool) -> list[bytes]:
    """The payloads of the content header frames in a stream, in order; a client's begins with the protocol header."""
    found, at = [], PROTOCOL_HEADER_SIZE if from_client else 0
    while at + FRAME_OVERHEAD <= len(octets):
        kind, _, size = struct.unpack_from(">BHI", octets, at)
        end = at + size + FRAME_OVERHEAD
        if kind == HEADER_FRAME and end <= len(octets):
            found.append(octets[at + 7 : end - 1])
        at = end
    return found


class Relay:
    """port: where it listens on 127.0.0.1. Connections to it are passed on to `target` until `close`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._dropped = threading.Event()
        self._sent: list[bytearray] = []
        self._received: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, broker]
                for from_client, source, sink in ((True, client, broker), (False, broker, client)):
                    seen = bytearray()
                    (self._sent if from_client else self._received).append(seen)
                    arguments = (from_client, source, sink, seen)
                    threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(
        self, from_client: bool, source: socket.socket, sink: socket.socket, seen: bytearray
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                if self._flowing.is_set():
                    seen += piece
                    sink.sendall(piece)
        if self._flowing.is_set():
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
        elif not from_client:
            self._dropped.set()

    def freeze(self) -> None:
        """From now on nothing passes, and neither side is told."""
        self._flowing.clear()

    def wait_dropped(self, seconds: float) -> bool:
        """Whether the broker closes a frozen connection within that time."""
        return self._dropped.wait(seconds)

    def compare_headers(self) -> tuple[int, str]:
        """How many content headers the client sent, and the first that did not come back the same ("" if none)."""
        sent = [
            header for stream in self._sent for header in content_headers(bytes(stream), from_client=True)
        ]
        received = [
            header
            for stream in self._received
            for header in content_headers(bytes(stream), from_client=False)
        ]
        for before, after in zip(sent, received, strict=False):
            if before != after:
                return len(sent), f"sent {before.hex()} received {after.hex()}"
        if len(sent) != len(received):
            return len(sent), f"{len(sent)} sent, {len(received)} received"
        return len(sent), ""

    def close(self) -> None:
        # A thread in accept() keeps the listener open until it is shut down.
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

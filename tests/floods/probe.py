"""A well-behaved client beside a flood: how long its messages take from publish to delivery.

It publishes at a steady pace whatever becomes of the earlier messages, so that a broker that stands still for a while
is charged with all messages of that while, as its users would.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.conversations.codec import decode_method
from tests.floods.peer import FRAME_MAX, PROTOCOL_HEADER, body, header, method, start_ok

PACE: Final = 0.004
SIZE: Final = 100
PATIENCE: Final = 30.0
QUEUE: Final = "probe"


class Latencies(NamedTuple):
    """Milliseconds; count: of messages delivered. lost: messages that did not come."""

    count: int
    lost: int
    p50: float
    p99: float
    longest: float


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Probe:
    """Runs in a thread between `start` and `stop`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()
        tune_ok = method("connection.tune-ok", 0, channel_max=10, frame_max=FRAME_MAX, heartbeat=0)
        said = start_ok() + tune_ok + method("connection.open", 0, virtual_host="/") + method("channel.open")
        said += method("queue.declare", queue=QUEUE, exclusive=True)
        said += method("basic.consume", queue=QUEUE, no_ack=True)
        self._socket.sendall(PROTOCOL_HEADER + said)
        self._await("basic.consume-ok")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiting: dict[int, float] = {}
        self._took: list[float] = []
        self._failure: OSError | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def start(self) -> None:
        self._waiting, self._took = {}, []
        self._ending.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ended(self) -> bool:
        """Whether it has ended by itself, which takes a failure; waits for that."""
        assert self._thread is not None
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()

    def stop(self) -> Latencies:
        """Raises OSError if the broker has closed the connection, AssertionError if it changed a message."""
        self._ending.set()
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            raise self._failure
        took = sorted(value * 1000 for value in self._took)
        longest = took[-1] if took else float("nan")
        return Latencies(
            len(took), len(self._waiting), percentile(took, 0.5), percentile(took, 0.99), longest
        )

    def _run(self) -> None:
        try:
            self._measure()
        except OSError as error:
            self._failure = error

    def _measure(self) -> None:
        due, ending = time.monotonic(), False
        # A last time after the end, which may come before this thread has begun.
        while not ending:
            ending = self._ending.is_set()
            now = time.monotonic()
            if now >= due:
                self._publish(now)
                # What this process was late with is not the broker's fault.
                due = max(due + PACE, now)
            if select.select([self._socket], [], [], max(0.0, due - now))[0]:
                self._take()
        deadline = time.monotonic() + PATIENCE
        while self._waiting and time.monotonic() < deadline:
            if select.select([self._socket], [], [], 0.1)[0]:
                self._take()

    def _publish(self, now: float) -> None:
        self._number += 1
        data = struct.pack(">Q", self._number).ljust(SIZE, b"x")
        self._waiting[self._number] = now
        self._socket.sendall(method("basic.publish", routing_key=QUEUE) + header(SIZE) + body(data))

    def _take(self) -> None:
        self._data += self._receive()
        now = time.monotonic()
        while True:
            frame = self._frame()
            if frame is None:
                return
            if frame[0] == 3:
                number = struct.unpack(">Q", frame[1][:8])[0]
                self._took.append(now - self._waiting.pop(number))

    def _receive(self) -> bytes:
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionError("the broker closed a connection that did nothing wrong")
        return piece

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._data) < 7:
            return None
        kind, _channel, size = struct.unpack(">BHI", self._data[:7])
        if len(self._data) < size + 8:
            return None
        payload = bytes(self._data[7 : 7 + size])
        del self._data[: size + 8]
        return kind, payload

    def _await(self, name: str) -> None:
        """Read on until the broker has said this method."""
        while True:
            frame = self._frame()
            if frame is None:
                self._data += self._receive()
            elif decode_method(frame[1])[0] == name:
                return

"""A client's socket without a socket: both its ends in one test function, and nothing that waits.

The broker's end is a transport as asyncio would hand it to a `Client`: it is full when the peer does not read, and
can be told not to read. The other end is what a conversation's client wants. `Service` is a server that neither
listens nor keeps time: a read is a turn, as ever, and alarms are looked at when the test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import anyio

from amqp_broker.config import Config, Data, Listeners
from amqp_broker.server.behind import Behind
from amqp_broker.server.client import Client
from amqp_broker.server.server import Server
from amqp_broker.session.connection import Connection
from amqp_broker.session.settings import SessionSettings
from tests.conversations.client import Client as Conversation


class Service(Server):
    """Its clients are `Line`s. It commits nothing, so nothing durable may be done."""

    def __init__(self, directory: Path) -> None:
        # The tests run turns without an event loop, so there is none to stay awake.
        super().__init__(
            Config(data=Data(directory=directory, writer="thread"), listeners=Listeners(busy_wait=0))
        )
        # Nor is there one to go on later with what was too much for a turn.
        self.session_settings.turn_time = float("inf")
        self.behind = Behind(lambda call: call())
        anyio.run(self.open)

    @property
    def session_settings(self) -> SessionSettings:
        return self._settings

    def dial(self) -> Line:
        return Line(self._new_client())

    def raise_alarm(self) -> None:
        self._watch.disk_limit = 1 << 62
        self._check_alarms()

    def clear_alarm(self) -> None:
        self._watch.disk_limit = 0
        self._check_alarms()
        self._commits.finish_turn()


class SocketOptions:
    """Stands for the socket, which is asked for nothing but options and its number."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int | bytes]] = []

    def fileno(self) -> int:
        return 3

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self.options.append((level, option, value))


class BrokersEnd(asyncio.Transport):
    """unsent: what was written and the peer has not read. reading: whether the broker wants octets."""

    def __init__(self, protocol: Client) -> None:
        self.socket = SocketOptions()
        names = {"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 5672)}
        super().__init__({**names, "socket": self.socket})
        self.unsent = bytearray()
        self.reading = True
        self.closing = False
        self._protocol = protocol
        self._high = self._low = 0
        self._full = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high, self._low = high or 0, low or 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unsent += data
        if len(self.unsent) > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def take(self) -> bytes:
        """The peer reads all there is."""
        taken = bytes(self.unsent)
        self.unsent.clear()
        if self._full:
            self._full = False
            self._protocol.resume_writing()
        return taken

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Line:
    """A client at the broker's end, and the transport of a conversation at the other; `open` begins one."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.transport = BrokersEnd(client)
        self._arriving = b""
        client.connection_made(self.transport)

    @property
    def connection(self) -> Connection:
        return self.client.connection

    @property
    def unread(self) -> bool:
        """Whether octets wait that the broker does not read."""
        return bool(self._arriving)

    @property
    def unsent(self) -> int:
        """How many octets the broker holds for a peer that does not read."""
        return len(self.transport.unsent) + self.connection.output_size

    def open(self) -> Conversation:
        return Conversation(self).handshake()

    def send(self, data: bytes) -> None:
        self._arriving += data
        self._run()

    def receive(self, deadline: float) -> bytes:
        self._run()
        taken = self.transport.take()
        if not taken and not self.transport.closing:
            raise TimeoutError
        return taken

    def close(self) -> None:
        self.transport.closing = True
        self.client.connection_lost(None)

    def _run(self) -> None:
        """The broker reads what has arrived, unless it does not want to."""
        while self._arriving and self.transport.reading and not self.transport.closing:
            buffer = memoryview(self.client.get_buffer(-1))
            count = min(len(buffer), len(self._arriving))
            buffer[:count] = self._arriving[:count]
            self._arriving = self._arriving[count:]
            self.client.buffer_updated(count)

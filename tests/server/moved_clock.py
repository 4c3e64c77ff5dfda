"""A clock that stands still until a test moves it, and a whole broker that goes by it.

`MovedBroker` is the broker itself, in a thread of the test's process: real sockets, a data directory, the store's
writer. Only its time is not real: `advance` runs everything that falls due on the way, in order, each at its time,
and takes milliseconds for days. What a client sent counts as sent when the broker has answered it or something after
it: make a round trip before time goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final, TypeVar

import pika
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from amqp_broker.config import Config, Data, Limits, Listeners
from amqp_broker.config.values import Address
from amqp_broker.server.clock import NANOSECONDS, ServerClock
from amqp_broker.server.server import SHUTDOWN_PATIENCE, Server
from amqp_broker.session.connection import Connection
from tests.conversations.client import Client, TcpTransport, eventually
from tests.server.target import RunningBroker

Value = TypeVar("Value")

SECOND: Final = 1.0
MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0
# The first of January 2030, nanoseconds.
START: Final = 1_893_456_000 * NANOSECONDS
# How often at most somebody who sleeps again and again is woken on the way of one `advance`.
STOPS: Final = 200


class Entry:
    """What is to be called, and when; None once it was cancelled or called."""

    def __init__(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self._arguments = arguments

    def cancel(self) -> None:
        self.callback = None

    def run(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback(*self._arguments)


class MovedClock(ServerClock):
    """awake: nanoseconds that were advanced. Used from one event loop, as any clock of a broker."""

    def __init__(self) -> None:
        self.awake = 0
        self._asleep = 0
        self._set_by = 0
        self._entries: list[tuple[int, int, Entry]] = []
        self._number = 0
        self._target = 0
        self._stride = 0

    # -- what the broker asks

    def wall_ns(self) -> int:
        return START + self.elapsed_ns() + self._set_by

    def elapsed_ns(self) -> int:
        return self.awake + self._asleep

    def monotonic(self) -> float:
        return self.awake / NANOSECONDS

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Entry:
        entry = Entry(callback, arguments)
        if delay <= 0:
            asyncio.get_running_loop().call_soon(entry.run)
        else:
            self._add(self.awake + round(delay * NANOSECONDS), entry)
        return entry

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        least = min(self._stride, self._target - self.awake)
        self._add(self.awake + max(round(seconds * NANOSECONDS), least), Entry(_wake, (woken,)))
        await woken

    # -- what a test does

    async def advance(self, seconds: float) -> None:
        """Let time pass. Whoever sleeps for less than a 200th of it may be woken late, but not after its end."""
        length = round(seconds * NANOSECONDS)
        self._stride, self._target = length // STOPS, self.awake + length
        while self._entries and self._entries[0][0] <= self._target:
            when, _, entry = heappop(self._entries)
            if entry.callback is not None:
                self.awake = max(self.awake, when)
                entry.run()
                await _let_the_loop_run()
        self.awake = self._target

    def sleep_machine(self, seconds: float) -> None:
        """The machine slept: wall clocks went on, and nothing ran."""
        self._asleep += round(seconds * NANOSECONDS)

    def set_wall(self, by: float) -> None:
        """Somebody sets the wall clock by so many seconds, forward or back."""
        self._set_by += round(by * NANOSECONDS)

    def forget_all(self) -> None:
        """Call nobody any more: the event loop has ended."""
        self._entries.clear()

    def _add(self, when: int, entry: Entry) -> None:
        self._number += 1
        heappush(self._entries, (when, self._number, entry))


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


async def _let_the_loop_run() -> None:
    """Who was woken runs until it sleeps again, and what sockets have brought is read."""
    for _ in range(3):
        await asyncio.sleep(0)


class Wire(TcpTransport):
    """own_address: by which the broker's sessions are told apart."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.own_address = "{}:{} ".format(*self._socket.getsockname())


class MovedBroker(RunningBroker):
    """clock: the broker's, moved by `advance`. server: to look at; it runs in a thread of its own."""

    def __init__(self, directory: Path, clock: MovedClock | None = None, **limits: Any) -> None:
        self.clock = clock or MovedClock()
        self.directory = directory
        # Days may pass before a client acknowledges.
        self._limits = Limits(**({"consumer_timeout": 0} | limits))
        self._dialled: list[Client] = []
        self._connected: list[pika.BlockingConnection] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[MovedBroker]:
        """From its start to its end in good order."""
        with start_blocking_portal("asyncio") as self._portal:
            ended: Future[None]
            ended, self.server = self._portal.start_task(self._serve)
            super().__init__(int(self.server.addresses[0].rpartition(":")[2]))
            try:
                yield self
            finally:
                self._hang_up()
                self._portal.call(self.server.stop)
                while not wait([ended], 0.01).done:
                    self.advance(SHUTDOWN_PATIENCE)
                self.clock.forget_all()
                ended.result()

    async def _serve(self, *, task_status: TaskStatus[Server]) -> None:
        config = Config(
            data=Data(directory=self.directory, writer="thread"),
            # It would stay awake for a time that does not pass.
            listeners=Listeners(tcp=(Address("127.0.0.1", 0),), busy_wait=0),
            limits=self._limits,
        )
        server = Server(config, self.clock)
        try:
            await server.bind()
            await server.open()
            await server.listen()
            task_status.started(server)
            await server.run()
        finally:
            await server.close()

    def advance(self, seconds: float) -> None:
        self._portal.call(self.clock.advance, seconds)

    def look(self, at: Callable[[Server], Value]) -> Value:
        """Something of the server, between two turns."""
        return self._portal.call(at, self.server)

    def dial(self, **tune: int) -> Client:
        """A client that does nothing by itself; without heartbeats unless it is told."""
        return self.dial_silently().handshake(**({"heartbeat": 0} | tune))

    def dial_silently(self) -> Client:
        """One that has not even said hello."""
        self._dialled.append(Client(Wire(self.port)))
        return self._dialled[-1]

    def connect(self, **changes: object) -> pika.BlockingConnection:
        self._connected.append(super().connect(**changes))
        return self._connected[-1]

    def _hang_up(self) -> None:
        for client in self._dialled:
            client.drop()
        for connection in self._connected:
            if connection.is_open:
                connection.close()

    def parameters(self, **changes: object) -> Any:
        # Days may pass without a word of a client that knows nothing of this broker's time.
        return super().parameters(**({"heartbeat": 0} | changes))

    def has_heard(self, client: Client) -> None:
        """Wait until the broker has read what this client has just sent."""
        now, name = self.clock.monotonic(), _own_address(client)

        def last_received(server: Server) -> float:
            (session,) = [each for each in _sessions(server) if each.name.startswith(name)]
            return session.last_received

        eventually(lambda: self.look(last_received), now)


def _sessions(server: Server) -> list[Connection]:
    return [client.connection for client in server.clients]


def _own_address(client: Client) -> str:
    assert isinstance(client.transport, Wire)
    return client.transport.own_address

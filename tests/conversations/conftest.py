"""Which broker the conversations are held with, and the things every test asks for.

AMQP_TEST_PORT names a broker that already runs (a real RabbitMQ, to check the tests themselves); without it
our own is started as a program, once a run, on a free port and a data directory of its own.
`interop/rabbitmq.py` starts a RabbitMQ.
"""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from .client import Channel, Client, TcpTransport, Transport

Expectation = TypeVar("Expectation")
Connect = Callable[..., Client]


class Names:
    """Names of queues and exchanges that no other test uses; what bears them is deleted after the test.

    On a broker of our own they are the same in each run: where a hash sends messages depends on them.
    """

    _numbers = itertools.count(1)
    _run = secrets.token_hex(3) if "AMQP_TEST_PORT" in os.environ else "0"

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.exchanges: list[str] = []

    def queue(self, stem: str = "q") -> str:
        self.queues.append(f"{stem}-{self._run}-{next(self._numbers)}")
        return self.queues[-1]

    def exchange(self, stem: str = "x") -> str:
        self.exchanges.append(f"{stem}-{self._run}-{next(self._numbers)}")
        return self.exchanges[-1]

    def clear(self, client: Client) -> None:
        channel = client.channel(1)
        for method, names in (("queue.delete", self.queues), ("exchange.delete", self.exchanges)):
            for name in names:
                channel.send(method, **{method.split(".")[0]: name})
                if (
                    channel.receive().name == "channel.close"
                ):  # somebody's exclusive queue, which goes with its owner
                    channel.send("channel.close-ok")
                    channel.open()
        channel.close()


@pytest.fixture(scope="session")
def broker_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    given = os.environ.get("AMQP_TEST_PORT")
    if given:
        yield int(given)
        return
    data = tmp_path_factory.mktemp("data")
    errors = data.with_suffix(".err")
    command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(data)]
    with (
        errors.open("wb") as sink,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, text=True) as broker,
    ):
        assert broker.stdout is not None
        line = broker.stdout.readline()
        ports = [word.rstrip(",;.)").rpartition(":")[2] for word in line.split() if "127.0.0.1:" in word]
        assert ports, f"no address in {line!r}; {errors.read_text()}"
        try:
            yield int(ports[0])
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait(20)


@pytest.fixture(scope="session")
def transport(broker_port: int) -> Callable[[], Transport]:
    """A new connection's octets, nothing said on it yet."""
    return lambda: TcpTransport(broker_port)


@pytest.fixture(scope="session")
def on_rabbitmq(transport: Callable[[], Transport]) -> bool:
    """Whether the broker is a real RabbitMQ: ours names itself among its server properties."""
    client = Client(transport())
    client.log_in()
    client.drop()
    said = " ".join(
        f"{key} {value.value}" for key, value in client.start["server_properties"].items()
    ).lower()
    return "amqp-broker" not in said and "amqp_broker" not in said


@pytest.fixture(scope="session")
def differs_from_rabbitmq(on_rabbitmq: bool) -> Callable[..., Any]:
    """`differs_from_rabbitmq("why", rabbitmq=this, ours=that)`: the one that applies to the broker being
    tested.
    """

    def choose(why: str, *, rabbitmq: Expectation, ours: Expectation) -> Expectation:
        assert why, "a difference has a reason"
        return rabbitmq if on_rabbitmq else ours

    return choose


@pytest.fixture(scope="session")
def janitor(transport: Callable[[], Transport]) -> Iterator[Client]:
    client = Client(transport()).handshake(heartbeat=0)
    yield client
    client.close()


@pytest.fixture
def names(janitor: Client) -> Iterator[Names]:
    names = Names()
    yield names
    if names.queues or names.exchanges:
        names.clear(janitor)


@pytest.fixture(scope="module")
def farewells() -> Iterator[list[Client]]:
    """Connections told to close, whose sockets RabbitMQ leaves open for seconds: looked at together, when
    the tests are done.
    """
    leaving: list[Client] = []
    yield leaving
    for client in leaving:
        client.is_closed()
        client.drop()


@pytest.fixture
def dial(names: Names, transport: Callable[[], Transport], farewells: list[Client]) -> Iterator[Connect]:
    """Make a connection on which nothing has been said."""
    clients: list[Client] = []

    def dial() -> Client:
        clients.append(Client(transport()))
        return clients[-1]

    yield dial
    for client in clients:
        if client not in farewells:
            client.drop()


@pytest.fixture
def connect(dial: Connect) -> Connect:
    """Make an open connection; the arguments are those of Client.handshake."""
    return lambda **options: dial().handshake(**options)


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()


@pytest.fixture
def channel(client: Client) -> Channel:
    return client.channel()


@pytest.fixture
def queue(channel: Channel, names: Names) -> str:
    """A transient queue, new and empty."""
    return channel.declare(names.queue())


@pytest.fixture
def exchange(channel: Channel, names: Names) -> Callable[..., str]:
    """Declare an exchange of a type, and return its name."""

    def declare(kind: str = "direct", **arguments: Any) -> str:
        name = names.exchange(kind)
        channel.call("exchange.declare", exchange=name, type=kind, **arguments)
        return name

    return declare

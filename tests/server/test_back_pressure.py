"""Clients that the broker does not read, over real sockets: what they asked for, and their heartbeats.

How long it takes to be ended for missed heartbeats is told by a neighbour who says nothing and is read all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.client import Client, TcpTransport
from tests.server.broker_process import BrokerProcess

MIB = 1 << 20
MESSAGES = 64
# Where the memory alarm is, MiB: well above what a broker without messages needs.
MEMORY = 120


class Clients:
    """Connections that are dropped at the end."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self._connected: list[Client] = []

    def connect(self, heartbeat: int = 0) -> Client:
        client = Client(TcpTransport(self._broker.port)).handshake(heartbeat=heartbeat)
        self._connected.append(client)
        return client

    def wait_for_missed_heartbeats(self) -> None:
        """Return when a client that was last heard later than all others has been ended for that."""
        neighbour = self.connect(heartbeat=1)
        while neighbour.receive_frame_name(30.0) is not None:
            continue

    def drop(self) -> None:
        for client in self._connected:
            client.drop()


@pytest.fixture
def clients(own_broker: BrokerProcess) -> Iterator[Clients]:
    clients = Clients(own_broker)
    yield clients
    clients.drop()
    assert own_broker.stop() == 0
    assert "Traceback" not in own_broker.stderr(), own_broker.stderr()


def test_who_asks_and_does_not_read_is_neither_read_nor_ended_and_all_is_answered_in_the_end(
    own_broker: BrokerProcess, clients: Clients
) -> None:
    own_broker.start()
    other = clients.connect().channel()
    queue = other.declare("q")
    for number in range(MESSAGES):
        other.publish(b"%08d" % number + bytes(MIB - 8), routing_key=queue)
    other.counts_become(queue, MESSAGES, 0)
    client = clients.connect(heartbeat=1)
    channel = client.channel()
    for _ in range(MESSAGES):
        channel.send("basic.get", queue=queue, no_ack=True)
        # The second of two round trips begins after the broker has seen that there is something to read.
        left = [other.counts(queue)[0] for _ in range(2)][1]
    assert left >= MESSAGES // 2
    clients.wait_for_missed_heartbeats()
    assert other.counts(queue) == (left, 0)
    answers = [channel.expect("basic.get-ok") for _ in range(MESSAGES)]
    assert [int(answer.body[:8]) for answer in answers] == list(range(MESSAGES))
    client.is_alive()


def test_a_publisher_that_an_alarm_holds_back_lives_on_after_it(
    own_broker: BrokerProcess, clients: Clients, tmp_path: Path
) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(f'[limits]\nmemory_high_watermark_absolute = "{MEMORY}MiB"\n')
    own_broker.arguments = ["--config", str(file)]
    own_broker.start()
    other = clients.connect().channel()
    queue = other.declare("q")
    publisher = clients.connect(heartbeat=1)
    channel = publisher.channel()
    channel.call("confirm.select")
    published = 0
    while True:
        # Enough is enough: from then on it takes until the broker looks.
        channel.publish(bytes(MIB if published < MEMORY else 0), routing_key=queue)
        published += 1
        reply = publisher.receive()
        if reply.name != "basic.ack":
            break
    assert (reply.name, reply["reason"]) == ("connection.blocked", "low on memory")
    clients.wait_for_missed_heartbeats()
    other.call("queue.purge", queue=queue)
    publisher.expect("connection.unblocked")
    channel.expect("basic.ack")
    channel.publish("m", routing_key=queue)
    channel.expect("basic.ack")
    # What was held back is as long as it was when the broker looked.
    assert [body.strip("\0") for body in other.drain(queue)] == ["", "m"]

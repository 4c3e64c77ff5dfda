"""Methods that concern many deliveries, on sockets: they take several turns, in which others have theirs.

Every turn of this broker is over when somebody looks at the clock, and ten deliveries are a portion.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from amqp_broker.server.server import Server
from tests.conversations.client import Channel
from tests.conversations.codec import METHOD, Frame, encode_method
from tests.server.moved_clock import MovedBroker

COUNT = 300
BODIES = [f"{number}" for number in range(COUNT)]


def hurry(server: Server) -> None:
    server._settings.turn_time = 0.0
    server._settings.portion = 10


def fill(channel: Channel) -> None:
    channel.declare("q", durable=True)
    channel.call("confirm.select")
    for body in BODIES:
        channel.publish(body, routing_key="q", delivery_mode=2)
    channel.outcomes(COUNT)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MovedBroker]:
    with MovedBroker(tmp_path / "data").running() as broker:
        broker.look(hurry)
        yield broker


@pytest.fixture
def other(broker: MovedBroker) -> Channel:
    """Has filled the queue "q"."""
    channel = broker.dial().channel()
    fill(channel)
    return channel


@pytest.fixture
def holder(broker: MovedBroker, other: Channel) -> Channel:
    """Has got all of it."""
    channel = broker.dial().channel()
    channel.consume("q")
    assert delivered(channel) == BODIES
    return channel


def delivered(channel: Channel) -> list[str]:
    return [delivery.body.decode() for delivery in channel.deliveries(COUNT)]


def test_one_acknowledgement_settles_all_before_the_next_method(
    broker: MovedBroker, other: Channel, holder: Channel
) -> None:
    holder.send("basic.ack", delivery_tag=0, multiple=True)
    holder.call("basic.cancel", consumer_tag="c")
    assert broker.look(lambda server: server.broker.vhosts["/"].queues["q"].unacked) == 0
    holder.client.drop()
    other.counts_become("q", 0, 0)


def test_a_client_is_heard_again_though_it_said_more_than_fits_into_one_read(
    other: Channel, holder: Channel
) -> None:
    """It is not read while it is not heard."""
    holder.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    body = b"x" * 100_000
    for _ in range(20):
        holder.publish(body, routing_key="nowhere")
    assert delivered(holder) == BODIES
    holder.hears_nothing()
    assert other.counts("q") == (0, 1)


def test_everything_is_back_in_order_after_the_connection_is_lost(other: Channel, holder: Channel) -> None:
    holder.client.drop()
    other.counts_become("q", COUNT, 0)
    assert other.drain("q") == BODIES


def test_messages_refused_by_many_connections_at_once_are_back_in_order(
    broker: MovedBroker, other: Channel
) -> None:
    holders = [broker.dial().channel() for _ in range(4)]
    for number in range(COUNT):
        holders[number % 4].get("q", no_ack=False)
    for holder in holders[:2]:
        holder.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    for holder in holders[2:]:
        holder.client.drop()
    for holder in holders[:2]:
        holder.hears_nothing()
    other.counts_become("q", COUNT, 0)
    assert other.drain("q") == BODIES


def test_what_was_acknowledged_is_not_back_after_a_stop_in_between(tmp_path: Path) -> None:
    acknowledgement = Frame(METHOD, 1, encode_method("basic.ack", {"delivery_tag": 0, "multiple": True}))

    def stop_in_between(server: Server) -> int:
        server._settings.portion = 1
        (client,) = server.clients
        client.connection.receive(acknowledgement.encoded(), server.clock.monotonic())
        client.transport.abort()
        server.stop()
        return len(server.broker.chores)

    with MovedBroker(tmp_path / "data").running() as broker:
        broker.look(hurry)
        channel = broker.dial().channel()
        fill(channel)
        for _ in BODIES:
            channel.get("q", no_ack=False)
        assert broker.look(stop_in_between) == 1
    with MovedBroker(tmp_path / "data").running() as broker:
        assert broker.dial().channel().counts("q") == (0, 0)

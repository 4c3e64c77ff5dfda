"""What a connection or a channel says last: in order, nothing behind a close, and nothing left of what was refused."""

from __future__ import annotations

import pytest

from amqp_broker.content.table import Field
from tests.session.world import Peer, World, message, method

REPLIES = "amq.rabbitmq.reply-to"


@pytest.fixture
def world() -> World:
    return World()


def waits_for_the_disk(world: World, *, channels: int = 1) -> Peer:
    """A client whose declaration is not durable yet, and so not answered."""
    peer = world.connect(channels=channels)
    peer.send(1, "queue.declare", queue="durable", durable=True)
    assert peer.names() == []
    return peer


def test_a_close_that_crosses_the_brokers_is_answered_behind_what_is_held_back(world: World) -> None:
    peer = waits_for_the_disk(world)
    peer.send(1, "queue.declare", queue="nowhere", passive=True)
    peer.send(1, "channel.close", reply_code=200)
    assert peer.names() == []
    world.commit()
    assert peer.names() == ["queue.declare-ok", "channel.close", "channel.close-ok"]


def test_nothing_held_back_is_said_behind_the_close_of_the_connection(world: World) -> None:
    peer = waits_for_the_disk(world)
    peer.send(1, "basic.qos", prefetch_size=1)
    assert peer.names() == ["connection.close"]
    world.commit()
    assert peer.names() == []
    assert (peer.connection.output_size, peer.connection.held_size) == (0, 0)


def test_nor_what_a_channel_held_back_that_is_closed_itself(world: World) -> None:
    peer = waits_for_the_disk(world, channels=2)
    peer.send(1, "channel.close", reply_code=200)
    peer.send(2, "basic.qos", prefetch_size=1)
    assert peer.names() == ["connection.close"]
    world.commit()
    assert peer.names() == []
    assert (peer.connection.output_size, peer.connection.held_size) == (0, 0)


def test_who_closes_the_connection_hears_first_what_was_held_back(world: World) -> None:
    peer = waits_for_the_disk(world)
    peer.send(0, "connection.close", reply_code=200)
    assert peer.names() == []
    world.commit()
    assert peer.names() == ["queue.declare-ok", "connection.close-ok"]


def test_who_closes_the_connection_twice_hears_so_once_and_at_the_end(world: World) -> None:
    peer = waits_for_the_disk(world)
    for _ in range(2):
        peer.send(0, "connection.close", reply_code=200)
    assert peer.names() == []
    world.commit()
    assert peer.names() == ["queue.declare-ok", "connection.close-ok"]


def test_a_connection_that_is_being_closed_does_not_hear_that_it_may_publish_again(world: World) -> None:
    peer = world.connect()
    world.broker.alarms.append("low on memory")
    peer.publish(1, "nowhere", b"")
    assert peer.names() == ["connection.blocked"]
    peer.connection.shut_down("shutdown", world.now)
    world.end_turn()
    peer.connection.alarm_cleared()
    world.end_turn()
    assert peer.names() == ["connection.close"]
    assert not peer.connection.paused


@pytest.mark.parametrize(
    ("limit", "arguments"),
    [(0, {"x-stream-offset": Field("S", b"first")}), (1, {})],
    ids=["argument", "limit"],
)
def test_a_consumer_of_replies_that_is_refused_leaves_no_queue(
    world: World, limit: int, arguments: dict[str, Field]
) -> None:
    world.settings.consumer_max = limit
    peer = world.connect()
    peer.send(1, "queue.declare", queue="q")
    peer.send(1, "basic.consume", queue="q", no_ack=True)
    offset = {name: field.value for name, field in arguments.items()}
    peer.send(1, "basic.consume", queue=REPLIES, no_ack=True, arguments=offset)
    assert peer.names()[-1] in ("channel.close", "connection.close")
    assert list(world.vhost.queues) == ["q"]
    assert world.vhost.reply_queues == 0


def test_a_delivery_in_several_frames_is_counted_with_all_their_octets(world: World) -> None:
    peer = world.connect(frame_max=4096)
    peer.send(1, "queue.declare", queue="q")
    peer.send(1, "basic.consume", queue="q", no_ack=True)
    peer.take()
    peer.stuck = True
    body = bytes(3 * 4088 + 1)
    publisher = world.connect()
    publisher.publish(1, "q", body)
    connection = peer.connection
    assert connection.output_size == sum(map(len, connection.output)) > len(body)


def test_nor_that_it_is_blocked(world: World) -> None:
    """It is found in the middle of a message, and something else that it said has already ended it."""
    peer = world.connect()
    peer.publish(1, "q", b"")
    world.broker.alarms.append("low on memory")
    peer.say(method(2, "basic.qos") + message(1, "q", b"")[:-22])
    assert peer.names() == ["connection.close"]
    assert not peer.connection.paused

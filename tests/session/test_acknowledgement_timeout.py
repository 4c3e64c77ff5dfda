"""The acknowledgement timeout, `limits.consumer_timeout`: the clock is moved by hand, and looked at once a minute."""

from __future__ import annotations

import pytest

from tests.session.world import Peer, World

TIMEOUT = 600.0
# The look that notices a delivery may be a minute after it, and so may the one that finds it overdue.
LATEST = TIMEOUT + 120


@pytest.fixture
def world() -> World:
    world = World()
    world.settings.consumer_timeout = TIMEOUT
    return world


@pytest.fixture
def peer(world: World) -> Peer:
    """It has two channels, and one message of two that were published to q is delivered to channel 1."""
    peer = world.connect(channels=2)
    peer.send(1, "queue.declare", queue="q")
    for body in (b"first", b"second"):
        peer.publish(1, "q", body)
    peer.send(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue="q", consumer_tag="slow")
    peer.take()
    return peer


def test_the_channel_of_an_overdue_delivery_is_closed_and_the_message_goes_to_others(
    world: World, peer: Peer
) -> None:
    world.pass_time(TIMEOUT - 1)
    assert peer.take() == []
    world.pass_time(LATEST - TIMEOUT)
    (closed,) = peer.take()
    assert (closed.channel, closed.name, closed.reply_code) == (1, "channel.close", 406)
    assert closed.reply_text == (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 600000 ms. "
        "This timeout value can be configured, see consumers doc guide to learn more"
    )
    assert not world.queue("q").consumers
    again = peer.reply(2, "basic.get", queue="q")
    assert (again.body, again.redelivered) == (b"first", True)


def test_other_channels_of_the_connection_go_on(world: World, peer: Peer) -> None:
    world.pass_time(LATEST)
    assert peer.names() == ["channel.close"]
    assert peer.reply(2, "queue.declare", queue="q", passive=True).message_count == 2
    peer.send(1, "channel.close-ok").send(1, "channel.open")
    assert peer.names() == ["channel.open-ok"]


def test_who_acknowledges_in_time_may_go_on_for_ever(world: World, peer: Peer) -> None:
    for tag in range(1, 6):
        world.pass_time(TIMEOUT - 1)
        peer.send(1, "basic.ack", delivery_tag=tag)
        peer.publish(2, "q", b"next")
    assert set(peer.names()) == {"basic.deliver"}


def test_what_was_got_must_be_acknowledged_too(world: World, peer: Peer) -> None:
    assert peer.reply(2, "basic.get", queue="q").body == b"second"
    peer.send(1, "basic.cancel", consumer_tag="slow").send(1, "basic.ack", delivery_tag=1).take()
    world.pass_time(LATEST)
    (closed,) = peer.take()
    assert (closed.channel, closed.reply_code) == (2, 406)
    assert world.queue("q").ready_count() == 1


def test_a_cancelled_consumer_must_acknowledge_what_it_has(world: World, peer: Peer) -> None:
    peer.send(1, "basic.cancel", consumer_tag="slow").take()
    world.pass_time(LATEST)
    assert peer.names() == ["channel.close"]
    assert world.queue("q").ready_count() == 2


def test_what_needs_no_acknowledgement_is_never_overdue(world: World, peer: Peer) -> None:
    peer.send(2, "basic.consume", queue="q", no_ack=True)
    peer.send(1, "basic.cancel", consumer_tag="slow").send(1, "basic.ack", delivery_tag=1)
    peer.publish(2, "q", b"third")
    assert peer.names().count("basic.deliver") == 2
    world.pass_time(10 * LATEST)
    assert peer.take() == []


def test_there_is_no_timeout_if_it_is_set_to_0(world: World, peer: Peer) -> None:
    world.settings.consumer_timeout = 0.0
    world.pass_time(100 * LATEST, step=30.0)
    assert peer.take() == []
    assert world.queue("q").ready_count() == 1

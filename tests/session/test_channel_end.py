"""The end of a channel or a connection: what it held goes back, and nothing it was given is lost with it."""

from __future__ import annotations

import pytest

from tests.session.world import ENDS, Peer, World, message, method


@pytest.fixture
def world() -> World:
    return World()


def declare(peer: Peer, queue: str = "q", **options: object) -> None:
    assert peer.reply(1, "queue.declare", queue=queue, **options).name == "queue.declare-ok"


def got(peer: Peer, queue: str = "q", channel: int = 1) -> list[tuple[bytes, bool]]:
    """All that is ready in a queue, with its redelivered flag."""
    found = []
    while (item := peer.reply(channel, "basic.get", queue=queue, no_ack=True)).name == "basic.get-ok":
        found.append((item.body, item.redelivered))
    return found


@pytest.mark.parametrize("how", ENDS)
def test_unacknowledged_messages_go_back_in_order_and_are_redelivered(world: World, how: str) -> None:
    other, peer = world.connect(), world.connect()
    declare(other)
    for body in (b"1", b"2", b"3"):
        other.publish(1, "q", body)
    peer.send(1, "basic.get", queue="q").send(1, "basic.get", queue="q")
    peer.end(how)
    assert got(other) == [(b"1", True), (b"2", True), (b"3", False)]
    assert world.queue("q").unacked == 0


@pytest.mark.parametrize("how", ENDS)
def test_messages_settled_in_an_unfinished_transaction_go_back(world: World, how: str) -> None:
    other, peer = world.connect(), world.connect()
    declare(other)
    for body in (b"1", b"2", b"3", b"4"):
        other.publish(1, "q", body)
    peer.send(1, "tx.select")
    for _ in range(4):
        peer.send(1, "basic.get", queue="q")
    peer.send(1, "basic.ack", delivery_tag=1).send(1, "basic.nack", delivery_tag=2, requeue=True)
    peer.send(1, "basic.reject", delivery_tag=3, requeue=False)
    peer.end(how)
    assert got(other) == [(b"1", True), (b"2", True), (b"3", True), (b"4", True)]
    assert world.queue("q").unacked == 0


@pytest.mark.parametrize("how", ENDS)
def test_publishes_of_an_unfinished_transaction_are_dropped(world: World, how: str) -> None:
    other, peer = world.connect(), world.connect()
    declare(other)
    peer.send(1, "tx.select").publish(1, "q", b"held")
    peer.end(how)
    assert got(other) == []


@pytest.mark.parametrize("how", ["connection.close", "a lost socket", "a connection error"])
def test_what_one_channel_held_is_not_given_to_another_channel_of_the_dying_connection(
    world: World, how: str
) -> None:
    other, peer = world.connect(), world.connect(channels=2)
    declare(other)
    peer.send(1, "basic.consume", queue="q", consumer_tag="acks")
    for body in (b"1", b"2"):
        other.publish(1, "q", body)
    peer.send(2, "basic.consume", queue="q", consumer_tag="no-ack", no_ack=True)
    if how == "a connection error":
        peer.send(7, "basic.qos")
    else:
        peer.end(how)
    assert got(other) == [(b"1", True), (b"2", True)]


@pytest.mark.parametrize("how", ENDS)
def test_the_next_in_line_on_a_dying_channel_does_not_become_the_single_active_consumer(
    world: World, how: str
) -> None:
    other, peer = world.connect(), world.connect()
    declare(other, arguments={"x-single-active-consumer": True})
    peer.send(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue="q", consumer_tag="first")
    peer.send(1, "basic.consume", queue="q", consumer_tag="second", no_ack=True)
    for body in (b"1", b"2", b"3"):
        other.publish(1, "q", body)
    peer.take()
    peer.end(how)
    assert "basic.deliver" not in peer.names()
    assert got(other) == [(b"1", True), (b"2", False), (b"3", False)]


@pytest.mark.parametrize("how", ENDS)
def test_consumers_are_gone(world: World, how: str) -> None:
    other, peer = world.connect(), world.connect()
    declare(other)
    declare(other, "short-lived", auto_delete=True)
    peer.send(1, "basic.consume", queue="q").send(1, "basic.consume", queue="short-lived")
    peer.end(how)
    assert world.queue("q").statistics().consumers == 0
    assert "short-lived" not in world.vhost.queues


@pytest.mark.parametrize("how", ["connection.close", "a lost socket"])
def test_exclusive_queues_go_with_their_connection(world: World, how: str) -> None:
    peer = world.connect()
    declare(peer, exclusive=True)
    peer.end(how)
    assert "q" not in world.vhost.queues


def test_a_connection_may_be_lost_twice(world: World) -> None:
    peer = world.connect()
    declare(peer, exclusive=True)
    peer.lose()
    peer.lose()
    assert not world.vhost.queues


# -- a channel that failed


def test_a_failed_channel_hears_nothing_until_its_close_ok(world: World) -> None:
    peer = world.connect()
    declare(peer)
    peer.end("a failing method")
    close = peer.take()[0]
    assert (close.name, close.reply_code, close.class_id, close.method_id) == ("channel.close", 404, 50, 10)
    peer.publish(1, "q", b"too late").send(1, "basic.get", queue="q").send(1, "queue.purge", queue="q")
    assert peer.names() == []
    peer.send(1, "channel.close-ok")
    assert peer.reply(1, "channel.open").name == "channel.open-ok"
    assert got(peer) == []


def test_a_failed_channel_answers_a_close_that_crossed_its_own(world: World) -> None:
    peer = world.connect()
    peer.end("a failing method")
    peer.take()
    assert peer.reply(1, "channel.close").name == "channel.close-ok"
    assert peer.send(1, "channel.close-ok").names() == []
    assert peer.reply(1, "channel.open").name == "channel.open-ok"


def test_a_channel_opened_again_after_it_failed_publishes(world: World) -> None:
    peer = world.connect()
    declare(peer)
    peer.end("a failing method")
    peer.publish(1, "q", b"on its way when the channel failed")
    peer.send(1, "channel.close-ok").send(1, "channel.open").publish(1, "q", b"on the new channel")
    assert got(peer) == [(b"on the new channel", False)]


def test_a_channel_opened_again_after_it_was_closed_publishes(world: World) -> None:
    peer = world.connect()
    declare(peer)
    peer.publish(1, "q", b"before")
    peer.end("channel.close")
    peer.send(1, "channel.open").publish(1, "q", b"after")
    peer.take()
    assert got(peer) == [(b"before", False), (b"after", False)]


def test_the_channels_own_error_harms_no_other_channel(world: World) -> None:
    peer = world.connect(channels=2)
    declare(peer)
    peer.end("a failing method")
    peer.publish(2, "q", b"fine")
    peer.take()
    assert got(peer, channel=2) == [(b"fine", False)]


# -- a connection that failed


def test_after_a_connection_error_frames_are_dropped_until_close_ok(world: World) -> None:
    peer = world.connect()
    declare(peer)
    peer.say(method(9, "basic.qos") + message(1, "q", b"late") + method(1, "basic.qos"))
    close = peer.take()
    assert [item.name for item in close] == ["connection.close"]
    assert close[0].reply_text == "CHANNEL_ERROR - expected 'channel.open'"
    peer.publish(1, "q", b"later")
    assert not peer.connection.finished
    peer.send(0, "connection.close-ok")
    assert peer.connection.finished
    assert world.queue("q").ready_count() == 0


def test_a_connection_error_waits_for_close_ok_though_frames_were_under_way_in_pieces(world: World) -> None:
    peer = world.connect()
    under_way = message(1, "q", b"x" * 300) + message(1, "q", b"y" * 300)
    for at in (5, 30, len(under_way) // 2, len(under_way) - 1):
        peer = world.connect()
        peer.say(method(9, "basic.qos") + under_way[:at])
        peer.say(under_way[at:])
        assert not peer.connection.finished, f"split at {at}"
        peer.send(0, "connection.close-ok")
        assert peer.connection.finished


def test_close_ok_in_the_same_piece_as_the_error_is_heard(world: World) -> None:
    peer = world.connect()
    peer.say(method(9, "basic.qos") + method(0, "connection.close"))
    assert peer.names() == ["connection.close", "connection.close-ok"]

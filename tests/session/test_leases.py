"""Leases on channels: what a consumer or a basic.get keeps for too long is the queue's again, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.session.world import Peer, World

LEASE = 1000


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Peer:
    return world.connect(channels=2)


def later(world: World, milliseconds: int) -> None:
    world.broker.clock.milliseconds += milliseconds
    world.broker.timetable.run_due()
    world.end_turn()


def leased(peer: Peer, *bodies: bytes, name: str = "q", **arguments: Any) -> None:
    """Declare a queue whose deliveries are leased, and publish to it."""
    table = {"x-consumer-timeout": LEASE} | arguments
    peer.send(1, "queue.declare", queue=name, arguments=table)
    for body in bodies:
        peer.publish(1, name, body)
    peer.take()


def held(world: World, name: str = "q") -> tuple[int, int]:
    found = world.queue(name).statistics()
    return found.ready, found.unacked


# -- what was got


def test_what_was_got_and_kept_too_long_is_there_again(world: World, peer: Peer) -> None:
    leased(peer, b"1", b"2")
    peer.reply(1, "basic.get", queue="q")
    later(world, LEASE - 1)
    assert held(world) == (1, 1)
    later(world, 1)
    assert held(world) == (2, 0)
    again = peer.reply(2, "basic.get", queue="q")
    assert (again.body, again.redelivered) == (b"1", True)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("basic.ack", {}), ("basic.nack", {"requeue": True}), ("basic.reject", {"requeue": False})],
)
def test_settling_it_too_late_has_no_effect_once(
    world: World, peer: Peer, method: str, arguments: dict[str, bool]
) -> None:
    leased(peer, b"1")
    peer.reply(1, "basic.get", queue="q")
    later(world, LEASE)
    peer.send(1, method, delivery_tag=1, **arguments)
    assert (peer.take(), held(world)) == ([], (1, 0))
    close = peer.reply(1, method, delivery_tag=1, **arguments)
    assert (close.name, close.reply_text) == ("channel.close", "PRECONDITION_FAILED - unknown delivery tag 1")


def test_what_was_got_and_settled_in_time_is_gone(world: World, peer: Peer) -> None:
    leased(peer, b"1", b"2")
    peer.reply(1, "basic.get", queue="q")
    peer.send(1, "basic.ack", delivery_tag=1)
    peer.reply(1, "basic.get", queue="q", no_ack=True)
    later(world, 10 * LEASE)
    assert held(world) == (0, 0)


def test_what_was_got_comes_back_to_who_waits_for_it(world: World, peer: Peer) -> None:
    leased(peer, b"1")
    peer.reply(1, "basic.get", queue="q")
    peer.send(2, "basic.consume", queue="q", consumer_tag="c").take()
    later(world, LEASE)
    delivered = peer.take()
    assert [(item.name, item.body, item.redelivered) for item in delivered] == [("basic.deliver", b"1", True)]


def test_a_channel_that_ended_has_nothing_to_give_back_later(world: World, peer: Peer) -> None:
    leased(peer, b"1")
    peer.reply(2, "basic.get", queue="q")
    peer.send(2, "channel.close", reply_code=200).take()
    assert held(world) == (1, 0)
    later(world, 10 * LEASE)
    assert held(world) == (1, 0)


# -- what a full consumer is given next


def test_a_full_consumer_is_given_what_it_lost_before_anything_else(world: World, peer: Peer) -> None:
    leased(peer, b"1", b"2", b"3")
    peer.send(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue="q", consumer_tag="c").take()
    later(world, LEASE)
    delivered = peer.take()
    assert [(item.body, item.redelivered) for item in delivered] == [(b"1", True)]
    assert held(world) == (2, 1)


def test_a_channel_whose_shared_prefetch_is_used_up_is_given_what_it_lost(world: World, peer: Peer) -> None:
    leased(peer, b"1", b"2", b"3")
    peer.send(1, "basic.qos", prefetch_count=2, global_=True)
    peer.send(1, "basic.consume", queue="q", consumer_tag="c").take()
    later(world, LEASE)
    assert peer.bodies() == [b"1", b"2"]
    assert held(world) == (1, 2)


def test_another_consumer_with_room_comes_before_the_one_that_was_late(world: World, peer: Peer) -> None:
    leased(peer, b"1", b"2")
    peer.send(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue="q", consumer_tag="late")
    peer.send(2, "basic.qos", prefetch_count=2)
    peer.send(2, "basic.consume", queue="q", consumer_tag="other").take()
    peer.send(2, "basic.ack", delivery_tag=1)
    later(world, LEASE)
    assert [(item.consumer_tag, item.body) for item in peer.take()] == [("other", b"1")]


# -- transactions


@pytest.mark.parametrize("how", ["basic.get", "basic.consume"])
def test_what_a_transaction_settled_is_kept_until_it_ends(world: World, peer: Peer, how: str) -> None:
    leased(peer, b"1")
    peer.send(1, "tx.select")
    peer.send(1, how, queue="q").send(1, "basic.ack", delivery_tag=1)
    later(world, 5 * LEASE)
    assert held(world) == (0, 1)
    peer.send(1, "tx.commit")
    assert held(world) == (0, 0)
    later(world, 5 * LEASE)
    assert held(world) == (0, 0)


def test_what_a_rollback_gives_back_is_kept_no_longer_than_anything_else(world: World, peer: Peer) -> None:
    leased(peer, b"1")
    peer.send(1, "tx.select")
    peer.send(1, "basic.get", queue="q").send(1, "basic.ack", delivery_tag=1)
    later(world, LEASE)
    peer.send(1, "tx.rollback")
    assert held(world) == (0, 1)
    later(world, LEASE)
    assert held(world) == (1, 0)


def test_what_was_lost_before_a_transaction_settled_it_is_not_settled(world: World, peer: Peer) -> None:
    leased(peer, b"1")
    peer.send(1, "tx.select")
    peer.send(1, "basic.get", queue="q")
    later(world, LEASE)
    peer.send(1, "basic.ack", delivery_tag=1).send(1, "tx.commit")
    assert held(world) == (1, 0)


# -- retries


@pytest.mark.parametrize(("method", "waits"), [("basic.recover", False), ("basic.nack", True)])
def test_what_is_asked_for_once_more_has_not_failed(
    world: World, peer: Peer, method: str, waits: bool
) -> None:
    table = {"x-delayed-retry-type": "failed", "x-delayed-retry-min": 100}
    peer.send(1, "queue.declare", queue="q", arguments=table)
    peer.publish(1, "q", b"1").take()
    peer.reply(1, "basic.get", queue="q")
    peer.send(1, method, requeue=True, **({"delivery_tag": 1} if waits else {}))
    found = world.queue("q").statistics()
    assert (found.ready, found.delayed) == ((0, 1) if waits else (1, 0))
    later(world, 100)
    assert held(world) == (1, 0)


def test_what_waits_for_a_retry_is_not_counted_by_a_declaration(world: World, peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="q", arguments={"x-delayed-retry-min": 100})
    peer.publish(1, "q", b"1").publish(1, "q", b"2").take()
    peer.reply(1, "basic.get", queue="q")
    peer.send(1, "basic.nack", delivery_tag=1, requeue=True)
    assert peer.reply(1, "queue.declare", queue="q", passive=True).message_count == 1
    later(world, 100)
    assert peer.reply(1, "queue.declare", queue="q", passive=True).message_count == 2

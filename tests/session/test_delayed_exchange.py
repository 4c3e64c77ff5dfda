"""x-delayed-message: what is delayed is routed when its time has come, and not before; also after a restart."""

from __future__ import annotations

import pytest

from tests.broker.ledger_store import LedgerStore
from tests.session.world import Peer, World

NOW = 1_700_000_000_000
SECOND = 1000


@pytest.fixture
def world() -> World:
    world = World()
    world.broker.clock.milliseconds = NOW
    return world


@pytest.fixture
def peer(world: World) -> Peer:
    return world.connect()


def delayed(peer: Peer, kind: str = "direct", *, durable: bool = False) -> None:
    peer.send(
        1,
        "exchange.declare",
        exchange="later",
        type="x-delayed-message",
        durable=durable,
        arguments={"x-delayed-type": kind},
    )
    peer.send(1, "queue.declare", queue="q", durable=durable)
    peer.send(1, "queue.bind", queue="q", exchange="later", routing_key="k")
    peer.take()


def later(world: World, milliseconds: int) -> None:
    world.broker.clock.milliseconds += milliseconds
    world.broker.timetable.run_due()
    world.end_turn()


def ready(world: World, queue: str = "q") -> int:
    return world.queue(queue).ready_count()


def test_a_delayed_message_is_routed_when_its_time_has_come(world: World, peer: Peer) -> None:
    delayed(peer)
    peer.publish(1, "k", b"m", exchange="later", headers={"x-delay": 5 * SECOND})
    later(world, 4999)
    assert ready(world) == 0
    later(world, 1)
    assert ready(world) == 1
    item = peer.reply(1, "basic.get", queue="q", no_ack=True)
    assert (item.body, item.exchange, item.routing_key) == (b"m", "later", "k")
    assert item.properties["headers"]["x-delay"].value == -5 * SECOND


@pytest.mark.parametrize(
    "headers", [{}, {"x-delay": 0}, {"x-delay": -5}, {"x-delay": "5000"}, {"x-deliver-at": NOW}]
)
def test_a_message_without_a_delay_is_routed_at_once(
    world: World, peer: Peer, headers: dict[str, object]
) -> None:
    delayed(peer)
    peer.publish(1, "k", b"m", exchange="later", headers=headers)
    assert ready(world) == 1


def test_a_message_may_name_its_time(world: World, peer: Peer) -> None:
    delayed(peer)
    peer.publish(1, "k", b"m", exchange="later", headers={"x-deliver-at": NOW + 60 * SECOND})
    later(world, 59 * SECOND)
    assert ready(world) == 0
    later(world, SECOND)
    assert ready(world) == 1


def test_messages_come_in_the_order_of_their_times(world: World, peer: Peer) -> None:
    delayed(peer)
    for body, delay in ((b"c", 3), (b"a", 1), (b"b", 2), (b"a2", 1)):
        peer.publish(1, "k", body, exchange="later", headers={"x-delay": delay * SECOND})
    later(world, 10 * SECOND)
    peer.send(1, "basic.consume", queue="q", no_ack=True)
    assert [item.body for item in peer.take() if item.name == "basic.deliver"] == [b"a", b"a2", b"b", b"c"]


def test_the_bindings_of_the_moment_decide(world: World, peer: Peer) -> None:
    delayed(peer, "topic")
    peer.publish(1, "k.x", b"m", exchange="later", headers={"x-delay": SECOND})
    peer.send(1, "queue.bind", queue="q", exchange="later", routing_key="k.*")
    later(world, SECOND)
    assert ready(world) == 1


def test_a_delayed_message_is_confirmed_once_it_is_durable_and_not_returned(world: World, peer: Peer) -> None:
    delayed(peer, durable=True)
    world.commit()
    peer.take()
    peer.send(1, "confirm.select")
    peer.take()
    peer.publish(1, "k", b"m", exchange="later", mandatory=True, delivery_mode=2, headers={"x-delay": SECOND})
    assert peer.names() == []
    world.commit()
    assert peer.names() == ["basic.ack"]


def test_what_is_delayed_survives_a_restart_and_comes_once(world: World, peer: Peer) -> None:
    delayed(peer, durable=True)
    for body, delay in ((b"late", 9), (b"early", 2)):
        peer.publish(1, "k", body, exchange="later", delivery_mode=2, headers={"x-delay": delay * SECOND})
    peer.publish(1, "k", b"transient", exchange="later", headers={"x-delay": SECOND})
    world.commit()
    again = World(LedgerStore(world.store.disk))
    again.broker.clock.milliseconds = NOW
    later(again, 5 * SECOND)
    found = again.queue("q")
    assert found.ready_count() == 2
    again.commit()
    last = World(LedgerStore(again.store.disk))
    last.broker.clock.milliseconds = NOW
    later(last, 60 * SECOND)
    peer = last.connect()
    peer.send(1, "basic.consume", queue="q", no_ack=True)
    # The transient one was kept for as long as it was delayed, and no longer.
    assert [item.body for item in peer.take() if item.name == "basic.deliver"] == [b"early", b"late"]


def test_a_deleted_exchange_takes_its_messages_with_it(world: World, peer: Peer) -> None:
    delayed(peer, durable=True)
    peer.publish(1, "k", b"m", exchange="later", delivery_mode=2, headers={"x-delay": SECOND})
    peer.send(1, "exchange.delete", exchange="later")
    world.commit()
    later(world, 2 * SECOND)
    assert ready(world) == 0
    assert not any(world.store.disk.entries.values())


@pytest.mark.parametrize("arguments", [{}, {"x-delayed-type": "unknown"}, {"x-delayed-type": 5}])
def test_the_type_it_routes_by_must_exist(peer: Peer, arguments: dict[str, object]) -> None:
    closed = peer.reply(
        1, "exchange.declare", exchange="later", type="x-delayed-message", arguments=arguments
    )
    assert (closed.name, closed.reply_code) == ("channel.close", 406)
    assert "'x-delayed-type' must be an existing exchange type" in closed.reply_text


def test_a_message_delayed_in_a_transaction_waits_from_the_commit(world: World, peer: Peer) -> None:
    delayed(peer)
    peer.send(1, "tx.select")
    peer.publish(1, "k", b"m", exchange="later", headers={"x-delay": SECOND})
    later(world, 10 * SECOND)
    peer.send(1, "tx.commit")
    world.commit()
    later(world, SECOND - 1)
    assert ready(world) == 0
    later(world, 1)
    assert ready(world) == 1

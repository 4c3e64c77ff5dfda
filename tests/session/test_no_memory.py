"""A broker that had no memory for a message in the middle of it: one connection ends, and nothing else is lost."""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import QueueEntry
from tests.broker.ledger_store import LedgerStore
from tests.session.world import World, message, method


class FullStore(LedgerStore):
    """full: there is no memory for one message more."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def put(self, queue_id: int, entry: QueueEntry) -> None:
        if self.full:
            raise MemoryError
        super().put(queue_id, entry)


@pytest.fixture
def store() -> FullStore:
    return FullStore()


@pytest.fixture
def world(store: FullStore) -> World:
    """A queue for one message whose letters go to "dead", and a durable one beside it."""
    world = World(store)
    peer = world.connect()
    short = {"x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    peer.send(1, "queue.declare", queue="dead")
    peer.send(1, "queue.declare", queue="short", arguments=short)
    peer.send(1, "queue.declare", queue="kept", durable=True)
    for queue in ("short", "kept"):
        peer.send(1, "queue.bind", queue=queue, exchange="amq.fanout")
    peer.publish(1, "short", b"first")
    world.commit()
    return world


def lost_in_the_middle(world: World, store: FullStore, octets: bytes) -> None:
    """What the server does with who says something that there is no memory for."""
    unlucky = world.connect()
    store.full = True
    with pytest.raises(MemoryError):
        unlucky.say(octets)
    store.full = False
    unlucky.connection.crashed()
    unlucky.lose()


def dead(world: World) -> int:
    return world.queue("dead").ready_count()


@pytest.mark.parametrize("transaction", [False, True])
def test_letters_go_on_after_a_message_that_was_too_much_for_one_of_its_queues(
    world: World, store: FullStore, transaction: bool
) -> None:
    sent = message(1, "", b"second", exchange="amq.fanout", delivery_mode=2)
    if transaction:
        sent = method(1, "tx.select") + sent + method(1, "tx.commit")
    lost_in_the_middle(world, store, sent)
    assert dead(world) == 1
    world.connect().publish(1, "short", b"third")
    assert dead(world) == 2

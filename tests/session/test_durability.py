"""What a reply promises is durable before the reply is sent; everything else does not wait for the disk."""

from __future__ import annotations

from typing import Any

import pytest

from tests.session.world import Peer, Received, World, message, method


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Peer:
    """A client with two channels, a durable queue "d", a durable exchange "x" and a transient queue "t"."""
    peer = world.connect(channels=2)
    peer.send(1, "queue.declare", queue="d", durable=True).send(1, "queue.declare", queue="t")
    peer.send(1, "exchange.declare", exchange="x", type="direct", durable=True)
    world.commit()
    peer.take()
    return peer


DURABLE_CHANGES: dict[str, tuple[list[tuple[str, dict[str, Any]]], str, dict[str, Any]]] = {
    "a durable queue": ([], "queue.declare", {"queue": "new", "durable": True}),
    "a durable queue that is there": ([], "queue.declare", {"queue": "d", "durable": True}),
    "a durable exchange": ([], "exchange.declare", {"exchange": "y", "type": "topic", "durable": True}),
    "a durable binding": ([], "queue.bind", {"queue": "d", "exchange": "x"}),
    "a durable binding between exchanges": (
        [],
        "exchange.bind",
        {"source": "x", "destination": "amq.fanout"},
    ),
    "a durable binding removed": (
        [("queue.bind", {"queue": "d", "exchange": "x"})],
        "queue.unbind",
        {"queue": "d", "exchange": "x"},
    ),
    "a durable binding between exchanges removed": (
        [("exchange.bind", {"source": "x", "destination": "amq.fanout"})],
        "exchange.unbind",
        {"source": "x", "destination": "amq.fanout"},
    ),
    "a durable queue deleted": ([], "queue.delete", {"queue": "d"}),
    "a durable exchange deleted": ([], "exchange.delete", {"exchange": "x"}),
    "a durable queue purged": ([], "queue.purge", {"queue": "d"}),
}
OTHER_CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "a transient queue": ("queue.declare", {"queue": "new"}),
    "an exclusive queue, though durable": (
        "queue.declare",
        {"queue": "new", "durable": True, "exclusive": True},
    ),
    "a transient exchange": ("exchange.declare", {"exchange": "y", "type": "fanout"}),
    "a transient binding": ("queue.bind", {"queue": "t", "exchange": "x"}),
    "a durable queue looked up": ("queue.declare", {"queue": "d", "passive": True}),
    "a transient queue purged": ("queue.purge", {"queue": "t"}),
    "a transient queue deleted": ("queue.delete", {"queue": "t"}),
    "a queue that is not there deleted": ("queue.delete", {"queue": "nothing"}),
    "an exchange that is not there deleted": ("exchange.delete", {"exchange": "nothing"}),
}


@pytest.mark.parametrize("change", DURABLE_CHANGES)
def test_a_durable_change_is_answered_when_it_is_durable(world: World, peer: Peer, change: str) -> None:
    before, name, arguments = DURABLE_CHANGES[change]
    for earlier, with_arguments in before:
        peer.send(1, earlier, **with_arguments)
    world.commit()
    peer.take()
    peer.send(1, name, **arguments)
    assert peer.take() == []
    world.seal()
    assert peer.take() == []
    world.commit_oldest()
    assert peer.names() == [name + "-ok"]


@pytest.mark.parametrize("change", OTHER_CHANGES)
def test_any_other_change_is_answered_at_once(peer: Peer, change: str) -> None:
    name, arguments = OTHER_CHANGES[change]
    assert peer.reply(1, name, **arguments).name == name + "-ok"


@pytest.mark.parametrize("change", [c for c in DURABLE_CHANGES if DURABLE_CHANGES[c][1] != "queue.unbind"])
def test_a_durable_change_without_a_reply_is_not_answered(world: World, peer: Peer, change: str) -> None:
    before, name, arguments = DURABLE_CHANGES[change]
    for earlier, with_arguments in before:
        peer.send(1, earlier, **with_arguments)
    world.commit()
    peer.take()
    peer.send(1, name, nowait=True, **arguments)
    world.commit()
    assert peer.take() == []


def test_what_follows_a_held_reply_on_its_channel_waits_with_it(world: World, peer: Peer) -> None:
    peer.send(1, "basic.consume", queue="t", consumer_tag="c", no_ack=True).take()
    peer.send(1, "queue.declare", queue="new", durable=True)
    peer.send(1, "basic.qos", prefetch_count=1)
    peer.publish(1, "t", b"delivered later")
    peer.publish(1, "nobody", b"returned later", mandatory=True)
    peer.send(1, "queue.declare", queue="new2", durable=True)
    peer.send(1, "tx.select")
    assert peer.take() == []
    world.commit()
    expected = ["queue.declare-ok", "basic.qos-ok", "basic.deliver", "basic.return", "queue.declare-ok"]
    assert peer.names() == [*expected, "tx.select-ok"]


def test_a_held_reply_does_not_hold_other_channels(world: World, peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="new", durable=True)
    assert peer.reply(2, "basic.qos").name == "basic.qos-ok"
    world.commit()
    assert peer.names() == ["queue.declare-ok"]


def test_replies_held_for_different_batches_go_one_by_one(world: World, peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="first", durable=True)
    world.seal()
    peer.send(1, "basic.qos").send(1, "queue.declare", queue="second", durable=True).send(1, "basic.qos")
    world.seal()
    world.commit_oldest()
    assert [(item.name, item.arguments.get("queue")) for item in peer.take()] == [
        ("queue.declare-ok", "first"),
        ("basic.qos-ok", None),
    ]
    world.commit_oldest()
    assert [(item.name, item.arguments.get("queue")) for item in peer.take()] == [
        ("queue.declare-ok", "second"),
        ("basic.qos-ok", None),
    ]
    assert peer.reply(1, "basic.qos").name == "basic.qos-ok"


def test_a_channel_closed_while_a_reply_is_held_says_both_in_order(world: World, peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="new", durable=True).send(1, "channel.close", reply_code=200)
    assert peer.take() == []
    world.commit()
    assert peer.names() == ["queue.declare-ok", "channel.close-ok"]


def test_a_channel_that_fails_while_a_reply_is_held_says_both_in_order(world: World, peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="new", durable=True).send(1, "queue.purge", queue="nothing")
    world.commit()
    assert peer.names() == ["queue.declare-ok", "channel.close"]


def test_a_commit_that_nobody_is_left_for_is_no_error(world: World, peer: Peer) -> None:
    peer.send(1, "confirm.select").take()
    peer.publish(1, "d", b"m", persistent=True)
    peer.send(2, "queue.declare", queue="new", durable=True)
    peer.lose()
    world.commit()
    assert peer.take() == []
    assert world.store.stored(world.queue("d").store_id) == [b"m"]


# -- confirms


def confirms(peer: Peer) -> list[tuple[int, bool]]:
    """Take what came, which is nothing but confirms."""
    received = peer.take()
    assert {item.name for item in received} <= {"basic.ack"}, received
    return [(item.delivery_tag, item.multiple) for item in received]


@pytest.fixture
def confirming(peer: Peer) -> Peer:
    peer.send(1, "confirm.select").take()
    return peer


def test_a_persistent_message_in_a_durable_queue_is_confirmed_when_it_is_durable(
    world: World, confirming: Peer
) -> None:
    confirming.publish(1, "d", b"m", persistent=True)
    assert confirms(confirming) == []
    world.seal()
    assert confirms(confirming) == []
    assert world.store.stored(world.queue("d").store_id) == []
    world.commit_oldest()
    assert confirms(confirming) == [(1, False)]
    assert world.store.stored(world.queue("d").store_id) == [b"m"]


@pytest.mark.parametrize(
    ("routing_key", "persistent"), [("t", True), ("d", False), ("t", False), ("nobody", True)]
)
def test_any_other_message_is_confirmed_at_the_end_of_the_turn(
    world: World, confirming: Peer, routing_key: str, persistent: bool
) -> None:
    confirming.publish(1, routing_key, b"m", persistent=persistent)
    assert confirms(confirming) == [(1, False)]
    assert world.store.idle


def test_a_durable_exclusive_queue_keeps_nothing_on_the_disk(world: World, confirming: Peer) -> None:
    for number, queue in enumerate(("e", "f"), 1):
        confirming.send(1, "queue.declare", queue=queue, durable=True, exclusive=True).take()
        confirming.publish(1, queue, b"m", persistent=True)
        assert confirms(confirming) == [(number, False)]
    assert world.store.idle
    confirming.send(1, "queue.delete", queue="e").lose()
    assert world.store.idle


def test_confirms_of_one_turn_are_one(confirming: Peer) -> None:
    confirming.say(message(1, "t", b"m") * 5)
    assert confirms(confirming) == [(5, True)]


def test_confirms_of_one_batch_are_one(world: World, confirming: Peer) -> None:
    for _ in range(5):
        confirming.publish(1, "d", b"m", persistent=True)
    world.commit()
    assert confirms(confirming) == [(5, True)]
    confirming.publish(1, "d", b"m", persistent=True)
    world.commit()
    assert confirms(confirming) == [(6, False)]


def test_confirms_are_never_ahead_of_an_earlier_one(world: World, confirming: Peer) -> None:
    confirming.publish(1, "d", b"1", persistent=True)
    world.seal()
    confirming.publish(1, "t", b"2")
    confirming.publish(1, "d", b"3", persistent=True)
    confirming.publish(1, "t", b"4")
    world.seal()
    assert confirms(confirming) == []
    world.commit_oldest()
    assert confirms(confirming) == [(2, True)]
    world.commit_oldest()
    assert confirms(confirming) == [(4, True)]


def test_transient_and_persistent_in_one_turn_are_confirmed_together(world: World, confirming: Peer) -> None:
    confirming.say(message(1, "t", b"1") + message(1, "d", b"2", persistent=True) + message(1, "t", b"3"))
    assert confirms(confirming) == []
    world.commit()
    assert confirms(confirming) == [(3, True)]


def test_a_message_is_delivered_before_it_is_durable_and_confirmed_after(
    world: World, confirming: Peer
) -> None:
    confirming.send(2, "basic.consume", queue="d", no_ack=False).take()
    confirming.publish(1, "d", b"m", persistent=True)
    assert confirming.bodies() == [b"m"]
    confirming.send(2, "basic.ack", delivery_tag=1)
    world.commit()
    assert confirms(confirming) == [(1, False)]
    assert world.store.stored(world.queue("d").store_id) == []


def test_an_unroutable_mandatory_message_is_returned_before_it_is_confirmed(confirming: Peer) -> None:
    confirming.publish(1, "nobody", b"m", mandatory=True)
    returned, confirm = confirming.take()
    assert (returned.name, returned.reply_code, returned.reply_text, returned.body) == (
        "basic.return",
        312,
        "NO_ROUTE",
        b"m",
    )
    assert (confirm.name, confirm.delivery_tag) == ("basic.ack", 1)


def test_a_closed_channel_confirms_nothing(world: World, confirming: Peer) -> None:
    confirming.publish(1, "d", b"m", persistent=True).send(1, "channel.close", reply_code=200)
    confirming.send(1, "channel.open").take()
    world.commit()
    assert confirming.take() == []


def test_publishes_before_confirm_select_are_not_counted(peer: Peer) -> None:
    peer.publish(1, "t", b"m").send(1, "confirm.select").publish(1, "t", b"m")
    assert [(item.name, item.arguments.get("delivery_tag")) for item in peer.take()] == [
        ("confirm.select-ok", None),
        ("basic.ack", 1),
    ]


# -- transactions


def select(peer: Peer) -> Peer:
    peer.send(1, "tx.select").take()
    return peer


def test_tx_commit_is_answered_when_the_transaction_is_durable(world: World, peer: Peer) -> None:
    select(peer).publish(1, "d", b"m", persistent=True).send(1, "tx.commit")
    assert peer.take() == []
    world.seal()
    assert peer.take() == []
    world.commit_oldest()
    assert peer.names() == ["tx.commit-ok"]


def test_a_transaction_is_one_batch_whatever_its_queues(world: World, peer: Peer) -> None:
    peer.send(1, "queue.declare", queue="e", durable=True)
    peer.publish(1, "d", b"old", persistent=True)
    world.commit()
    select(peer)
    peer.send(1, "basic.get", queue="d").send(1, "basic.ack", delivery_tag=1)
    for queue in ("d", "e"):
        peer.publish(1, queue, b"new", persistent=True)
        world.commit()
    assert bodies_on_disk(world) == {"d": [b"old"], "e": []}
    peer.send(1, "tx.commit")
    assert bodies_on_disk(world) == {"d": [b"old"], "e": []}
    world.seal()
    world.commit_oldest()
    assert world.store.idle
    assert bodies_on_disk(world) == {"d": [b"new"], "e": [b"new"]}


def bodies_on_disk(world: World) -> dict[str, list[bytes]]:
    return {name: world.store.stored(world.queue(name).store_id) for name in ("d", "e")}


def test_nothing_of_a_transaction_shows_before_its_commit(world: World, peer: Peer) -> None:
    select(peer).publish(1, "t", b"held")
    assert world.queue("t").ready_count() == 0
    peer.send(1, "tx.commit")
    assert world.queue("t").ready_count() == 1


def test_rollback_forgets_publishes_and_gives_settled_deliveries_back_to_the_channel(
    world: World, peer: Peer
) -> None:
    peer.publish(1, "t", b"1").publish(1, "t", b"2")
    select(peer)
    peer.send(1, "basic.get", queue="t").send(1, "basic.get", queue="t").publish(1, "t", b"3").take()
    peer.send(1, "basic.ack", delivery_tag=2).send(1, "basic.reject", delivery_tag=1, requeue=True)
    assert peer.reply(1, "tx.rollback").name == "tx.rollback-ok"
    assert world.queue("t").ready_count() == 0
    assert world.queue("t").unacked == 2
    peer.send(1, "basic.ack", delivery_tag=2, multiple=True).send(1, "tx.commit")
    world.commit()
    assert peer.names() == ["tx.commit-ok"]
    assert world.queue("t").unacked == 0


def test_a_delivery_settled_in_a_transaction_is_not_settled_twice(peer: Peer) -> None:
    peer.publish(1, "t", b"1")
    select(peer).send(1, "basic.get", queue="t").send(1, "basic.ack", delivery_tag=1).take()
    close: Received = peer.reply(1, "basic.ack", delivery_tag=1)
    assert close.reply_text == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_a_transactions_turn_is_one_though_it_comes_with_other_things(world: World, peer: Peer) -> None:
    select(peer)
    peer.say(
        message(1, "d", b"1", persistent=True)
        + message(1, "d", b"2", persistent=True)
        + method(1, "tx.commit")
        + message(1, "d", b"3", persistent=True)
    )
    world.commit()
    assert world.store.stored(world.queue("d").store_id) == [b"1", b"2"]
    assert peer.names() == ["tx.commit-ok"]

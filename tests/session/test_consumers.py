"""Consumers of the pure session: prefetch, saturation, cancelling and what comes after it."""

from __future__ import annotations

import pytest

from tests.session.world import Peer, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Peer:
    peer = world.connect()
    for queue in ("q", "r"):
        peer.send(1, "queue.declare", queue=queue)
    peer.take()
    return peer


def publish(peer: Peer, *bodies: bytes, queue: str = "q") -> None:
    for body in bodies:
        peer.publish(1, queue, body)


def test_a_consumer_gets_what_is_there_after_its_consume_ok(peer: Peer) -> None:
    publish(peer, b"1", b"2")
    peer.send(1, "basic.consume", queue="q", consumer_tag="t")
    received = peer.take()
    assert [item.name for item in received] == ["basic.consume-ok", "basic.deliver", "basic.deliver"]
    assert [(item.consumer_tag, item.delivery_tag, item.body) for item in received[1:]] == [
        ("t", 1, b"1"),
        ("t", 2, b"2"),
    ]


def test_prefetch_of_one_lets_one_through_at_a_time(peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1).send(1, "basic.consume", queue="q").take()
    publish(peer, b"1", b"2", b"3")
    assert peer.bodies() == [b"1"]
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.bodies() == [b"2"]
    peer.send(1, "basic.reject", delivery_tag=2, requeue=False)
    assert peer.bodies() == [b"3"]


def test_a_shared_prefetch_counts_the_deliveries_of_all_consumers_of_one_queue(peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1, global_=True)
    peer.send(1, "basic.consume", queue="q").send(1, "basic.consume", queue="q").take()
    publish(peer, b"1", b"2", b"3")
    assert peer.bodies() == [b"1"]
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.bodies() == [b"2"]


def test_a_shared_prefetch_counts_the_deliveries_from_all_queues(peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1, global_=True)
    peer.send(1, "basic.consume", queue="q").send(1, "basic.consume", queue="r").take()
    publish(peer, b"1", queue="q")
    publish(peer, b"2", queue="r")
    assert peer.bodies() == [b"1"]
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.bodies() == [b"2"]


@pytest.mark.parametrize("queues", ["qr", "qrs"])
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("basic.ack", {}),
        ("basic.ack", {"multiple": True}),
        ("basic.nack", {"requeue": False}),
        ("basic.reject", {"requeue": False}),
    ],
)
def test_a_shared_prefetch_gives_each_consumer_its_turn(
    peer: Peer, queues: str, method: str, arguments: dict[str, bool]
) -> None:
    rounds = 4
    peer.send(1, "queue.declare", queue="s").send(1, "basic.qos", prefetch_count=1, global_=True)
    for queue in queues:
        publish(peer, *[queue.encode()] * (rounds + 1), queue=queue)
        peer.send(1, "basic.consume", queue=queue)
    peer.take()
    turns = []
    for delivery_tag in range(1, rounds * len(queues) + 1):
        peer.send(1, method, delivery_tag=delivery_tag, **arguments)
        [body] = peer.bodies()
        turns.append(body.decode())
    for start in range(0, len(turns), len(queues)):
        assert sorted(turns[start : start + len(queues)]) == sorted(queues), turns


def test_a_turn_that_a_consumer_has_no_message_for_is_the_next_ones(world: World, peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1, global_=True)
    publish(peer, *[b"m"] * 6, queue="r")
    peer.send(1, "basic.consume", queue="q").send(1, "basic.consume", queue="r").take()
    for delivery_tag in range(1, 6):
        peer.send(1, "basic.ack", delivery_tag=delivery_tag)
        assert peer.bodies() == [b"m"]
    assert world.queue("r").ready_count() == 0


def test_a_shared_prefetch_set_while_consumers_wait_holds_for_them(peer: Peer) -> None:
    peer.send(1, "basic.consume", queue="q").take()
    publish(peer, b"1")
    peer.send(1, "basic.qos", prefetch_count=1, global_=True).take()
    publish(peer, b"2")
    assert peer.bodies() == []
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.bodies() == [b"2"]


@pytest.mark.parametrize("no_ack_first", [True, False])
def test_a_shared_prefetch_that_is_reached_holds_for_consumers_without_acknowledgements_too(
    peer: Peer, no_ack_first: bool
) -> None:
    """As RabbitMQ 3.10.8 has it, though their deliveries do not count."""
    peer.send(1, "basic.qos", prefetch_count=1, global_=True)
    if no_ack_first:
        peer.send(1, "basic.consume", queue="r", no_ack=True)
    peer.send(1, "basic.consume", queue="q").take()
    publish(peer, b"1", queue="q")
    if not no_ack_first:
        peer.send(1, "basic.consume", queue="r", no_ack=True)
    publish(peer, b"2", b"3", queue="r")
    assert [item.body for item in peer.take() if item.name == "basic.deliver"] == [b"1"]
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.bodies() == [b"2", b"3"]


def test_a_requeued_message_comes_first_again(peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1).send(1, "basic.consume", queue="q").take()
    publish(peer, b"1", b"2")
    assert peer.bodies() == [b"1"]
    peer.send(1, "basic.nack", delivery_tag=1, requeue=True)
    again = peer.take()[0]
    assert (again.body, again.redelivered, again.delivery_tag) == (b"1", True, 2)


def test_nothing_is_delivered_after_cancel_ok(world: World, peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1).send(1, "basic.consume", queue="q", consumer_tag="t").take()
    publish(peer, b"1", b"2")
    peer.take()
    peer.send(1, "basic.cancel", consumer_tag="t").send(1, "basic.ack", delivery_tag=1)
    assert peer.names() == ["basic.cancel-ok"]
    assert world.queue("q").ready_count() == 1


def test_a_tag_used_again_does_not_bring_its_first_consumer_back(world: World, peer: Peer) -> None:
    peer.send(1, "basic.qos", prefetch_count=1)
    peer.send(1, "basic.consume", queue="q", consumer_tag="t")
    publish(peer, b"1", b"2", b"3")
    peer.send(1, "basic.cancel", consumer_tag="t").send(
        1, "basic.consume", queue="r", consumer_tag="t"
    ).take()
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.bodies() == []
    peer.send(1, "basic.cancel", consumer_tag="t")
    assert peer.names() == ["basic.cancel-ok"]
    assert world.queue("q").ready_count() == 2


def test_deleting_a_queue_cancels_its_consumers(peer: Peer) -> None:
    peer.send(1, "basic.consume", queue="q", consumer_tag="t").take()
    peer.send(1, "queue.delete", queue="q")
    assert sorted(peer.names()) == ["basic.cancel", "queue.delete-ok"]


def test_a_consumer_that_does_not_want_to_know_is_not_told(world: World, peer: Peer) -> None:
    simple = world.connect(capabilities={})
    simple.send(1, "basic.consume", queue="q").take()
    peer.send(1, "queue.delete", queue="q")
    assert simple.names() == []


# -- output that does not go out


def test_a_connection_whose_socket_is_stuck_gets_no_more_than_the_high_water_mark(
    world: World, peer: Peer
) -> None:
    world.settings.high_water, world.settings.low_water = 10_000, 2_000
    slow = world.connect()
    slow.stuck = True
    slow.send(1, "basic.consume", queue="q", no_ack=True)
    for _ in range(100):
        publish(peer, b"x" * 1000)
    assert slow.connection.saturated
    assert slow.connection.output_size < 12_000
    assert world.queue("q").ready_count() >= 88
    slow.flow_again()
    assert not slow.connection.saturated
    assert [item.name for item in slow.take()] == ["basic.consume-ok"] + ["basic.deliver"] * 100
    assert world.queue("q").ready_count() == 0


def test_deliveries_go_on_in_order_after_a_stuck_socket(world: World, peer: Peer) -> None:
    world.settings.high_water, world.settings.low_water = 3_000, 1_000
    slow = world.connect()
    slow.stuck = True
    slow.send(1, "basic.consume", queue="q")
    for number in range(50):
        publish(peer, b"%04d" % number * 100)
    slow.flow_again()
    assert [item.body[:4] for item in slow.take()[1:]] == [b"%04d" % number for number in range(50)]


def test_a_stuck_connection_leaves_the_messages_to_the_others(world: World, peer: Peer) -> None:
    world.settings.high_water, world.settings.low_water = 3_000, 1_000
    slow, quick = world.connect(), world.connect()
    slow.stuck = True
    for consumer in (slow, quick):
        consumer.send(1, "basic.consume", queue="q", no_ack=True)
    quick.take()
    for _ in range(50):
        publish(peer, b"x" * 1000)
    assert len(quick.bodies()) >= 45
    assert world.queue("q").ready_count() == 0


def test_a_consumer_made_while_its_connection_is_stuck_waits(world: World, peer: Peer) -> None:
    world.settings.high_water, world.settings.low_water = 3_000, 1_000
    slow = world.connect(channels=2)
    slow.stuck = True
    slow.send(1, "basic.consume", queue="q", no_ack=True)
    for _ in range(10):
        publish(peer, b"x" * 1000)
    publish(peer, b"other", queue="r")
    slow.send(2, "basic.consume", queue="r", no_ack=True)
    assert world.queue("r").ready_count() == 1
    slow.flow_again()
    assert world.queue("r").ready_count() == 0


def test_what_waits_for_the_disk_counts_as_output_that_did_not_go_out(world: World, peer: Peer) -> None:
    world.settings.high_water, world.settings.low_water = 10_000, 2_000
    reader = world.connect()
    reader.send(1, "queue.declare", queue="durable", durable=True)
    reader.send(1, "basic.consume", queue="q", no_ack=True)
    for _ in range(100):
        publish(peer, b"x" * 1000)
    assert world.queue("q").ready_count() >= 88
    world.commit()
    assert len(reader.take()) == 102


@pytest.mark.parametrize("channels", [1, 2])
def test_consumers_share_the_room_of_a_slow_connection(world: World, peer: Peer, channels: int) -> None:
    world.settings.high_water, world.settings.low_water = 3_000, 1_000
    for queue in ("q", "r"):
        publish(peer, *[queue.encode() * 1000] * 40, queue=queue)
    slow = world.connect(channels=2)
    slow.stuck = True
    slow.send(1, "basic.consume", queue="q", no_ack=True)
    slow.send(channels, "basic.consume", queue="r", no_ack=True)
    slow.flow_again()
    first_half = [item.body[:1] for item in slow.take() if item.name == "basic.deliver"][:40]
    assert 15 <= first_half.count(b"q") <= 25


def test_a_shared_prefetch_gives_each_its_turn_though_each_message_fills_the_output(
    world: World, peer: Peer
) -> None:
    world.settings.high_water, world.settings.low_water = 500, 100
    peer.send(1, "basic.qos", prefetch_count=1, global_=True)
    for queue in ("q", "r"):
        publish(peer, *[queue.encode() * 1000] * 6, queue=queue)
        peer.send(1, "basic.consume", queue=queue)
    peer.take()
    turns = b""
    for delivery_tag in range(1, 9):
        peer.send(1, "basic.ack", delivery_tag=delivery_tag)
        [body] = peer.bodies()
        turns += body[:1]
    assert turns in {b"qr" * 4, b"rq" * 4}

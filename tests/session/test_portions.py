"""What concerns more deliveries than a turn has time for: it takes several, and the outcome is that of one.

Here a portion is a few deliveries, and the rest waits until the test lets it go on: so others come in between.
"""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import QueueEntry
from tests.broker.house import START
from tests.broker.ledger_store import LedgerStore
from tests.session.world import ENDS, Peer, Received, World, method

HELD = 10
WAYS = ["nack", "recover", *ENDS]


@pytest.fixture
def world() -> World:
    return World(portion=3, patient=True)


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


def declare(peer: Peer, queue: str = "q", **options: object) -> None:
    assert peer.reply(1, "queue.declare", queue=queue, **options).name == "queue.declare-ok"


def publish(peer: Peer, bodies: list[bytes], queue: str = "q", **options: object) -> None:
    for body in bodies:
        peer.publish(1, queue, body, **options)


def give_back(peer: Peer, how: str) -> None:
    """All that the peer holds on channel 1 goes back."""
    if how == "nack":
        peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    elif how == "recover":
        peer.send(1, "basic.recover", requeue=True)
    else:
        peer.end(how)


def go_on(world: World) -> int:
    """Let everything come to its end; how many turns that took."""
    turns = 0
    while len(world.broker.chores):
        world.go_on()
        turns += 1
    return turns


def got(peer: Peer, queue: str = "q") -> list[bytes]:
    """All that is ready in a queue."""
    found = []
    while (item := got_one(peer, queue)).name == "basic.get-ok":
        found.append(item.body)
    return found


def got_one(peer: Peer, queue: str = "q") -> Received:
    return peer.reply(1, "basic.get", queue=queue, no_ack=True)


def holding(world: World, bodies: list[bytes], **options: object) -> tuple[Peer, Peer]:
    """Somebody who has got messages from a queue one by one, and somebody else."""
    other, peer = world.connect(channels=2), world.connect(channels=2)
    declare(other, **options)
    publish(other, bodies)
    for _ in bodies:
        peer.send(1, "basic.get", queue="q")
    peer.take()
    return other, peer


# -- what goes back


@pytest.mark.parametrize("how", WAYS)
def test_what_goes_back_is_all_there_at_once_and_before_what_came_later(world: World, how: str) -> None:
    other, peer = holding(world, numbered(0, HELD))
    give_back(peer, how)
    publish(other, [b"later"])
    assert world.queue("q").statistics().unacked == HELD
    assert got_one(other).body == b"later"
    publish(other, [b"last"])
    assert go_on(world) > HELD // 3
    assert world.queue("q").statistics().unacked == 0
    assert got(other) == [*numbered(0, HELD), b"last"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("arguments", [{"x-max-priority": 3}, {"x-queue-type": "quorum"}])
def test_other_queues_have_their_own_order(world: World, how: str, arguments: dict[str, object]) -> None:
    other, peer = world.connect(channels=2), world.connect()
    other.send(1, "queue.declare", queue="q", durable=True, arguments=arguments)
    world.commit()
    other.take()
    for number in range(HELD):
        other.publish(1, "q", b"%d" % number, priority=number % 3)
    expected = []
    while (item := peer.reply(1, "basic.get", queue="q")).name == "basic.get-ok":
        expected.append(item.body)
    give_back(peer, how)
    go_on(world)
    # A quorum queue without a delivery limit has what is refused at its end, which is the same order here.
    assert got(other) == expected


@pytest.mark.parametrize("how", WAYS)
def test_consumers_take_turns_in_what_came_back_as_if_it_had_come_back_at_once(how: str) -> None:
    logs = []
    for portion in (0, 3):
        world = World(portion=portion)
        other, peer = holding(world, numbered(0, HELD))
        other.send(2, "basic.qos", prefetch_count=1)
        for tag in ("a", "b"):
            other.send(2, "basic.consume", queue="q", consumer_tag=tag)
        other.take()
        give_back(peer, how)
        log = []
        while deliveries := [item for item in other.take() if item.name == "basic.deliver"]:
            for item in deliveries:
                log.append((item.consumer_tag, item.body))
                other.send(2, "basic.ack", delivery_tag=item.delivery_tag)
        logs.append(log)
    assert logs[0] == logs[1]
    assert [body for _, body in logs[0]] == numbered(0, HELD)


def test_what_goes_to_the_end_of_a_queue_is_given_to_who_waits_there(world: World) -> None:
    other, peer = world.connect(), world.connect()
    other.send(1, "queue.declare", queue="q", durable=True, arguments={"x-queue-type": "quorum"})
    world.commit()
    publish(other, numbered(0, HELD))
    other.take()
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    other.send(1, "basic.consume", queue="q")
    other.take()
    give_back(peer, "nack")
    publish(other, [b"later"])
    go_on(world)
    assert sorted(other.bodies()) == sorted([*numbered(0, HELD), b"later"])
    assert world.queue("q").statistics().ready == 0


def test_what_several_had_in_turns_is_in_one_order_again(world: World) -> None:
    other, first, second = world.connect(), world.connect(), world.connect()
    declare(other)
    for peer in (first, second):
        peer.send(1, "basic.consume", queue="q")
    publish(other, numbered(0, 40))
    first.lose()
    go_on(world)
    second.send(1, "basic.cancel", consumer_tag=next(iter(second.connection.channels[1].consumers)))
    second.lose()
    go_on(world)
    assert got(other) == numbered(0, 40)


def test_a_consumer_gets_back_what_it_refused_and_then_goes_on(world: World) -> None:
    other, peer = world.connect(), world.connect()
    declare(other)
    peer.send(1, "basic.qos", prefetch_count=HELD).send(1, "basic.consume", queue="q")
    publish(other, numbered(0, HELD + 2))
    assert [item.body for item in peer.take() if item.name == "basic.deliver"] == numbered(0, HELD)
    give_back(peer, "nack")
    assert peer.take() == []
    go_on(world)
    again = peer.take()
    assert [item.body for item in again] == numbered(0, HELD)
    assert [item.delivery_tag for item in again] == list(range(HELD + 1, 2 * HELD + 1))
    peer.send(1, "basic.ack", delivery_tag=0, multiple=True)
    assert peer.take() == []
    go_on(world)
    assert peer.bodies() == numbered(HELD, HELD + 2)


@pytest.mark.parametrize("how", WAYS)
def test_a_purge_in_between_finds_what_is_there(world: World, how: str) -> None:
    other, peer = holding(world, numbered(0, HELD))
    publish(other, [b"ready"])
    give_back(peer, how)
    world.go_on()
    assert other.reply(1, "queue.purge", queue="q").message_count == 1
    go_on(world)
    assert got(other) == numbered(0, HELD)


@pytest.mark.parametrize("how", WAYS)
def test_a_queue_deleted_in_between_takes_it_all_along(world: World, how: str) -> None:
    other, peer = holding(world, numbered(0, HELD), durable=False)
    queue = world.queue("q")
    give_back(peer, how)
    world.go_on()
    assert other.reply(1, "queue.delete", queue="q").message_count == 0
    declare(other)
    go_on(world)
    assert (queue.unacked, queue.ready_count()) == (0, 0)
    assert got(other) == []


@pytest.mark.parametrize("how", WAYS)
def test_persistent_messages_are_there_after_a_crash_in_between(how: str) -> None:
    world = World(portion=3, patient=True)
    other, peer = world.connect(), world.connect()
    other.send(1, "queue.declare", queue="q", durable=True)
    publish(other, numbered(0, HELD), persistent=True)
    world.commit()
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    give_back(peer, how)
    world.go_on()
    world.commit()
    again = World(world.store.survivor())
    assert got(again.connect()) == numbered(0, HELD)


@pytest.mark.parametrize("how", WAYS)
def test_what_came_back_too_often_is_dead_in_order(world: World, how: str) -> None:
    arguments = {"x-delivery-limit": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    other, peer = world.connect(), world.connect()
    declare(other, "dead")
    other.send(1, "queue.declare", queue="q", durable=True, arguments=arguments | {"x-queue-type": "quorum"})
    world.commit()
    publish(other, numbered(0, HELD))
    other.take()
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    give_back(peer, how)
    go_on(world)
    assert world.queue("q").statistics().unacked == 0
    assert got(other, "dead") == numbered(0, HELD)


@pytest.mark.parametrize("how", WAYS)
def test_what_is_over_a_limit_goes_from_the_head(world: World, how: str) -> None:
    other, peer = holding(world, numbered(0, HELD), arguments={"x-max-length": HELD})
    publish(other, [b"a", b"b"])
    give_back(peer, how)
    go_on(world)
    assert got(other) == [*numbered(2, HELD), b"a", b"b"]


@pytest.mark.parametrize("how", WAYS)
def test_what_is_over_time_is_gone_when_it_comes_back(world: World, how: str) -> None:
    world.broker.clock.milliseconds = START
    other, peer = holding(world, numbered(0, HELD), arguments={"x-message-ttl": 1000})
    give_back(peer, how)
    world.go_on()
    world.broker.clock.milliseconds += 2000
    publish(other, [b"alive"])
    go_on(world)
    assert got(other) == [b"alive"]


@pytest.mark.parametrize("how", WAYS)
def test_what_waits_for_its_next_try_is_not_ready(world: World, how: str) -> None:
    world.broker.clock.milliseconds = START
    arguments = {"x-delayed-retry-type": "all", "x-delayed-retry-min": 1000}
    other, peer = world.connect(), world.connect()
    other.send(1, "queue.declare", queue="q", durable=True, arguments=arguments | {"x-queue-type": "quorum"})
    world.commit()
    publish(other, numbered(0, HELD))
    other.take()
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    give_back(peer, how)
    go_on(world)
    found = world.queue("q").statistics()
    assert (found.ready, found.unacked, found.delayed) == (0, 0, HELD)
    world.broker.clock.milliseconds += 1000
    world.broker.timetable.run_due()
    assert got(other) == numbered(0, HELD)


# -- what is settled for good


@pytest.mark.parametrize("tag", [0, HELD])
def test_one_acknowledgement_of_many_takes_its_turns(world: World, tag: int) -> None:
    other, peer = holding(world, numbered(0, HELD))
    peer.send(1, "basic.ack", delivery_tag=tag, multiple=True)
    assert world.queue("q").statistics().unacked == HELD
    assert go_on(world) > HELD // 3
    assert world.queue("q").statistics().unacked == 0
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.names() == ["channel.close"]
    assert got(other) == []


def test_an_acknowledgement_up_to_a_tag_spares_what_is_above_it(world: World) -> None:
    other, peer = holding(world, numbered(0, HELD))
    peer.send(1, "basic.ack", delivery_tag=3).send(1, "basic.ack", delivery_tag=HELD - 2, multiple=True)
    go_on(world)
    peer.lose()
    go_on(world)
    assert got(other) == numbered(HELD - 2, HELD)


def test_few_deliveries_with_tags_far_apart_are_settled_as_well(world: World) -> None:
    other, peer = world.connect(), world.connect()
    declare(other)
    kept = []
    for number in range(200):
        publish(other, [b"%d" % number])
        tag = peer.reply(1, "basic.get", queue="q").delivery_tag
        if number % 40:
            peer.send(1, "basic.ack", delivery_tag=tag)
        else:
            kept.append(b"%d" % number)
    assert len(kept) == 5
    peer.send(1, "basic.nack", delivery_tag=161, multiple=True, requeue=True)
    go_on(world)
    assert got(other) == kept


def test_rejected_messages_are_dead_letters_in_order(world: World) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    other, peer = holding(world, numbered(0, HELD), arguments=arguments)
    declare(other, "dead")
    peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=False)
    go_on(world)
    assert got(other, "dead") == numbered(0, HELD)
    assert world.queue("q").statistics().unacked == 0


@pytest.mark.parametrize("settled", ["ack", "nack"])
@pytest.mark.parametrize("how", ENDS)
def test_what_was_begun_is_settled_as_it_was_meant_when_the_channel_ends(
    world: World, how: str, settled: str
) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    other, peer = holding(world, numbered(0, HELD), arguments=arguments)
    declare(other, "dead")
    options = {} if settled == "ack" else {"requeue": False}
    peer.send(1, f"basic.{settled}", delivery_tag=HELD - 2, multiple=True, **options)
    world.go_on()
    assert len(world.broker.chores) == 1
    give_back(peer, how)
    go_on(world)
    assert world.queue("q").statistics().unacked == 0
    assert got(other) == numbered(HELD - 2, HELD)
    assert got(other, "dead") == ([] if settled == "ack" else numbered(0, HELD - 2))


@pytest.mark.parametrize("how", ENDS)
def test_what_was_going_back_already_goes_back_once_when_the_channel_ends(world: World, how: str) -> None:
    other, peer = holding(world, numbered(0, HELD))
    give_back(peer, "nack")
    world.go_on()
    give_back(peer, how)
    go_on(world)
    assert got(other) == numbered(0, HELD)


def test_a_quorum_queue_has_back_in_order_what_a_lost_transaction_had_settled(world: World) -> None:
    other, peer = world.connect(), world.connect()
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5}
    other.send(1, "queue.declare", queue="q", durable=True, arguments=arguments)
    world.commit()
    publish(other, numbered(0, HELD))
    other.take()
    peer.send(1, "tx.select")
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    peer.send(1, "basic.ack", delivery_tag=0, multiple=True)
    peer.lose()
    go_on(world)
    assert got(other) == numbered(0, HELD)


@pytest.mark.parametrize("end", ["commit", "rollback", *ENDS])
def test_a_transaction_holds_many_settlements(world: World, end: str) -> None:
    other, peer = world.connect(channels=2), world.connect()
    declare(other)
    publish(other, numbered(0, HELD))
    peer.send(1, "tx.select")
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    peer.send(1, "basic.ack", delivery_tag=0, multiple=True)
    if end in ("commit", "rollback"):
        peer.send(1, f"tx.{end}")
        go_on(world)
        world.commit()
        assert peer.take()[-1].name == f"tx.{end}-ok"
        peer.lose()
    else:
        world.go_on()
        give_back(peer, end)
    go_on(world)
    assert got(other) == ([] if end == "commit" else numbered(0, HELD))


# -- the connection meanwhile


@pytest.mark.parametrize("how", ["nack", "recover", "channel.close"])
def test_what_a_client_says_next_is_heard_when_it_is_done(world: World, how: str) -> None:
    _, peer = holding(world, numbered(0, HELD))
    give_back(peer, how)
    peer.take()
    assert peer.connection.settling.holds
    peer.send(2, "basic.get", queue="q", no_ack=True)
    peer.send(2, "queue.declare", queue="q", passive=True)
    assert peer.take() == []
    go_on(world)
    assert not peer.connection.settling.holds
    first, then = peer.take()
    assert (first.body, then.message_count) == (b"0", HELD - 1)


def test_replies_do_not_wait(world: World) -> None:
    _, peer = holding(world, numbered(0, HELD))
    give_back(peer, "recover")
    assert peer.names() == ["basic.recover-ok"]
    go_on(world)
    give_back(peer, "channel.close")
    assert peer.names() == ["channel.close-ok"]


def test_others_are_heard_meanwhile(world: World) -> None:
    other, peer = holding(world, numbered(0, HELD))
    give_back(peer, "nack")
    assert got_one(other).name == "basic.get-empty"
    publish(other, [b"new"])
    assert got_one(other).body == b"new"
    assert len(world.broker.chores) == 1


def test_the_chores_of_two_connections_take_turns(world: World) -> None:
    other, first = holding(world, numbered(0, HELD))
    second = world.connect()
    declare(other, "r")
    publish(other, numbered(0, HELD), "r")
    for _ in range(HELD):
        second.send(1, "basic.get", queue="r")
    for peer in (first, second):
        peer.send(1, "basic.ack", delivery_tag=0, multiple=True)
    while len(world.broker.chores):
        world.go_on()
        gap = world.queue("q").unacked - world.queue("r").unacked
        assert abs(gap) <= 3


def test_a_close_by_the_broker_in_between_is_answered_at_once(world: World) -> None:
    other, peer = holding(world, numbered(0, HELD))
    give_back(peer, "nack")
    peer.connection.shut_down("shutdown", world.now)
    world.end_turn()
    assert peer.names() == ["connection.close"]
    peer.send(0, "connection.close-ok")
    assert peer.connection.finished
    go_on(world)
    assert got(other) == numbered(0, HELD)


def test_exclusive_queues_go_at_once_with_a_connection_that_holds_much(world: World) -> None:
    peer = world.connect()
    declare(peer, exclusive=True)
    publish(peer, numbered(0, HELD))
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    peer.lose()
    assert "q" not in world.vhost.queues
    go_on(world)
    assert not world.vhost.unsettled


def test_an_automatically_deleted_queue_goes_with_its_consumer_when_all_is_back(world: World) -> None:
    other, peer = world.connect(), world.connect()
    declare(other, auto_delete=True)
    peer.send(1, "basic.consume", queue="q")
    publish(other, numbered(0, HELD))
    peer.lose()
    go_on(world)
    assert "q" not in world.vhost.queues


def test_the_next_single_active_consumer_follows_when_all_is_back(world: World) -> None:
    other, peer = world.connect(), world.connect()
    declare(other, arguments={"x-single-active-consumer": True})
    peer.send(1, "basic.consume", queue="q")
    publish(other, numbered(0, HELD))
    other.send(1, "basic.consume", queue="q", consumer_tag="next")
    other.take()
    peer.lose()
    publish(other, [b"later"])
    assert other.take() == []
    go_on(world)
    assert other.bodies() == [*numbered(0, HELD), b"later"]


class Full(LedgerStore):
    """Has memory for so many deletes, and then none for a moment."""

    room = 1 << 20

    def delete(self, queue_id: int, entry: QueueEntry) -> None:
        self.room -= 1
        if self.room < 0:
            self.room = 1 << 20
            raise MemoryError
        super().delete(queue_id, entry)


@pytest.mark.parametrize("room", [0, 2, 3, 7])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_goes_wrong_in_between_ends_the_connection_and_nobody_elses(at_once: bool, room: int) -> None:
    """at_once: in the turn of the method, which has time for all of it."""
    store = Full()
    world = World(store, portion=3, patient=True)
    other, peer = world.connect(), world.connect()
    other.send(1, "queue.declare", queue="q", durable=True)
    publish(other, numbered(0, HELD), persistent=True)
    world.commit()
    other.take()
    for _ in range(HELD):
        peer.send(1, "basic.get", queue="q")
    if at_once:
        world.settings.clock = float
    store.room = room
    acknowledgement = method(1, "basic.ack", delivery_tag=0, multiple=True)
    if not at_once:
        peer.say(acknowledgement)
    with pytest.raises(MemoryError):
        if at_once:
            peer.say(acknowledgement)
        else:
            go_on(world)
    # The server does so with what fails in the turn of a connection.
    peer.connection.crashed()
    assert peer.connection.finished
    peer.lose()
    go_on(world)
    # The portion that failed is outstanding for good; a start would find its messages.
    assert got(other) == numbered(3 * (room // 3 + 1), HELD)


def test_a_channel_that_gives_back_for_long_is_closed_once(world: World) -> None:
    world.settings.consumer_timeout = 100.0
    peer = world.connect(channels=1)
    declare(peer)
    publish(peer, numbered(0, 50))
    for _ in range(50):
        got_unacknowledged = peer.reply(1, "basic.get", queue="q")
        assert got_unacknowledged.name == "basic.get-ok"
    world.pass_time(190)
    assert [item.name for item in peer.take()] == ["channel.close"]
    assert len(world.broker.chores) > 0
    world.pass_time(60)
    world.pass_time(60)
    assert peer.take() == []
    go_on(world)
    assert world.queue("q").ready_count() == 50

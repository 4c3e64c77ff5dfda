"""Transactions: what waits for the commit, what a rollback undoes, and errors on the way."""

from __future__ import annotations

import pytest

from .client import Channel, Client
from .conftest import Connect, Names


@pytest.fixture
def tx(client: Client) -> Channel:
    channel = client.channel()
    assert channel.call("tx.select") == {}
    return channel


def test_select_may_be_repeated(tx: Channel) -> None:
    assert tx.call("tx.select") == {}


@pytest.mark.parametrize("name", ["tx.commit", "tx.rollback"])
def test_an_empty_transaction_may_end_either_way(tx: Channel, name: str) -> None:
    for _ in range(2):
        assert tx.call(name) == {}


@pytest.mark.parametrize("name", ["tx.commit", "tx.rollback"])
def test_a_channel_without_a_transaction_has_nothing_to_end(channel: Channel, name: str) -> None:
    channel.send(name)
    channel.refuses(406, "channel is not transactional", name)


def test_a_publish_waits_for_the_commit(tx: Channel, channel: Channel, queue: str) -> None:
    tx.publish("a", routing_key=queue)
    tx.publish("b", routing_key=queue)
    tx.hears_nothing()
    assert channel.counts(queue) == (0, 0)
    tx.call("tx.commit")
    assert channel.drain(queue) == ["a", "b"]


def test_a_committed_publish_is_there_when_the_commit_is_answered(
    tx: Channel, connect: Connect, queue: str
) -> None:
    other = connect().channel()
    tx.publish("m", routing_key=queue, delivery_mode=2)
    tx.call("tx.commit")
    assert other.drain(queue) == ["m"]


def test_a_rollback_forgets_the_publishes(tx: Channel, channel: Channel, queue: str) -> None:
    tx.publish("a", routing_key=queue)
    tx.call("tx.rollback")
    tx.publish("b", routing_key=queue)
    tx.call("tx.commit")
    assert channel.drain(queue) == ["b"]


def test_a_transaction_reaches_several_queues(tx: Channel, channel: Channel, names: Names) -> None:
    queues = [channel.declare(names.queue(), durable=durable) for durable in (True, False, True)]
    for number, queue in enumerate(queues):
        tx.publish(str(number), routing_key=queue, delivery_mode=2)
    tx.call("tx.commit")
    assert [channel.drain(queue) for queue in queues] == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("ending", ["close", "drop", "channel"])
def test_what_is_not_committed_is_forgotten(
    channel: Channel, connect: Connect, queue: str, ending: str
) -> None:
    other = connect()
    tx = other.channel()
    tx.call("tx.select")
    tx.publish("m", routing_key=queue)
    tx.hears_nothing()
    {"close": other.close, "drop": other.drop, "channel": tx.close}[ending]()
    assert channel.counts(queue) == (0, 0)


def test_routes_are_found_when_publishing_not_when_committing(
    tx: Channel, channel: Channel, queue: str
) -> None:
    tx.publish("m", exchange="amq.direct", routing_key=queue)
    tx.hears_nothing()
    channel.bind(queue, "amq.direct", queue)
    tx.call("tx.commit")
    assert channel.drain(queue) == []


def test_a_missing_exchange_is_noticed_at_once(tx: Channel, names: Names) -> None:
    missing = names.exchange()
    tx.publish("m", exchange=missing)
    tx.refuses(404, f"no exchange '{missing}' in vhost '/'", "basic.publish")


def test_an_error_forgets_the_transaction(tx: Channel, channel: Channel, queue: str, names: Names) -> None:
    missing = names.exchange()
    tx.publish("m", routing_key=queue)
    tx.publish("m", exchange=missing)
    tx.refuses(404, f"no exchange '{missing}' in vhost '/'", "basic.publish")
    assert channel.counts(queue) == (0, 0)


def test_an_unroutable_message_comes_back_before_commit_ok(tx: Channel) -> None:
    for body in "ab":
        tx.publish(body, exchange="amq.direct", routing_key="unbound", mandatory=True)
    tx.send("tx.commit")
    seen = [tx.receive() for _ in range(3)]
    assert [reply.name for reply in seen] == ["basic.return", "basic.return", "tx.commit-ok"]
    assert [reply.body for reply in seen[:2]] == [b"a", b"b"]


def test_an_unroutable_message_rolled_back_does_not_come_back(tx: Channel) -> None:
    tx.publish("m", exchange="amq.direct", routing_key="unbound", mandatory=True)
    tx.call("tx.rollback")
    tx.call("tx.commit")
    tx.hears_nothing()


# acknowledgements


def taken(tx: Channel, channel: Channel, queue: str, bodies: str) -> None:
    """Messages published outside of the transaction and got within it, so many as there are letters."""
    for body in bodies:
        channel.publish(body, routing_key=queue)
    channel.counts_become(queue, len(bodies), 0)
    for _ in bodies:
        assert tx.get(queue, no_ack=False) is not None


def given_back(tx: Channel, queue: str) -> list[str]:
    """What the transaction has not settled when its channel closes."""
    tx.close()
    tx.open()
    return tx.drain(queue)


def test_a_committed_ack_counts(tx: Channel, channel: Channel, queue: str) -> None:
    taken(tx, channel, queue, "abc")
    tx.send("basic.ack", delivery_tag=2)
    tx.call("tx.commit")
    assert given_back(tx, queue) == ["a", "c"]


def test_an_ack_not_committed_does_not_count(tx: Channel, channel: Channel, queue: str) -> None:
    taken(tx, channel, queue, "abc")
    tx.send("basic.ack", delivery_tag=2, multiple=True)
    assert given_back(tx, queue) == ["a", "b", "c"]


def test_a_rolled_back_ack_can_be_given_again(tx: Channel, channel: Channel, queue: str) -> None:
    taken(tx, channel, queue, "abc")
    tx.send("basic.ack", delivery_tag=2)
    tx.call("tx.rollback")
    tx.send("basic.ack", delivery_tag=2)
    tx.call("tx.commit")
    assert given_back(tx, queue) == ["a", "c"]


def test_a_rollback_does_not_deliver_again(tx: Channel, channel: Channel, queue: str) -> None:
    taken(tx, channel, queue, "ab")
    tx.send("basic.ack", delivery_tag=0, multiple=True)
    tx.call("tx.rollback")
    assert tx.get(queue) is None


def test_a_tag_acked_twice_within_a_transaction_is_unknown(tx: Channel, channel: Channel, queue: str) -> None:
    taken(tx, channel, queue, "ab")
    tx.send("basic.ack", delivery_tag=1)
    tx.send("basic.ack", delivery_tag=1)
    tx.refuses(406, "unknown delivery tag 1", "basic.ack")
    channel.counts_become(queue, 2, 0)


def test_an_unknown_tag_is_noticed_at_once(tx: Channel) -> None:
    tx.send("basic.ack", delivery_tag=5)
    tx.refuses(406, "unknown delivery tag 5", "basic.ack")


@pytest.mark.parametrize("method", ["basic.reject", "basic.nack"])
@pytest.mark.parametrize("requeue", [True, False])
def test_a_refusal_waits_for_the_commit(
    tx: Channel, channel: Channel, queue: str, method: str, requeue: bool
) -> None:
    taken(tx, channel, queue, "a")
    tx.send(method, delivery_tag=1, requeue=requeue)
    tx.hears_nothing()
    assert channel.get(queue) is None
    tx.call("tx.commit")
    assert channel.drain(queue) == (["a"] if requeue else [])


def test_acks_and_publishes_are_committed_together(
    tx: Channel, channel: Channel, names: Names, queue: str
) -> None:
    onward = channel.declare(names.queue())
    taken(tx, channel, queue, "a")
    tx.publish("moved", routing_key=onward)
    tx.send("basic.ack", delivery_tag=1)
    tx.call("tx.rollback")
    assert channel.counts(onward) == (0, 0)
    tx.publish("moved", routing_key=onward)
    tx.send("basic.ack", delivery_tag=1)
    tx.call("tx.commit")
    assert channel.drain(onward) == ["moved"]
    assert given_back(tx, queue) == []


def test_an_ack_in_a_transaction_makes_room_for_another_delivery(
    tx: Channel, channel: Channel, queue: str
) -> None:
    for body in "ab":
        channel.publish(body, routing_key=queue)
    tx.call("basic.qos", prefetch_count=1)
    tx.consume(queue)
    tx.expect("basic.deliver", delivery_tag=1)
    tx.send("basic.ack", delivery_tag=1)
    tx.send("tx.commit")
    names = [tx.receive().name, tx.receive().name]
    assert sorted(names) == ["basic.deliver", "tx.commit-ok"]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_a_full_consumer_gives_back_in_a_transaction_is_what_it_gets_next(
    tx: Channel, channel: Channel, names: Names, kind: str
) -> None:
    arguments = {"x-queue-type": kind} | ({"x-delivery-limit": 5} if kind == "quorum" else {})
    queue = channel.declare(names.queue(), durable=True, arguments=arguments)
    for body in "ab":
        channel.publish(body, routing_key=queue)
    channel.counts_become(queue, 2, 0)
    tx.call("basic.qos", prefetch_count=1)
    tx.consume(queue)
    tx.expect("basic.deliver", delivery_tag=1)
    tx.send("basic.nack", delivery_tag=1, requeue=True)
    tx.send("tx.commit")
    replies = {reply.name: reply for reply in (tx.receive(), tx.receive())}
    assert sorted(replies) == ["basic.deliver", "tx.commit-ok"]
    assert (replies["basic.deliver"].body, replies["basic.deliver"]["redelivered"]) == (b"a", True)


def test_declaring_is_not_part_of_a_transaction(tx: Channel, channel: Channel, names: Names) -> None:
    queue = tx.declare(names.queue())
    tx.call("tx.rollback")
    assert channel.counts(queue) == (0, 0)


def test_a_channel_opened_again_has_no_transaction(tx: Channel, queue: str) -> None:
    tx.close()
    tx.open()
    tx.publish("m", routing_key=queue)
    assert tx.drain(queue) == ["m"]


def test_transactions_of_two_channels_do_not_mix(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    for channel in (one, two):
        channel.call("tx.select")
    one.publish("one", routing_key=queue)
    two.publish("two", routing_key=queue)
    two.call("tx.commit")
    one.call("tx.rollback")
    assert two.drain(queue) == ["two"]


def test_a_queue_declared_in_the_place_of_a_deleted_one_gets_what_was_published(
    tx: Channel, channel: Channel, queue: str
) -> None:
    tx.publish("kept", routing_key=queue, mandatory=True)
    tx.hears_nothing()
    channel.call("queue.delete", queue=queue)
    channel.declare(queue)
    tx.call("tx.commit")
    assert channel.arrivals(queue, 1) == ["kept"]

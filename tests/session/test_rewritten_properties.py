"""Headers that a session looks at or rewrites: what it knows of one message never tells on another."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.session.properties import counted
from tests.session.world import Peer, Received, World

COUNT = "x-delivery-count"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Peer:
    peer = world.connect()
    peer.send(1, "queue.declare", queue="q", arguments={"x-delivery-limit": 100})
    peer.send(1, "queue.declare", queue="r", arguments={"x-delivery-limit": 100})
    peer.send(1, "queue.declare", queue="plain")
    peer.take()
    return peer


def get(peer: Peer, queue: str) -> Received:
    return peer.reply(1, "basic.get", queue=queue)


def come_back(peer: Peer, *queues: str) -> None:
    """All that is in these queues is taken and given back."""
    for queue in queues:
        while get(peer, queue).name == "basic.get-ok":
            pass
    peer.send(1, "basic.recover", requeue=True)
    peer.take()


def shown(received: Received) -> dict[str, Any]:
    """The headers that came, as plain values."""
    return {name: typed.value for name, typed in received.properties.get("headers", {}).items()}


def headers(peer: Peer, queue: str) -> list[dict[str, Any]]:
    """Of all that is in a queue, which is taken."""
    found = []
    while (received := get(peer, queue)).name == "basic.get-ok":
        found.append(shown(received))
    return found


# -- how often a message came back


def test_every_return_is_counted_also_of_messages_with_one_header(peer: Peer) -> None:
    for body in (b"1", b"2"):
        peer.publish(1, "q", body)
    assert headers(peer, "q") == [{}, {}]
    for count in range(1, 5):
        peer.send(1, "basic.recover", requeue=True).take()
        assert headers(peer, "q") == [{COUNT: count}] * 2


def test_messages_with_one_header_are_counted_each_by_itself(peer: Peer) -> None:
    peer.publish(1, "q", b"1", headers={"name": "value"})
    come_back(peer, "q")
    peer.publish(1, "q", b"2", headers={"name": "value"})
    come_back(peer, "q")
    peer.publish(1, "q", b"3", headers={"name": "value"})
    found = headers(peer, "q")
    assert found == [{"name": "value", COUNT: 2}, {"name": "value", COUNT: 1}, {"name": "value"}]


def test_a_count_comes_with_the_headers_of_its_own_message(peer: Peer) -> None:
    for queue, value in (("q", "a"), ("r", "b"), ("q", "c"), ("r", "a")):
        peer.publish(1, queue, b"", headers={"name": value})
    come_back(peer, "q", "r")
    assert headers(peer, "q") == [{"name": "a", COUNT: 1}, {"name": "c", COUNT: 1}]
    assert headers(peer, "r") == [{"name": "b", COUNT: 1}, {"name": "a", COUNT: 1}]


def test_a_queue_that_does_not_count_shows_no_count_of_another(peer: Peer) -> None:
    for queue in ("q", "plain"):
        peer.publish(1, queue, b"", headers={"name": "value"})
    come_back(peer, "q", "plain")
    assert headers(peer, "q") == [{"name": "value", COUNT: 1}]
    assert headers(peer, "plain") == [{"name": "value"}]


def test_consumers_are_told_the_count_too(peer: Peer) -> None:
    peer.publish(1, "q", b"1").publish(1, "q", b"2")
    peer.send(1, "basic.consume", queue="q").take()
    for count in (1, 2, 3):
        peer.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
        received = peer.take()
        assert [(item.body, shown(item)) for item in received] == [
            (b"1", {COUNT: count}),
            (b"2", {COUNT: count}),
        ]


def test_messages_with_one_header_share_the_one_with_the_count(world: World, peer: Peer) -> None:
    for body in (b"1", b"2"):
        peer.publish(1, "q", body)
    come_back(peer, "q")
    first, second = world.queue("q").get(), world.queue("q").get()
    assert first is not None
    assert second is not None
    assert counted(first).header is counted(second).header
    second.deliveries += 1
    assert counted(first).header is not counted(second).header


# -- what is checked when a message is published


def test_an_expiration_is_good_until_one_comes_that_is_not(peer: Peer) -> None:
    for _ in range(3):
        peer.publish(1, "plain", b"", expiration="1000")
    assert peer.take() == []
    peer.publish(1, "plain", b"", expiration="soon")
    (closed,) = peer.take()
    assert (closed.name, closed.reply_code) == ("channel.close", 406)


def test_a_message_with_copies_goes_to_all_of_them_each_time(world: World, peer: Peer) -> None:
    for _ in range(3):
        peer.publish(1, "plain", b"", expiration="1000", headers={"CC": ["q"], "BCC": ["r"]})
    assert [world.queue(name).ready_count() for name in ("plain", "q", "r")] == [3, 3, 3]


def test_every_request_for_a_direct_reply_tells_where_to(world: World, peer: Peer) -> None:
    """Also the one that comes after the same header asked for the address of another consumer."""
    addresses = []
    for tag in ("first", "second"):
        peer.send(1, "basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag=tag, no_ack=True).take()
        for _ in range(2):
            peer.publish(1, "plain", b"", expiration="1000", reply_to="amq.rabbitmq.reply-to")
            addresses.append(get(peer, "plain").properties["reply_to"])
        peer.send(1, "basic.cancel", consumer_tag=tag).take()
    assert addresses[0] == addresses[1] != addresses[2] == addresses[3]
    assert all(address.startswith("amq.rabbitmq.reply-to.") for address in addresses)


def test_a_user_id_is_compared_with_the_user_of_the_channel(world: World, peer: Peer) -> None:
    for _ in range(2):
        peer.publish(1, "plain", b"", user_id="guest")
    assert world.queue("plain").ready_count() == 2
    peer.publish(1, "plain", b"", user_id="other")
    (closed,) = peer.take()
    assert (closed.name, closed.reply_code) == ("channel.close", 406)


@pytest.mark.parametrize(
    ("tags", "taken"), [(["monitoring", "impersonator"], True), (["administrator"], False)]
)
def test_only_an_impersonator_publishes_in_the_name_of_others(
    world: World, peer: Peer, tags: list[str], taken: bool
) -> None:
    world.guest.tags = tags
    peer.publish(1, "plain", b"", user_id="other")
    assert peer.names() == ([] if taken else ["channel.close"])
    assert world.queue("plain").ready_count() == (1 if taken else 0)

"""A header x-death that a client publishes: deaths are counted on from it, or it is taken out of the message."""

from __future__ import annotations

from typing import Any

import pytest

from tests.session.world import Peer, Received, World

HISTORY: Any = [{"count": 7, "reason": "rejected", "queue": "work", "exchange": "", "routing-keys": ["work"]}]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ignoring(world: World) -> World:
    world.settings.ignore_deaths = True
    return world


def client(world: World) -> Peer:
    peer = world.connect()
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    peer.send(1, "queue.declare", queue="work", arguments=to_dead)
    peer.send(1, "queue.declare", queue="dead")
    peer.take()
    return peer


def get(peer: Peer, queue: str, *, no_ack: bool = True) -> Received:
    return peer.reply(1, "basic.get", queue=queue, no_ack=no_ack)


def dead_letter(peer: Peer) -> dict[str, Any]:
    """The headers of the message in the queue, once it was rejected."""
    got = get(peer, "work", no_ack=False)
    peer.send(1, "basic.reject", delivery_tag=got.delivery_tag, requeue=False)
    headers: dict[str, Any] = get(peer, "dead").properties["headers"]
    return headers


def count(headers: dict[str, Any]) -> int:
    """Of the one death that the headers tell of."""
    (death,) = headers["x-death"].value
    number: int = death.value["count"].value
    return number


def test_deaths_are_counted_on_unless_it_is_said_otherwise(world: World) -> None:
    peer = client(world)
    peer.publish(1, "work", b"", headers={"x-death": HISTORY})
    assert count(dead_letter(peer)) == 8


def test_a_message_that_a_consumer_publishes_once_more_goes_on_with_its_history(world: World) -> None:
    peer = client(world)
    peer.publish(1, "work", b"")
    for times in range(1, 4):
        headers = dead_letter(peer)
        assert count(headers) == times
        peer.publish(1, "work", b"", headers=headers)


def test_what_is_ignored_is_taken_out_and_the_rest_stays(ignoring: World) -> None:
    peer = client(ignoring)
    peer.publish(1, "work", b"body", headers={"a": 1, "x-death": HISTORY, "b": 2}, priority=3)
    got = get(peer, "work")
    assert {name: typed.value for name, typed in got.properties["headers"].items()} == {"a": 1, "b": 2}
    assert (list(got.properties["headers"]), got.properties["priority"], got.body) == (["a", "b"], 3, b"body")


def test_where_it_is_ignored_the_first_death_is_the_first(ignoring: World) -> None:
    peer = client(ignoring)
    for _ in range(3):
        peer.publish(1, "work", b"", headers={"x-death": HISTORY, "x-first-death-queue": "made up"})
        headers = dead_letter(peer)
        assert count(headers) == 1
        assert headers["x-first-death-queue"].value == headers["x-last-death-queue"].value == "work"


def test_where_it_is_ignored_the_brokers_own_history_goes_on(ignoring: World) -> None:
    peer = client(ignoring)
    circle = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "again"}
    peer.send(1, "queue.declare", queue="again", arguments=circle).take()
    peer.publish(1, "again", b"")
    for times in range(1, 4):
        got = get(peer, "again", no_ack=False)
        if times > 1:
            assert count(got.properties["headers"]) == times - 1
        peer.send(1, "basic.reject", delivery_tag=got.delivery_tag, requeue=False)


def test_where_it_is_ignored_nobody_can_make_up_a_circle(world: World) -> None:
    """A message that is said to have expired in `dead` would not be let into it again."""
    history = [{"count": 1, "reason": "expired", "queue": "dead"}]
    for ignored, arrives in ((False, 0), (True, 1)):
        world.settings.ignore_deaths = ignored
        peer = client(world)
        full = {"x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        peer.send(1, "queue.declare", queue="full", arguments=full).take()
        peer.publish(1, "full", b"", headers={"x-death": history})
        assert world.queue("dead").ready_count() == arrives


def test_a_value_of_that_name_is_no_header_of_that_name(ignoring: World) -> None:
    peer = client(ignoring)
    sent = {"a": {"x-death": "nested"}, "b": "x-death", "x-death-like": 1}
    peer.publish(1, "work", b"", headers=sent)
    assert list(get(peer, "work").properties["headers"]) == list(sent)

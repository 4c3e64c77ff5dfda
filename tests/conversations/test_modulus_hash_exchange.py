"""Modulus-hash exchanges: one binding by the hash of the routing key. RabbitMQ needs its plugin rabbitmq_sharding.

Which queue gets a key is not compared, as every broker hashes in its own way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel
from .conftest import Names
from .spread import spread

Declare = Callable[..., str]
Differs = Callable[..., Any]
KIND = "x-modulus-hash"


@pytest.fixture
def queues(channel: Channel, names: Names) -> list[str]:
    return [channel.declare(names.queue()) for _ in range(3)]


def test_any_arguments_and_any_key_will_do(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange(KIND, arguments={"hash-header": 5, "x-recent-history-length": -1})
    channel.call("exchange.declare", exchange=name, type=KIND, arguments={})
    channel.bind(queue, name, "no number")
    channel.publish("m", exchange=name, routing_key="k")
    assert channel.drain(queue) == ["m"]


def test_keys_are_spread_evenly(channel: Channel, exchange: Declare, queues: list[str]) -> None:
    name = exchange(KIND)
    for queue in queues:
        channel.bind(queue, name)
    for number in range(1200):
        channel.publish(exchange=name, routing_key=f"user.{number}")
    assert spread(channel, queues, 1200) == [pytest.approx(400, rel=0.2)] * 3


def test_a_key_always_goes_the_same_way(channel: Channel, exchange: Declare, queues: list[str]) -> None:
    name = exchange(KIND)
    for queue in queues:
        channel.bind(queue, name)
    for number in range(30):
        channel.publish(str(number % 5), exchange=name, routing_key=f"key {number % 5}")
    found = [channel.drain(queue) for queue in queues]
    for value in "01234":
        assert sorted(bodies.count(value) for bodies in found) == [0, 0, 6]


def test_a_queue_that_is_bound_twice_has_two_shares(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = exchange(KIND)
    for queue, key in zip([queues[0], *queues], "abcd", strict=True):
        channel.bind(queue, name, key)
    for number in range(1200):
        channel.publish(exchange=name, routing_key=f"user.{number}")
    found = spread(channel, queues, 1200)
    assert found == [pytest.approx(600, rel=0.2), *[pytest.approx(300, rel=0.2)] * 2]


def test_a_message_goes_to_one_queue_however_many_keys_it_has(
    channel: Channel, exchange: Declare, queues: list[str], differs_from_rabbitmq: Differs
) -> None:
    name = exchange(KIND)
    for queue in queues:
        channel.bind(queue, name)
    for number in range(30):
        channel.publish(exchange=name, routing_key="k", headers={"CC": [f"c{number}"]})
    found = spread(channel, queues, 30)
    ways = differs_from_rabbitmq("the plugin hashes the keys in CC with the key", rabbitmq=3, ours=1)
    assert sum(count > 0 for count in found) == ways


def test_it_leads_to_exchanges_and_is_reached_through_them(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    outer, name = exchange("fanout"), exchange(KIND)
    channel.call("exchange.bind", destination=name, source=outer)
    for queue in queues:
        inner = exchange("fanout")
        channel.bind(queue, inner)
        channel.call("exchange.bind", destination=inner, source=name)
    for number in range(300):
        channel.publish(exchange=outer, routing_key=str(number))
    assert spread(channel, queues, 300) == [pytest.approx(100, rel=0.4)] * 3


def test_without_bindings_it_routes_nowhere_but_to_its_alternate(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    channel.publish("m", exchange=exchange(KIND), mandatory=True)
    channel.expect("basic.return", reply_text="NO_ROUTE")
    alternate = exchange("fanout")
    channel.bind(queue, alternate)
    channel.publish("m", exchange=exchange(KIND, arguments={"alternate-exchange": alternate}), mandatory=True)
    assert channel.drain(queue) == ["m"]

"""Random exchanges: each message to one binding, drawn anew. RabbitMQ needs its plugin rabbitmq_random_exchange."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .client import Channel
from .conftest import Names
from .spread import spread

Declare = Callable[..., str]
KIND = "x-random"


@pytest.fixture
def queues(channel: Channel, names: Names) -> list[str]:
    return [channel.declare(names.queue()) for _ in range(3)]


def test_any_arguments_will_do(channel: Channel, exchange: Declare) -> None:
    name = exchange(KIND, arguments={"hash-header": 5, "x-recent-history-length": -1})
    channel.call("exchange.declare", exchange=name, type=KIND, arguments={})


def test_messages_of_one_key_are_spread_evenly(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = exchange(KIND)
    for queue in queues:
        channel.bind(queue, name, "of no importance")
    for _ in range(1200):
        channel.publish(exchange=name, routing_key="k")
    assert spread(channel, queues, 1200) == [pytest.approx(400, rel=0.3)] * 3


def test_a_queue_that_is_bound_twice_is_drawn_twice_as_often(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = exchange(KIND)
    for queue, key in zip([queues[0], *queues], "abcd", strict=True):
        channel.bind(queue, name, key)
    for _ in range(1200):
        channel.publish(exchange=name, routing_key="k")
    found = spread(channel, queues, 1200)
    assert found == [pytest.approx(600, rel=0.3), *[pytest.approx(300, rel=0.4)] * 2]


def test_a_message_goes_to_one_queue_however_many_keys_it_has(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    name = exchange(KIND)
    for queue in queues:
        channel.bind(queue, name)
    for _ in range(30):
        channel.publish(exchange=name, headers={"CC": ["a", "b", "c"]})
    assert sum(spread(channel, queues, 30)) == 30


def test_it_is_drawn_anew_behind_another_exchange_and_before_one(
    channel: Channel, exchange: Declare, queues: list[str]
) -> None:
    outer, name = exchange("direct"), exchange(KIND)
    channel.call("exchange.bind", destination=name, source=outer, routing_key="k")
    for queue in queues:
        inner = exchange("fanout")
        channel.bind(queue, inner)
        channel.call("exchange.bind", destination=inner, source=name)
    for _ in range(300):
        channel.publish(exchange=outer, routing_key="k")
    assert spread(channel, queues, 300) == [pytest.approx(100, rel=0.6)] * 3


def test_without_bindings_it_routes_nowhere_but_to_its_alternate(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    channel.publish("m", exchange=exchange(KIND), mandatory=True)
    channel.expect("basic.return", reply_text="NO_ROUTE")
    alternate = exchange("fanout")
    channel.bind(queue, alternate)
    channel.publish("m", exchange=exchange(KIND, arguments={"alternate-exchange": alternate}), mandatory=True)
    assert channel.drain(queue) == ["m"]


def test_a_single_binding_gets_everything_until_it_is_gone(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange(KIND)
    channel.bind(queue, name)
    for number in range(5):
        channel.publish(str(number), exchange=name)
    assert channel.drain(queue) == list("01234")
    channel.call("queue.unbind", queue=queue, exchange=name)
    channel.publish("m", exchange=name, mandatory=True)
    channel.expect("basic.return", reply_text="NO_ROUTE")

"""Bindings: of queues and of exchanges, what makes two of them one, unbinding, chains and circles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel
from .conftest import Names

Declare = Callable[..., str]


def reaches(channel: Channel, queue: str, exchange: str, routing_key: str) -> int:
    """How many copies of a message published there arrive in the queue."""
    channel.publish("m", exchange=exchange, routing_key=routing_key)
    return len(channel.drain(queue))


def test_a_direct_binding_wants_its_key_exactly(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("direct")
    channel.bind(queue, name, "key")
    assert [reaches(channel, queue, name, key) for key in ("key", "Key", "key ", "ke", "", "*", "#")] == [
        1,
        *[0] * 6,
    ]


def test_a_direct_binding_with_an_empty_key_wants_an_empty_key(
    channel: Channel, exchange: Declare, names: Names
) -> None:
    name, queue = exchange("direct"), channel.declare(names.queue())
    channel.bind(queue, name, "")
    assert [reaches(channel, queue, name, key) for key in ("", "x", queue)] == [1, 0, 0]


def test_a_fanout_binding_wants_everything(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("fanout")
    channel.bind(queue, name, "whatever")
    assert [reaches(channel, queue, name, key) for key in ("", "a", "b.c", "x" * 255)] == [1] * 4


def test_a_queue_is_bound_to_the_default_exchange_by_its_name(channel: Channel, queue: str) -> None:
    assert reaches(channel, queue, "", queue) == 1


def test_an_empty_queue_and_key_mean_the_queue_declared_last_and_its_name(
    channel: Channel, exchange: Declare, names: Names
) -> None:
    name, queue = exchange("direct"), channel.declare(names.queue())
    channel.call("queue.bind", exchange=name)
    assert [reaches(channel, queue, name, key) for key in (queue, "")] == [1, 0]


def test_an_empty_queue_with_a_key_means_that_key(channel: Channel, exchange: Declare, names: Names) -> None:
    name, queue = exchange("direct"), channel.declare(names.queue())
    channel.call("queue.bind", exchange=name, routing_key="k")
    assert [reaches(channel, queue, name, key) for key in (queue, "k")] == [0, 1]


def test_an_empty_queue_and_key_mean_the_same_for_unbind(
    channel: Channel, exchange: Declare, names: Names
) -> None:
    name, queue = exchange("direct"), channel.declare(names.queue())
    channel.call("queue.bind", exchange=name)
    channel.call("queue.unbind", exchange=name)
    assert reaches(channel, queue, name, queue) == 0


def test_binding_twice_is_binding_once(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("direct")
    for _ in range(2):
        channel.bind(queue, name, "k")
    assert reaches(channel, queue, name, "k") == 1
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="k")
    assert reaches(channel, queue, name, "k") == 0


def test_bindings_that_differ_in_their_arguments_are_two(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("direct")
    channel.bind(queue, name, "k")
    channel.bind(queue, name, "k", {"x": 1})
    assert reaches(channel, queue, name, "k") == 1
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="k")
    assert reaches(channel, queue, name, "k") == 1
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="k", arguments={"x": 1})
    assert reaches(channel, queue, name, "k") == 0


@pytest.mark.parametrize("arguments", [{"x": 2}, {"y": 1}, {}, {"x": 1, "y": 1}, {"x": "1"}])
def test_unbind_wants_the_same_arguments(
    channel: Channel, exchange: Declare, queue: str, arguments: dict[str, Any]
) -> None:
    name = exchange("direct")
    channel.bind(queue, name, "k", {"x": 1})
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="k", arguments=arguments)
    assert reaches(channel, queue, name, "k") == 1


def test_the_order_of_arguments_makes_no_difference(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("direct")
    channel.bind(queue, name, "k", {"a": 1, "b": 2})
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="k", arguments={"b": 2, "a": 1})
    assert reaches(channel, queue, name, "k") == 0


def test_several_keys_that_lead_to_one_queue_bring_one_copy(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("topic")
    for key in ("a.*", "*.b", "#", "a.b"):
        channel.bind(queue, name, key)
    assert reaches(channel, queue, name, "a.b") == 1


def test_bind_with_nowait_has_no_reply(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("fanout")
    channel.send("queue.bind", queue=queue, exchange=name, nowait=True)
    channel.hears_nothing()
    assert reaches(channel, queue, name, "") == 1


@pytest.mark.parametrize("nowait", [True, False])
def test_binding_to_a_missing_exchange_is_not_found(
    channel: Channel, names: Names, queue: str, nowait: bool
) -> None:
    missing = names.exchange()
    channel.send("queue.bind", queue=queue, exchange=missing, nowait=nowait)
    channel.refuses(404, f"no exchange '{missing}' in vhost '/'", "queue.bind")


def test_binding_a_missing_queue_is_not_found(channel: Channel, names: Names) -> None:
    missing = names.queue()
    channel.send("queue.bind", queue=missing, exchange="amq.direct")
    channel.refuses(404, f"no queue '{missing}' in vhost '/'", "queue.bind")


def test_of_a_missing_queue_and_a_missing_exchange_the_exchange_is_named(
    channel: Channel, names: Names
) -> None:
    queue, missing = names.queue(), names.exchange()
    channel.send("queue.bind", queue=queue, exchange=missing)
    channel.refuses(404, f"no exchange '{missing}' in vhost '/'", "queue.bind")


@pytest.mark.parametrize("what", ["nothing missing", "queue", "exchange", "both"])
def test_unbinding_what_is_not_bound_is_fine(
    channel: Channel, exchange: Declare, names: Names, queue: str, what: str
) -> None:
    source = names.exchange() if what in ("exchange", "both") else exchange("direct")
    target = names.queue() if what in ("queue", "both") else queue
    reply = channel.call("queue.unbind", queue=target, exchange=source, routing_key="k", arguments={"a": 1})
    assert reply == {}


def test_a_deleted_queue_is_unbound(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("fanout")
    channel.bind(queue, name)
    channel.call("queue.delete", queue=queue)
    channel.declare(queue)
    assert reaches(channel, queue, name, "") == 0


def test_a_purged_queue_stays_bound(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("fanout")
    channel.bind(queue, name)
    channel.call("queue.purge", queue=queue)
    assert reaches(channel, queue, name, "") == 1


def test_line_ends_are_kept_in_a_routing_key(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("direct")
    channel.bind(queue, name, "k\r\n")
    assert [reaches(channel, queue, name, key) for key in ("k", "k\r\n")] == [0, 1]


def test_a_routing_key_may_have_255_octets(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("direct")
    channel.bind(queue, name, "k" * 255)
    assert [reaches(channel, queue, name, key) for key in ("k" * 255, "k" * 254)] == [1, 0]


@pytest.mark.parametrize("source", ["amq.direct", "amq.topic", "amq.fanout", "amq.headers", "amq.match"])
def test_queues_can_be_bound_to_the_predeclared_exchanges(channel: Channel, queue: str, source: str) -> None:
    channel.bind(queue, source, queue)
    assert reaches(channel, queue, source, queue) == 1


# exchanges bound to exchanges


def test_an_exchange_can_feed_another(channel: Channel, exchange: Declare, queue: str) -> None:
    source, destination = exchange("direct"), exchange("topic")
    channel.bind(queue, destination, "a.*")
    assert channel.call("exchange.bind", source=source, destination=destination, routing_key="a.b") == {}
    assert [reaches(channel, queue, source, key) for key in ("a.b", "a.c")] == [1, 0]


def test_both_bindings_on_the_way_have_to_match(channel: Channel, exchange: Declare, queue: str) -> None:
    source, destination = exchange("topic"), exchange("direct")
    channel.call("exchange.bind", source=source, destination=destination, routing_key="#")
    channel.bind(queue, destination, "k")
    assert [reaches(channel, queue, source, key) for key in ("k", "other")] == [1, 0]


def test_a_long_chain_is_followed_to_its_end(channel: Channel, exchange: Declare, queue: str) -> None:
    chain = [exchange("fanout") for _ in range(20)]
    for source, destination in itertools.pairwise(chain):
        channel.call("exchange.bind", source=source, destination=destination)
    channel.bind(queue, chain[-1])
    assert reaches(channel, queue, chain[0], "") == 1


def test_two_ways_to_a_queue_bring_one_copy(channel: Channel, exchange: Declare, queue: str) -> None:
    source, left, right = (exchange("fanout") for _ in range(3))
    for middle in (left, right):
        channel.call("exchange.bind", source=source, destination=middle)
        channel.bind(queue, middle)
    channel.bind(queue, source)
    assert reaches(channel, queue, source, "") == 1


def test_exchanges_in_a_circle_bring_one_copy(channel: Channel, exchange: Declare, queue: str) -> None:
    ring = [exchange("fanout") for _ in range(3)]
    for source, destination in zip(ring, [*ring[1:], ring[0]], strict=True):
        channel.call("exchange.bind", source=source, destination=destination)
    channel.bind(queue, ring[2])
    assert [reaches(channel, queue, name, "") for name in ring] == [1, 1, 1]


def test_an_exchange_may_feed_itself(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("fanout")
    channel.call("exchange.bind", source=name, destination=name)
    channel.bind(queue, name)
    assert reaches(channel, queue, name, "") == 1


def test_a_message_that_ends_in_an_exchange_without_bindings_is_unroutable(
    channel: Channel, exchange: Declare
) -> None:
    source, destination = exchange("fanout"), exchange("fanout")
    channel.call("exchange.bind", source=source, destination=destination)
    channel.publish("m", exchange=source, mandatory=True)
    channel.expect("basic.return", exchange=source)


def test_an_alternate_on_the_way_is_used(channel: Channel, exchange: Declare, queue: str) -> None:
    alternate = exchange("fanout")
    source, middle = exchange("fanout"), exchange("direct", arguments={"alternate-exchange": alternate})
    channel.call("exchange.bind", source=source, destination=middle)
    channel.bind(queue, alternate)
    assert reaches(channel, queue, source, "unbound") == 1


@pytest.mark.parametrize("missing", ["source", "destination", "both"])
def test_binding_with_a_missing_exchange_is_not_found(
    channel: Channel, exchange: Declare, names: Names, missing: str
) -> None:
    source = names.exchange("s") if missing in ("source", "both") else exchange()
    destination = names.exchange("d") if missing in ("destination", "both") else exchange()
    channel.send("exchange.bind", source=source, destination=destination)
    named = destination if missing == "destination" else source
    channel.refuses(404, f"no exchange '{named}' in vhost '/'", "exchange.bind")


def test_exchanges_bound_twice_are_bound_once(channel: Channel, exchange: Declare, queue: str) -> None:
    source, destination = exchange("fanout"), exchange("fanout")
    for _ in range(2):
        channel.call("exchange.bind", source=source, destination=destination)
    channel.bind(queue, destination)
    channel.call("exchange.unbind", source=source, destination=destination)
    assert reaches(channel, queue, source, "") == 0


@pytest.mark.parametrize("missing", ["neither", "source", "destination", "both"])
def test_unbinding_exchanges_that_are_not_bound_is_fine(
    channel: Channel, exchange: Declare, names: Names, missing: str
) -> None:
    source = names.exchange() if missing in ("source", "both") else exchange()
    destination = names.exchange() if missing in ("destination", "both") else exchange()
    assert channel.call("exchange.unbind", source=source, destination=destination, routing_key="k") == {}


@pytest.mark.parametrize("name", ["exchange.bind", "exchange.unbind"])
def test_exchanges_are_bound_and_unbound_silently_with_nowait(
    channel: Channel, exchange: Declare, name: str
) -> None:
    channel.send(name, source=exchange(), destination=exchange(), nowait=True)
    channel.hears_nothing()

"""Exchanges that pick one of their bindings: by chance, or counted off by the hash of the routing key."""

from __future__ import annotations

import pytest

from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.vhost import VirtualHost
from tests.broker.hash_shares import NO_PROPERTIES, bind_all, declare, new_vhost, placed, queue, shares

KEYS = [f"user.{number}" for number in range(4000)]
KINDS = ["x-random", "x-modulus-hash"]


@pytest.fixture
def vhost() -> VirtualHost:
    return new_vhost()


@pytest.fixture(params=KINDS)
def exchange(request: pytest.FixtureRequest, vhost: VirtualHost) -> Exchange:
    return declare(vhost, request.param)


def test_every_queue_has_the_same(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {"a": "", "b": "", "c": ""})
    assert shares(placed(vhost, exchange, KEYS)) == {name: pytest.approx(1 / 3, rel=0.15) for name in "abc"}


def test_a_binding_is_a_share(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {"a": "", "b": ""})
    vhost.bind(exchange, vhost.queues["a"], "another", {})
    vhost.bind(exchange, vhost.queues["a"], "", {})
    assert shares(placed(vhost, exchange, KEYS)) == {
        "a": pytest.approx(2 / 3, rel=0.1),
        "b": pytest.approx(1 / 3, rel=0.15),
    }
    vhost.unbind(exchange, vhost.queues["a"], "another", {})
    assert shares(placed(vhost, exchange, KEYS))["a"] == pytest.approx(1 / 2, rel=0.1)


def test_what_is_not_bound_gets_nothing(vhost: VirtualHost, exchange: Exchange) -> None:
    assert vhost.route(exchange, "k", NO_PROPERTIES) == []
    bind_all(vhost, exchange, {"a": "", "b": ""})
    vhost.delete_queue(vhost.queues["a"])
    assert shares(placed(vhost, exchange, KEYS)) == {"b": 1.0}
    vhost.delete_queue(vhost.queues["b"])
    assert vhost.route(exchange, "k", NO_PROPERTIES) == []


def test_several_keys_are_one_message(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {"a": "k", "b": "k", "c": "c"})
    for key in KEYS[:50]:
        assert len(vhost.route(exchange, key, NO_PROPERTIES, ["k", "c", key])) == 1


def test_chance_is_asked_for_every_message(vhost: VirtualHost) -> None:
    exchange = declare(vhost, "x-random")
    bind_all(vhost, exchange, {"a": "", "b": ""})
    found = [vhost.route(exchange, "k", NO_PROPERTIES)[0].name for _ in range(1000)]
    assert 350 < found.count("a") < 650
    assert vhost.route_varies(exchange)
    outer = declare(vhost, "direct", "outer")
    assert not vhost.route_varies(outer)
    vhost.bind(outer, exchange, "k", {})
    assert vhost.route_varies(outer)


def test_a_key_counts_off_the_bindings_in_an_order_of_their_own(vhost: VirtualHost) -> None:
    first, second = declare(vhost, "x-modulus-hash", "first"), declare(vhost, "x-modulus-hash", "second")
    bind_all(vhost, first, {"a": "1", "b": "2", "c": ""})
    for name, key in (("c", ""), ("b", "2"), ("a", "1")):
        vhost.bind(second, vhost.queues[name], key, {})
    assert placed(vhost, first, KEYS) == placed(vhost, second, KEYS)
    assert not vhost.route_varies(first)


def test_both_lead_to_exchanges(vhost: VirtualHost, exchange: Exchange) -> None:
    for name in ("a", "b"):
        inner = declare(vhost, "fanout", f"to {name}")
        vhost.bind(inner, queue(vhost, name), "", {})
        vhost.bind(exchange, inner, "", {})
    assert shares(placed(vhost, exchange, KEYS)) == {name: pytest.approx(1 / 2, rel=0.1) for name in "ab"}

"""Routing across exchanges: bindings between them, circles, alternates, and when a route may be kept."""

from __future__ import annotations

import pytest

from amqp_broker.broker.definitions import DefinitionWriter
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.timetable import Clock, Timetable
from amqp_broker.broker.vhost import ExchangeFlags, QueueFlags, VirtualHost
from amqp_broker.content.header import HEADERS, build_header
from amqp_broker.content.table import table_of
from tests.broker.ledger_store import LedgerStore


@pytest.fixture
def vhost() -> VirtualHost:
    store = LedgerStore()
    vhost = VirtualHost("/", store, DefinitionWriter(store), Timetable(Clock()))
    for name in ("q1", "q2", "q3"):
        vhost.declare_queue(name, QueueFlags(False, False, False), {}, None)
    return vhost


def exchange(vhost: VirtualHost, name: str, kind: str = "direct", alternate: str | None = None) -> Exchange:
    arguments = {} if alternate is None else table_of({"alternate-exchange": alternate})
    return vhost.declare_exchange(name, kind, ExchangeFlags(False, False, False), arguments)


def bind(vhost: VirtualHost, source: str, destination: str, key: str = "", **headers: object) -> None:
    target = vhost.queues.get(destination) or vhost.exchanges[destination]
    vhost.bind(vhost.exchanges[source], target, key, table_of(headers))


def routed(vhost: VirtualHost, name: str, key: str, **headers: object) -> list[str]:
    header = build_header(0, {HEADERS: table_of(headers)} if headers else {})
    return [queue.name for queue in vhost.route(vhost.exchanges[name], key, header)]


def test_the_default_exchange_routes_by_the_name_of_the_queue(vhost: VirtualHost) -> None:
    assert routed(vhost, "", "q1") == ["q1"]
    assert routed(vhost, "", "nothing") == []


def test_direct_fanout_topic_and_headers(vhost: VirtualHost) -> None:
    for kind, key in (("direct", "a.b"), ("fanout", "x"), ("topic", "a.*"), ("headers", "")):
        exchange(vhost, kind, kind)
        bind(vhost, kind, "q1", key, **({"h": 1} if kind == "headers" else {}))
    assert routed(vhost, "direct", "a.b") == ["q1"]
    assert routed(vhost, "direct", "a.c") == []
    assert routed(vhost, "fanout", "whatever") == ["q1"]
    assert routed(vhost, "topic", "a.c") == ["q1"]
    assert routed(vhost, "topic", "b.c") == []
    assert routed(vhost, "headers", "", h=1) == ["q1"]
    assert routed(vhost, "headers", "", h=2) == []


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic"])
def test_a_queue_bound_several_times_gets_one_copy(vhost: VirtualHost, kind: str) -> None:
    exchange(vhost, "x", kind)
    bind(vhost, "x", "q1", "k")
    bind(vhost, "x", "q2", "k")
    bind(vhost, "x", "q1", "k", other="arguments")
    assert sorted(routed(vhost, "x", "k")) == ["q1", "q2"]
    vhost.unbind(vhost.exchanges["x"], vhost.queues["q1"], "k", {})
    assert sorted(routed(vhost, "x", "k")) == ["q1", "q2"]


def test_a_queue_reached_by_several_ways_gets_one_copy(vhost: VirtualHost) -> None:
    for name in ("source", "left", "right"):
        exchange(vhost, name, "fanout")
    for source, destination in (
        ("source", "left"),
        ("source", "right"),
        ("left", "q1"),
        ("right", "q1"),
        ("source", "q1"),
    ):
        bind(vhost, source, destination)
    assert routed(vhost, "source", "") == ["q1"]


def test_the_routing_key_is_matched_at_every_exchange(vhost: VirtualHost) -> None:
    exchange(vhost, "first", "topic")
    exchange(vhost, "second", "direct")
    bind(vhost, "first", "second", "a.#")
    bind(vhost, "second", "q1", "a.b")
    assert routed(vhost, "first", "a.b") == ["q1"]
    assert routed(vhost, "first", "a.c") == []


def test_circles_end(vhost: VirtualHost) -> None:
    for name in ("a", "b", "c"):
        exchange(vhost, name, "fanout")
    for source, destination in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "a"), ("c", "q1"), ("a", "q2")):
        bind(vhost, source, destination)
    for name in ("a", "b", "c"):
        assert sorted(routed(vhost, name, "")) == ["q1", "q2"]


# -- alternate exchanges


def test_an_alternate_exchange_takes_what_matches_nothing(vhost: VirtualHost) -> None:
    exchange(vhost, "fallback", "fanout")
    exchange(vhost, "x", alternate="fallback")
    bind(vhost, "fallback", "q2")
    bind(vhost, "x", "q1", "k")
    assert routed(vhost, "x", "k") == ["q1"]
    assert routed(vhost, "x", "other") == ["q2"]


def test_an_alternate_exchange_that_is_not_there_takes_nothing(vhost: VirtualHost) -> None:
    exchange(vhost, "x", alternate="fallback")
    assert routed(vhost, "x", "k") == []
    exchange(vhost, "fallback", "fanout")
    bind(vhost, "fallback", "q1")
    assert routed(vhost, "x", "k") == ["q1"]


def test_alternates_of_alternates_and_alternates_in_a_circle(vhost: VirtualHost) -> None:
    exchange(vhost, "a", alternate="b")
    exchange(vhost, "b", alternate="c")
    exchange(vhost, "c", alternate="a")
    assert routed(vhost, "a", "k") == []
    bind(vhost, "c", "q3", "k")
    assert routed(vhost, "a", "k") == ["q3"]
    assert routed(vhost, "b", "k") == ["q3"]


def test_an_exchange_reached_by_a_binding_has_its_alternate_too(vhost: VirtualHost) -> None:
    exchange(vhost, "fallback", "fanout")
    exchange(vhost, "second", alternate="fallback")
    exchange(vhost, "first", "fanout")
    bind(vhost, "first", "second")
    bind(vhost, "fallback", "q1")
    assert routed(vhost, "first", "nobody's key") == ["q1"]


# -- how long a route is right


def test_every_change_of_topology_changes_the_generation(vhost: VirtualHost) -> None:
    seen = [vhost.generation]
    source = exchange(vhost, "x")
    seen.append(vhost.generation)
    bind(vhost, "x", "q1", "k")
    seen.append(vhost.generation)
    vhost.unbind(source, vhost.queues["q1"], "k", {})
    seen.append(vhost.generation)
    vhost.delete_exchange("x", if_unused=False)
    seen.append(vhost.generation)
    vhost.delete_queue(vhost.queues["q1"])
    seen.append(vhost.generation)
    vhost.declare_queue("q1", QueueFlags(False, False, False), {}, None)
    seen.append(vhost.generation)
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


def test_what_changes_nothing_leaves_the_generation(vhost: VirtualHost) -> None:
    exchange(vhost, "x")
    bind(vhost, "x", "q1", "k")
    before = vhost.generation
    exchange(vhost, "x")
    bind(vhost, "x", "q1", "k")
    vhost.declare_queue("q1", QueueFlags(False, False, False), {}, None)
    vhost.delete_exchange("nothing", if_unused=False)
    assert vhost.generation == before


def test_only_a_way_through_a_headers_exchange_depends_on_more_than_the_key(vhost: VirtualHost) -> None:
    exchange(vhost, "by headers", "headers")
    exchange(vhost, "far", "fanout")
    exchange(vhost, "near", "fanout")
    exchange(vhost, "with alternate", alternate="by headers")
    assert vhost.route_varies(vhost.exchanges["by headers"])
    assert vhost.route_varies(vhost.exchanges["with alternate"])
    assert not vhost.route_varies(vhost.exchanges["near"])
    bind(vhost, "near", "far")
    bind(vhost, "far", "near")
    assert not vhost.route_varies(vhost.exchanges["near"])
    bind(vhost, "far", "by headers")
    assert vhost.route_varies(vhost.exchanges["near"])
    vhost.delete_exchange("by headers", if_unused=False)
    assert not vhost.route_varies(vhost.exchanges["near"])
    assert not vhost.route_varies(vhost.exchanges["with alternate"])


# -- several routing keys


def test_each_of_several_keys_is_matched_where_keys_count(vhost: VirtualHost) -> None:
    header = build_header(0, {})
    for kind, keys in (("direct", ("k1", "k2")), ("topic", ("k1.*", "k2.*"))):
        source = exchange(vhost, kind, kind)
        for name, key in zip(("q1", "q2"), keys, strict=True):
            bind(vhost, kind, name, key)
        first, second = (key.replace("*", "x") for key in keys)
        assert [queue.name for queue in vhost.route(source, first, header, [second, first, "none"])] == [
            "q1",
            "q2",
        ]
        assert [queue.name for queue in vhost.route(source, "none", header, [second])] == ["q2"]
    default = vhost.exchanges[""]
    assert [queue.name for queue in vhost.route(default, "q2", header, ["q1", "q2", "none"])] == ["q2", "q1"]


def test_several_keys_leave_what_is_kept_of_one_alone(vhost: VirtualHost) -> None:
    source = exchange(vhost, "x")
    bind(vhost, "x", "q1", "k")
    bind(vhost, "x", "q2", "other")
    vhost.route(source, "k", build_header(0, {}), ["other"])
    assert routed(vhost, "x", "k") == ["q1"]


def test_the_alternate_exchange_takes_what_matches_by_no_key_at_all(vhost: VirtualHost) -> None:
    exchange(vhost, "fallback", "fanout")
    bind(vhost, "fallback", "q2")
    source = exchange(vhost, "x", alternate="fallback")
    bind(vhost, "x", "q1", "k")
    header = build_header(0, {})
    assert [queue.name for queue in vhost.route(source, "none", header, ["k"])] == ["q1"]
    assert [queue.name for queue in vhost.route(source, "k", header, ["none"])] == ["q1"]
    assert [queue.name for queue in vhost.route(source, "none", header, ["neither"])] == ["q2"]

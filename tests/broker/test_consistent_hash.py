"""Consistent hashing: shares by weight, and a change that moves nothing but what it has to."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.header import (
    CORRELATION_ID,
    HEADERS,
    MESSAGE_ID,
    TIMESTAMP,
    ContentHeader,
    build_header,
)
from amqp_broker.content.table import Field, table_of
from amqp_broker.errors import SoftError
from tests.broker.hash_shares import (
    NO_PROPERTIES,
    bind_all,
    declare,
    new_vhost,
    placed,
    queue,
    shares,
)

KIND = "x-consistent-hash"
PLACES = "2323231333211223222121333313132323211313"
KEYS = [f"user.{number}" for number in range(6000)]


@pytest.fixture
def vhost() -> VirtualHost:
    return new_vhost()


@pytest.fixture
def exchange(vhost: VirtualHost) -> Exchange:
    return declare(vhost, KIND)


# -- shares


@pytest.mark.parametrize(
    "keys",
    [
        [str(number) for number in range(6000)],
        [f"{number:08d}" for number in range(6000)],
        [f"{number:x}" for number in range(1 << 20, (1 << 20) + 6000)],
        [
            str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)))
            for number in range(6000)
        ],
        ["a" * 200 + str(number) for number in range(6000)],
        [f"{number}.measured" for number in range(6000)],
        [chr(0x100 + number) for number in range(6000)],
    ],
    ids=["numbers", "digits", "hexadecimal", "uuids", "long", "same end", "one letter"],
)
def test_keys_of_any_kind_are_divided_by_weight(
    vhost: VirtualHost, exchange: Exchange, keys: list[str]
) -> None:
    bind_all(vhost, exchange, {"one": "1", "two": "2", "five": "5"})
    assert shares(placed(vhost, exchange, keys)) == {
        "one": pytest.approx(1 / 8, rel=0.15),
        "two": pytest.approx(2 / 8, rel=0.1),
        "five": pytest.approx(5 / 8, rel=0.05),
    }


def test_many_queues_have_about_the_same(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {f"q{number}": "1" for number in range(40)})
    found = shares(placed(vhost, exchange, KEYS))
    assert len(found) == 40
    assert all(share == pytest.approx(1 / 40, rel=0.4) for share in found.values())


def test_only_the_proportion_of_weights_counts(vhost: VirtualHost) -> None:
    small, large = declare(vhost, KIND, "small"), declare(vhost, KIND, "large")
    bind_all(vhost, small, {"a": "1", "b": "3"})
    vhost.bind(large, vhost.queues["a"], "1" + "0" * 200, {})
    vhost.bind(large, vhost.queues["b"], "3" + "0" * 200, {})
    assert placed(vhost, small, KEYS) == placed(vhost, large, KEYS)


def test_the_oldest_weight_of_a_queue_counts(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {"a": "1", "b": "1"})
    before = placed(vhost, exchange, KEYS)
    vhost.bind(exchange, vhost.queues["a"], "9", {})
    assert placed(vhost, exchange, KEYS) == before
    vhost.unbind(exchange, vhost.queues["a"], "1", {})
    assert shares(placed(vhost, exchange, KEYS))["a"] == pytest.approx(0.9, rel=0.05)
    vhost.unbind(exchange, vhost.queues["a"], "9", {})
    assert shares(placed(vhost, exchange, KEYS)) == {"b": 1.0}


# -- stability


def test_a_new_queue_takes_its_share_and_moves_nothing_else(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {"a": "1", "b": "2", "c": "3"})
    before = placed(vhost, exchange, KEYS)
    bind_all(vhost, exchange, {"new": "2"})
    after = placed(vhost, exchange, KEYS)
    moved = {key for key in KEYS if before[key] != after[key]}
    assert {after[key] for key in moved} == {"new"}
    assert len(moved) / len(KEYS) == pytest.approx(2 / 8, rel=0.1)


def test_a_queue_that_goes_gives_its_share_to_all_and_moves_nothing_else(
    vhost: VirtualHost, exchange: Exchange
) -> None:
    bind_all(vhost, exchange, {"a": "1", "b": "1", "c": "1", "d": "1"})
    before = placed(vhost, exchange, KEYS)
    vhost.delete_queue(vhost.queues["b"])
    after = placed(vhost, exchange, KEYS)
    assert {before[key] for key in KEYS if before[key] != after[key]} == {"b"}
    assert shares({key: after[key] for key in KEYS if before[key] == "b"}) == {
        name: pytest.approx(1 / 3, rel=0.15) for name in "acd"
    }


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.integers(1, 30).map(str), min_size=1, max_size=6
    ),
    st.integers(1, 30).map(str),
)
def test_coming_and_going_undo_each_other(weights: dict[str, str], weight: str) -> None:
    vhost = new_vhost()
    exchange = declare(vhost, KIND)
    bind_all(vhost, exchange, weights)
    keys = KEYS[:100]
    before = placed(vhost, exchange, keys)
    bind_all(vhost, exchange, {"new": weight})
    during = placed(vhost, exchange, keys)
    assert all(during[key] in (before[key], "new") for key in keys)
    vhost.delete_queue(vhost.queues["new"])
    assert placed(vhost, exchange, keys) == before


def test_a_place_follows_from_names_and_weights_alone(vhost: VirtualHost) -> None:
    weights = {"a": "1", "b": "2", "c": "3"}
    first, second = declare(vhost, KIND, "first"), declare(vhost, KIND, "second")
    bind_all(vhost, first, weights)
    for name in reversed(weights):
        vhost.bind(second, vhost.queues[name], weights[name], {})
    assert placed(vhost, first, KEYS) == placed(vhost, second, KEYS)


def test_places_are_the_same_in_every_version(vhost: VirtualHost, exchange: Exchange) -> None:
    bind_all(vhost, exchange, {"orders-1": "1", "orders-2": "1", "orders-3": "2"})
    assert "".join(name[-1] for name in placed(vhost, exchange, KEYS[:40]).values()) == PLACES


# -- what is hashed


def routed(vhost: VirtualHost, exchange: Exchange, key: str, header: ContentHeader) -> str:
    (target,) = vhost.route(exchange, key, header)
    return target.name


@pytest.mark.parametrize(
    ("argument", "headers"),
    [
        ("hash_header", [build_header(0, {HEADERS: table_of({"user": f"u{n}"})}) for n in range(200)]),
        ("hash_header", [build_header(0, {HEADERS: table_of({"user": n, "other": -n})}) for n in range(200)]),
        ("hash_header", [build_header(0, {HEADERS: table_of({"user": {"id": n}})}) for n in range(200)]),
        ("message_id", [build_header(0, {MESSAGE_ID: str(n).encode()}) for n in range(200)]),
        ("correlation_id", [build_header(0, {CORRELATION_ID: str(n).encode()}) for n in range(200)]),
        ("timestamp", [build_header(0, {TIMESTAMP: n}) for n in range(200)]),
    ],
    ids=["header", "number", "table", "message id", "correlation id", "timestamp"],
)
def test_the_value_decides_and_the_key_does_not(
    vhost: VirtualHost, argument: str, headers: list[ContentHeader]
) -> None:
    arguments = {"hash_header": "user"} if argument == "hash_header" else {"hash_property": argument}
    exchange = declare(vhost, KIND, **arguments)
    bind_all(vhost, exchange, {"a": "1", "b": "1"})
    found = [routed(vhost, exchange, "k", header) for header in headers]
    assert 60 < found.count("a") < 140
    assert found == [routed(vhost, exchange, f"another {place}", headers[place]) for place in range(200)]
    without = {routed(vhost, exchange, key, NO_PROPERTIES) for key in KEYS[:50]}
    assert len(without) == 1


def test_a_header_of_the_same_value_is_the_same_whatever_its_type(vhost: VirtualHost) -> None:
    exchange = declare(vhost, KIND, hash_header="n")
    bind_all(vhost, exchange, dict.fromkeys("abcdefgh", "1"))
    for number in range(20):
        fields = [*(Field(kind, number) for kind in "bBsuIilL"), Field("S", b"%d" % number)]
        headers = [build_header(0, {HEADERS: {"n": field}}) for field in fields]
        assert len({routed(vhost, exchange, "", header) for header in headers}) == 1


def test_only_a_route_by_the_key_is_kept(vhost: VirtualHost, exchange: Exchange) -> None:
    assert not vhost.route_varies(exchange)
    assert vhost.route_varies(declare(vhost, KIND, "by header", hash_header="user"))
    assert vhost.route_varies(declare(vhost, KIND, "by property", hash_property="message_id"))


# -- destinations


def test_an_exchange_and_a_queue_of_one_name_are_two_destinations(
    vhost: VirtualHost, exchange: Exchange
) -> None:
    inner = declare(vhost, "fanout", "same")
    vhost.bind(inner, queue(vhost, "behind"), "", {})
    vhost.bind(exchange, inner, "1", {})
    vhost.bind(exchange, queue(vhost, "same"), "1", {})
    assert shares(placed(vhost, exchange, KEYS)) == {
        "behind": pytest.approx(0.5, rel=0.1),
        "same": pytest.approx(0.5, rel=0.1),
    }


def test_without_a_destination_the_alternate_exchange_has_everything(vhost: VirtualHost) -> None:
    alternate = declare(vhost, "fanout", "alternate")
    vhost.bind(alternate, queue(vhost, "rest"), "", {})
    exchange = declare(vhost, KIND, alternate_exchange="alternate")
    assert routed(vhost, exchange, "k", NO_PROPERTIES) == "rest"
    bind_all(vhost, exchange, {"q": "1"})
    assert routed(vhost, exchange, "k", NO_PROPERTIES) == "q"


def test_a_refused_exchange_is_not_there(vhost: VirtualHost) -> None:
    with pytest.raises(SoftError, match="Unsupported property: type"):
        declare(vhost, KIND, "refused", hash_property="type")
    assert "refused" not in vhost.exchanges


def test_a_refused_binding_is_not_there(vhost: VirtualHost, exchange: Exchange) -> None:
    with pytest.raises(SoftError, match="must be an integer"):
        bind_all(vhost, exchange, {"q": "heavy"})
    assert exchange.bindings == {}
    assert vhost.route(exchange, "k", NO_PROPERTIES) == []

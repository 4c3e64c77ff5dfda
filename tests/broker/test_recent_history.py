"""The recent-history exchange: what it remembers, how much of it, and what of that is durable."""

from __future__ import annotations

import pytest

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import ExchangeFlags, QueueFlags, VirtualHost
from amqp_broker.content.header import DELIVERY_MODE, HEADERS, PropertyValue, build_header
from amqp_broker.content.table import table_of
from tests.broker.ledger_store import LedgerStore
from tests.broker.taker import bodies_in

KIND = "x-recent-history"


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def vhost(store: LedgerStore) -> VirtualHost:
    return Broker(store).add_vhost("/")


def declare(vhost: VirtualHost, name: str = "x", kind: str = KIND, **arguments: object) -> Exchange:
    table = table_of({key.replace("_", "-"): value for key, value in arguments.items()})
    return vhost.declare_exchange(name, kind, ExchangeFlags(True, False, False), table)


def queue(vhost: VirtualHost, name: str = "q", *, durable: bool = False) -> Queue:
    return vhost.declare_queue(name, QueueFlags(durable, False, False), {}, None)


def publish(
    vhost: VirtualHost,
    exchange: Exchange,
    *bodies: bytes,
    key: str = "k",
    keys: tuple[str, ...] = (),
    headers: dict[str, object] | None = None,
) -> list[Message]:
    """Persistent messages, routed and given to their queues."""
    messages = []
    values: dict[int, PropertyValue] = {DELIVERY_MODE: 2} | ({HEADERS: table_of(headers or {})})
    for body in bodies:
        message = Message(b"\x01x\x01k", build_header(len(body), values), body)
        for target in vhost.route(exchange, key, message.header, list(keys), message):
            target.publish(message)
        messages.append(message)
    return messages


def given(vhost: VirtualHost, exchange: Exchange) -> list[bytes]:
    """What a new queue is given when it is bound."""
    asked = queue(vhost, "asked")
    vhost.bind(exchange, asked, "", {})
    found = bodies_in(asked)
    vhost.delete_queue(asked)
    return found


def test_a_new_binding_is_given_the_last_messages(vhost: VirtualHost) -> None:
    exchange = declare(vhost)
    publish(vhost, exchange, *(b"%d" % number for number in range(30)))
    assert given(vhost, exchange) == [b"%d" % number for number in range(10, 30)]
    assert given(vhost, declare(vhost, "other")) == []


def test_it_holds_no_more_than_it_was_told(vhost: VirtualHost) -> None:
    exchange = declare(vhost, x_recent_history_length=3)
    publish(vhost, exchange, *(b"%d" % number for number in range(1000)))
    assert [remembered.message.body for remembered in exchange.remembered()] == [b"997", b"998", b"999"]


def test_a_message_that_says_so_is_routed_and_not_remembered(vhost: VirtualHost) -> None:
    exchange = declare(vhost)
    bound = queue(vhost)
    vhost.bind(exchange, bound, "", {})
    publish(vhost, exchange, b"forgotten", headers={"x-recent-history-no-store": True})
    publish(vhost, exchange, b"kept", headers={"x-recent-history-no-store": False})
    assert bodies_in(bound) == [b"forgotten", b"kept"]
    assert given(vhost, exchange) == [b"kept"]


def test_a_message_is_remembered_once_however_it_comes(vhost: VirtualHost) -> None:
    exchange = declare(vhost)
    left, right, outer = (declare(vhost, name, "fanout") for name in ("left", "right", "outer"))
    for source, destination in ((outer, left), (outer, right), (left, exchange), (right, exchange)):
        vhost.bind(source, destination, "", {})
    publish(vhost, outer, b"m", keys=("c", "d"))
    assert given(vhost, exchange) == [b"m"]
    assert vhost.route_varies(outer)


def test_finding_out_the_way_is_no_message(vhost: VirtualHost) -> None:
    exchange = declare(vhost)
    vhost.route(exchange, "k", build_header(0, {}))
    assert exchange.remembered() == []


def test_an_exchange_is_given_it_with_all_its_keys(vhost: VirtualHost) -> None:
    exchange, inner = declare(vhost), declare(vhost, "inner", "direct")
    first, second = queue(vhost, "first"), queue(vhost, "second")
    vhost.bind(inner, first, "k", {})
    vhost.bind(inner, second, "hidden", {})
    publish(vhost, exchange, b"m", b"n", keys=("hidden",))
    publish(vhost, exchange, b"for nobody", key="unknown")
    vhost.bind(exchange, inner, "", {})
    assert bodies_in(first) == [b"m", b"n"]
    assert bodies_in(second) == [b"m", b"n"]


def test_a_circle_of_histories_ends(vhost: VirtualHost) -> None:
    one, two = declare(vhost, "one"), declare(vhost, "two")
    publish(vhost, one, b"m")
    vhost.bind(one, two, "", {})
    vhost.bind(two, one, "", {})
    vhost.bind(one, one, "", {})
    assert set(given(vhost, two)) == {b"m"}
    assert len(given(vhost, one)) <= 20


def test_what_a_durable_queue_was_given_is_durable_and_the_memory_is_not(
    vhost: VirtualHost, store: LedgerStore
) -> None:
    exchange = declare(vhost, x_recent_history_length=2)
    first = queue(vhost, "first", durable=True)
    vhost.bind(exchange, first, "", {})
    publish(vhost, exchange, b"l", b"m", b"n")
    assert bodies_in(first) == [b"l", b"m", b"n"]
    second = queue(vhost, "second", durable=True)
    vhost.bind(exchange, second, "", {})
    store.commit()
    assert store.stored(first.store_id) == []
    assert store.stored(second.store_id) == [b"m", b"n"]
    restarted = Broker(store.survivor())
    restarted.add_vhost("/")
    restarted.recover()
    there = restarted.vhosts["/"]
    assert bodies_in(there.queues["second"]) == [b"m", b"n"]
    again = there.exchanges["x"]
    assert again.remembered() == []
    publish(there, again, b"1", b"2", b"3")
    assert given(there, again) == [b"2", b"3"]


def test_a_message_given_again_is_another_one_to_the_store(vhost: VirtualHost) -> None:
    exchange = declare(vhost)
    (published,) = publish(vhost, exchange, b"m")
    bound = queue(vhost, durable=True)
    vhost.bind(exchange, bound, "", {})
    entry = bound.get()
    assert entry is not None
    assert entry.message is not published
    assert (entry.message.address, entry.message.header, entry.message.body) == (
        published.address,
        published.header,
        published.body,
    )

"""Arguments of queues, exchanges and bindings: few are kept as they came, many take hardly more than their octets."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.broker.kept_arguments import MOST_PLAIN, whole
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.table import Field, read_table, table_of, write_table
from amqp_broker.definitions import write
from amqp_broker.errors import SoftError
from tests.broker.ledger_store import LedgerStore

DURABLE = QueueFlags(True, False, False)
EXCHANGE = ExchangeFlags(True, False, False)


def entry(name: bytes, kind: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + kind + value


def sized(octets: bytes) -> bytes:
    return struct.pack(">I", len(octets)) + octets


def tables_within_tables() -> bytes:
    """Chains of tables, each with nothing but the next one in it."""
    chain = b""
    for _ in range(40):
        chain = entry(b"a", b"F", sized(chain))
    return b"".join([entry(b"%02x" % number, b"F", sized(chain)) for number in range(40)])


BULKY = {
    "tables": tables_within_tables(),
    "an array": entry(b"a", b"A", sized(b"V" * 6_000)),
    "many": b"".join([entry(b"%05x" % number, b"V", b"") for number in range(2000)]),
}


def arguments(which: str, **others: object) -> dict[str, Field]:
    named = {name.replace("_", "-"): value for name, value in others.items()}
    octets = write_table(table_of(named))[4:] + BULKY[which]
    return read_table(sized(octets), 0)[0]


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def broker(store: LedgerStore) -> Broker:
    broker = Broker(store)
    broker.add_vhost("/")
    return broker


@pytest.fixture
def vhost(broker: Broker) -> VirtualHost:
    return broker.vhosts["/"]


def test_a_handful_is_kept_as_it_came(vhost: VirtualHost) -> None:
    few = table_of({"x-max-length": 5, **{f"note-{number}": "n" for number in range(MOST_PLAIN - 1)}})
    queue = vhost.declare_queue("q", DURABLE, few, None)
    assert (queue.packed, queue.arguments) == (b"", few)


@pytest.mark.parametrize("which", BULKY)
def test_many_take_hardly_more_than_their_octets(vhost: VirtualHost, which: str) -> None:
    octets = len(BULKY[which])
    given = write_table(arguments(which))
    count = 5
    tracemalloc.start()
    try:
        for number in range(count):
            vhost.declare_queue(f"q{number}", QueueFlags(False, False, False), read_table(given, 0)[0], None)
            vhost.declare_exchange(f"e{number}", "direct", EXCHANGE, read_table(given, 0)[0])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # Beside a queue and an exchange, and what a durable exchange has the store keep.
    assert taken < count * (4 * octets + 16_384)


@pytest.mark.parametrize("which", BULKY)
def test_what_is_looked_up_counts_all_the_same(vhost: VirtualHost, which: str) -> None:
    queue = vhost.declare_queue("q", DURABLE, arguments(which, x_max_length=3, x_max_priority=4), None)
    assert set(queue.arguments) == {"x-max-length", "x-max-priority"}
    assert queue.features.max_length == 3
    assert (
        vhost.declare_queue("q", DURABLE, arguments(which, x_max_length=3, x_max_priority=4), None) is queue
    )
    with pytest.raises(SoftError, match="inequivalent arg 'x-max-length'"):
        vhost.declare_queue("q", DURABLE, arguments(which, x_max_length=2, x_max_priority=4), None)
    exchange = vhost.declare_exchange("e", "fanout", EXCHANGE, arguments(which, alternate_exchange="other"))
    assert exchange.alternate == "other"
    with pytest.raises(SoftError, match="inequivalent arg 'alternate-exchange'"):
        vhost.declare_exchange("e", "fanout", EXCHANGE, arguments(which, alternate_exchange="another"))


@pytest.mark.parametrize("which", BULKY)
def test_all_of_them_come_back_also_after_a_restart(broker: Broker, store: LedgerStore, which: str) -> None:
    vhost = broker.vhosts["/"]
    given = arguments(which, x_max_length=3)
    queue = vhost.declare_queue("q", DURABLE, arguments(which, x_max_length=3), None)
    source = vhost.declare_exchange("e", "direct", EXCHANGE, arguments(which, x_max_length=3))
    vhost.bind(source, queue, "key", arguments(which, x_max_length=3))
    told = json.loads(write(broker, version="3.13.7", product="x", product_version="1"))
    exported = [told[kind][0]["arguments"] for kind in ("queues", "exchanges", "bindings")]
    for each in exported:
        assert (each["x-max-length"], sorted(each)) == (3, sorted(given))
    store.commit()
    again = Broker(store.survivor())
    again.add_vhost("/")
    again.recover()
    found = again.vhosts["/"].queues["q"]
    octets = write_table(given)
    assert (found.packed == octets, queue.packed == octets) == (True, True)
    assert write_table(whole(found.packed, found.arguments)) == octets
    assert found.features.max_length == 3


@pytest.mark.parametrize("which", BULKY)
def test_a_binding_is_known_by_them_in_any_order(vhost: VirtualHost, which: str) -> None:
    queue = vhost.declare_queue("q", DURABLE, {}, None)
    source = vhost.declare_exchange("e", "headers", EXCHANGE, {})
    given = arguments(which, colour="red")
    vhost.bind(source, queue, "", dict(given))
    turned = {name: given[name] for name in reversed(given)}
    assert vhost.is_bound(source, queue, "", turned)
    assert not vhost.is_bound(source, queue, "", arguments(which, colour="blue"))
    vhost.unbind(source, queue, "", turned)
    assert not source.bindings
    assert not queue.incoming

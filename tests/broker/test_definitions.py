"""Durable topology: what was committed is there after a start, equal in everything, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import EXCHANGE_TYPES, Exchange
from amqp_broker.broker.kept_arguments import whole
from amqp_broker.broker.policy import new_policy
from amqp_broker.broker.ports import Definition
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import ExchangeFlags, QueueFlags
from amqp_broker.content.table import Field, encode_field, table_of, write_table
from tests.broker.ledger_store import LedgerStore
from tests.broker.taker import bodies_in, publish

NAMES = st.text("abé.*#", min_size=1, max_size=4)
WEIGHTS = st.integers(1, 99).map(str)
ARGUMENTS = st.dictionaries(st.sampled_from(["k", "l"]), st.integers(-9, 9) | st.text(max_size=3), max_size=2)


def picture(broker: Broker) -> dict[str, object]:
    """All that is durable, as plain values."""
    found: dict[str, object] = {}
    for vhost in broker.vhosts.values():
        for exchange in vhost.exchanges.values():
            if not exchange.durable:
                continue
            found[f"exchange {vhost.name} {exchange.name}"] = (
                exchange.kind,
                exchange.auto_delete,
                exchange.internal,
                exchange.alternate,
                write_table(whole(exchange.packed, exchange.arguments)),
            )
            for (_, destination, key, arguments), binding in exchange.bindings.items():
                if binding.definition:
                    name = f"binding {vhost.name} {exchange.name} {key} {arguments!r}"
                    found[f"{name} {isinstance(binding.destination, Exchange)} {destination}"] = True
        for queue in vhost.queues.values():
            if queue.durable:
                found[f"queue {vhost.name} {queue.name}"] = (
                    queue.auto_delete,
                    queue.store_id,
                    write_table(whole(queue.packed, queue.arguments)),
                )
    return found


def restarted(store: LedgerStore) -> Broker:
    """The broker of the next start, with its predeclared virtual host."""
    broker = Broker(store.survivor())
    broker.add_vhost("/")
    broker.recover()
    return broker


# Without which an exchange of these types cannot be declared.
NEEDED = {
    "x-delayed-message": {"x-delayed-type": Field("S", b"direct")},
    "x-message-deduplication": {"x-cache-size": Field("I", 10)},
}


# Numbers are drawn, not objects: Hypothesis refers to what was drawn weakly, and compiled classes that inherit from
# Python's own, as ABC is, do not survive that.
@given(st.data())
def test_any_topology_comes_back_as_it_was(data: st.DataObject) -> None:
    store = LedgerStore()
    broker = Broker(store)
    vhosts = [broker.add_vhost("/"), broker.add_vhost("other")]
    flags = st.booleans()
    for _ in range(data.draw(st.integers(0, 12))):
        vhost = vhosts[data.draw(st.integers(0, 1))]
        name = data.draw(NAMES)
        arguments = table_of(dict(data.draw(ARGUMENTS)))
        if data.draw(flags) and name not in vhost.exchanges:
            kind = data.draw(st.sampled_from(sorted(EXCHANGE_TYPES)))
            exchange_flags = ExchangeFlags(data.draw(flags), data.draw(flags), data.draw(flags))
            vhost.declare_exchange(name, kind, exchange_flags, arguments | NEEDED.get(kind, {}))
        elif name not in vhost.queues:
            vhost.declare_queue(name, QueueFlags(data.draw(flags), False, data.draw(flags)), arguments, None)
        source = data.draw(st.sampled_from(sorted(set(vhost.exchanges) - {""})))
        targets: list[Queue | Exchange] = [
            *vhost.queues.values(),
            *(vhost.exchanges[name] for name in sorted(vhost.exchanges) if name),
        ]
        target = targets[data.draw(st.integers(0, len(targets) - 1))]
        keys = WEIGHTS if vhost.exchanges[source].kind == "x-consistent-hash" else NAMES
        vhost.bind(vhost.exchanges[source], target, data.draw(keys), arguments)
        if data.draw(st.integers(0, 5)) == 0 and vhost.queues:
            vhost.delete_queue(vhost.queues[data.draw(st.sampled_from(sorted(vhost.queues)))])
    store.commit()
    before = picture(broker)
    after = restarted(store)
    after.add_vhost("other")
    assert picture(after) == before


def test_argument_types_survive_to_the_bit() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    arguments = {
        "b": Field("b", -1),
        "l": Field("l", 1),
        "D": Field("D", (2, 314)),
        "f": Field("f", 0.5),
        "x": Field("x", b"\0\xff"),
        "A": Field("A", [Field("V", None), Field("T", 12)]),
    }
    vhost.declare_queue("q", QueueFlags(True, False, False), arguments, None)
    store.commit()
    queue = restarted(store).vhosts["/"].queues["q"]
    found = whole(queue.packed, queue.arguments)
    assert encode_field(Field("F", found)) == encode_field(Field("F", arguments))


def test_what_was_not_committed_is_not_there() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    vhost.declare_queue("q", QueueFlags(True, False, False), {}, None)
    store.seal()
    vhost.declare_queue("r", QueueFlags(True, False, False), {}, None)
    assert restarted(store).vhosts["/"].queues == {}


def test_a_start_counts_what_it_finds() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    source = vhost.declare_exchange("x", "fanout", ExchangeFlags(True, False, False), {})
    for name in ("q", "r"):
        queue = vhost.declare_queue(name, QueueFlags(True, False, False), {}, None)
        vhost.bind(source, queue, "", {})
        publish(queue, b"1", b"2", persistent=True)
    store.commit()
    found = Broker(store.survivor()).recover()
    assert (found.exchanges, found.queues, found.bindings, found.messages) == (1, 2, 2, 4)


def test_messages_come_back_to_their_queues() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    for name in ("q", "r"):
        publish(
            vhost.declare_queue(name, QueueFlags(True, False, False), {}, None),
            name.encode() * 3,
            persistent=True,
        )
    store.commit()
    queues = restarted(store).vhosts["/"].queues
    assert {name: bodies_in(queue) for name, queue in queues.items()} == {"q": [b"qqq"], "r": [b"rrr"]}


def test_after_a_kill_everything_is_redelivered() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    publish(vhost.declare_queue("q", QueueFlags(True, False, False), {}, None), b"1", persistent=True)
    store.commit()
    for was_killed in (False, True):
        broker = Broker(store.survivor())
        broker.recover(was_killed=was_killed)
        entry = broker.vhosts["/"].queues["q"].get()
        assert entry is not None
        assert (entry.deliveries > 0) is was_killed


def test_new_definitions_after_a_start_overwrite_none() -> None:
    store = LedgerStore()
    Broker(store).add_vhost("/").declare_queue("q", QueueFlags(True, False, False), {}, None)
    store.commit()
    store = store.survivor()
    broker = Broker(store)
    broker.recover()
    broker.vhosts["/"].declare_queue("r", QueueFlags(True, False, False), {}, None)
    store.commit()
    queues = restarted(store).vhosts["/"].queues
    assert set(queues) == {"q", "r"}
    assert queues["q"].store_id != queues["r"].store_id


def test_messages_of_a_queue_without_a_definition_are_removed() -> None:
    store = LedgerStore()
    queue = Broker(store).add_vhost("/").declare_queue("q", QueueFlags(True, False, False), {}, None)
    publish(queue, b"1", persistent=True)
    store.commit()
    store.disk.definitions.clear()
    store = store.survivor()
    assert Broker(store).recover().messages == 0
    store.commit()
    assert store.stored(queue.store_id) == []


def test_a_binding_to_something_that_is_gone_is_left_out() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    queue = vhost.declare_queue("q", QueueFlags(True, False, False), {}, None)
    vhost.bind(vhost.exchanges["amq.direct"], queue, "k", {})
    store.commit()
    store.disk.definitions = {
        key: value for key, value in store.disk.definitions.items() if key[0] == "binding"
    }
    assert not restarted(store).vhosts["/"].exchanges["amq.direct"].bindings


def test_an_exchange_of_an_unknown_type_stops_the_start() -> None:
    store = LedgerStore()
    value: dict[str, object] = {
        "vhost": "/",
        "name": "x",
        "type": "x-later",
        "auto_delete": False,
        "internal": False,
        "arguments": write_table({}),
    }
    store.put_definition(Definition("exchange", b"\1", value))
    store.commit()
    with pytest.raises(ValueError, match="exchange 'x' in vhost '/' has unknown type 'x-later'"):
        Broker(store.survivor()).recover()


def test_an_exchange_that_is_always_there_follows_its_policy_after_a_restart() -> None:
    store = LedgerStore()
    vhost = Broker(store).add_vhost("/")
    vhost.set_policy(new_policy("p", "^amq.direct$", table_of({"alternate-exchange": "rest"})))
    store.commit()
    assert restarted(store).vhosts["/"].exchanges["amq.direct"].alternate == "rest"

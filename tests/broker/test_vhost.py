"""The verbs of a virtual host: what may be declared, bound and deleted, and what goes with what."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from amqp_broker.broker.definitions import DefinitionWriter
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.timetable import Clock, Timetable
from amqp_broker.broker.vhost import PREDECLARED, ExchangeFlags, QueueFlags, VirtualHost
from amqp_broker.content.table import Field, table_of
from amqp_broker.errors import HardError, SoftError
from tests.broker.ledger_store import LedgerStore
from tests.broker.taker import Taker, publish

ME = object()
OTHER = object()


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def vhost(store: LedgerStore) -> VirtualHost:
    return VirtualHost("/", store, DefinitionWriter(store), Timetable(Clock()))


def exchange(
    vhost: VirtualHost,
    name: str,
    kind: str = "direct",
    *,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    **arguments: object,
) -> Exchange:
    flags = ExchangeFlags(durable, auto_delete, internal)
    table = table_of({key.replace("_", "-"): value for key, value in arguments.items()})
    return vhost.declare_exchange(name, kind, flags, table)


def queue(
    vhost: VirtualHost,
    name: str,
    *,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    connection: object = ME,
    **arguments: object,
) -> Queue:
    flags = QueueFlags(durable, exclusive, auto_delete)
    table = table_of({"x-" + key.replace("_", "-"): value for key, value in arguments.items()})
    return vhost.declare_queue(name, flags, table, connection)


LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original "
    "declaration."
)


# -- declaring queues


def test_a_queue_is_declared_once(vhost: VirtualHost) -> None:
    assert queue(vhost, "q", max_length=10) is queue(vhost, "q", max_length=10)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (
            {"durable": True},
            {},
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': "
                "received 'false' but current is 'true'"
            ),
        ),
        (
            {},
            {"auto_delete": True},
            (
                "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'q' in vhost '/': "
                "received 'true' but current is 'false'"
            ),
        ),
        (
            {"max_length": 10},
            {"max_length": 20},
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': "
                "received '20' but current is '10'"
            ),
        ),
        (
            {"max_length": 10},
            {},
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': "
                "received none but current is the value '10' of type 'signedint'"
            ),
        ),
        ({}, {"exclusive": True}, LOCKED),
        ({"exclusive": True}, {}, LOCKED),
        ({"exclusive": True}, {"exclusive": True, "connection": OTHER}, LOCKED),
    ],
)
def test_a_queue_redeclared_differently_is_refused(
    vhost: VirtualHost, first: dict[str, Any], second: dict[str, Any], text: str
) -> None:
    queue(vhost, "q", **first)
    with pytest.raises(SoftError) as caught:
        queue(vhost, "q", **second)
    assert caught.value.text == text


def test_an_empty_name_has_one_made_up(vhost: VirtualHost) -> None:
    first, second = queue(vhost, ""), queue(vhost, "")
    assert first is not second
    assert first.name.startswith("amq.gen-")
    assert len(first.name) == len("amq.gen-") + 22


def test_a_reserved_name_is_refused(vhost: VirtualHost) -> None:
    with pytest.raises(SoftError) as caught:
        queue(vhost, "amq.mine")
    assert caught.value.text == "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"


def test_a_bad_argument_makes_no_queue(vhost: VirtualHost) -> None:
    with pytest.raises(SoftError):
        queue(vhost, "q", max_length=-1)
    assert not vhost.queues


def test_looking_up_a_queue(vhost: VirtualHost) -> None:
    mine = queue(vhost, "q", exclusive=True)
    assert vhost.queue("q", ME) is mine
    with pytest.raises(SoftError) as caught:
        vhost.queue("q", OTHER)
    assert caught.value.code == 405
    with pytest.raises(SoftError) as caught:
        vhost.queue("nothing", ME)
    assert caught.value.text == "NOT_FOUND - no queue 'nothing' in vhost '/'"


# -- declaring exchanges


def test_predeclared_exchanges_are_there(vhost: VirtualHost) -> None:
    assert {name: found.kind for name, found in vhost.exchanges.items()} == PREDECLARED
    assert all(found.durable for found in vhost.exchanges.values())


def test_a_predeclared_exchange_may_be_declared_as_it_is(vhost: VirtualHost) -> None:
    assert exchange(vhost, "amq.topic", "topic", durable=True) is vhost.exchanges["amq.topic"]


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ({"kind": "direct"}, {"kind": "fanout"}, "'type' for R: received 'fanout' but current is 'direct'"),
        ({"durable": True}, {}, "'durable' for R: received 'false' but current is 'true'"),
        ({}, {"auto_delete": True}, "'auto_delete' for R: received 'true' but current is 'false'"),
        ({}, {"internal": True}, "'internal' for R: received 'true' but current is 'false'"),
        (
            {"alternate_exchange": "a"},
            {},
            "'alternate-exchange' for R: received none but current is the value 'a' of type 'longstr'",
        ),
    ],
)
def test_an_exchange_redeclared_differently_is_refused(
    vhost: VirtualHost, first: dict[str, Any], second: dict[str, Any], text: str
) -> None:
    exchange(vhost, "x", **first)
    with pytest.raises(SoftError) as caught:
        exchange(vhost, "x", **second)
    expected = "inequivalent arg " + text.replace("R", "exchange 'x' in vhost '/'")
    assert caught.value.text == "PRECONDITION_FAILED - " + expected


def test_an_unknown_exchange_type_is_the_connections_error(vhost: VirtualHost) -> None:
    with pytest.raises(HardError) as caught:
        exchange(vhost, "x", "x-unheard-of")
    assert caught.value.text == "COMMAND_INVALID - unknown exchange type 'x-unheard-of'"


def test_reserved_and_default_names_are_refused(vhost: VirtualHost) -> None:
    with pytest.raises(SoftError) as caught:
        exchange(vhost, "amq.mine")
    assert caught.value.text == "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    with pytest.raises(SoftError) as caught:
        exchange(vhost, "")
    assert caught.value.text == "ACCESS_REFUSED - operation not permitted on the default exchange"


# -- deleting


def test_a_missing_exchange_is_deleted_without_error(vhost: VirtualHost) -> None:
    assert vhost.delete_exchange("nothing", if_unused=True) is False


def test_a_predeclared_exchange_stays(vhost: VirtualHost) -> None:
    with pytest.raises(SoftError) as caught:
        vhost.delete_exchange("amq.direct", if_unused=False)
    assert caught.value.text == (
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    )
    with pytest.raises(SoftError) as caught:
        vhost.delete_exchange("", if_unused=False)
    assert caught.value.text == "ACCESS_REFUSED - operation not permitted on the default exchange"


def test_an_exchange_in_use_is_deleted_only_if_that_is_wanted(vhost: VirtualHost) -> None:
    source = exchange(vhost, "x")
    vhost.bind(source, queue(vhost, "q"), "k", {})
    with pytest.raises(SoftError) as caught:
        vhost.delete_exchange("x", if_unused=True)
    assert caught.value.text == "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use"
    vhost.delete_exchange("x", if_unused=False)
    assert "x" not in vhost.exchanges


def test_an_exchange_that_is_only_a_destination_is_not_in_use(vhost: VirtualHost) -> None:
    vhost.bind(exchange(vhost, "x"), exchange(vhost, "y"), "k", {})
    vhost.delete_exchange("y", if_unused=True)
    assert "y" not in vhost.exchanges
    assert not vhost.exchanges["x"].bindings


def test_a_queue_in_use_or_not_empty_is_deleted_only_if_that_is_wanted(vhost: VirtualHost) -> None:
    found = queue(vhost, "q")
    publish(found, b"1", b"2")
    with pytest.raises(SoftError) as caught:
        vhost.delete_queue(found, if_empty=True)
    assert caught.value.text == "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"
    taker = Taker(found, room=1).start()
    with pytest.raises(SoftError) as caught:
        vhost.delete_queue(found, if_unused=True)
    assert caught.value.text == "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
    assert vhost.delete_queue(found) == 1
    assert taker.told
    assert not vhost.queues


def test_a_deleted_queue_takes_its_bindings_along(vhost: VirtualHost) -> None:
    source, found = exchange(vhost, "x"), queue(vhost, "q")
    vhost.bind(source, found, "a", {})
    vhost.bind(source, found, "b", {})
    vhost.delete_queue(found)
    assert not source.bindings


def test_a_deleted_exchange_leaves_no_binding_behind(vhost: VirtualHost) -> None:
    found = queue(vhost, "q")
    for _ in range(3):
        vhost.bind(exchange(vhost, "x"), found, "k", {})
        vhost.delete_exchange("x", if_unused=False)
    assert not found.incoming


# -- what goes with what


def test_an_auto_delete_queue_goes_with_its_last_consumer(vhost: VirtualHost) -> None:
    found = queue(vhost, "q", auto_delete=True)
    vhost.consumer_gone(queue(vhost, "other"))
    takers = [Taker(found, tag=tag).start() for tag in ("a", "b")]
    found.remove_consumer(takers[0])
    vhost.consumer_gone(found)
    assert "q" in vhost.queues
    found.remove_consumer(takers[1])
    vhost.consumer_gone(found)
    assert "q" not in vhost.queues
    vhost.consumer_gone(found)


def test_an_auto_delete_exchange_goes_with_its_last_binding(vhost: VirtualHost) -> None:
    source, found = exchange(vhost, "x", auto_delete=True), queue(vhost, "q")
    vhost.bind(source, found, "a", {})
    vhost.bind(source, found, "b", {})
    vhost.unbind(source, found, "a", {})
    assert "x" in vhost.exchanges
    vhost.unbind(source, found, "b", {})
    assert "x" not in vhost.exchanges


def test_an_auto_delete_exchange_that_was_never_bound_stays(vhost: VirtualHost) -> None:
    source = exchange(vhost, "x", auto_delete=True)
    vhost.unbind(source, queue(vhost, "q"), "never", {})
    assert "x" in vhost.exchanges


def test_auto_delete_cascades_along_a_chain_of_exchanges(vhost: VirtualHost) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        exchange(vhost, name, auto_delete=True)
    for source, destination in itertools.pairwise(names):
        vhost.bind(vhost.exchanges[source], vhost.exchanges[destination], "k", {})
    found = queue(vhost, "q", auto_delete=True)
    vhost.bind(vhost.exchanges["d"], found, "k", {})
    taker = Taker(found).start()
    found.remove_consumer(taker)
    vhost.consumer_gone(found)
    assert set(vhost.exchanges) == set(PREDECLARED)


def test_auto_delete_stops_at_an_exchange_that_has_another_binding(vhost: VirtualHost) -> None:
    source, found = exchange(vhost, "x", auto_delete=True), queue(vhost, "q")
    vhost.bind(source, found, "k", {})
    vhost.bind(source, queue(vhost, "r"), "k", {})
    vhost.delete_queue(found)
    assert "x" in vhost.exchanges


@pytest.mark.parametrize("auto_delete", [False, True])
def test_exchanges_bound_in_a_circle_can_be_deleted(vhost: VirtualHost, auto_delete: bool) -> None:
    for name in ("a", "b"):
        exchange(vhost, name, auto_delete=auto_delete)
    for source, destination in (("a", "b"), ("b", "a"), ("a", "a")):
        vhost.bind(vhost.exchanges[source], vhost.exchanges[destination], "k", {})
    vhost.delete_exchange("a", if_unused=False)
    vhost.delete_exchange("b", if_unused=False)
    assert set(vhost.exchanges) == set(PREDECLARED)


def test_exclusive_queues_go_with_their_connection(vhost: VirtualHost) -> None:
    queue(vhost, "mine", exclusive=True)
    queue(vhost, "yours", exclusive=True, connection=OTHER)
    queue(vhost, "everybodys")
    vhost.delete_exclusive(ME)
    assert set(vhost.queues) == {"yours", "everybodys"}


# -- bindings


def test_the_same_binding_twice_is_one(vhost: VirtualHost) -> None:
    source, found = exchange(vhost, "x", durable=True), queue(vhost, "q", durable=True)
    arguments = table_of({"a": 1, "b": 2})
    reordered = table_of({"b": 2, "a": 1})
    assert vhost.bind(source, found, "k", arguments) is True
    assert vhost.bind(source, found, "k", reordered) is False
    assert len(source.bindings) == 1
    assert len(found.incoming) == 1
    assert vhost.unbind(source, found, "k", reordered) is True
    assert vhost.unbind(source, found, "k", reordered) is False
    assert not source.bindings
    assert not found.incoming


def test_bindings_that_differ_in_anything_are_several(vhost: VirtualHost) -> None:
    source, found = exchange(vhost, "x"), queue(vhost, "same name")
    target = exchange(vhost, "same name")
    for destination, key, arguments in (
        (found, "k", {}),
        (target, "k", {}),
        (found, "K", {}),
        (found, "k", table_of({"a": 1})),
        (found, "k", {"a": Field("l", 1)}),
    ):
        vhost.bind(source, destination, key, arguments)
    assert len(source.bindings) == 5


def test_arguments_a_headers_exchange_cannot_use_are_refused(vhost: VirtualHost) -> None:
    source = exchange(vhost, "x", "headers")
    with pytest.raises(SoftError) as caught:
        vhost.bind(source, queue(vhost, "q"), "", table_of({"x-match": "some"}))
    assert caught.value.code == 406
    assert not source.bindings


# -- what is durable


def kinds_on_disk(store: LedgerStore) -> list[str]:
    store.commit()
    return sorted(kind for kind, _ in store.disk.definitions)


def test_only_durable_things_are_written(vhost: VirtualHost, store: LedgerStore) -> None:
    lasting, passing = exchange(vhost, "x", durable=True), exchange(vhost, "y")
    kept, lost = queue(vhost, "q", durable=True), queue(vhost, "r")
    own = queue(vhost, "own", durable=True, exclusive=True)
    assert vhost.bind(lasting, kept, "k", {}) is True
    for source, destination in ((lasting, lost), (passing, kept), (lasting, own), (passing, lasting)):
        assert vhost.bind(source, destination, "k", {}) is False
    assert kinds_on_disk(store) == ["binding", "exchange", "queue"]


def test_what_is_deleted_is_deleted_from_the_store(vhost: VirtualHost, store: LedgerStore) -> None:
    source, target = exchange(vhost, "x", durable=True), exchange(vhost, "y", durable=True, auto_delete=True)
    kept = queue(vhost, "q", durable=True)
    vhost.bind(source, target, "k", {})
    vhost.bind(target, kept, "k", {})
    publish(kept, b"1", persistent=True)
    assert kinds_on_disk(store) == ["binding", "binding", "exchange", "exchange", "queue"]
    vhost.delete_queue(kept)
    assert kinds_on_disk(store) == ["exchange"]
    assert store.stored(kept.store_id) == []
    assert vhost.delete_exchange("x", if_unused=False) is True
    assert kinds_on_disk(store) == []


def test_a_change_that_is_taken_back_in_the_same_batch_leaves_nothing(
    vhost: VirtualHost, store: LedgerStore
) -> None:
    found = queue(vhost, "q", durable=True)
    publish(found, b"1", persistent=True)
    vhost.delete_queue(found)
    assert kinds_on_disk(store) == []
    assert store.stored(found.store_id) == []

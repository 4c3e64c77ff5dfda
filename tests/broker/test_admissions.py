"""Ways through an exchange that deduplicates: messages share them, and each goes where its own way leads."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.exchanges.gate import MOST_ADMISSIONS
from amqp_broker.broker.flags import ExchangeFlags
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import table_of
from tests.broker.house import House, made
from tests.broker.taker import bodies_in

HEADER = "x-deduplication-header"


@pytest.fixture
def house() -> House:
    house = House()
    declare(house, "x", "direct")
    return house


def declare(house: House, name: str, kind: str) -> None:
    arguments = table_of({"x-message-deduplication": True})
    house.vhost.declare_exchange(name, kind, ExchangeFlags(True, False, False), arguments)


def bind(house: House, queue: Queue, *keys: str) -> None:
    for key in keys:
        house.vhost.bind(house.vhost.exchanges["x"], queue, key, {})


def message(body: bytes, value: object = None) -> Message:
    return made(body, persistent=True, headers={HEADER: body.decode() if value is None else value})


def route(house: House, sent: Message, key: str) -> list[Queue]:
    return house.vhost.route(house.vhost.exchanges["x"], key, sent.header, message=sent)


def send(house: House, body: bytes, key: str, value: object = None) -> None:
    sent = message(body, value)
    for queue in route(house, sent, key):
        queue.publish(sent)


def contents(*queues: Queue) -> list[list[bytes]]:
    return [bodies_in(queue) for queue in queues]


def test_messages_that_take_the_same_way_share_an_admission(house: House) -> None:
    bind(house, house.queue(), "a")
    assert route(house, message(b"1"), "a") == route(house, message(b"2"), "a")


def test_each_message_goes_where_its_key_leads(house: House) -> None:
    first, second = house.queue("first"), house.queue("second")
    bind(house, first, "a", "both")
    bind(house, second, "b", "both")
    for number, key in enumerate(["a", "b", "both", "a", "b", "both", "nowhere"]):
        send(house, b"%d" % number, key)
    assert contents(first, second) == [[b"0", b"2", b"3", b"5"], [b"1", b"2", b"4", b"5"]]


def test_a_way_changes_with_the_bindings(house: House) -> None:
    first, second = house.queue("first"), house.queue("second")
    bind(house, first, "a")
    send(house, b"1", "a")
    bind(house, second, "a")
    send(house, b"2", "a")
    house.vhost.unbind(house.vhost.exchanges["x"], first, "a", {})
    send(house, b"3", "a")
    assert contents(first, second) == [[b"1", b"2"], [b"2", b"3"]]


def test_a_queue_of_the_same_name_is_another_queue(house: House) -> None:
    """A durable one in the place of a transient one: publishers have to wait for the disk from now on."""
    bind(house, house.queue(), "a")
    (before,) = route(house, message(b"1"), "a")
    house.vhost.delete_queue(house.vhost.queues["q"])
    queue = house.durable()
    bind(house, queue, "a")
    (after,) = route(house, message(b"2"), "a")
    assert (before.store_id, after.store_id) == (0, queue.store_id)
    send(house, b"3", "a")
    assert contents(queue) == [[b"3"]]


def test_ways_are_forgotten_when_the_topology_changes(house: House) -> None:
    """They would keep queues that are gone."""
    bind(house, house.queue(), "a")
    before = route(house, message(b"1"), "a")
    house.vhost.delete_queue(house.queue("another"))
    assert route(house, message(b"2"), "a") != before


def test_so_many_ways_are_remembered(house: House) -> None:
    for number in range(MOST_ADMISSIONS + 1):
        bind(house, house.queue(f"q{number}"), f"{number}")
    first = route(house, message(b"1"), "0")
    for number in range(MOST_ADMISSIONS):
        route(house, message(b"2"), f"{number}")
    assert route(house, message(b"3"), "0") == first
    route(house, message(b"4"), f"{MOST_ADMISSIONS}")
    assert route(house, message(b"5"), "0") != first


def test_more_ways_than_are_remembered_lead_to_the_right_queues(house: House) -> None:
    queues = [house.queue(f"q{number}") for number in range(2 * MOST_ADMISSIONS)]
    for number, queue in enumerate(queues):
        bind(house, queue, f"{number}")
    for turn in range(2):
        for number in range(len(queues)):
            send(house, b"%d.%d" % (number, turn), f"{number}")
    expected = [[b"%d.0" % number, b"%d.1" % number] for number in range(len(queues))]
    assert contents(*queues) == expected


def test_a_transaction_may_hold_a_way_that_changed_meanwhile(house: House) -> None:
    first, second = house.queue("first"), house.queue("second")
    bind(house, first, "a")
    bind(house, second, "a")
    sent = message(b"1")
    held = route(house, sent, "a")
    house.vhost.delete_queue(first)
    send(house, b"2", "a")
    for queue in held:
        queue.publish(sent)
    assert contents(second) == [[b"2", b"1"]]


def test_a_dead_letter_that_may_go_to_some_of_the_queues_takes_the_way_from_nobody(house: House) -> None:
    """The letter has been in one of two queues, a message that comes in between in neither."""
    declare(house, "f", "fanout")
    dying = house.queue("dying", message_ttl=100, dead_letter_exchange="f")
    other = house.queue("other")
    fanout = house.vhost.exchanges["f"]
    for queue in (dying, other):
        house.vhost.bind(fanout, queue, "", {})
    sent = message(b"fresh")
    held = house.vhost.route(fanout, "", sent.header, message=sent)
    dying.publish(message(b"dead"))
    house.pass_time(100)
    assert contents(dying, other) == [[], [b"dead"]]
    for queue in held:
        queue.publish(sent)
    assert contents(dying, other) == [[b"fresh"], [b"fresh"]]


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_each_message_is_known_by_its_own_value(house: House, *, one_at_a_time: bool) -> None:
    queue = house.queue()
    bind(house, queue, "a")
    values: list[Any] = ["x", "y", "x", 1, 2, 1, "y", "z"]
    sent = [message(b"%d" % number, value) for number, value in enumerate(values)]
    if one_at_a_time:
        for one in sent:
            for target in route(house, one, "a"):
                target.publish(one)
    else:
        held = [route(house, one, "a") for one in sent]
        for one, targets in zip(sent, held, strict=True):
            for target in targets:
                target.publish(one)
    assert contents(queue) == [[b"0", b"1", b"3", b"4", b"7"]]


def test_two_messages_with_one_header_have_one_value(house: House) -> None:
    queue = house.queue()
    bind(house, queue, "a")
    first = message(b"1", "x")
    second = Message(first.address, first.header, b"2")
    for one in (first, second):
        for target in route(house, one, "a"):
            target.publish(one)
    assert contents(queue) == [[b"1"]]

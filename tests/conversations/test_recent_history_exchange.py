"""Recent-history exchanges: a fanout whose new bindings are given what went through before.

RabbitMQ needs its plugin rabbitmq_recent_history_exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, eventually
from .codec import Typed
from .conftest import Names

Declare = Callable[..., str]
Differs = Callable[..., Any]
KIND = "x-recent-history"
LENGTH = "x-recent-history-length"
NO_STORE = "x-recent-history-no-store"


def publish(channel: Channel, exchange: str, *bodies: str) -> None:
    for body in bodies:
        channel.publish(body, exchange=exchange)


@pytest.fixture
def history(channel: Channel, names: Names) -> Callable[[str], list[str]]:
    """What a queue that is bound now is given."""

    def ask(exchange: str) -> list[str]:
        queue = channel.declare(names.queue())
        channel.bind(queue, exchange)
        found = channel.drain(queue)
        channel.call("queue.delete", queue=queue)
        return found

    return ask


History = Callable[[str], list[str]]


# declaring


@pytest.mark.parametrize("kind", "bsIl")
def test_a_length_is_a_positive_signed_integer(exchange: Declare, history: History, kind: str) -> None:
    assert history(exchange(KIND, arguments={LENGTH: Typed(kind, 3)})) == []


@pytest.mark.parametrize(
    ("value", "term"),
    [
        (0, "0"),
        (-1, "-1"),
        (Typed("b", 0), "0"),
        (Typed("B", 3), "3"),
        (Typed("u", 3), "3"),
        (Typed("i", 3), "3"),
        (Typed("T", 3), "3"),
        ("3", '<<"3">>'),
        (True, "true"),
        (None, "undefined"),
        (1.5, "1.5"),
        ([1], "[{signedint,1}]"),
        ({"a": 1}, '[{<<"a">>,signedint,1}]'),
    ],
)
def test_any_other_length_is_refused(channel: Channel, names: Names, value: Any, term: str) -> None:
    channel.send("exchange.declare", exchange=names.exchange(), type=KIND, arguments={LENGTH: value})
    channel.refuses(
        406,
        f"Invalid argument {term}, 'x-recent-history-length' must be a positive integer",
        "exchange.declare",
    )


def test_the_length_is_not_compared_at_a_redeclaration(channel: Channel, exchange: Declare) -> None:
    name = exchange(KIND, arguments={LENGTH: 3})
    for other in ({}, {LENGTH: 4}, {LENGTH: -1}, {LENGTH: "x"}):
        channel.call("exchange.declare", exchange=name, type=KIND, arguments=other)


# what is remembered


def test_it_is_a_fanout(channel: Channel, exchange: Declare, names: Names) -> None:
    name = exchange(KIND)
    queues = [channel.declare(names.queue()) for _ in range(2)]
    for queue in queues:
        channel.bind(queue, name, "of no importance")
    channel.bind(queues[0], name, "twice")
    publish(channel, name, "m")
    assert [channel.drain(queue) for queue in queues] == [["m"], ["m"]]


def test_the_last_twenty_are_remembered_in_order(
    channel: Channel, exchange: Declare, history: History
) -> None:
    name = exchange(KIND)
    publish(channel, name, *map(str, range(25)))
    assert history(name) == [str(number) for number in range(5, 25)]
    assert history(name) == [str(number) for number in range(5, 25)]


@pytest.mark.parametrize("length", [1, 3, 30])
def test_the_length_says_how_many(channel: Channel, exchange: Declare, history: History, length: int) -> None:
    name = exchange(KIND, arguments={LENGTH: length})
    publish(channel, name, *map(str, range(40)))
    assert history(name) == [str(number) for number in range(40 - length, 40)]


def test_messages_come_as_they_were(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange(KIND)
    properties: dict[str, Any] = {"headers": {"a": 1}, "delivery_mode": 2, "priority": 3, "message_id": "7"}
    channel.publish("m", exchange=name, routing_key="its own key", **properties)
    channel.bind(queue, name)
    message = channel.get(queue)
    assert message is not None
    assert (message["exchange"], message["routing_key"]) == (name, "its own key")
    assert (message["redelivered"], message.body) == (False, b"m")
    assert message.properties == properties | {"headers": {"a": Typed("I", 1)}}


def test_a_large_message_is_remembered_whole(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange(KIND)
    body = b"0123456789" * 40_000
    channel.publish(body, exchange=name)
    channel.bind(queue, name)
    message = channel.get(queue)
    assert message is not None
    assert message.body == body


@pytest.mark.parametrize(
    ("value", "remembered"), [(True, False), (False, True), ("true", True), (1, True), (None, True)]
)
def test_a_header_keeps_a_message_from_being_remembered(
    channel: Channel, exchange: Declare, queue: str, history: History, value: Any, remembered: bool
) -> None:
    name = exchange(KIND)
    channel.bind(queue, name)
    channel.publish("m", exchange=name, headers={NO_STORE: value})
    assert channel.drain(queue) == ["m"]
    assert history(name) == (["m"] if remembered else [])


def test_messages_that_nobody_took_are_remembered(
    channel: Channel, exchange: Declare, queue: str, history: History
) -> None:
    alone = exchange(KIND)
    channel.publish("m", exchange=alone, mandatory=True)
    channel.expect("basic.return", reply_text="NO_ROUTE")
    assert history(alone) == ["m"]
    alternate = exchange("fanout")
    channel.bind(queue, alternate)
    with_alternate = exchange(KIND, arguments={"alternate-exchange": alternate})
    publish(channel, with_alternate, "n")
    assert channel.drain(queue) == ["n"]
    assert history(with_alternate) == ["n"]


def test_messages_that_come_through_another_exchange_are_remembered(
    channel: Channel, exchange: Declare, history: History
) -> None:
    outer, name = exchange("topic"), exchange(KIND, internal=True)
    channel.call("exchange.bind", destination=name, source=outer, routing_key="a.#")
    for key in ("a.b", "b.a", "a"):
        channel.publish(key, exchange=outer, routing_key=key)
    assert history(name) == ["a.b", "a"]


def test_a_message_with_several_keys_is_remembered_once(
    channel: Channel, exchange: Declare, history: History
) -> None:
    name = exchange(KIND)
    channel.publish("m", exchange=name, routing_key="k", headers={"CC": ["c", "d"], "BCC": ["b"]})
    assert history(name) == ["m"]


def test_a_dead_letter_is_remembered(
    channel: Channel, exchange: Declare, names: Names, history: History
) -> None:
    name = exchange(KIND)
    queue = channel.declare(names.queue(), arguments={"x-dead-letter-exchange": name})
    channel.publish("m", routing_key=queue)
    message = channel.get(queue, no_ack=False)
    assert message is not None
    channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=False)
    eventually(lambda: history(name), ["m"])


def test_in_a_transaction_a_message_is_remembered_when_it_is_published(
    channel: Channel, exchange: Declare, history: History
) -> None:
    name = exchange(KIND)
    other = channel.client.channel()
    other.call("tx.select")
    publish(other, name, "rolled back")
    other.call("tx.rollback")
    publish(other, name, "not committed yet")
    other.hears_nothing()
    assert history(name) == ["rolled back", "not committed yet"]


def test_a_new_exchange_of_the_same_name_remembers_nothing(
    channel: Channel, exchange: Declare, history: History
) -> None:
    name = exchange(KIND)
    publish(channel, name, "m")
    channel.call("exchange.delete", exchange=name)
    channel.call("exchange.declare", exchange=name, type=KIND)
    assert history(name) == []


# who is given it


def test_every_new_binding_of_a_queue_is_given_it_and_no_old_one(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange(KIND)
    publish(channel, name, "m", "n")
    channel.bind(queue, name)
    assert channel.drain(queue) == ["m", "n"]
    channel.bind(queue, name)
    assert channel.drain(queue) == []
    channel.bind(queue, name, "another key")
    assert channel.drain(queue) == ["m", "n"]
    channel.call("queue.unbind", queue=queue, exchange=name)
    channel.bind(queue, name)
    assert channel.drain(queue) == ["m", "n"]


def test_a_consumer_is_given_it_when_its_queue_is_bound(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange(KIND)
    publish(channel, name, "m", "n")
    channel.consume(queue, no_ack=True)
    channel.send("queue.bind", queue=queue, exchange=name)
    replies = [channel.receive() for _ in range(3)]
    assert sorted(reply.name for reply in replies) == ["basic.deliver", "basic.deliver", "queue.bind-ok"]
    assert [reply.body for reply in replies if reply.name == "basic.deliver"] == [b"m", b"n"]


def test_an_exchange_that_is_bound_routes_it_on(
    channel: Channel, exchange: Declare, names: Names, differs_from_rabbitmq: Differs
) -> None:
    name, inner = exchange(KIND), exchange("direct")
    own, copied, blind = (channel.declare(names.queue()) for _ in range(3))
    for queue, key in ((own, "k"), (copied, "c"), (blind, "b")):
        channel.bind(queue, inner, key)
    for body in ("m", "n"):
        channel.publish(body, exchange=name, routing_key="k", headers={"CC": ["c"], "BCC": ["b"]})
    channel.call("exchange.bind", destination=inner, source=name)
    wanted = differs_from_rabbitmq(
        "the plugin gives an exchange the newest first", rabbitmq=["n", "m"], ours=["m", "n"]
    )
    assert [channel.drain(queue) for queue in (own, copied, blind)] == [wanted] * 3


def test_a_second_history_takes_over_the_first(
    channel: Channel, exchange: Declare, history: History, differs_from_rabbitmq: Differs
) -> None:
    first, second = exchange(KIND), exchange(KIND)
    alone = channel.declare("", exclusive=True)
    channel.bind(alone, second)
    publish(channel, first, "m", "n")
    channel.call("exchange.bind", destination=second, source=first)
    wanted = differs_from_rabbitmq(
        "the plugin gives an exchange the newest first", rabbitmq=["n", "m"], ours=["m", "n"]
    )
    assert channel.drain(alone) == wanted
    assert history(second) == wanted


def test_an_exchange_that_routes_it_nowhere_can_be_bound(
    channel: Channel, exchange: Declare, differs_from_rabbitmq: Differs
) -> None:
    name, inner = exchange(KIND), exchange("direct")
    publish(channel, name, "m")
    channel.hears_nothing()
    channel.send("exchange.bind", destination=inner, source=name, routing_key="")
    crashes = differs_from_rabbitmq("the plugin crashes, missing a queue", rabbitmq=True, ours=False)
    if crashes:
        channel.client.ends(541)
    else:
        channel.expect("exchange.bind-ok")

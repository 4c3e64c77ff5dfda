"""Exchanges: declare and declare again, delete, the predeclared ones, auto-delete, internal, alternate
exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, eventually
from .codec import Typed
from .conftest import Connect, Names

Declare = Callable[..., str]

PREDECLARED = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


def is_gone(channel: Channel, exchange: str) -> bool:
    channel.send("exchange.declare", exchange=exchange, passive=True)
    if channel.receive().name == "exchange.declare-ok":
        return False
    channel.send("channel.close-ok")
    channel.open()
    return True


# declare


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_an_exchange_of_each_type_can_be_declared_twice(channel: Channel, names: Names, kind: str) -> None:
    exchange = names.exchange()
    for _ in range(2):
        assert channel.call("exchange.declare", exchange=exchange, type=kind) == {}
    assert channel.call("exchange.declare", exchange=exchange, passive=True) == {}


def test_declare_with_nowait_has_no_reply(channel: Channel, names: Names) -> None:
    exchange = names.exchange()
    channel.send("exchange.declare", exchange=exchange, type="direct", nowait=True)
    channel.call("exchange.declare", exchange=exchange, passive=True)


def test_a_refused_declare_with_nowait_still_closes_the_channel(channel: Channel) -> None:
    channel.send("exchange.declare", exchange="amq.mine", type="direct", nowait=True)
    channel.refuses(403, "exchange name 'amq.mine' contains reserved prefix 'amq.*'", "exchange.declare")


@pytest.mark.parametrize("kind", ["nope", "Direct", "x-nope", "direct "])
def test_an_unknown_type_closes_the_connection(channel: Channel, names: Names, kind: str) -> None:
    channel.send("exchange.declare", exchange=names.exchange(), type=kind)
    channel.client.refuses(503, f"unknown exchange type '{kind}'", "exchange.declare")


def test_an_empty_type_closes_the_connection(channel: Channel, names: Names) -> None:
    channel.send("exchange.declare", exchange=names.exchange())
    channel.client.refuses(503, "invalid exchange type ''", "exchange.declare")


def test_an_unknown_type_closes_the_connection_even_if_the_exchange_exists(
    channel: Channel, exchange: Declare
) -> None:
    channel.send("exchange.declare", exchange=exchange("fanout"), type="nope")
    channel.client.refuses(503, "unknown exchange type 'nope'", "exchange.declare")


def test_declaring_again_with_another_type_is_refused(channel: Channel, exchange: Declare) -> None:
    name = exchange("fanout")
    channel.send("exchange.declare", exchange=name, type="topic", durable=True)
    channel.refuses(
        406,
        f"inequivalent arg 'type' for exchange '{name}' in vhost '/': received 'topic' but current is "
        f"'fanout'",
        "exchange.declare",
    )


@pytest.mark.parametrize("flag", ["durable", "auto_delete", "internal"])
def test_declaring_again_with_another_flag_is_refused(channel: Channel, exchange: Declare, flag: str) -> None:
    plain, flagged = exchange("direct"), exchange("direct", **{flag: True})
    channel.send("exchange.declare", exchange=plain, type="direct", **{flag: True})
    channel.refuses(
        406,
        f"inequivalent arg '{flag}' for exchange '{plain}' in vhost '/': received 'true' but current is "
        f"'false'",
        "exchange.declare",
    )
    channel.send("exchange.declare", exchange=flagged, type="direct")
    channel.refuses(
        406,
        f"inequivalent arg '{flag}' for exchange '{flagged}' in vhost '/': received 'false' but current "
        f"is 'true'",
        "exchange.declare",
    )


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        ({"durable": True, "auto_delete": True, "internal": True}, "durable"),
        ({"auto_delete": True, "internal": True}, "auto_delete"),
        ({"internal": True, "arguments": {"alternate-exchange": "ae"}}, "internal"),
    ],
    ids=["durable", "auto_delete", "internal"],
)
def test_flags_are_compared_in_order(
    channel: Channel, exchange: Declare, flags: dict[str, Any], first: str
) -> None:
    name = exchange("direct")
    channel.send("exchange.declare", exchange=name, type="direct", **flags)
    channel.refuses(
        406,
        f"inequivalent arg '{first}' for exchange '{name}' in vhost '/': received 'true' but current is "
        f"'false'",
        "exchange.declare",
    )


def test_unknown_arguments_are_not_compared(channel: Channel, exchange: Declare) -> None:
    name = exchange("direct", arguments={"x-mine": 1})
    channel.call("exchange.declare", exchange=name, type="direct", arguments={"x-yours": {"a": [None]}})


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("a", "b", "received 'b' but current is 'a'"),
        ("a", None, "received none but current is the value 'a' of type 'longstr'"),
        (None, "b", "received the value 'b' of type 'longstr' but current is none"),
    ],
)
def test_another_alternate_exchange_is_refused(
    channel: Channel, exchange: Declare, old: str | None, new: str | None, difference: str
) -> None:
    name = exchange("direct", arguments={"alternate-exchange": old} if old else {})
    channel.send(
        "exchange.declare", exchange=name, type="direct", arguments={"alternate-exchange": new} if new else {}
    )
    channel.refuses(
        406,
        f"inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': {difference}",
        "exchange.declare",
    )


@pytest.mark.parametrize(
    ("value", "kind"), [(3, "signedint"), (True, "bool"), ({}, "table"), (Typed("V", None), "void")]
)
def test_an_alternate_exchange_that_is_no_string_is_refused(
    channel: Channel, names: Names, value: Any, kind: str
) -> None:
    name = names.exchange()
    channel.send("exchange.declare", exchange=name, type="direct", arguments={"alternate-exchange": value})
    channel.refuses(
        406,
        f"invalid type '{kind}' for arg 'alternate-exchange' in exchange '{name}' in vhost '/'",
        "exchange.declare",
    )


def test_passive_declare_of_a_missing_exchange_is_not_found(channel: Channel, names: Names) -> None:
    name = names.exchange()
    channel.send("exchange.declare", exchange=name, passive=True, type="nope")
    channel.refuses(404, f"no exchange '{name}' in vhost '/'", "exchange.declare")


def test_passive_declare_compares_nothing_but_the_name(channel: Channel, exchange: Declare) -> None:
    channel.call(
        "exchange.declare",
        exchange=exchange("fanout"),
        passive=True,
        type="nope",
        durable=True,
        internal=True,
    )


def test_line_ends_are_stripped_from_an_exchange_name(channel: Channel, names: Names) -> None:
    name = names.exchange()
    channel.call("exchange.declare", exchange=f"\r\n{name}\n", type="fanout")
    channel.call("exchange.declare", exchange=name, passive=True)


# the predeclared ones


@pytest.mark.parametrize(("name", "kind"), PREDECLARED.items())
def test_a_predeclared_exchange_can_be_declared_as_it_is(channel: Channel, name: str, kind: str) -> None:
    channel.call("exchange.declare", exchange=name, passive=True)
    channel.call("exchange.declare", exchange=name, type=kind, durable=True)


def test_the_trace_exchange_is_an_internal_topic_exchange(channel: Channel) -> None:
    channel.call("exchange.declare", exchange="amq.rabbitmq.trace", type="topic", durable=True, internal=True)
    channel.publish("m", exchange="amq.rabbitmq.trace")
    channel.refuses(
        403, "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'", "basic.publish"
    )


@pytest.mark.parametrize("name", PREDECLARED)
def test_a_predeclared_exchange_differently_declared_is_refused(channel: Channel, name: str) -> None:
    channel.send("exchange.declare", exchange=name, type=PREDECLARED[name])
    channel.refuses(
        406,
        f"inequivalent arg 'durable' for exchange '{name}' in vhost '/': received 'false' but current is "
        f"'true'",
        "exchange.declare",
    )


@pytest.mark.parametrize("name", [*PREDECLARED, "amq.rabbitmq.trace", "amq.missing"])
def test_a_predeclared_exchange_cannot_be_deleted(channel: Channel, name: str) -> None:
    channel.send("exchange.delete", exchange=name)
    channel.refuses(403, f"deletion of system exchange '{name}' in vhost '/' not allowed", "exchange.delete")


def test_a_new_name_with_the_reserved_prefix_is_refused(channel: Channel) -> None:
    channel.send("exchange.declare", exchange="amq.mine", type="direct")
    channel.refuses(403, "exchange name 'amq.mine' contains reserved prefix 'amq.*'", "exchange.declare")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("exchange.declare", {"type": "direct", "durable": True}),
        ("exchange.declare", {"passive": True}),
        ("exchange.declare", {"type": "direct", "nowait": True}),
        ("exchange.delete", {}),
        ("exchange.delete", {"if_unused": True}),
        ("exchange.bind", {"source": "amq.direct"}),
        ("exchange.bind", {"destination": "amq.direct"}),
        ("exchange.unbind", {"source": "amq.direct"}),
        ("exchange.unbind", {"destination": "amq.direct"}),
        ("queue.bind", {}),
        ("queue.unbind", {}),
    ],
)
def test_the_default_exchange_is_not_to_be_touched(
    channel: Channel, queue: str, method: str, arguments: dict[str, Any]
) -> None:
    where = {"queue": queue} if method.startswith("queue") else {}
    channel.send(method, **where, **arguments)
    channel.refuses(403, "operation not permitted on the default exchange", method)


@pytest.mark.parametrize("method", ["queue.bind", "queue.unbind"])
def test_the_default_exchange_is_refused_before_the_queue_is_looked_for(
    channel: Channel, names: Names, method: str
) -> None:
    channel.send(method, queue=names.queue(), exchange="")
    channel.refuses(403, "operation not permitted on the default exchange", method)


# delete


def test_delete_of_a_missing_exchange_is_fine(channel: Channel, names: Names) -> None:
    assert channel.call("exchange.delete", exchange=names.exchange()) == {}
    assert channel.call("exchange.delete", exchange=names.exchange(), if_unused=True) == {}


def test_delete_takes_the_exchange_away(channel: Channel, exchange: Declare) -> None:
    name = exchange("fanout")
    channel.call("exchange.delete", exchange=name)
    assert is_gone(channel, name)


def test_delete_with_nowait_has_no_reply(channel: Channel, exchange: Declare) -> None:
    name = exchange("fanout")
    channel.send("exchange.delete", exchange=name, nowait=True)
    channel.hears_nothing()
    assert is_gone(channel, name)


def test_delete_if_unused_is_refused_while_a_queue_is_bound(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("fanout")
    channel.bind(queue, name)
    channel.send("exchange.delete", exchange=name, if_unused=True)
    channel.refuses(406, f"exchange '{name}' in vhost '/' in use", "exchange.delete")
    channel.call("queue.unbind", queue=queue, exchange=name)
    channel.call("exchange.delete", exchange=name, if_unused=True)
    assert is_gone(channel, name)


def test_delete_if_unused_is_refused_while_an_exchange_is_fed(channel: Channel, exchange: Declare) -> None:
    source, destination = exchange("fanout"), exchange("fanout")
    channel.call("exchange.bind", source=source, destination=destination)
    channel.send("exchange.delete", exchange=source, if_unused=True)
    channel.refuses(406, f"exchange '{source}' in vhost '/' in use", "exchange.delete")


def test_being_fed_is_not_being_in_use(channel: Channel, exchange: Declare) -> None:
    source, destination = exchange("fanout"), exchange("fanout")
    channel.call("exchange.bind", source=source, destination=destination)
    channel.call("exchange.delete", exchange=destination, if_unused=True)
    channel.call("exchange.delete", exchange=source, if_unused=True)


def test_the_bindings_of_a_deleted_exchange_do_not_come_back(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("fanout")
    channel.bind(queue, name)
    channel.call("exchange.delete", exchange=name)
    channel.call("exchange.declare", exchange=name, type="fanout")
    channel.publish("lost", exchange=name, mandatory=True)
    channel.expect("basic.return", exchange=name)


# auto-delete


def test_an_auto_delete_exchange_waits_for_its_first_binding(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("fanout", auto_delete=True)
    channel.call("queue.unbind", queue=queue, exchange=name)
    channel.call("exchange.declare", exchange=name, passive=True)


def test_an_auto_delete_exchange_goes_with_its_last_binding(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("direct", auto_delete=True)
    channel.bind(queue, name, "a")
    channel.bind(queue, name, "b")
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="a")
    channel.call("exchange.declare", exchange=name, passive=True)
    channel.call("queue.unbind", queue=queue, exchange=name, routing_key="b")
    assert is_gone(channel, name)


def test_an_auto_delete_exchange_goes_with_the_queue_bound_to_it(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("direct", auto_delete=True)
    channel.bind(queue, name, "a")
    channel.call("queue.delete", queue=queue)
    eventually(lambda: is_gone(channel, name), True)


def test_an_auto_delete_exchange_goes_with_the_exchange_it_fed(channel: Channel, exchange: Declare) -> None:
    source, destination = exchange("fanout", auto_delete=True), exchange("fanout")
    channel.call("exchange.bind", source=source, destination=destination)
    channel.call("exchange.delete", exchange=destination)
    eventually(lambda: is_gone(channel, source), True)


def test_an_auto_delete_exchange_stays_when_what_feeds_it_goes(channel: Channel, exchange: Declare) -> None:
    source, destination = exchange("fanout"), exchange("fanout", auto_delete=True)
    channel.call("exchange.bind", source=source, destination=destination)
    channel.call("exchange.delete", exchange=source)
    channel.call("exchange.declare", exchange=destination, passive=True)


def test_a_chain_of_auto_delete_exchanges_goes_as_one(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    first, second, third = (exchange("fanout", auto_delete=True) for _ in range(3))
    channel.call("exchange.bind", source=first, destination=second)
    channel.call("exchange.bind", source=second, destination=third)
    channel.bind(queue, third)
    channel.call("queue.delete", queue=queue)
    eventually(lambda: [is_gone(channel, name) for name in (third, second, first)], [True] * 3)


# internal


def test_an_internal_exchange_cannot_be_published_to(channel: Channel, exchange: Declare) -> None:
    name = exchange("fanout", internal=True)
    channel.publish("m", exchange=name)
    channel.refuses(403, f"cannot publish to internal exchange '{name}' in vhost '/'", "basic.publish")


def test_an_internal_exchange_is_fed_by_others(channel: Channel, exchange: Declare, queue: str) -> None:
    front, back = exchange("fanout"), exchange("fanout", internal=True)
    channel.call("exchange.bind", source=front, destination=back)
    channel.bind(queue, back)
    channel.publish("m", exchange=front)
    message = channel.get(queue)
    assert message is not None
    assert message["exchange"] == front


# alternate exchanges


def test_what_an_exchange_cannot_route_goes_to_its_alternate(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    alternate = exchange("fanout")
    main = exchange("direct", arguments={"alternate-exchange": alternate})
    channel.bind(queue, alternate)
    channel.publish("m", exchange=main, routing_key="unbound", mandatory=True)
    message = channel.get(queue)
    assert message is not None
    assert (message["exchange"], message["routing_key"]) == (main, "unbound")


def test_what_an_exchange_routes_does_not_go_to_its_alternate(
    channel: Channel, exchange: Declare, queue: str, names: Names
) -> None:
    alternate = exchange("fanout")
    main = exchange("direct", arguments={"alternate-exchange": alternate})
    routed = channel.declare(names.queue())
    channel.bind(queue, alternate)
    channel.bind(routed, main, "k")
    channel.publish("m", exchange=main, routing_key="k")
    assert (channel.drain(routed), channel.drain(queue)) == (["m"], [])


def test_an_alternate_may_have_an_alternate(channel: Channel, exchange: Declare, queue: str) -> None:
    last = exchange("fanout")
    middle = exchange("direct", arguments={"alternate-exchange": last})
    first = exchange("topic", arguments={"alternate-exchange": middle})
    channel.bind(queue, last)
    channel.publish("m", exchange=first, routing_key="k")
    assert channel.drain(queue) == ["m"]


def test_a_missing_alternate_makes_a_message_unroutable(channel: Channel, exchange: Declare) -> None:
    main = exchange("direct", arguments={"alternate-exchange": "not there"})
    channel.publish("m", exchange=main, routing_key="k", mandatory=True)
    channel.expect("basic.return", reply_code=312, reply_text="NO_ROUTE", exchange=main, routing_key="k")


def test_alternates_in_a_circle_end(channel: Channel, exchange: Declare, names: Names) -> None:
    one, other = names.exchange(), names.exchange()
    channel.call("exchange.declare", exchange=one, type="direct", arguments={"alternate-exchange": other})
    channel.call("exchange.declare", exchange=other, type="direct", arguments={"alternate-exchange": one})
    channel.publish("m", exchange=one, routing_key="k", mandatory=True)
    channel.expect("basic.return", exchange=one)


def test_an_alternate_declared_later_is_used(channel: Channel, names: Names, queue: str) -> None:
    main, alternate = names.exchange(), names.exchange()
    channel.call(
        "exchange.declare", exchange=main, type="direct", arguments={"alternate-exchange": alternate}
    )
    channel.call("exchange.declare", exchange=alternate, type="fanout")
    channel.bind(queue, alternate)
    channel.publish("m", exchange=main)
    assert channel.drain(queue) == ["m"]


def test_the_default_exchange_routes_nothing_as_an_alternate(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    main = exchange("direct", arguments={"alternate-exchange": ""})
    channel.publish("m", exchange=main, routing_key=queue, mandatory=True)
    channel.expect("basic.return", exchange=main, routing_key=queue)


def test_an_exchange_is_seen_by_every_connection(
    channel: Channel, connect: Connect, exchange: Declare
) -> None:
    connect().channel().call("exchange.declare", exchange=exchange("topic"), passive=True)

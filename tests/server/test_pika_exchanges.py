"""pika: declaring, checking, deleting and binding exchanges, and where each type routes."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from tests.server.blocking import drain, ready
from tests.server.target import Names, RunningBroker

TYPES = ["direct", "fanout", "topic", "headers"]


def closed_with(channel: BlockingChannel, verb: str, *args: Any, **kwargs: Any) -> tuple[int, str]:
    """The code and text with which the broker closes the channel that tries this."""
    with pytest.raises(ChannelClosedByBroker) as closed:
        getattr(channel, verb)(*args, **kwargs)
    return closed.value.reply_code, closed.value.reply_text


@pytest.fixture
def queue(channel: BlockingChannel, names: Names) -> str:
    name = names.queue()
    channel.queue_declare(name)
    return name


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_can_be_declared_twice_alike(
    channel: BlockingChannel, names: Names, kind: str, durable: bool
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, kind, durable=durable)
    channel.exchange_declare(exchange, kind, durable=durable)
    channel.exchange_declare(exchange, passive=True)
    assert channel.is_open


@pytest.mark.parametrize(
    ("exchange", "kind"),
    [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ],
)
def test_the_predeclared_exchanges_are_there_and_durable(
    channel: BlockingChannel, exchange: str, kind: str
) -> None:
    channel.exchange_declare(exchange, kind, durable=True)
    channel.exchange_declare(exchange, passive=True)
    assert channel.is_open


def test_a_passive_declare_of_a_missing_exchange_is_404(channel: BlockingChannel) -> None:
    assert closed_with(channel, "exchange_declare", "missing", passive=True) == (
        404,
        "NOT_FOUND - no exchange 'missing' in vhost '/'",
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"exchange_type": "fanout"}, "'type' for {}: received 'fanout' but current is 'direct'"),
        ({"durable": True}, "'durable' for {}: received 'true' but current is 'false'"),
        ({"auto_delete": True}, "'auto_delete' for {}: received 'true' but current is 'false'"),
        ({"internal": True}, "'internal' for {}: received 'true' but current is 'false'"),
        (
            {"arguments": {"alternate-exchange": "amq.fanout"}},
            (
                "'alternate-exchange' for {}: "
                "received the value 'amq.fanout' of type 'longstr' but current is none"
            ),
        ),
    ],
)
def test_declaring_it_differently_is_406_and_names_the_difference(
    channel: BlockingChannel, names: Names, change: dict[str, Any], text: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct")
    options = {"exchange_type": "direct"} | change
    assert closed_with(channel, "exchange_declare", exchange, **options) == (
        406,
        "PRECONDITION_FAILED - inequivalent arg " + text.format(f"exchange '{exchange}' in vhost '/'"),
    )


def test_an_unknown_type_closes_the_connection_with_503(broker: RunningBroker) -> None:
    connection = broker.connect()
    with pytest.raises(ConnectionClosedByBroker) as closed:
        connection.channel().exchange_declare("never-declared", "no-such-type")
    assert (closed.value.reply_code, closed.value.reply_text) == (
        503,
        "COMMAND_INVALID - unknown exchange type 'no-such-type'",
    )


@pytest.mark.parametrize(
    ("verb", "arguments", "text"),
    [
        (
            "exchange_declare",
            ("amq.mine", "direct"),
            "exchange name 'amq.mine' contains reserved prefix 'amq.*'",
        ),
        ("exchange_declare", ("", "direct"), "operation not permitted on the default exchange"),
        (
            "exchange_delete",
            ("amq.direct",),
            "deletion of system exchange 'amq.direct' in vhost '/' not allowed",
        ),
        ("exchange_delete", ("",), "operation not permitted on the default exchange"),
        ("exchange_bind", ("amq.direct", "", "k"), "operation not permitted on the default exchange"),
        ("exchange_bind", ("", "amq.direct", "k"), "operation not permitted on the default exchange"),
    ],
)
def test_the_brokers_own_exchanges_are_protected_by_403(
    channel: BlockingChannel, verb: str, arguments: tuple[str, ...], text: str
) -> None:
    assert closed_with(channel, verb, *arguments) == (403, f"ACCESS_REFUSED - {text}")


def test_queues_cannot_be_bound_to_or_unbound_from_the_default_exchange(
    connection: pika.BlockingConnection, queue: str
) -> None:
    refusal = (403, "ACCESS_REFUSED - operation not permitted on the default exchange")
    assert closed_with(connection.channel(), "queue_bind", queue, "", "k") == refusal
    assert closed_with(connection.channel(), "queue_unbind", queue, "", "k") == refusal


def test_deleting_a_missing_exchange_is_no_error(channel: BlockingChannel) -> None:
    channel.exchange_delete("missing")
    channel.exchange_delete("missing", if_unused=True)
    assert channel.is_open


def test_an_exchange_in_use_is_not_deleted_if_unused(
    connection: pika.BlockingConnection, channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(queue, exchange)
    assert closed_with(connection.channel(), "exchange_delete", exchange, if_unused=True) == (
        406,
        f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use",
    )
    channel.queue_unbind(queue, exchange)
    channel.exchange_delete(exchange, if_unused=True)
    assert closed_with(channel, "exchange_declare", exchange, passive=True)[0] == 404


def test_deleting_an_exchange_removes_its_bindings(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct")
    channel.queue_bind(queue, exchange, "k")
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, "direct")
    channel.basic_publish(exchange, "k", b"nobody is bound any more")
    assert drain(channel, queue) == []


def test_an_auto_delete_exchange_goes_with_its_last_binding(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    channel.queue_bind(queue, exchange, "one")
    channel.queue_bind(queue, exchange, "two")
    channel.queue_unbind(queue, exchange, "one")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_unbind(queue, exchange, "two")
    assert closed_with(channel, "exchange_declare", exchange, passive=True)[0] == 404


def test_an_auto_delete_exchange_goes_with_its_last_queue(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    channel.queue_bind(queue, exchange, "one")
    channel.queue_delete(queue)
    assert closed_with(channel, "exchange_declare", exchange, passive=True)[0] == 404


def test_publishing_to_a_missing_exchange_is_404(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    assert closed_with(channel, "basic_publish", "missing", "k", b"lost") == (
        404,
        "NOT_FOUND - no exchange 'missing' in vhost '/'",
    )


def test_publishing_to_an_internal_exchange_is_403(channel: BlockingChannel, names: Names) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout", internal=True)
    channel.confirm_delivery()
    assert closed_with(channel, "basic_publish", exchange, "k", b"refused") == (
        403,
        f"ACCESS_REFUSED - cannot publish to internal exchange '{exchange}' in vhost '/'",
    )


def test_an_internal_exchange_is_reached_through_another(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    inner, outer = names.exchange("inner"), names.exchange("outer")
    channel.exchange_declare(inner, "fanout", internal=True)
    channel.exchange_declare(outer, "fanout")
    channel.exchange_bind(inner, outer)
    channel.queue_bind(queue, inner)
    channel.basic_publish(outer, "", b"through")
    assert drain(channel, queue) == [b"through"]


def test_the_default_exchange_routes_by_queue_name(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    other = names.queue()
    channel.queue_declare(other)
    channel.basic_publish("", queue, b"mine")
    assert drain(channel, queue) == [b"mine"]
    assert drain(channel, other) == []


def test_direct_routes_by_equal_key(channel: BlockingChannel, names: Names) -> None:
    exchange, info, error = names.exchange(), names.queue("info"), names.queue("error")
    channel.exchange_declare(exchange, "direct")
    for name, keys in ((info, ["info", "error"]), (error, ["error"])):
        channel.queue_declare(name)
        for key in keys:
            channel.queue_bind(name, exchange, key)
    for key in ("info", "error", "debug", "Info", ""):
        channel.basic_publish(exchange, key, key.encode())
    assert drain(channel, info) == [b"info", b"error"]
    assert drain(channel, error) == [b"error"]


def test_fanout_ignores_the_key(channel: BlockingChannel, names: Names) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout")
    queues = [names.queue() for _ in range(3)]
    for name in queues:
        channel.queue_declare(name)
        channel.queue_bind(name, exchange, "whatever")
    channel.basic_publish(exchange, "else", b"all")
    channel.basic_publish(exchange, "", b"of you")
    assert [drain(channel, name) for name in queues] == [[b"all", b"of you"]] * 3


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (
            "*.orange.*",
            ["quick.orange.rabbit", "..orange.".removeprefix(".")],
            ["orange", "a.orange", "a.b.orange.c"],
        ),
        ("lazy.#", ["lazy", "lazy.brown.fox", "lazy."], ["laz", "lazyness", "very.lazy"]),
        ("#", ["", "a", "a.b.c", ".", "..."], []),
        ("*", ["a", "a b"], ["", "a.b", "."]),
        ("#.end", ["end", "a.end", "a.b.end"], ["end.a", "a.b"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.b"]),
        ("a.*.#", ["a.b", "a.b.c"], ["a"]),
        ("#.#", ["", "a", "a.b"], []),
        ("", [""], ["a"]),
        ("*.*", ["a.b", "."], ["a", "a.b.c"]),
    ],
)
def test_topic_matches_words(
    channel: BlockingChannel, names: Names, queue: str, pattern: str, matching: list[str], others: list[str]
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "topic")
    channel.queue_bind(queue, exchange, pattern)
    for key in [*matching, *others]:
        channel.basic_publish(exchange, key, key.encode() or b"(empty)")
    assert drain(channel, queue) == [key.encode() or b"(empty)" for key in matching]


def test_a_queue_reached_by_several_bindings_gets_one_copy(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "topic")
    for pattern in ("a.b", "a.*", "#", "*.b"):
        channel.queue_bind(queue, exchange, pattern)
    channel.basic_publish(exchange, "a.b", b"once")
    assert drain(channel, queue) == [b"once"]


@pytest.mark.parametrize(
    ("arguments", "headers", "matches"),
    [
        ({"x-match": "all", "type": "report", "format": "pdf"}, {"type": "report", "format": "pdf"}, True),
        (
            {"x-match": "all", "type": "report", "format": "pdf"},
            {"type": "report", "format": "pdf", "n": 1},
            True,
        ),
        ({"x-match": "all", "type": "report", "format": "pdf"}, {"type": "report"}, False),
        ({"type": "report", "format": "pdf"}, {"type": "report"}, False),
        ({"x-match": "any", "type": "report", "format": "pdf"}, {"type": "report"}, True),
        ({"x-match": "any", "type": "report", "format": "pdf"}, {"type": "log"}, False),
        ({"x-match": "all", "number": 7}, {"number": 7}, True),
        ({"x-match": "all", "number": 7}, {"number": 2**40}, False),
        ({"x-match": "all", "present": None}, {"present": "anything"}, True),
        ({"x-match": "all", "present": None}, {}, False),
        ({"x-match": "all", "flag": True}, {"flag": True}, True),
        ({"x-match": "all", "flag": True}, {"flag": False}, False),
        ({"x-match": "all"}, {"a": 1}, True),
        ({}, None, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"x-match": "all", "x-kind": "v", "a": 1}, {"a": 1}, True),
        ({"x-match": "all-with-x", "x-kind": "v", "a": 1}, {"a": 1}, False),
        ({"x-match": "all-with-x", "x-kind": "v", "a": 1}, {"a": 1, "x-kind": "v"}, True),
        ({"x-match": "any-with-x", "x-kind": "v", "a": 1}, {"x-kind": "v"}, True),
        ({"x-match": "any", "x-kind": "v", "a": 1}, {"x-kind": "v"}, False),
    ],
)
def test_headers_exchange_matches_headers(
    channel: BlockingChannel,
    names: Names,
    queue: str,
    arguments: dict[str, Any],
    headers: dict[str, Any] | None,
    matches: bool,
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "headers")
    channel.queue_bind(queue, exchange, "", arguments=arguments)
    channel.basic_publish(exchange, "", b"m", pika.BasicProperties(headers=headers))
    assert drain(channel, queue) == ([b"m"] if matches else [])


def test_exchanges_bound_to_exchanges_route_on(channel: BlockingChannel, names: Names, queue: str) -> None:
    first, second, third = names.exchange("first"), names.exchange("second"), names.exchange("third")
    channel.exchange_declare(first, "direct")
    channel.exchange_declare(second, "topic")
    channel.exchange_declare(third, "fanout")
    channel.exchange_bind(second, first, "a.b")
    channel.exchange_bind(third, second, "a.#")
    channel.queue_bind(queue, third)
    channel.basic_publish(first, "a.b", b"arrives")
    channel.basic_publish(first, "a.c", b"does not")
    assert drain(channel, queue) == [b"arrives"]
    channel.exchange_unbind(second, first, "a.b")
    channel.basic_publish(first, "a.b", b"not any more")
    assert drain(channel, queue) == []


def test_a_cycle_of_exchanges_delivers_once(channel: BlockingChannel, names: Names, queue: str) -> None:
    one, two = names.exchange("one"), names.exchange("two")
    channel.exchange_declare(one, "fanout")
    channel.exchange_declare(two, "fanout")
    channel.exchange_bind(one, two)
    channel.exchange_bind(two, one)
    channel.queue_bind(queue, one)
    channel.queue_bind(queue, two)
    channel.basic_publish(one, "", b"once")
    assert drain(channel, queue) == [b"once"]


def test_binding_a_missing_exchange_is_404(connection: pika.BlockingConnection, queue: str) -> None:
    missing = (404, "NOT_FOUND - no exchange 'missing' in vhost '/'")
    assert closed_with(connection.channel(), "exchange_bind", "missing", "amq.direct", "k") == missing
    assert closed_with(connection.channel(), "exchange_bind", "amq.direct", "missing", "k") == missing
    assert closed_with(connection.channel(), "queue_bind", queue, "missing", "k") == missing


def test_the_alternate_exchange_takes_what_was_not_routed(channel: BlockingChannel, names: Names) -> None:
    main, rest = names.exchange("main"), names.exchange("rest")
    routed, unrouted = names.queue("routed"), names.queue("unrouted")
    channel.exchange_declare(rest, "fanout")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": rest})
    channel.queue_declare(routed)
    channel.queue_declare(unrouted)
    channel.queue_bind(routed, main, "known")
    channel.queue_bind(unrouted, rest)
    channel.confirm_delivery()
    channel.basic_publish(main, "known", b"known", mandatory=True)
    channel.basic_publish(main, "unknown", b"unknown", mandatory=True)
    assert drain(channel, routed) == [b"known"]
    method, _, body = channel.basic_get(unrouted, auto_ack=True)
    assert method is not None
    assert (method.exchange, method.routing_key, body) == (main, "unknown", b"unknown")


def test_alternate_exchanges_may_form_a_chain_and_even_a_ring(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    one, two, three = names.exchange("one"), names.exchange("two"), names.exchange("three")
    channel.exchange_declare(one, "direct", arguments={"alternate-exchange": two})
    channel.exchange_declare(two, "direct", arguments={"alternate-exchange": three})
    channel.exchange_declare(three, "direct", arguments={"alternate-exchange": one})
    channel.queue_bind(queue, three, "k")
    channel.confirm_delivery()
    channel.basic_publish(one, "k", b"at last", mandatory=True)
    assert drain(channel, queue) == [b"at last"]
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(one, "nobody", b"round and round", mandatory=True)


def test_a_missing_alternate_exchange_drops_the_message(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout", arguments={"alternate-exchange": "missing"})
    channel.confirm_delivery()
    channel.basic_publish(exchange, "", b"dropped")
    assert ready(channel, queue) == 0


def test_bindings_with_other_arguments_are_other_bindings(
    channel: BlockingChannel, names: Names, queue: str
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct")
    channel.queue_bind(queue, exchange, "k")
    channel.queue_bind(queue, exchange, "k", arguments={"note": "second"})
    channel.basic_publish(exchange, "k", b"one copy")
    assert drain(channel, queue) == [b"one copy"]
    channel.queue_unbind(queue, exchange, "k")
    channel.basic_publish(exchange, "k", b"still bound")
    assert drain(channel, queue) == [b"still bound"]
    channel.queue_unbind(queue, exchange, "k", arguments={"note": "second"})
    channel.basic_publish(exchange, "k", b"unbound")
    assert drain(channel, queue) == []


def test_unbinding_what_is_not_bound_is_no_error(channel: BlockingChannel, names: Names, queue: str) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct")
    channel.queue_unbind(queue, exchange, "never bound")
    channel.exchange_unbind(exchange, "amq.direct", "never bound")
    assert channel.is_open


def test_an_exchange_declared_while_a_publisher_runs_is_routed_at_once(
    channel: BlockingChannel, names: Names
) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "direct")
    channel.confirm_delivery()
    channel.basic_publish(exchange, "k", b"before any binding")
    first = names.queue()
    channel.queue_declare(first)
    channel.queue_bind(first, exchange, "k")
    channel.basic_publish(exchange, "k", b"to the first")
    second = names.queue()
    channel.queue_declare(second)
    channel.queue_bind(second, exchange, "k")
    channel.basic_publish(exchange, "k", b"to both")
    channel.queue_unbind(first, exchange, "k")
    channel.basic_publish(exchange, "k", b"to the second")
    assert drain(channel, first) == [b"to the first", b"to both"]
    assert drain(channel, second) == [b"to both", b"to the second"]

"""Headers exchanges: the four ways of matching, how values compare, and what is no match at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel
from .codec import Typed

Declare = Callable[..., str]
Headers = dict[str, Any]


@pytest.fixture
def matches(channel: Channel, exchange: Declare, queue: str) -> Callable[[Headers, Headers], bool]:
    """Whether a binding with these arguments wants a message with these headers."""
    name = exchange("headers")

    def ask(arguments: Headers, headers: Headers) -> bool:
        channel.bind(queue, name, "", arguments)
        channel.publish("m", exchange=name, headers=headers)
        found = channel.drain(queue)
        channel.call("queue.unbind", queue=queue, exchange=name, arguments=arguments)
        return found == ["m"]

    return ask


Matches = Callable[[Headers, Headers], bool]


@pytest.mark.parametrize(
    ("arguments", "headers", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": 1}, {}, False),
        ({"a": 1}, {"A": 1}, False),
        ({}, {}, True),
        ({}, {"a": 1}, True),
        ({"x-ignored": 1}, {}, True),
        ({"x-ignored": 1}, {"x-ignored": 2}, True),
        ({"a": 1, "x-ignored": 1}, {"a": 1}, True),
    ],
)
@pytest.mark.parametrize("explicit", [True, False])
def test_all_wants_every_header(
    matches: Matches, arguments: Headers, headers: Headers, wanted: bool, explicit: bool
) -> None:
    how = {"x-match": "all"} if explicit else {}
    assert matches(arguments | how, headers) is wanted


@pytest.mark.parametrize(
    ("arguments", "headers", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1, "b": 2}, {"b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 2, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({"a": 1, "b": 2}, {"c": 1}, False),
        ({"a": 1}, {}, False),
        ({}, {}, False),
        ({}, {"a": 1}, False),
        ({"x-ignored": 1}, {"x-ignored": 1}, False),
    ],
)
def test_any_wants_one_header(matches: Matches, arguments: Headers, headers: Headers, wanted: bool) -> None:
    assert matches(arguments | {"x-match": "any"}, headers) is wanted


@pytest.mark.parametrize(
    ("how", "arguments", "headers", "wanted"),
    [
        ("all-with-x", {"x-a": 1, "b": 2}, {"x-a": 1, "b": 2}, True),
        ("all-with-x", {"x-a": 1, "b": 2}, {"b": 2}, False),
        ("all-with-x", {"x-a": 1}, {"x-a": 2}, False),
        ("all-with-x", {}, {"a": 1}, True),
        ("any-with-x", {"x-a": 1, "b": 2}, {"x-a": 1}, True),
        ("any-with-x", {"x-a": 1, "b": 2}, {"b": 2}, True),
        ("any-with-x", {"x-a": 1}, {"x-a": 2}, False),
        ("any-with-x", {}, {"a": 1}, False),
    ],
)
def test_with_x_the_names_that_begin_with_x_count_too(
    matches: Matches, how: str, arguments: Headers, headers: Headers, wanted: bool
) -> None:
    assert matches(arguments | {"x-match": how}, headers) is wanted


@pytest.mark.parametrize(
    ("argument", "header", "wanted"),
    [
        (None, 1, True),
        (None, "anything", True),
        (None, None, True),
        (None, {"a": [1]}, True),
        (1, None, False),
        ("v", "v", True),
        ("v", "V", False),
        ("1", 1, False),
        (1, "1", False),
        (True, True, True),
        (True, False, False),
        (True, 1, False),
        (True, "true", False),
        (Typed("b", 1), Typed("l", 1), True),
        (Typed("s", -5), Typed("I", -5), True),
        (Typed("i", 7), Typed("B", 7), True),
        (Typed("T", 5), Typed("T", 5), True),
        (1, 1.0, True),
        (1, 1.5, False),
        (0, 0.0, True),
        (Typed("T", 5), 5, True),
        (5, Typed("T", 5), True),
        ("ab", Typed("x", "ab"), True),
        (Typed("D", (0, 3)), 3, False),
        (Typed("D", (1, 30)), Typed("D", (0, 3)), False),
        (True, Typed("b", 1), False),
        ([1], [Typed("l", 1)], False),
        ({"a": 1}, {"a": Typed("l", 1)}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({}, {}, True),
        ({}, [], True),
        (None, Typed("V", None), True),
        (2**53 + 1, float(2**53), False),
        (1.5, 1.5, True),
        (Typed("f", 1.5), Typed("d", 1.5), True),
        (0.0, -0.0, True),
        (Typed("D", (1, 15)), Typed("D", (1, 15)), True),
        (Typed("x", "ab"), Typed("x", "ab"), True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ([1, "two"], [1, "two"], True),
        ([1, "two"], ["two", 1], False),
        ("", "", True),
        ("", None, False),
    ],
)
def test_values_compare(matches: Matches, argument: Any, header: Any, wanted: bool) -> None:
    assert matches({"k": argument}, {"k": header}) is wanted
    assert matches({"k": argument, "x-match": "any"}, {"k": header}) is wanted


def test_a_message_without_headers_is_one_with_no_headers(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("headers")
    channel.bind(queue, name, "", {"a": 1})
    channel.publish("no", exchange=name)
    channel.bind(queue, name, "", {"x-match": "all"})
    channel.publish("m", exchange=name)
    assert channel.drain(queue) == ["m"]


def test_the_routing_key_makes_no_difference(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("headers")
    channel.bind(queue, name, "some.key", {"a": 1})
    channel.publish("m", exchange=name, routing_key="another", headers={"a": 1})
    assert channel.drain(queue) == ["m"]


def test_the_order_of_the_headers_makes_no_difference(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("headers")
    channel.bind(queue, name, "", {"z": 1, "a": 2, "m": 3})
    channel.publish("m", exchange=name, headers={"m": 3, "z": 1, "a": 2})
    assert channel.drain(queue) == ["m"]


def test_bindings_of_several_kinds_bring_one_copy(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("headers")
    for arguments in ({"a": 1}, {"a": 1, "x-match": "any"}, {"b": 2, "x-match": "any"}):
        channel.bind(queue, name, "", arguments)
    channel.publish("m", exchange=name, headers={"a": 1, "b": 2})
    assert channel.drain(queue) == ["m"]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("foo", 'value <<"foo">>; expected all, any, all-with-x, or any-with-x'),
        ("", "value <<>>; expected all, any, all-with-x, or any-with-x"),
        ("ALL", 'value <<"ALL">>; expected all, any, all-with-x, or any-with-x'),
        (3, "type signedint (value 3); expected longstr"),
        (True, "type bool (value true); expected longstr"),
    ],
)
def test_no_other_way_of_matching_is_known(channel: Channel, queue: str, value: Any, complaint: str) -> None:
    channel.send("queue.bind", queue=queue, exchange="amq.headers", arguments={"x-match": value})
    channel.refuses(406, f"Invalid x-match field {complaint}", "queue.bind")


def test_other_exchanges_do_not_look_at_the_way_of_matching(channel: Channel, queue: str) -> None:
    channel.bind(queue, "amq.direct", queue, {"x-match": "foo"})
    channel.publish("m", exchange="amq.direct", routing_key=queue)
    assert channel.drain(queue) == ["m"]


@pytest.mark.parametrize("name", ["amq.headers", "amq.match"])
def test_both_predeclared_headers_exchanges_match(channel: Channel, queue: str, name: str) -> None:
    channel.bind(queue, name, "", {"for": queue})
    channel.publish("m", exchange=name, headers={"for": queue})
    assert channel.drain(queue) == ["m"]

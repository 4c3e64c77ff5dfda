"""Headers routing: when a binding holds, when two values are equal, and at what cost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from amqp_broker.broker.exchanges.headers import HeadersRouter, comparable, validate_x_match
from amqp_broker.content.table import Field, table_of

ALL: dict[str, object] = {"x-match": "all"}
ANY: dict[str, object] = {"x-match": "any"}
ALL_WITH_X: dict[str, object] = {"x-match": "all-with-x"}
ANY_WITH_X: dict[str, object] = {"x-match": "any-with-x"}


def reaches(arguments: dict[str, object], headers: dict[str, object]) -> bool:
    router: HeadersRouter[str] = HeadersRouter()
    router.bind(table_of(arguments), "q")
    return router.match(table_of(headers)) == ["q"]


# What RabbitMQ 3.10.8 answered for each of these.
@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        (ALL | {"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        (ALL | {"a": 1, "b": 2}, {"a": 1}, False),
        (ALL | {"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        (ANY | {"a": 1, "b": 2}, {"b": 2}, True),
        (ANY | {"a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        (ALL, {}, True),
        (ALL, {"a": 1}, True),
        ({}, {}, True),
        (ANY, {}, False),
        (ANY, {"a": 1}, False),
        (ALL | {"a": None}, {"a": "anything"}, True),
        (ALL | {"a": None}, {"a": None}, True),
        (ALL | {"a": None}, {"b": 1}, False),
        (ANY | {"a": None, "b": 1}, {"a": 5}, True),
        (ALL | {"a": "undefined"}, {"a": None}, False),
        (ALL | {"x-a": 1}, {}, True),
        (ANY | {"x-a": 1}, {"x-a": 1}, False),
        (ALL_WITH_X | {"x-a": 1}, {}, False),
        (ALL_WITH_X | {"x-a": 1}, {"x-a": 1}, True),
        (ANY_WITH_X | {"x-a": 1, "b": 1}, {"x-a": 1}, True),
        (ANY_WITH_X, {"x-match": "any-with-x"}, False),
        (ALL_WITH_X | {"a": 1}, {"a": 1, "x-match": "other"}, True),
    ],
)
def test_a_binding_holds(arguments: dict[str, object], headers: dict[str, object], *, expected: bool) -> None:
    assert reaches(arguments, headers) is expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Field("b", 1), Field("l", 1)),
        (Field("I", 1), Field("d", 1.0)),
        (Field("T", 1), Field("u", 1)),
        (Field("f", 1.5), Field("d", 1.5)),
        (Field("S", b"a"), Field("x", b"a")),
        (Field("D", (1, 5)), Field("D", (1, 5))),
        (Field("A", []), Field("F", {})),
        (Field("F", {"a": Field("I", 1)}), Field("F", {"a": Field("I", 1)})),
        (Field("A", [Field("S", b"a")]), Field("A", [Field("S", b"a")])),
        (Field("t", True), Field("t", True)),
    ],
)
def test_equal_values(one: Field, other: Field) -> None:
    assert comparable(one) == comparable(other)
    router: HeadersRouter[str] = HeadersRouter()
    router.bind({"k": one}, "q")
    assert router.match({"k": other}) == ["q"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Field("t", True), Field("I", 1)),
        (Field("t", True), Field("S", b"true")),
        (Field("t", False), Field("t", True)),
        (Field("I", 1), Field("S", b"1")),
        (Field("D", (1, 5)), Field("D", (0, 5))),
        (Field("D", (0, 1)), Field("I", 1)),
        (Field("f", 1.100000023841858), Field("d", 1.1)),
        (Field("A", []), Field("S", b"")),
        (Field("A", []), Field("S", b"[]")),
        (Field("F", {"a": Field("I", 1)}), Field("F", {"a": Field("l", 1)})),
        (
            Field("F", {"a": Field("V", None), "b": Field("V", None)}),
            Field("F", {"b": Field("V", None), "a": Field("V", None)}),
        ),
        (Field("A", [Field("I", 1), Field("I", 2)]), Field("A", [Field("I", 2), Field("I", 1)])),
    ],
)
def test_values_that_differ(one: Field, other: Field) -> None:
    assert comparable(one) != comparable(other)
    router: HeadersRouter[str] = HeadersRouter()
    router.bind({"k": one}, "q")
    assert router.match({"k": other}) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, None),
        *[({"x-match": kind}, None) for kind in ("all", "any", "all-with-x", "any-with-x")],
        (
            {"x-match": "foo"},
            'Invalid x-match field value <<"foo">>; expected all, any, all-with-x, or any-with-x',
        ),
        ({"x-match": 1}, "Invalid x-match field type signedint (value 1); expected longstr"),
        ({"x-match": True}, "Invalid x-match field type bool (value true); expected longstr"),
        (
            {"x-match": ["all"]},
            'Invalid x-match field type array (value [{longstr,<<"all">>}]); expected longstr',
        ),
        ({"x-match": None}, "Invalid x-match field type void (value undefined); expected longstr"),
    ],
)
def test_an_x_match_is_refused_in_the_words_of_rabbitmq(
    arguments: dict[str, object], problem: str | None
) -> None:
    assert validate_x_match(table_of(arguments)) == problem


def test_an_x_match_that_was_never_checked_means_all() -> None:
    assert reaches({"x-match": "foo", "a": 1}, {"a": 1})
    assert not reaches({"x-match": 1, "a": 1, "b": 2}, {"a": 1})


def test_destinations_come_once_and_in_the_order_of_their_first_binding() -> None:
    router: HeadersRouter[str] = HeadersRouter()
    router.bind(table_of(ANY | {"a": 1}), "late")
    router.bind(table_of(ANY | {"z": 1}), "never")
    router.bind(table_of(ALL | {"a": 1}), "q")
    router.bind(table_of({}), "r")
    router.bind(table_of(ALL | {"b": 2}), "q")
    router.bind(table_of({}), "late")
    assert router.match(table_of({"b": 2, "a": 1})) == ["late", "q", "r"]


def test_a_binding_made_twice_is_there_until_it_is_removed_twice() -> None:
    router: HeadersRouter[str] = HeadersRouter()
    router.bind(table_of({"a": 1, "b": 2}), "q")
    router.bind(table_of({"b": 2, "a": 1}), "q")
    router.unbind(table_of({"a": 1, "b": 2}), "q")
    assert router.match(table_of({"a": 1, "b": 2})) == ["q"]
    router.unbind(table_of({"a": 1, "b": 2}), "q")
    assert router.match(table_of({"a": 1, "b": 2})) == []


def test_removing_a_binding_that_is_not_there_changes_nothing() -> None:
    router: HeadersRouter[str] = HeadersRouter()
    router.bind(table_of({"a": 1}), "q")
    router.unbind(table_of({"a": 1}), "other")
    router.unbind(table_of({"a": 2}), "q")
    router.unbind(table_of(ALL | {"a": 1}), "q")
    assert router.match(table_of({"a": 1})) == ["q"]


# Against checking every binding

VALUES = st.sampled_from(
    [
        Field("I", 1),
        Field("l", 1),
        Field("t", True),
        Field("S", b"1"),
        Field("V", None),
        Field("A", []),
        Field("A", [Field("I", 1)]),
    ]
)
NAMES = st.sampled_from(["a", "b", "c", "x-a"])
HEADERS = st.dictionaries(NAMES, VALUES, max_size=4)
MATCH_KINDS = st.sampled_from(["all", "any", "all-with-x", "any-with-x"])


@st.composite
def binding_arguments(draw: st.DrawFn) -> dict[str, Field]:
    arguments = draw(HEADERS)
    if draw(st.booleans()):
        arguments["x-match"] = Field("S", draw(MATCH_KINDS).encode())
    return arguments


def holds(arguments: dict[str, Field], headers: dict[str, Field]) -> bool:
    kind = str(arguments.get("x-match", Field("S", b"all")).value, "ascii")  # type: ignore[arg-type]
    wanted = [
        name for name in arguments if name != "x-match" and (kind.endswith("-with-x") or name[:2] != "x-")
    ]
    met = [
        name in headers
        and (arguments[name].kind == "V" or comparable(arguments[name]) == comparable(headers[name]))
        for name in wanted
    ]
    return any(met) if kind.startswith("any") else all(met)


@given(st.lists(binding_arguments(), max_size=8), HEADERS)
def test_routing_agrees_with_checking_every_binding(
    bindings: list[dict[str, Field]], headers: dict[str, Field]
) -> None:
    router: HeadersRouter[int] = HeadersRouter()
    for number, arguments in enumerate(bindings):
        router.bind(arguments, number)
    assert router.match(headers) == [
        number for number, arguments in enumerate(bindings) if holds(arguments, headers)
    ]


class HeadersBindings(RuleBasedStateMachine):
    """Binds and unbinds in any order, against a plain list of bindings."""

    def __init__(self) -> None:
        super().__init__()
        self.router: HeadersRouter[int] = HeadersRouter()
        self.bindings: list[tuple[dict[str, Field], int]] = []

    @rule(arguments=binding_arguments(), destination=st.integers(0, 3))
    def bind(self, arguments: dict[str, Field], destination: int) -> None:
        self.router.bind(arguments, destination)
        self.bindings.append((arguments, destination))

    @precondition(lambda self: self.bindings)
    @rule(data=st.data())
    def unbind(self, data: st.DataObject) -> None:
        binding = data.draw(st.sampled_from(self.bindings))
        self.bindings.remove(binding)
        self.router.unbind(*binding)

    @rule(headers=HEADERS)
    def route(self, headers: dict[str, Field]) -> None:
        expected = {destination for arguments, destination in self.bindings if holds(arguments, headers)}
        found = self.router.match(headers)
        assert set(found) == expected
        assert len(found) == len(expected)

    @invariant()
    def nothing_is_left_when_all_bindings_are_gone(self) -> None:
        if not self.bindings:
            assert self.router.index_size() == 0
            assert self.router.match({}) == []


TestHeadersBindings = HeadersBindings.TestCase


# Cost


def router_with(count: int) -> HeadersRouter[int]:
    router: HeadersRouter[int] = HeadersRouter()
    for number in range(count):
        router.bind(table_of(ALL | {"format": "pdf", "tenant": number}), number)
        router.bind(table_of(ANY | {"customer": number, "order": number}), number)
    return router


def seconds_to_route(router: HeadersRouter[int]) -> float:
    headers = table_of({"format": "pdf", "tenant": 7, "order": 8})
    best = 1e9
    for _ in range(3):
        started = time.process_time()
        for _ in range(300):
            assert router.match(headers) == [7, 8]
        best = min(best, time.process_time() - started)
    return best


def test_a_message_costs_by_its_headers_and_not_by_the_number_of_bindings() -> None:
    # A scan would take a thousand times as long.
    assert seconds_to_route(router_with(20_000)) < 30 * seconds_to_route(router_with(20))


def test_twenty_thousand_bindings_leave_nothing_behind() -> None:
    router: HeadersRouter[int] = HeadersRouter()
    for number in range(20_000):
        router.bind({"a": Field("I", number), "b": Field("V", None)}, number)
    assert router.index_size() > 10_000
    for number in range(20_000):
        router.unbind({"a": Field("I", number), "b": Field("V", None)}, number)
    assert router.index_size() == 0
    assert router.match(table_of({"a": 1, "b": 1})) == []

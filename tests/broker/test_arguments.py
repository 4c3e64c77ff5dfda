"""The table of optional arguments: what is refused at declaration, what at redeclaration, and in which words."""

from __future__ import annotations

import pytest

from amqp_broker.broker.argument_table import (
    BINDING_ROWS,
    CONSUMER_ROWS,
    EXCHANGE_ROWS,
    POLICY_KEYS,
    POLICY_ROWS,
    QUEUE_ROWS,
    Argument,
)
from amqp_broker.broker.arguments import (
    QUEUE_ARGUMENTS,
    check_consumer_arguments,
    check_equivalent_arguments,
    check_equivalent_flag,
    check_queue_arguments,
    name_argument,
    with_default_type,
)
from amqp_broker.content.table import Field
from amqp_broker.errors import SoftError

R = "queue 'q' in vhost '/'"
DEAD_LETTERS = {"x-dead-letter-exchange": Field("S", b"dlx")}

REFUSED = [
    ("x-message-ttl", Field("I", -1), "{value_negative,-1}"),
    ("x-message-ttl", Field("l", 315_360_000_001), "{value_too_large,315360000001}"),
    ("x-message-ttl", Field("S", b"10"), '"expected integer, got longstr"'),
    ("x-message-ttl", Field("d", 1.0), '"expected integer, got double"'),
    ("x-expires", Field("I", 0), "{value_zero,0}"),
    ("x-expires", Field("I", -5), "{value_negative,-5}"),
    ("x-max-length", Field("I", -1), "{value_negative,-1}"),
    ("x-max-length", Field("t", True), '"expected integer, got bool"'),
    ("x-max-length-bytes", Field("V", None), '"expected integer, got void"'),
    ("x-max-priority", Field("I", 256), "{max_value_exceeded,256}"),
    ("x-max-priority", Field("I", -1), "{value_negative,-1}"),
    ("x-overflow", Field("S", b"drop-tail"), "invalid_overflow"),
    ("x-overflow", Field("I", 1), "{unacceptable_type,signedint}"),
    ("x-dead-letter-routing-key", Field("S", b"k"), "routing_key_but_no_dlx_defined"),
    ("x-dead-letter-routing-key", Field("I", 1), "{unacceptable_type,signedint}"),
    ("x-dead-letter-routing-key", Field("S", b"k" * 256), '"expected at most 255 octets, got 256"'),
    ("x-single-active-consumer", Field("S", b"true"), "{unacceptable_type,longstr}"),
    ("x-queue-mode", Field("I", 1), "{unacceptable_type,signedint}"),
    ("x-queue-type", Field("S", b"stream"), "\"unsupported queue type 'stream'\""),
    ("x-delivery-limit", Field("I", -2), "{value_negative,-2}"),
    ("x-delivery-limit", Field("S", b"3"), '"expected integer, got longstr"'),
    ("x-consumer-timeout", Field("I", -1), "{value_negative,-1}"),
    ("x-delayed-retry-type", Field("S", b"some"), "invalid_delayed_retry_type"),
    ("x-delayed-retry-min", Field("I", -1), "{value_negative,-1}"),
    ("x-delayed-retry-max", Field("l", 315_360_000_001), "{value_too_large,315360000001}"),
    ("x-delayed-retry-multiplier", Field("I", 0), "{value_zero,0}"),
    ("x-delayed-retry-jitter", Field("I", 101), "{max_value_exceeded,101}"),
    ("x-message-deduplication", Field("I", 1), "{unacceptable_type,signedint}"),
    ("x-deduplication-header", Field("I", 1), "{unacceptable_type,signedint}"),
    ("x-cache-size", Field("I", 0), "{value_zero,0}"),
    ("x-cache-ttl", Field("I", 0), "{value_zero,0}"),
]
TAKEN = [
    ("x-message-ttl", Field("I", 0)),
    ("x-message-ttl", Field("l", 315_360_000_000)),
    ("x-message-ttl", Field("b", 1)),
    ("x-message-ttl", Field("u", 1)),
    ("x-expires", Field("I", 1)),
    ("x-max-length", Field("I", 0)),
    ("x-max-priority", Field("B", 255)),
    ("x-overflow", Field("S", b"reject-publish")),
    ("x-single-active-consumer", Field("t", False)),
    ("x-queue-mode", Field("S", b"lazy")),
    ("x-queue-version", Field("I", 2)),
    ("x-queue-type", Field("S", b"classic")),
    ("x-nobody-knows-it", Field("F", {})),
    ("x-delivery-limit", Field("I", 0)),
    ("x-delivery-limit", Field("b", -1)),
    ("x-consumer-timeout", Field("I", 0)),
    ("x-delayed-retry-type", Field("S", b"returned")),
    ("x-delayed-retry-jitter", Field("I", 100)),
    ("x-message-deduplication", Field("t", True)),
    ("x-cache-size", Field("I", 1)),
    ("x-cache-ttl", Field("I", 1)),
]
OF_QUORUM_QUEUES = [
    ("x-dead-letter-strategy", Field("S", b"never"), "invalid_dlx_strategy"),
    ("x-queue-leader-locator", Field("S", b"here"), "invalid_queue_locator_arg"),
    ("x-max-in-memory-length", Field("I", -1), "{value_negative,-1}"),
    ("x-quorum-initial-group-size", Field("I", 0), "{value_zero,0}"),
]
QUORUM = {"x-queue-type": Field("S", b"quorum")}


@pytest.mark.parametrize(("name", "field", "problem"), REFUSED)
def test_a_bad_value_is_refused_in_rabbitmqs_words(name: str, field: Field, problem: str) -> None:
    with pytest.raises(SoftError) as caught:
        check_queue_arguments(R, {name: field})
    assert caught.value.code == 406
    assert caught.value.explanation == f"invalid arg '{name}' for {R}: {problem}"


@pytest.mark.parametrize(("name", "field"), TAKEN)
def test_a_good_value_is_taken(name: str, field: Field) -> None:
    check_queue_arguments(R, {name: field})


@pytest.mark.parametrize(("name", "field", "problem"), OF_QUORUM_QUEUES)
def test_what_only_quorum_queues_have_is_checked_for_them(name: str, field: Field, problem: str) -> None:
    with pytest.raises(SoftError) as caught:
        check_queue_arguments(R, QUORUM | {name: field})
    assert caught.value.explanation == f"invalid arg '{name}' for {R}: {problem}"
    with pytest.raises(SoftError) as caught:
        check_queue_arguments(R, {name: field})
    assert caught.value.explanation == f"invalid arg '{name}' for {R} of queue type rabbit_classic_queue"


@pytest.mark.parametrize("field", [Field("S", b"high"), Field("t", True), Field("V", None)])
def test_the_priority_of_a_consumer_is_a_number(field: Field) -> None:
    check_consumer_arguments(R, "classic", {"x-priority": Field("I", -3)})
    with pytest.raises(SoftError) as caught:
        check_consumer_arguments(R, "classic", {"x-priority": field})
    assert caught.value.explanation.startswith(f"invalid arg 'x-priority' for {R}: \"expected integer, got ")


def test_a_consumer_of_a_queue_has_no_stream_offset() -> None:
    for kind in ("classic", "quorum"):
        with pytest.raises(SoftError, match=f"'x-stream-offset' for .* of queue type rabbit_{kind}_queue"):
            check_consumer_arguments(R, kind, {"x-stream-offset": Field("S", b"first")})


def test_the_default_type_is_for_queues_that_name_none_and_are_not_of_another() -> None:
    classic: dict[str, Field] = {}
    assert with_default_type({}, "quorum", None) == QUORUM
    assert with_default_type({}, "quorum", QUORUM) == QUORUM
    assert with_default_type({}, "quorum", classic) == {}
    assert with_default_type({}, "", None) == {}
    assert with_default_type({}, "stream", None) == {}
    named = {"x-queue-type": Field("S", b"classic")}
    assert with_default_type(named, "quorum", None) == named


# -- the table

ROWS = [*QUEUE_ROWS, *EXCHANGE_ROWS, *CONSUMER_ROWS, *BINDING_ROWS, *POLICY_ROWS]


@pytest.mark.parametrize("rows", [QUEUE_ROWS, EXCHANGE_ROWS, CONSUMER_ROWS, BINDING_ROWS])
def test_an_argument_has_one_row(rows: tuple[Argument, ...]) -> None:
    names = [row.name for row in rows]
    assert len(names) == len(set(names))
    assert all(names)


def test_a_policy_key_is_one_thing_wherever_it_counts() -> None:
    keys = {row.policy for row in ROWS if row.policy is not None}
    assert {key.name for key in keys} == set(POLICY_KEYS)
    assert len(keys) == len(POLICY_KEYS)


def test_every_row_says_what_the_argument_does() -> None:
    for row in ROWS:
        assert row.effect.endswith("."), row.name
        assert row.kind, row.name
        assert row.policy is None or "{}" in row.policy.complaint, row.name


def test_a_lower_limit_can_only_count_among_numbers() -> None:
    for row in ROWS:
        if row.policy is not None and row.policy.lower:
            check = row.policy.check or row.check
            assert check(Field("I", 1)) is None, row.policy.name
            assert check(Field("S", b"1")) is not None, row.policy.name


def test_a_dead_letter_key_is_taken_with_an_exchange() -> None:
    check_queue_arguments(R, {"x-dead-letter-routing-key": Field("S", b"k"), **DEAD_LETTERS})


@pytest.mark.parametrize("name", QUEUE_ARGUMENTS)
def test_no_argument_fails_on_a_value_of_any_type(name: str) -> None:
    values = [
        Field("S", b"\xff\xfe"),
        Field("x", b""),
        Field("t", True),
        Field("V", None),
        Field("F", {}),
        Field("A", []),
        Field("D", (1, 2)),
        Field("T", 5),
        Field("d", 0.5),
        Field("B", 7),
        Field("l", -(1 << 63)),
    ]
    for value in values:
        try:
            check_queue_arguments(R, {name: value})
        except SoftError as error:
            assert error.explanation.startswith("invalid arg '"), error.explanation


def test_an_argument_that_names_an_exchange_is_a_string() -> None:
    name_argument("x-dead-letter-exchange", R, {})
    name_argument("x-dead-letter-exchange", R, DEAD_LETTERS)
    with pytest.raises(SoftError, match="invalid type 'signedint' for arg 'x-dead-letter-exchange'"):
        name_argument("x-dead-letter-exchange", R, {"x-dead-letter-exchange": Field("I", 1)})


# -- redeclaration

INT10 = Field("I", 10)


@pytest.mark.parametrize(
    ("received", "current", "problem"),
    [
        (Field("I", 20), INT10, "received '20' but current is '10'"),
        (Field("S", b"10"), INT10, "received '10' but current is '10'"),
        (INT10, None, "received the value '10' of type 'signedint' but current is none"),
        (None, INT10, "received none but current is the value '10' of type 'signedint'"),
        (None, Field("S", b"dlx"), "received none but current is the value 'dlx' of type 'longstr'"),
        (Field("t", True), Field("t", False), "received 'true' but current is 'false'"),
    ],
)
def test_a_changed_argument_is_refused(received: Field | None, current: Field | None, problem: str) -> None:
    new = {} if received is None else {"x-max-length": received}
    old = {} if current is None else {"x-max-length": current}
    with pytest.raises(SoftError) as caught:
        check_equivalent_arguments(["x-max-length"], R, new, old)
    assert caught.value.text == f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for {R}: {problem}"


@pytest.mark.parametrize("kind", ["b", "B", "s", "u", "i", "l", "L"])
def test_the_width_of_an_integer_does_not_matter(kind: str) -> None:
    check_equivalent_arguments(
        ["x-max-length"], R, {"x-max-length": Field(kind, 10)}, {"x-max-length": INT10}
    )


def test_arguments_that_are_not_compared_may_change() -> None:
    check_equivalent_arguments(["x-max-length"], R, {"other": INT10}, {})


def test_no_queue_type_is_the_classic_one() -> None:
    classic = {"x-queue-type": Field("S", b"classic")}
    check_equivalent_arguments(["x-queue-type"], R, classic, {})
    check_equivalent_arguments(["x-queue-type"], R, {}, classic)


def test_a_queue_type_does_not_change() -> None:
    quorum, classic = {"x-queue-type": Field("S", b"quorum")}, {"x-queue-type": Field("S", b"classic")}
    with pytest.raises(SoftError, match="received 'quorum' but current is 'classic'"):
        check_equivalent_arguments(["x-queue-type"], R, quorum, classic)
    with pytest.raises(SoftError, match="received the value 'quorum' of type 'longstr' but current is none"):
        check_equivalent_arguments(["x-queue-type"], R, quorum, {})


def test_a_changed_flag_is_refused() -> None:
    check_equivalent_flag("durable", R, True, True)
    with pytest.raises(SoftError) as caught:
        check_equivalent_flag("durable", R, True, False)
    assert caught.value.explanation == (
        f"inequivalent arg 'durable' for {R}: received 'true' but current is 'false'"
    )

"""What the values of optional arguments may be, in the terms in which RabbitMQ says what is wrong with one.

A check takes a value and returns None, or the Erlang term that stands at the end of `invalid arg ... for ...: TERM`.
Which argument has which check is `arguments`' business; what a value does is its feature's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from amqp_broker.content.erlang import value_term
from amqp_broker.content.table import INTEGER_KINDS, TYPE_NAMES, Field

LONGEST_MILLISECONDS: Final = 315_360_000_000  # ten years
LONGEST_ROUTING_KEY: Final = 255  # octets
MOST_PRIORITIES: Final = 255
WHOLE_PERCENT: Final = 100

Check: TypeAlias = Callable[[Field], "str | None"]

_DIGITS: Final = re.compile(rb"0*[1-9][0-9]{0,11}")
_MAX_AGE: Final = re.compile(r"0*[1-9][0-9]*[YMDhms]")


def accept(field: Field) -> str | None:
    return None


def check_integer(field: Field) -> str | None:
    if field.kind in INTEGER_KINDS:
        return None
    return f'"expected integer, got {TYPE_NAMES[field.kind]}"'


def number(field: Field) -> int:
    """The value of a field that `check_integer` passed."""
    value = field.value
    assert isinstance(value, int)
    return value


def check_count(field: Field) -> str | None:
    """A whole number from 0."""
    problem = check_integer(field)
    if problem is None and number(field) < 0:
        problem = f"{{value_negative,{number(field)}}}"
    return problem


def check_positive(field: Field) -> str | None:
    problem = check_count(field)
    if problem is None and number(field) == 0:
        problem = "{value_zero,0}"
    return problem


def check_digits(field: Field) -> str | None:
    """A whole number from 1 in a string, as RabbitMQ's deduplication plugin takes it, too."""
    value = field.value
    if field.kind == "S" and isinstance(value, bytes) and _DIGITS.fullmatch(value) is not None:
        return None
    return "not_a_number"


def check_time(field: Field) -> str | None:
    """Milliseconds, from 0 to ten years."""
    problem = check_count(field)
    if problem is None and number(field) > LONGEST_MILLISECONDS:
        problem = f"{{value_too_large,{number(field)}}}"
    return problem


def check_positive_time(field: Field) -> str | None:
    return check_positive(field) or check_time(field)


def check_max_priority(field: Field) -> str | None:
    return check_count(field) or _no_more_than(field, MOST_PRIORITIES)


def check_percent(field: Field) -> str | None:
    return check_count(field) or _no_more_than(field, WHOLE_PERCENT)


def _no_more_than(field: Field, most: int) -> str | None:
    return f"{{max_value_exceeded,{number(field)}}}" if number(field) > most else None


def check_delivery_limit(field: Field) -> str | None:
    """A whole number from 0; -1 for no limit, as RabbitMQ 4 has it."""
    problem = check_integer(field)
    if problem is None and number(field) < -1:
        problem = f"{{value_negative,{number(field)}}}"
    return problem


def check_longstr(field: Field) -> str | None:
    return None if field.kind == "S" else f"{{unacceptable_type,{TYPE_NAMES[field.kind]}}}"


def check_routing_key(field: Field) -> str | None:
    """A string that fits where routing keys stand in methods. RabbitMQ takes a longer one, and then fails to use it."""
    problem = check_longstr(field)
    if problem is None and isinstance(field.value, bytes) and len(field.value) > LONGEST_ROUTING_KEY:
        problem = f'"expected at most {LONGEST_ROUTING_KEY} octets, got {len(field.value)}"'
    return problem


def check_bool(field: Field) -> str | None:
    return None if field.kind == "t" else f"{{unacceptable_type,{TYPE_NAMES[field.kind]}}}"


def check_overflow(field: Field) -> str | None:
    return _one_of(field, (b"drop-head", b"reject-publish", b"reject-publish-dlx"), "invalid_overflow")


def check_dead_letter_strategy(field: Field) -> str | None:
    return _one_of(field, (b"at-most-once", b"at-least-once"), "invalid_dlx_strategy")


def check_retry_type(field: Field) -> str | None:
    return _one_of(field, (b"disabled", b"all", b"failed", b"returned"), "invalid_delayed_retry_type")


def check_leader_locator(field: Field) -> str | None:
    known = (b"client-local", b"balanced", b"random", b"least-leaders")
    return _one_of(field, known, "invalid_queue_locator_arg")


def check_ha_mode(field: Field) -> str | None:
    return _one_of(field, (b"all", b"exactly", b"nodes"), "invalid_ha_mode")


def check_cache_persistence(field: Field) -> str | None:
    return _one_of(field, (b"disk", b"memory"), "invalid_cache_persistence")


def _one_of(field: Field, values: tuple[bytes, ...], problem: str) -> str | None:
    return check_longstr(field) or (None if field.value in values else problem)


def check_queue_mode(field: Field) -> str | None:
    unsupported = f"\"unsupported queue mode '{text(field)}'\""
    return _one_of(field, (b"default", b"lazy"), unsupported)


def check_queue_type(field: Field) -> str | None:
    unsupported = f"\"unsupported queue type '{text(field)}'\""
    return _one_of(field, (b"classic", b"quorum"), unsupported)


def check_queue_version(field: Field) -> str | None:
    problem = check_count(field)
    if problem is None and number(field) not in (1, 2):
        problem = f"\"unsupported queue version '{number(field)}'\""
    return problem


def check_max_age(field: Field) -> str | None:
    problem = check_longstr(field)
    if problem is None and _MAX_AGE.fullmatch(text(field)) is None:
        problem = "invalid_max_age"
    return problem


def text(field: Field) -> str:
    """A value as RabbitMQ's texts show it."""
    value = field.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value_term(field)

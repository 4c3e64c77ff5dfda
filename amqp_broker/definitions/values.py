"""JSON values to field values and back, as RabbitMQ takes them (rabbit_misc:to_amqp_table, amqp_table).

JSON knows fewer types than a field table: an integer becomes a long, and of a timestamp only the number is left.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from typing import Final

from amqp_broker.content.table import Field

# How RabbitMQ writes octets that are no text, and what follows is read back here.
NO_TEXT: Final = "Not UTF-8, base64 is: "

# Levels of lists and objects within each other: what is kept has to be read again, by a parser that gives up some time.
DEEPEST: Final = 64
# What is written of an argument from a client, which may be nested as deep as its frame allows.
TOO_DEEP: Final = "nested too deep to be written"

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1


def field_of_json(value: object) -> Field:
    """Raises ValueError for a number that no field can hold."""
    if value is None:
        return Field("V", None)
    if isinstance(value, bool):
        return Field("t", value)
    if isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            raise ValueError(f"{value} does not fit in 64 bits")
        return Field("l", value)
    if isinstance(value, float):
        return Field("d", value)
    if isinstance(value, str):
        return Field("S", octets_of(value))
    if isinstance(value, dict):
        return Field("F", {str(name): field_of_json(item) for name, item in value.items()})
    if isinstance(value, list):
        return Field("A", [field_of_json(item) for item in value])
    raise ValueError(f"a {type(value).__name__} is no JSON")


def plain_problem(value: object) -> str | None:
    """What keeps a value that came as JSON from being kept as it is."""
    for level in _levels(value):
        for item in level:
            if isinstance(item, int) and not _SMALLEST <= item <= _LARGEST:
                return "has a number that does not fit in 64 bits"
    return nesting_problem(value)


def nesting_problem(value: object, most: int = DEEPEST) -> str | None:
    for depth, level in enumerate(_levels(value)):
        if depth >= most and any(isinstance(item, (dict, list)) for item in level):
            return f"has more than {most} levels of lists and objects within each other"
    return None


def _levels(value: object) -> Iterator[list[object]]:
    """The value, what is in it, what is in that, and so on."""
    level = [value]
    while level:
        yield level
        following: list[object] = []
        for item in level:
            if isinstance(item, dict):
                following += item.values()
            elif isinstance(item, list):
                following += item
        level = following


def json_of_field(field: Field, levels: int = DEEPEST) -> object:
    """levels: of lists and objects that may lie within each other; `TOO_DEEP` stands for what lies deeper."""
    value = field.value
    if isinstance(value, (dict, list)) and not levels:
        return TOO_DEEP
    if isinstance(value, dict):
        return json_of_table(value, levels)
    if isinstance(value, list):
        return [json_of_field(item, levels - 1) for item in value]
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, tuple):
        scale, unscaled = value
        return unscaled / 10**scale
    if isinstance(value, int) and value > _LARGEST:
        # A timestamp: the long of the same octets, since nothing larger can be read again.
        return value - 2**64
    return value


def json_of_table(table: dict[str, Field], levels: int = DEEPEST) -> dict[str, object]:
    """levels: as for `json_of_field`, with the table itself."""
    return {
        text_of(name.encode("utf-8", "surrogateescape")): json_of_field(field, levels - 1)
        for name, field in sorted(table.items())
    }


def text_of(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return NO_TEXT + b64encode(octets).decode()


def octets_of(text: str) -> bytes:
    if text.startswith(NO_TEXT):
        try:
            return b64decode(text.removeprefix(NO_TEXT), validate=True)
        except Base64Error:
            pass
    return text.encode()

"""Values as Erlang prints them with `~p`, because RabbitMQ puts them into reply texts that clients match on.

Only the forms that a field can take; long terms stay on one line, where Erlang would begin a new one after 80
columns. Nothing here is ever read back.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from amqp_broker.content.table import TYPE_NAMES, Field

_ESCAPES: Final[dict[int, str]] = {
    8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e", 34: '\\"', 92: "\\\\",
}  # fmt: skip
_DEEPEST: Final = 64  # A reply text has 255 octets; every level takes more than four of them.
_INTEGER_FLOATS: Final = float(1 << 53)


def binary_term(data: bytes) -> str:
    """Octets: `<<"text">>` if Erlang takes each for a printable Latin-1 character, else `<<1,2,3>>`.

    The text, encoded as UTF-8 with surrogateescape, has the octets that RabbitMQ sends.
    """
    if not data:
        return "<<>>"
    for octet in data:
        if not (32 <= octet < 127 or octet >= 160 or octet in _ESCAPES):
            return "<<" + ",".join([str(number) for number in data]) + ">>"
    text = data.decode("utf-8", "surrogateescape")
    return '<<"' + "".join([_ESCAPES.get(ord(character), character) for character in text]) + '">>'


def float_term(value: float) -> str:
    """The shortest digits that give the same float back, with an exponent where that is shorter.

    Erlang has no infinities and no NaN; they keep Python's names.
    """
    if not isfinite(value):
        return repr(value)
    sign, digits, exponent = _decimal_digits(value)
    scientific = f"{sign}{digits[0]}.{digits[1:] or '0'}e{exponent}"
    if abs(value) >= _INTEGER_FLOATS:
        return scientific
    if exponent < 0:
        positional = f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    else:
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        positional = f"{sign}{whole}.{digits[exponent + 1 :] or '0'}"
    return scientific if len(scientific) < len(positional) else positional


def _decimal_digits(value: float) -> tuple[str, str, int]:
    """Sign, significant digits and the exponent of the first digit."""
    text = repr(value)
    sign = "-" if text.startswith("-") else ""
    mantissa, _, power = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or "0") + len(whole) - 1 - (len(whole + fraction) - len(digits))
    if not digits:
        return sign, "0", 0
    return sign, digits.rstrip("0"), exponent


def atom_term(name: str) -> str:
    """A name that Erlang has as an atom: in quotes unless it is a word that begins with a small letter.

    Only for names without a quote or backslash.
    """
    plain = name.replace("_", "").replace("@", "")
    return name if name[:1].islower() and plain.isalnum() and name.isascii() else f"'{name}'"


def value_term(field: Field) -> str:
    """The value of a field, without its type."""
    return _value_term(field, 0)


def _value_term(field: Field, depth: int) -> str:
    value = field.value
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return binary_term(value)
    if isinstance(value, float):
        return float_term(value)
    if isinstance(value, tuple):
        return f"{{{value[0]},{value[1]}}}"
    if isinstance(value, int):
        return str(value)
    if depth == _DEEPEST:
        return "..."
    terms: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            key = binary_term(name.encode("utf-8", "surrogateescape"))
            terms.append(f"{{{key},{TYPE_NAMES[inner.kind]},{_value_term(inner, depth + 1)}}}")
    else:
        terms = [f"{{{TYPE_NAMES[inner.kind]},{_value_term(inner, depth + 1)}}}" for inner in value]
    return "[" + ",".join(terms) + "]"


def json_term(field: Field) -> str:
    """A value that came as JSON: objects are maps, and null is an atom of that name."""
    value = field.value
    if value is None:
        return "null"
    if isinstance(value, dict):
        pairs = [
            f"{binary_term(name.encode('utf-8', 'surrogateescape'))} => {json_term(value[name])}"
            for name in sorted(value)
        ]
        return "#{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join([json_term(item) for item in value]) + "]"
    return value_term(field)

"""AMQP 0-9-1 octets for the conversations: any method with any values out, and exactly what came back in.

Which methods there are, and what their arguments are, is pamqp's word. Values of field tables keep the type
they had on the wire, which pamqp drops; tables and properties keep their order. It never corrects what it is
given, so that a conversation can say what no client should.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple, cast

from pamqp import commands

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE


def kebab(name: str) -> str:
    return "".join("-" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("-")


def wire_name(name: str) -> str:
    """Basic.GetOk as the specification writes it: basic.get-ok."""
    return ".".join(kebab(part) for part in name.split("."))


# name -> ((class, method), [(argument, type), ...])
METHODS: Final[dict[str, tuple[tuple[int, int], list[tuple[str, str]]]]] = {
    wire_name(method.name): (
        divmod(index, 0x10000),
        [(field, method.amqp_type(field)) for field in method.__slots__],
    )
    for index, method in cast("dict[int, Any]", commands.INDEX_MAPPING).items()
} | {
    # of AMQP 0-8, which RabbitMQ still answers and pamqp has dropped
    "access.request": (
        (30, 10),
        [("realm", "shortstr")]
        + [(right, "bit") for right in ("exclusive", "passive", "active", "write", "read")],
    ),
    "access.request-ok": ((30, 11), [("ticket", "short")]),
}
NAMES: Final = {numbers: name for name, (numbers, _) in METHODS.items()}
WITH_CONTENT: Final = frozenset({"basic.return", "basic.deliver", "basic.get-ok"})
PROPERTIES: Final[list[tuple[str, str]]] = [
    (name, commands.Basic.Properties.amqp_type(name)) for name in commands.Basic.Properties.__slots__
]

NUMBERS: Final[dict[str, str]] = {
    "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q",
    "f": ">f", "d": ">d", "T": ">Q",
}  # fmt: skip
ARGUMENTS: Final[dict[str, str]] = {
    "octet": ">B", "short": ">H", "long": ">I", "longlong": ">Q", "timestamp": ">Q",
}  # fmt: skip
PLAIN: Final[dict[type, str]] = {float: "d", str: "S", bytes: "x", dict: "F", list: "A", type(None): "V"}


class Typed(NamedTuple):
    """A table's value with the type it has on the wire; a decimal is (scale, unscaled integer)."""

    kind: str
    value: Any


class Malformed(Exception):
    """The broker wrote something that is not AMQP 0-9-1."""


def octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def shortstr(text: str | bytes) -> bytes:
    data = octets(text)
    return bytes([len(data)]) + data


def longstr(text: str | bytes) -> bytes:
    data = octets(text)
    return struct.pack(">I", len(data)) + data


def typed(value: Any) -> Typed:
    """The type that a plain value goes out as."""
    if isinstance(value, Typed):
        return value
    if isinstance(value, bool):
        return Typed("t", value)
    if isinstance(value, int):
        return Typed("I" if -(2**31) <= value < 2**31 else "l", value)
    return Typed(PLAIN[type(value)], value)


def encode_value(plain: Any) -> bytes:
    kind, value = typed(plain)
    tag = kind.encode("latin-1")
    if kind in NUMBERS:
        return tag + struct.pack(NUMBERS[kind], value)
    if kind == "t":
        return tag + bytes([int(value)])
    if kind in "Sx":
        return tag + longstr(value)
    if kind == "D":
        return tag + struct.pack(">BI", *value)
    if kind == "F":
        return tag + encode_table(value)
    if kind == "A":
        return tag + longstr(b"".join(encode_value(item) for item in value))
    return tag + (value or b"")


def encode_table(table: Any) -> bytes:
    """A table with its length, from a dictionary, from pairs where a key comes twice, or from its inside."""
    if isinstance(table, bytes):
        return longstr(table)
    pairs = table.items() if isinstance(table, dict) else table
    return longstr(b"".join(shortstr(key) + encode_value(value) for key, value in pairs))


def encode_argument(kind: str, value: Any) -> bytes:
    if kind in ARGUMENTS:
        return struct.pack(ARGUMENTS[kind], value or 0)
    if kind == "table":
        return encode_table({} if value is None else value)
    return (shortstr if kind == "shortstr" else longstr)(value or "")


def encode_method(name: str, arguments: dict[str, Any]) -> bytes:
    """A method frame's payload; what is not given is false, 0, empty."""
    numbers, fields = METHODS[name]
    unknown = set(arguments) - {field for field, _ in fields}
    if unknown:
        raise ValueError(f"{name} has no {sorted(unknown)}")
    parts, bits, count = [struct.pack(">HH", *numbers)], 0, 0
    for field, kind in fields:
        if kind == "bit":
            bits |= bool(arguments.get(field)) << count
            count += 1
            continue
        if count:
            parts.append(bytes([bits]))
            bits = count = 0
        parts.append(encode_argument(kind, arguments.get(field)))
    if count:
        parts.append(bytes([bits]))
    return b"".join(parts)


def encode_properties(properties: dict[str, Any]) -> bytes:
    flags, values = 0, []
    for position, (name, kind) in enumerate(PROPERTIES):
        if name in properties:
            flags |= 1 << (15 - position)
            values.append(encode_argument(kind, properties[name]))
    unknown = set(properties) - {name for name, _ in PROPERTIES}
    if unknown:
        raise ValueError(f"there are no properties {sorted(unknown)}")
    return struct.pack(">H", flags) + b"".join(values)


def encode_header(
    size: int, properties: dict[str, Any] | bytes, class_id: int = 60, weight: int = 0
) -> bytes:
    inside = properties if isinstance(properties, bytes) else encode_properties(properties)
    return struct.pack(">HHQ", class_id, weight, size) + inside


def encode_frame(kind: int, channel: int, payload: bytes, end: int = FRAME_END) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


class Reader:
    """Takes values off the front of some octets that the broker wrote. Raises Malformed at their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise Malformed(f"{count} octets wanted at {self.at} of {self.data!r}")
        self.at += count
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def argument(self, kind: str) -> Any:
        if kind in ARGUMENTS:
            return self.number(ARGUMENTS[kind])
        if kind == "table":
            return self.table()
        return text_of(self.take(self.number(">B" if kind == "shortstr" else ">I")))

    def table(self) -> list[list[Any]]:
        """[[key, type, value], ...] in the order of the wire."""
        inside, rows = Reader(self.take(self.number(">I"))), []
        while inside.at < len(inside.data):
            key = inside.argument("shortstr")
            rows.append([key, *inside.value()])
        return rows

    def array(self) -> list[list[Any]]:
        inside, items = Reader(self.take(self.number(">I"))), []
        while inside.at < len(inside.data):
            items.append(inside.value())
        return items

    def value(self) -> list[Any]:
        """[type, value]; what JSON has no word for is written out."""
        kind = self.take(1).decode("latin-1")
        if kind in NUMBERS:
            number = self.number(NUMBERS[kind])
            return [kind, repr(number) if kind in "fd" else number]
        if kind == "t":
            return [kind, self.number(">B") != 0]
        if kind in "Sx":
            return [kind, text_of(self.take(self.number(">I")))]
        if kind == "D":
            return [kind, [self.number(">B"), self.number(">I")]]
        if kind == "F":
            return [kind, self.table()]
        if kind == "A":
            return [kind, self.array()]
        if kind != "V":
            raise Malformed(f"field type {kind!r}")
        return [kind, None]

    def finished(self, what: str) -> None:
        if self.at != len(self.data):
            raise Malformed(f"{what} came with {self.data[self.at :]!r} after its end")


def decode_method(payload: bytes) -> tuple[str, list[Any]]:
    """The method's name, and all its arguments in the order of the specification."""
    reader = Reader(payload)
    numbers = (reader.number(">H"), reader.number(">H"))
    if numbers not in NAMES:
        raise Malformed(f"method {numbers}")
    name = NAMES[numbers]
    values: list[Any] = []
    bits, count = 0, 0
    for _, kind in METHODS[name][1]:
        if kind == "bit":
            if count == 0:
                bits = reader.number(">B")
            values.append(bool(bits >> count & 1))
            count += 1
        else:
            count = 0
            values.append(reader.argument(kind))
    reader.finished(name)
    return name, values


def decode_header(payload: bytes) -> tuple[int, list[list[Any]]]:
    """The body's size, and [[property, value], ...] for those that are there."""
    reader = Reader(payload)
    class_id, weight, size = reader.number(">H"), reader.number(">H"), reader.number(">Q")
    if (class_id, weight) != (60, 0):
        raise Malformed(f"a content header of class {class_id} and weight {weight}")
    flags = reader.number(">H")
    properties = [
        [name, reader.argument(kind)]
        for position, (name, kind) in enumerate(PROPERTIES)
        if flags >> (15 - position) & 1
    ]
    reader.finished("a content header")
    return size, properties

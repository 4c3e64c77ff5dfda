"""Field tables: the typed maps of AMQP 0-9-1 (section 4.2.5), with the type tags that RabbitMQ knows.

A table is read into `Field` values that keep the tag each value came with, so that writing it back gives the
same bytes: the order of the entries, the width of every integer and every bit of a float survive. Reading,
checking and writing never recurse, so only the size of the input bounds its nesting.
Two things are not kept: of entries with the same name only the first (which RabbitMQ's lookups find), and an
octet other than 0 or 1 for true. This module knows nothing of what any entry means.
"""

from __future__ import annotations

import struct
from math import isnan
from struct import Struct
from typing import Final, TypeAlias, cast

FieldValue: TypeAlias = "bool | int | float | bytes | dict[str, Field] | list[Field] | tuple[int, int] | None"

TYPE_NAMES: Final[dict[str, str]] = {
    "A": "array",
    "B": "unsignedbyte",
    "D": "decimal",
    "F": "table",
    "I": "signedint",
    "L": "long",
    "S": "longstr",
    "T": "timestamp",
    "V": "void",
    "b": "byte",
    "d": "double",
    "f": "float",
    "i": "unsignedint",
    "l": "long",
    "s": "short",
    "t": "bool",
    "u": "unsignedshort",
    "x": "binary",
}

INTEGER_KINDS: Final = frozenset("bBsuIilL")

_TABLE: Final = 0x46
_ARRAY: Final = 0x41
_LONG_STRING: Final = 0x53
_BINARY: Final = 0x78
_FLOAT: Final = 0x66
_VOID: Final = 0x56
_BOOL: Final = 0x74

_U32: Final = Struct(">I")
_U64: Final = Struct(">Q")
_F32: Final = Struct(">f")
_F64: Final = Struct(">d")

_INTEGERS: Final[dict[str, Struct]] = {
    "B": Struct(">B"),
    "I": Struct(">i"),
    "L": Struct(">q"),
    "T": _U64,
    "b": Struct(">b"),
    "i": _U32,
    "l": Struct(">q"),
    "s": Struct(">h"),
    "u": Struct(">H"),
}
_DECIMAL: Final = Struct(">BI")

# Octets after the tag, by tag: up to 8 for the fixed ones, then what else can follow.
_COUNTED: Final = 253
_NESTED: Final = 254
_UNKNOWN: Final = 255
_WIDTH_BY_KIND: Final[dict[str, int]] = {
    "A": _NESTED, "B": 1, "D": 5, "F": _NESTED, "I": 4, "L": 8, "S": _COUNTED, "T": 8, "V": 0, "b": 1,
    "d": 8, "f": 4, "i": 4, "l": 8, "s": 2, "t": 1, "u": 2, "x": _COUNTED,
}  # fmt: skip


def _widths() -> bytes:
    widths = bytearray([_UNKNOWN]) * 256
    for kind, width in _WIDTH_BY_KIND.items():
        widths[ord(kind)] = width
    return bytes(widths)


_WIDTHS: Final[bytes] = _widths()


class TableError(ValueError):
    """The bytes are not a field table, or the values do not fit into one; the text says where and why."""


class Field:
    """One typed value.

    kind: the tag, one of TYPE_NAMES. value: t bool; b B s u I i l L T int (T: seconds since the epoch);
    d f float; S x bytes; F dict in the order of the wire; A list; D (scale, unscaled value); V None.
    Equal means equal on the wire, bit for bit.
    """

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: FieldValue) -> None:
        self.kind: str = kind
        self.value: FieldValue = value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Field) and self.kind == other.kind and encode_field(self) == encode_field(other)
        )

    def __hash__(self) -> int:
        return hash(encode_field(self))

    def __repr__(self) -> str:
        value = self.value
        if isinstance(value, (dict, list)):
            return f"Field({self.kind!r}, <{len(value)} entries>)"
        return f"Field({self.kind!r}, {value!r})"


# Reading


def read_table(data: bytes, offset: int) -> tuple[dict[str, Field], int]:
    """The table whose 4-octet length stands at `offset`, and the offset after it.

    Names are decoded as UTF-8 with surrogateescape, because RabbitMQ takes any octets. Raises TableError for
    an unknown tag, a length that reaches beyond its container, and data that ends early.
    """
    start, stop = _span(data, offset, len(data))
    return _read_entries(data, start, stop), stop


def read_entries(data: bytes) -> dict[str, Field]:
    """The entries of a table that stands alone, without a length before it (an AMQPLAIN response)."""
    return _read_entries(data, 0, len(data))


class _Level:
    """A container being read: exactly one of `table` and `array` is used; `stop` is where it ends."""

    __slots__ = ("array", "stop", "table")

    def __init__(self, table: dict[str, Field] | None, array: list[Field] | None, stop: int) -> None:
        self.table: dict[str, Field] | None = table
        self.array: list[Field] | None = array
        self.stop: int = stop


def _read_entries(data: bytes, offset: int, stop: int) -> dict[str, Field]:
    root: dict[str, Field] = {}
    table: dict[str, Field] | None = root
    array: list[Field] | None = None
    outer: list[_Level] = []
    name = ""
    while True:
        if offset == stop:
            if not outer:
                return root
            level = outer.pop()
            table, array, stop = level.table, level.array, level.stop
            continue
        if table is not None:
            length = data[offset]
            offset += 1
            if offset + length >= stop:
                raise TableError(f"name at octet {offset - 1} reaches beyond its table")
            name = data[offset : offset + length].decode("utf-8", "surrogateescape")
            offset += length
        tag = data[offset]
        offset += 1
        if tag in (_TABLE, _ARRAY):
            start, end = _span(data, offset, stop)
            inner = Field("F", {}) if tag == _TABLE else Field("A", [])
            _add(table, array, name, inner)
            outer.append(_Level(table, array, stop))
            value = inner.value
            table = value if isinstance(value, dict) else None
            array = value if isinstance(value, list) else None
            offset, stop = start, end
        else:
            end = _value_end(data, tag, offset, stop)
            _add(table, array, name, _scalar(data, tag, offset, end))
            offset = end


def _add(table: dict[str, Field] | None, array: list[Field] | None, name: str, field: Field) -> None:
    if table is None:
        assert array is not None
        array.append(field)
    elif name not in table:
        table[name] = field


def _span(data: bytes, offset: int, stop: int) -> tuple[int, int]:
    """Start and end of what the 4-octet length at `offset` announces, which has to end by `stop`."""
    start = offset + 4
    if start > stop:
        raise TableError(f"length at octet {offset} is cut short")
    end = start + (
        (data[offset] << 24) | (data[offset + 1] << 16) | (data[offset + 2] << 8) | data[offset + 3]
    )
    if end > stop:
        raise TableError(f"length at octet {offset} reaches {end - stop} octets too far")
    return start, end


def _value_end(data: bytes, tag: int, offset: int, stop: int) -> int:
    """Where the value at `offset` ends; not for tables and arrays."""
    width = _WIDTHS[tag]
    if width == _COUNTED:
        return _span(data, offset, stop)[1]
    if width == _UNKNOWN:
        raise TableError(f"unknown type tag {tag} at octet {offset - 1}")
    if offset + width > stop:
        raise TableError(f"value at octet {offset} is cut short")
    return offset + width


def _scalar(data: bytes, tag: int, offset: int, end: int) -> Field:
    if tag == _LONG_STRING:
        return Field("S", data[offset + 4 : end])
    if tag == _BINARY:
        return Field("x", data[offset + 4 : end])
    if tag == _BOOL:
        return Field("t", data[offset] != 0)
    if tag == _VOID:
        return Field("V", None)
    if tag == _FLOAT:
        return Field("f", _read_float(data, offset))
    kind = chr(tag)
    if kind == "d":
        return Field("d", cast(float, _F64.unpack_from(data, offset)[0]))
    if kind == "D":
        return Field("D", (data[offset], cast(int, _U32.unpack_from(data, offset + 1)[0])))
    return Field(kind, cast(int, _INTEGERS[kind].unpack_from(data, offset)[0]))


def _read_float(data: bytes, offset: int) -> float:
    value = cast(float, _F32.unpack_from(data, offset)[0])
    if not isnan(value):
        return value
    # Converting a signalling NaN makes it a quiet one, so its bits are carried over by hand.
    bits = cast(int, _U32.unpack_from(data, offset)[0])
    wide = (bits & 0x80000000) << 32 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29
    return cast(float, _F64.unpack(_U64.pack(wide))[0])


def check_table(data: bytes, offset: int, limit: int) -> int:
    """Check the table whose length stands at `offset` without building it; returns the offset after it.

    The table has to end by `limit`. Raises TableError exactly where `read_table` would.
    """
    offset, stop = _span(data, offset, limit)
    named = True
    outer: list[tuple[int, bool]] = []
    while True:
        if offset == stop:
            if not outer:
                return stop
            stop, named = outer.pop()
            continue
        if named:
            after = offset + 1 + data[offset]
            if after >= stop:
                raise TableError(f"name at octet {offset} reaches beyond its table")
            offset = after
        tag = data[offset]
        offset += 1
        if tag in (_TABLE, _ARRAY):
            outer.append((stop, named))
            named = tag == _TABLE
            offset, stop = _span(data, offset, stop)
        else:
            offset = _value_end(data, tag, offset, stop)


# Writing


def write_table(table: dict[str, Field]) -> bytes:
    """The table with its 4-octet length. Raises TableError for a name or a value that does not fit."""
    return encode_field(Field("F", table))[1:]


def encode_field(field: Field) -> bytes:
    """The tag and the value of one field. Raises TableError for a value that does not fit its type."""
    value = field.value
    if not isinstance(value, (dict, list)):
        return _encode_scalar(field)
    output = _Output()
    opened = [output.open(value)]
    while opened:
        container = opened[-1]
        position = container.position
        if position == len(container.fields):
            output.close(opened.pop())
            continue
        container.position = position + 1
        if container.names is not None:
            output.put(_short_name(container.names[position]))
        inner = container.fields[position]
        inner_value = inner.value
        if isinstance(inner_value, (dict, list)):
            opened.append(output.open(inner_value))
        else:
            output.put(_encode_scalar(inner))
    return b"".join(output.parts)


class _Container:
    """A table or array being written: `length_at` is the part that will hold its length."""

    __slots__ = ("fields", "length_at", "names", "position", "size_before")

    def __init__(
        self, names: list[str] | None, fields: list[Field], length_at: int, size_before: int
    ) -> None:
        self.names: list[str] | None = names
        self.fields: list[Field] = fields
        self.length_at: int = length_at
        self.size_before: int = size_before
        self.position: int = 0


class _Output:
    """What is written so far. A length is filled in when its container closes, so nothing is copied twice."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size: int = 0

    def put(self, part: bytes) -> None:
        self.parts.append(part)
        self.size += len(part)

    def open(self, value: dict[str, Field] | list[Field]) -> _Container:
        names: list[str] | None = None
        if isinstance(value, dict):
            names = list(value.keys())
            fields = list(value.values())
            self.put(b"F\0\0\0\0")
        else:
            fields = list(value)
            self.put(b"A\0\0\0\0")
        return _Container(names, fields, len(self.parts) - 1, self.size)

    def close(self, container: _Container) -> None:
        size = self.size - container.size_before
        if size > 0xFFFFFFFF:
            raise TableError("a table is longer than 4 GiB")
        self.parts[container.length_at] = self.parts[container.length_at][:1] + _U32.pack(size)


def _short_name(name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > 255:
        raise TableError(f"name of {len(encoded)} octets: at most 255 fit")
    return bytes((len(encoded),)) + encoded


def _encode_scalar(field: Field) -> bytes:
    kind, value = field.kind, field.value
    if kind in ("S", "x"):
        if isinstance(value, bytes):
            return kind.encode() + _U32.pack(len(value)) + value
    elif kind == "t":
        if isinstance(value, bool):
            return b"t\1" if value else b"t\0"
    elif kind == "V":
        return b"V"
    elif kind in ("d", "f"):
        if isinstance(value, (int, float)):
            return _encode_float(kind, float(value))
    elif kind == "D":
        if isinstance(value, tuple):
            return b"D" + _packed(_DECIMAL, value, kind)
    elif kind in _INTEGERS and isinstance(value, int):
        return kind.encode() + _packed(_INTEGERS[kind], (value,), kind)
    raise TableError(f"a {type(value).__name__} does not fit the type {TYPE_NAMES.get(kind, kind)}")


def _packed(layout: Struct, values: tuple[int, ...], kind: str) -> bytes:
    try:
        return layout.pack(*values)
    except struct.error:
        raise TableError(f"{values} does not fit the type {TYPE_NAMES[kind]}") from None


def _encode_float(kind: str, value: float) -> bytes:
    if kind == "d":
        return b"d" + _F64.pack(value)
    if not isnan(value):
        try:
            return b"f" + _F32.pack(value)
        except OverflowError:
            raise TableError(f"{value} does not fit the type float") from None
    bits = cast(int, _U64.unpack(_F64.pack(value))[0])
    return b"f" + _U32.pack(bits >> 32 & 0x80000000 | 0x7F800000 | (bits >> 29 & 0x7FFFFF or 0x400000))


# Python values


def field_of(value: object) -> Field:
    """The field RabbitMQ's own tools would send for a Python value.

    bool t; int I where it fits, else l; float d; str S; bytes x; dict F; list A; None V; a Field is itself.
    Raises TableError for anything else. Recurses, so it is for values the broker or its parsers made.
    """
    if isinstance(value, Field):
        return value
    if value is None:
        return Field("V", None)
    if isinstance(value, bool):
        return Field("t", value)
    if isinstance(value, int):
        return Field("I" if -0x80000000 <= value <= 0x7FFFFFFF else "l", value)
    if isinstance(value, float):
        return Field("d", value)
    if isinstance(value, str):
        return Field("S", value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return Field("x", value)
    if isinstance(value, dict):
        return Field("F", table_of(value))
    if isinstance(value, list):
        return Field("A", [field_of(item) for item in value])
    raise TableError(f"a {type(value).__name__} has no field type")


def table_of(values: dict[str, object]) -> dict[str, Field]:
    """`field_of` each value."""
    return {name: field_of(value) for name, value in values.items()}


def plain(field: Field) -> object:
    """The Python value of a field, without its type; never recurses.

    S is str (UTF-8 with surrogateescape), x bytes, F dict, A list, D a tuple (scale, unscaled value), V None.
    """
    pending: list[tuple[Field, dict[str, object] | list[object]]] = []
    result = _plain_item(field, pending)
    while pending:
        source, target = pending.pop()
        inner = source.value
        if isinstance(inner, dict) and isinstance(target, dict):
            for name, item in inner.items():
                target[name] = _plain_item(item, pending)
        elif isinstance(inner, list) and isinstance(target, list):
            for item in inner:
                target.append(_plain_item(item, pending))
    return result


def plain_table(table: dict[str, Field]) -> dict[str, object]:
    """`plain` of each field."""
    return {name: plain(field) for name, field in table.items()}


def _plain_item(item: Field, pending: list[tuple[Field, dict[str, object] | list[object]]]) -> object:
    if isinstance(item.value, (dict, list)):
        container = _plain_container(item)
        pending.append((item, container))
        return container
    return _plain_scalar(item)


def _plain_container(field: Field) -> dict[str, object] | list[object]:
    if isinstance(field.value, dict):
        return {}
    return []


def _plain_scalar(field: Field) -> object:
    value = field.value
    if field.kind == "S" and isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value

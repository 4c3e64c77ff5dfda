"""AMQP 0-9-1 octets, written apart from the broker's own codec so that the two can disagree.

Methods, field tables, content headers and frames, to and from plain Python values. It encodes whatever it
is given, legal or not, and decodes exactly what came: table values keep their one-octet type, nothing is
normalised. It never touches a socket and knows no broker.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE

# B octet, H short, I long, Q longlong, s shortstr, S longstr, F table, b bit
METHODS: Final[dict[str, tuple[int, int, str]]] = {
    "connection.start": (
        10, 10, "version_major:B version_minor:B server_properties:F mechanisms:S locales:S",
    ),
    "connection.start-ok": (10, 11, "client_properties:F mechanism:s response:S locale:s"),
    "connection.secure": (10, 20, "challenge:S"),
    "connection.secure-ok": (10, 21, "response:S"),
    "connection.tune": (10, 30, "channel_max:H frame_max:I heartbeat:H"),
    "connection.tune-ok": (10, 31, "channel_max:H frame_max:I heartbeat:H"),
    "connection.open": (10, 40, "virtual_host:s reserved_1:s reserved_2:b"),
    "connection.open-ok": (10, 41, "reserved_1:s"),
    "connection.close": (10, 50, "reply_code:H reply_text:s class_id:H method_id:H"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "reason:s"),
    "connection.unblocked": (10, 61, ""),
    "connection.update-secret": (10, 70, "new_secret:S reason:s"),
    "connection.update-secret-ok": (10, 71, ""),
    "channel.open": (20, 10, "reserved_1:s"),
    "channel.open-ok": (20, 11, "reserved_1:S"),
    "channel.flow": (20, 20, "active:b"),
    "channel.flow-ok": (20, 21, "active:b"),
    "channel.close": (20, 40, "reply_code:H reply_text:s class_id:H method_id:H"),
    "channel.close-ok": (20, 41, ""),
    "access.request": (30, 10, "realm:s exclusive:b passive:b active:b write:b read:b"),
    "access.request-ok": (30, 11, "ticket:H"),
    "exchange.declare": (
        40, 10,
        "ticket:H exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:F",
    ),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "ticket:H exchange:s if_unused:b nowait:b"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (40, 30, "ticket:H destination:s source:s routing_key:s nowait:b arguments:F"),
    "exchange.bind-ok": (40, 31, ""),
    "exchange.unbind": (40, 40, "ticket:H destination:s source:s routing_key:s nowait:b arguments:F"),
    "exchange.unbind-ok": (40, 51, ""),
    "queue.declare": (
        50, 10, "ticket:H queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:F",
    ),
    "queue.declare-ok": (50, 11, "queue:s message_count:I consumer_count:I"),
    "queue.bind": (50, 20, "ticket:H queue:s exchange:s routing_key:s nowait:b arguments:F"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "ticket:H queue:s nowait:b"),
    "queue.purge-ok": (50, 31, "message_count:I"),
    "queue.delete": (50, 40, "ticket:H queue:s if_unused:b if_empty:b nowait:b"),
    "queue.delete-ok": (50, 41, "message_count:I"),
    "queue.unbind": (50, 50, "ticket:H queue:s exchange:s routing_key:s arguments:F"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "prefetch_size:I prefetch_count:H global_:b"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (
        60, 20,
        "ticket:H queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:F",
    ),
    "basic.consume-ok": (60, 21, "consumer_tag:s"),
    "basic.cancel": (60, 30, "consumer_tag:s nowait:b"),
    "basic.cancel-ok": (60, 31, "consumer_tag:s"),
    "basic.publish": (60, 40, "ticket:H exchange:s routing_key:s mandatory:b immediate:b"),
    "basic.return": (60, 50, "reply_code:H reply_text:s exchange:s routing_key:s"),
    "basic.deliver": (60, 60, "consumer_tag:s delivery_tag:Q redelivered:b exchange:s routing_key:s"),
    "basic.get": (60, 70, "ticket:H queue:s no_ack:b"),
    "basic.get-ok": (60, 71, "delivery_tag:Q redelivered:b exchange:s routing_key:s message_count:I"),
    "basic.get-empty": (60, 72, "reserved_1:s"),
    "basic.ack": (60, 80, "delivery_tag:Q multiple:b"),
    "basic.reject": (60, 90, "delivery_tag:Q requeue:b"),
    "basic.recover-async": (60, 100, "requeue:b"),
    "basic.recover": (60, 110, "requeue:b"),
    "basic.recover-ok": (60, 111, ""),
    "basic.nack": (60, 120, "delivery_tag:Q multiple:b requeue:b"),
    "confirm.select": (85, 10, "nowait:b"),
    "confirm.select-ok": (85, 11, ""),
    "tx.select": (90, 10, ""),
    "tx.select-ok": (90, 11, ""),
    "tx.commit": (90, 20, ""),
    "tx.commit-ok": (90, 21, ""),
    "tx.rollback": (90, 30, ""),
    "tx.rollback-ok": (90, 31, ""),
}  # fmt: skip
NAMES: Final = {(class_id, method_id): name for name, (class_id, method_id, _) in METHODS.items()}

CONTENT_METHODS: Final = frozenset({"basic.return", "basic.deliver", "basic.get-ok"})

# in the order of their flags, the highest bit first
PROPERTIES: Final[dict[str, str]] = {
    "content_type": "s",
    "content_encoding": "s",
    "headers": "F",
    "delivery_mode": "B",
    "priority": "B",
    "correlation_id": "s",
    "reply_to": "s",
    "expiration": "s",
    "message_id": "s",
    "timestamp": "Q",
    "type": "s",
    "user_id": "s",
    "app_id": "s",
    "cluster_id": "s",
}

NUMBERS: Final[dict[str, str]] = {
    "b": ">b",
    "B": ">B",
    "s": ">h",
    "u": ">H",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "L": ">q",
    "f": ">f",
    "d": ">d",
    "T": ">Q",
}
ARGUMENT_NUMBERS: Final[dict[str, str]] = {"B": ">B", "H": ">H", "I": ">I", "Q": ">Q"}


class Typed(NamedTuple):
    """A table value with its wire type: `Typed("I", 5)`; kind "D" holds (scale, unscaled integer)."""

    kind: str
    value: Any


Table = dict[str, Typed]


class Frame(NamedTuple):
    kind: int
    channel: int
    payload: bytes

    def encoded(self) -> bytes:
        return (
            struct.pack(">BHI", self.kind, self.channel, len(self.payload))
            + self.payload
            + bytes([FRAME_END])
        )


def octets(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def text_of(data: bytes) -> str:
    """UTF-8 where it is; other octets stay visible as surrogates rather than being lost."""
    return data.decode("utf-8", "surrogateescape")


def shortstr(text: str | bytes) -> bytes:
    data = octets(text)
    return bytes([len(data)]) + data


def longstr(text: str | bytes) -> bytes:
    data = octets(text)
    return struct.pack(">I", len(data)) + data


def typed(value: Any) -> Typed:
    """The wire type that a plain Python value goes out as; a Typed is taken as it stands."""
    if isinstance(value, Typed):
        return value
    if isinstance(value, bool):
        return Typed("t", value)
    if isinstance(value, int):
        return Typed("I" if -(2**31) <= value < 2**31 else "l", value)
    kinds: dict[type, str] = {float: "d", str: "S", bytes: "S", dict: "F", list: "A", type(None): "V"}
    return Typed(kinds[type(value)], value)


def encode_value(plain: Any) -> bytes:
    kind, value = typed(plain)
    tag = kind.encode()
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
    return tag


def encode_table(table: dict[str, Any] | bytes) -> bytes:
    """A table with its length; bytes are taken as the table's inside, for what no dictionary can say."""
    if isinstance(table, bytes):
        return longstr(table)
    return longstr(b"".join(shortstr(key) + encode_value(value) for key, value in table.items()))


class Reader:
    """Takes values off the front of some bytes; an over-run is an AssertionError, since the broker wrote
    them.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, f"{self.data!r} ends at {len(self.data)}, {count} wanted at {self.at}"
        self.at += count
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def shortstr(self) -> str:
        return text_of(self.take(self.number(">B")))

    def longstr(self) -> bytes:
        return self.take(self.number(">I"))

    def table(self) -> Table:
        inside, table = Reader(self.longstr()), {}
        while inside.at < len(inside.data):
            key = inside.shortstr()
            table[key] = inside.value()
        return table

    def value(self) -> Typed:
        kind = self.take(1).decode("latin-1")
        if kind in NUMBERS:
            return Typed(kind, self.number(NUMBERS[kind]))
        if kind == "t":
            return Typed(kind, self.number(">B") != 0)
        if kind == "S":
            return Typed(kind, text_of(self.longstr()))
        if kind == "x":
            return Typed(kind, self.longstr())
        if kind == "D":
            return Typed(kind, (self.number(">B"), self.number(">I")))
        if kind == "F":
            return Typed(kind, self.table())
        if kind == "A":
            inside, items = Reader(self.longstr()), []
            while inside.at < len(inside.data):
                items.append(inside.value())
            return Typed(kind, items)
        assert kind == "V", f"field type {kind!r} came back"
        return Typed(kind, None)


def encode_method(name: str, arguments: dict[str, Any]) -> bytes:
    """A method frame's payload; what is not given is false, 0, empty."""
    class_id, method_id, spec = METHODS[name]
    fields = [field.split(":") for field in spec.split()]
    unknown = set(arguments) - {field for field, _ in fields}
    assert not unknown, f"{name} has no {unknown}"
    parts, bits, bit_count = [struct.pack(">HH", class_id, method_id)], 0, 0
    for field, kind in fields:
        if kind == "b":
            bits |= bool(arguments.get(field)) << bit_count
            bit_count += 1
            continue
        if bit_count:
            parts.append(bytes([bits]))
            bits = bit_count = 0
        parts.append(encode_argument(kind, arguments.get(field)))
    if bit_count:
        parts.append(bytes([bits]))
    return b"".join(parts)


def encode_argument(kind: str, value: Any) -> bytes:
    if kind in ARGUMENT_NUMBERS:
        return struct.pack(ARGUMENT_NUMBERS[kind], value or 0)
    if kind == "F":
        return encode_table(value or {})
    return (shortstr if kind == "s" else longstr)(value or "")


def decode_method(payload: bytes) -> tuple[str, dict[str, Any]]:
    """The method's name and all its arguments; octets left over are an AssertionError."""
    reader = Reader(payload)
    name = NAMES[reader.number(">H"), reader.number(">H")]
    arguments: dict[str, Any] = {}
    bits, bit_count = 0, 0
    for field in METHODS[name][2].split():
        key, kind = field.split(":")
        if kind == "b":
            if bit_count == 0:
                bits = reader.number(">B")
            arguments[key] = bool(bits >> bit_count & 1)
            bit_count += 1
            continue
        bit_count = 0
        arguments[key] = decode_argument(reader, kind)
    assert reader.at == len(payload), f"{name} came with {payload[reader.at :]!r} after its arguments"
    return name, arguments


def decode_argument(reader: Reader, kind: str) -> Any:
    if kind in ARGUMENT_NUMBERS:
        return reader.number(ARGUMENT_NUMBERS[kind])
    if kind == "F":
        return reader.table()
    return reader.shortstr() if kind == "s" else text_of(reader.longstr())


def encode_properties(properties: dict[str, Any]) -> bytes:
    """Property flags and values, as they stand in a content header after the body size."""
    flags, values = 0, []
    for position, (name, kind) in enumerate(PROPERTIES.items()):
        if name in properties:
            flags |= 1 << (15 - position)
            values.append(encode_argument(kind, properties[name]))
    assert set(properties) <= set(PROPERTIES), f"unknown properties in {set(properties)}"
    return struct.pack(">H", flags) + b"".join(values)


def encode_header(body_size: int, properties: dict[str, Any] | bytes, class_id: int = 60) -> bytes:
    """A content header's payload; `properties` as bytes are flags and values already encoded."""
    encoded = properties if isinstance(properties, bytes) else encode_properties(properties)
    return struct.pack(">HHQ", class_id, 0, body_size) + encoded


def decode_header(payload: bytes) -> tuple[int, dict[str, Any]]:
    """The body size and the properties that are present, in wire order."""
    reader = Reader(payload)
    class_id, weight, body_size = reader.number(">H"), reader.number(">H"), reader.number(">Q")
    assert (class_id, weight) == (60, 0), f"content header of class {class_id}, weight {weight}"
    flags = reader.number(">H")
    properties = {
        name: decode_argument(reader, kind)
        for position, (name, kind) in enumerate(PROPERTIES.items())
        if flags >> (15 - position) & 1
    }
    assert reader.at == len(payload), f"content header has {payload[reader.at :]!r} after its properties"
    return body_size, properties

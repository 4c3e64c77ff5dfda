"""The words of a hostile client: methods with their fields, what is said how often, and what strangers say instead.

Frames and methods are put together here from octets that are ready for the wire, right or not.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from tests.conversations.codec import METHODS
from tests.fuzz.values import (
    CONSUMER_ARGUMENTS,
    EXCHANGE_ARGUMENTS,
    QUEUE_ARGUMENTS,
    U16,
    short,
)

HEAD: Final = Struct(">BHI").pack
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8

Fields = tuple[tuple[str, str], ...]
FIELDS: Final[dict[str, tuple[bytes, Fields]]] = {
    name: (
        U16(class_id) + U16(method_id),
        tuple((field.partition(":")[0], field.partition(":")[2]) for field in fields.split()),
    )
    for name, (class_id, method_id, fields) in METHODS.items()
}
EVERY_METHOD: Final = tuple(METHODS)
# What clients may say on an open channel, the more often the more of it is listed.
EVERYDAY: Final = (
    "queue.declare", "queue.declare", "queue.declare", "queue.bind", "queue.bind", "queue.unbind", "queue.purge",
    "queue.delete", "exchange.declare", "exchange.declare", "exchange.bind", "exchange.unbind", "exchange.delete",
    "basic.qos", "basic.consume", "basic.consume", "basic.consume", "basic.cancel", "basic.get", "basic.get",
    "basic.recover", "basic.recover-async", "confirm.select", "tx.select",
    "channel.flow", "access.request",
)  # fmt: skip
ARGUMENTS: Final[dict[str, dict[bytes, tuple[bytes, ...]]]] = {
    "queue.declare": QUEUE_ARGUMENTS,
    "exchange.declare": EXCHANGE_ARGUMENTS,
    "basic.consume": CONSUMER_ARGUMENTS,
}
# What a channel begins with.
HABITS: Final[tuple[tuple[str, ...], ...]] = (
    (), (), ("basic.consume",), ("basic.qos", "basic.consume", "basic.consume"), ("tx.select", "basic.consume"),
    ("confirm.select",), ("queue.declare", "basic.consume"), ("queue.declare", "queue.bind"),
)  # fmt: skip
# How often a flag is set.
FLAGS: Final = {"passive": 0.08, "durable": 0.45, "exclusive": 0.08, "auto_delete": 0.12, "internal": 0.05}
FLAGS |= {"nowait": 0.12, "no_ack": 0.3, "multiple": 0.3, "requeue": 0.85, "active": 0.95, "global_": 0.3}
FLAGS |= {"mandatory": 0.2, "immediate": 0.01, "if_unused": 0.15, "if_empty": 0.1, "no_local": 0.1}
EXTREMES: Final = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
MASKS: Final = {"B": 0xFF, "H": 0xFFFF, "I": 0xFFFFFFFF, "Q": 2**64 - 1}
WIDTHS: Final = {"B": 1, "H": 2, "I": 4, "Q": 8}
LOGINS: Final = (
    (b"PLAIN", b"\0guest\0guest"), (b"AMQPLAIN", b"\5LOGINS\0\0\0\5guest\x08PASSWORDS\0\0\0\5guest"),
)  # fmt: skip
CAPABILITIES: Final = b"".join(
    short(name) + b"t\x01"
    for name in (b"consumer_cancel_notify", b"connection.blocked", b"authentication_failure_close")
)
STRANGERS: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x00\x09\x02",
    b"AMQP\x01\x01\x08\x00", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60), b"SSH-2.0-x\r\n", b"AMQ",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 5672\r\n" + PROTOCOL_HEADER, b"PROXY UNKNOWN\r\n" + PROTOCOL_HEADER,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + PROTOCOL_HEADER, b"\x00" * 8, b"\xff" * 4096, b"STOMP\n\n\0",
    b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", b"",
)  # fmt: skip
# Of bodies, octets: about the limits of frames, and so large that few of them fill a share of memory.
SIZES: Final = (0, 0, 1, 5, 5, 40, 40, 200, 4088, 4089, 20_000)
LARGE_SIZES: Final = (9000, 20_000, 30_000)
# Beyond this many deliveries a client that settles nothing is no news.
MOST_TAGS: Final = 64


class Speech(NamedTuple):
    """kind: of input, for the table. octets: what goes to the broker."""

    kind: str
    octets: bytes


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return HEAD(kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, name: str, arguments: bytes = b"") -> bytes:
    return frame(METHOD, channel, FIELDS[name][0] + arguments)

"""The rare methods of a client, packed by hand: any name that fits its field passes, legal or not.

A load generator is also a probe: what to refuse is for the broker to say. `pack_*` functions give payloads of
method frames, `read_*` functions take them. The hot methods (publish, deliver, acknowledgements) are in
`frames`.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error
from typing import Final

FieldValue = int | str | bool

CONNECTION_START: Final = 10 << 16 | 10
CONNECTION_START_OK: Final = 10 << 16 | 11
CONNECTION_SECURE: Final = 10 << 16 | 20
CONNECTION_TUNE: Final = 10 << 16 | 30
CONNECTION_TUNE_OK: Final = 10 << 16 | 31
CONNECTION_OPEN: Final = 10 << 16 | 40
CONNECTION_OPEN_OK: Final = 10 << 16 | 41
CONNECTION_CLOSE: Final = 10 << 16 | 50
CONNECTION_CLOSE_OK: Final = 10 << 16 | 51
CONNECTION_BLOCKED: Final = 10 << 16 | 60
CONNECTION_UNBLOCKED: Final = 10 << 16 | 61
CHANNEL_OPEN: Final = 20 << 16 | 10
CHANNEL_OPEN_OK: Final = 20 << 16 | 11
CHANNEL_FLOW: Final = 20 << 16 | 20
CHANNEL_FLOW_OK: Final = 20 << 16 | 21
CHANNEL_CLOSE: Final = 20 << 16 | 40
CHANNEL_CLOSE_OK: Final = 20 << 16 | 41
EXCHANGE_DECLARE: Final = 40 << 16 | 10
EXCHANGE_DECLARE_OK: Final = 40 << 16 | 11
QUEUE_DECLARE: Final = 50 << 16 | 10
QUEUE_DECLARE_OK: Final = 50 << 16 | 11
QUEUE_BIND: Final = 50 << 16 | 20
QUEUE_BIND_OK: Final = 50 << 16 | 21
BASIC_QOS: Final = 60 << 16 | 10
BASIC_QOS_OK: Final = 60 << 16 | 11
BASIC_CONSUME: Final = 60 << 16 | 20
BASIC_CONSUME_OK: Final = 60 << 16 | 21
BASIC_CANCEL: Final = 60 << 16 | 30
BASIC_PUBLISH: Final = 60 << 16 | 40
CONFIRM_SELECT: Final = 85 << 16 | 10
CONFIRM_SELECT_OK: Final = 85 << 16 | 11

PASSIVE_BIT: Final = 1
DURABLE_BIT: Final = 2
AUTO_DELETE_BIT: Final = 8
NO_ACK_BIT: Final = 2
MANDATORY_BIT: Final = 1

BASIC_CLASS: Final = 60
DELIVERY_MODE_FLAG: Final = 0x1000
TRANSIENT: Final = 1
PERSISTENT: Final = 2

NO_ARGUMENTS: Final[Mapping[str, FieldValue]] = {}

_method = Struct(">I").pack
_u16 = Struct(">H")
_u32 = Struct(">I")
_i64 = Struct(">q").pack
_tune = Struct(">HIH")
_close = Struct(">H")


class UnreadableMethod(Exception):
    """A method's payload ends before its arguments do."""


def short_string(text: str) -> bytes:
    """Raises ValueError above 255 bytes of UTF-8."""
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"{text[:40]!r}... has {len(encoded)} bytes; a name may have 255")
    return bytes((len(encoded),)) + encoded


def long_string(data: bytes) -> bytes:
    return _u32.pack(len(data)) + data


def field_value(value: FieldValue) -> bytes:
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        return b"l" + _i64(value)
    return b"S" + long_string(value.encode())


def field_table(table: Mapping[str, FieldValue]) -> bytes:
    """Booleans, 64-bit integers and strings: all that queue arguments on a command line can be."""
    return long_string(b"".join(short_string(key) + field_value(value) for key, value in table.items()))


def pack_start_ok(product: str, user: str, password: str) -> bytes:
    """SASL PLAIN, with the capabilities that make a broker say why it ends a connection."""
    capabilities = field_table(
        {
            "authentication_failure_close": True,
            "basic.nack": True,
            "connection.blocked": True,
            "consumer_cancel_notify": True,
            "publisher_confirms": True,
        }
    )
    properties = (
        short_string("product") + field_value(product) + short_string("capabilities") + b"F" + capabilities
    )
    response = b"\x00" + user.encode() + b"\x00" + password.encode()
    return b"".join(
        (
            _method(CONNECTION_START_OK),
            long_string(properties),
            short_string("PLAIN"),
            long_string(response),
            short_string("en_US"),
        )
    )


def pack_tune_ok(channel_max: int, frame_max: int, heartbeat: int) -> bytes:
    return _method(CONNECTION_TUNE_OK) + _tune.pack(channel_max, frame_max, heartbeat)


def pack_connection_open(vhost: str) -> bytes:
    return _method(CONNECTION_OPEN) + short_string(vhost) + b"\x00\x00"


def pack_empty(method: int) -> bytes:
    """A method without arguments."""
    return _method(method)


def pack_close(method: int, text: str) -> bytes:
    """connection.close or channel.close with code 200."""
    return _method(method) + _u16.pack(200) + short_string(text) + bytes(4)


def pack_channel_open() -> bytes:
    return _method(CHANNEL_OPEN) + short_string("")


def pack_flow_ok(active: bool) -> bytes:
    return _method(CHANNEL_FLOW_OK) + bytes((active,))


def pack_exchange_declare(name: str, kind: str, flags: int) -> bytes:
    return (
        _method(EXCHANGE_DECLARE)
        + bytes(2)
        + short_string(name)
        + short_string(kind)
        + bytes((flags,))
        + bytes(4)
    )


def pack_queue_declare(name: str, flags: int, arguments: Mapping[str, FieldValue]) -> bytes:
    return _method(QUEUE_DECLARE) + bytes(2) + short_string(name) + bytes((flags,)) + field_table(arguments)


def pack_queue_bind(queue: str, exchange: str, routing_key: str) -> bytes:
    names = short_string(queue) + short_string(exchange) + short_string(routing_key)
    return _method(QUEUE_BIND) + bytes(2) + names + bytes(5)


def pack_qos(prefetch: int, whole_channel: bool) -> bytes:
    return _method(BASIC_QOS) + bytes(4) + _u16.pack(prefetch) + bytes((whole_channel,))


def pack_consume(queue: str, consumer_tag: str, no_ack: bool) -> bytes:
    flags = NO_ACK_BIT if no_ack else 0
    return (
        _method(BASIC_CONSUME)
        + bytes(2)
        + short_string(queue)
        + short_string(consumer_tag)
        + bytes((flags, 0, 0, 0, 0))
    )


def pack_confirm_select() -> bytes:
    return _method(CONFIRM_SELECT) + b"\x00"


def pack_publish(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    flags = MANDATORY_BIT if mandatory else 0
    return (
        _method(BASIC_PUBLISH)
        + bytes(2)
        + short_string(exchange)
        + short_string(routing_key)
        + bytes((flags,))
    )


def pack_content_header(body_size: int, persistent: bool) -> bytes:
    """A content header with a delivery mode and nothing else."""
    mode = PERSISTENT if persistent else TRANSIENT
    return Struct(">HHQHB").pack(BASIC_CLASS, 0, body_size, DELIVERY_MODE_FLAG, mode)


def method_of(payload: bytes) -> int:
    """Class id << 16 | method id."""
    if len(payload) < 4:
        raise UnreadableMethod("a method frame without a method")
    return int.from_bytes(payload[:4], "big")


def _read_short_string(payload: bytes, position: int) -> tuple[str, int]:
    if position >= len(payload) or position + 1 + payload[position] > len(payload):
        raise UnreadableMethod(
            f"method {method_of(payload) >> 16}.{method_of(payload) & 0xFFFF} is cut short"
        )
    end = position + 1 + payload[position]
    return payload[position + 1 : end].decode(errors="replace"), end


def read_name(payload: bytes) -> str:
    """The short string that is the first argument: of queue.declare-ok, basic.cancel, connection.blocked."""
    return _read_short_string(payload, 4)[0]


def read_tune(payload: bytes) -> tuple[int, int, int]:
    """channel_max, frame_max and heartbeat of connection.tune; 0 stands for no limit, no heartbeat."""
    try:
        channel_max, frame_max, heartbeat = _tune.unpack_from(payload, 4)
    except error as short:
        raise UnreadableMethod("connection.tune is cut short") from short
    return channel_max, frame_max, heartbeat


def read_close(payload: bytes) -> tuple[int, str]:
    """Reply code and text of connection.close or channel.close."""
    try:
        (code,) = _close.unpack_from(payload, 4)
    except error as short:
        raise UnreadableMethod("a close method is cut short") from short
    return code, _read_short_string(payload, 6)[0]

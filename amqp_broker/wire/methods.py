"""Methods other than the hot five, to and from the payload of a method frame.

The vocabulary (names, arguments and their types) is pamqp's; the codec is ours, because pamqp refuses names
that are legal, rewrites tables, and cannot say which integer width a client used. A method's table argument
is a `dict[str, Field]` here. Nothing here knows what a method means.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.content.erlang import binary_term
from amqp_broker.content.table import Field, TableError, read_table, write_table
from amqp_broker.errors import FRAME_ERROR, MalformedName, frame_error, not_implemented

FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE
FRAME_END_OCTET: Final = b"\xce"
FRAME_HEAD_SIZE: Final = 7
FRAME_OVERHEAD: Final = 8
FRAME_MIN_SIZE: Final = 4096
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

FRAME_HEAD: Final = Struct(">BHI").pack
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_U64: Final = Struct(">Q")


def method_frame(channel_id: int, method: Method) -> bytes:
    """A whole frame, from type octet to end octet."""
    return payload_frame(FRAME_METHOD, channel_id, encode_method(method))


def snippet(payload: bytes) -> str:
    """How a frame's payload is quoted in an error: `all octets = ...` or `first 16 octets = ...`."""
    if len(payload) <= 16:
        return "all octets = " + binary_term(payload)
    return "first 16 octets = " + binary_term(payload[:16])


def payload_frame(kind: int, channel_id: int, payload: bytes) -> bytes:
    return FRAME_HEAD(kind, channel_id, len(payload)) + payload + FRAME_END_OCTET


def shortstr(text: str) -> bytes:
    """A short string: one octet of length, at most 255 octets of UTF-8."""
    encoded = text.encode("utf-8", "surrogateescape")
    return bytes((len(encoded),)) + encoded


def longstr(data: bytes) -> bytes:
    return _U32.pack(len(data)) + data


def encode_method(method: Method) -> bytes:
    """The payload of a method frame: class id, method id, arguments."""
    parts: list[bytes] = [_U32.pack(method.index)]
    bits: int = 0
    bit_count: int = 0
    for name in method.__slots__:
        kind = method.amqp_type(name)
        value: object = getattr(method, name)
        if kind == "bit":
            if value:
                bits |= 1 << bit_count
            bit_count += 1
            continue
        if bit_count:
            parts.append(bytes((bits,)))
            bits = bit_count = 0
        parts.append(_encode_argument(kind, value))
    if bit_count:
        parts.append(bytes((bits,)))
    return b"".join(parts)


def _encode_argument(kind: str, value: object) -> bytes:
    if kind == "shortstr":
        return shortstr(cast(str, value) if value is not None else "")
    if kind == "longstr":
        return longstr(value.encode() if isinstance(value, str) else cast(bytes, value))
    if kind == "table":
        return write_table(cast("dict[str, Field]", value) if value is not None else {})
    number = cast(int, value) if value is not None else 0
    if kind == "octet":
        return bytes((number,))
    if kind == "short":
        return _U16.pack(number)
    if kind == "long":
        return _U32.pack(number)
    return _U64.pack(number)


def decode_method(payload: bytes) -> Method:
    """The method in a method frame's payload.

    Raises HardError: 540 for a class or method that does not exist, 501 for arguments that cannot be read
    (too short, too long, a name that is not UTF-8, a bad table).
    """
    if len(payload) < 4:
        raise frame_error(f"type {FRAME_METHOD}, all octets = {binary_term(payload)}: unknown_frame")
    index: int = _U32.unpack_from(payload)[0]
    method_class = commands.INDEX_MAPPING.get(index)
    if method_class is None:
        raise not_implemented(f"unknown method {index >> 16}.{index & 0xFFFF}")
    method: Method = method_class()
    try:
        end = _decode_arguments(method, payload)
    except (IndexError, ValueError, TableError):
        end = -1
    if end != len(payload):
        raise frame_error(f"cannot decode {binary_term(payload[4:])}")
    return method


def _decode_arguments(method: Method, payload: bytes) -> int:
    at: int = 4
    bit: int = 0
    for name in method.__slots__:
        kind = method.amqp_type(name)
        if kind == "bit":
            if bit == 8:
                at += 1
                bit = 0
            setattr(method, name, bool(payload[at] >> bit & 1))
            bit += 1
            continue
        if bit:
            at += 1
            bit = 0
        at = _decode_argument(method, name, kind, payload, at)
    return at + 1 if bit else at


def _decode_argument(method: Method, name: str, kind: str, payload: bytes, at: int) -> int:
    if kind == "shortstr":
        end = at + 1 + payload[at]
        if end > len(payload):
            raise IndexError(end)
        try:
            setattr(method, name, payload[at + 1 : end].decode())
        except UnicodeDecodeError:
            raise malformed_utf8() from None
        return end
    if kind == "table":
        table, end = read_table(payload, at)
        setattr(method, name, table)
        return end
    width = _WIDTHS[kind]
    if at + width > len(payload):
        raise IndexError(at + width)
    number = int.from_bytes(payload[at : at + width], "big")
    if kind != "longstr":
        setattr(method, name, number)
        return at + width
    end = at + 4 + number
    if end > len(payload):
        raise IndexError(end)
    setattr(method, name, payload[at + 4 : end])
    return end


_WIDTHS: Final = {"octet": 1, "short": 2, "long": 4, "longlong": 8, "timestamp": 8, "longstr": 4}


def malformed_utf8() -> MalformedName:
    return MalformedName(FRAME_ERROR, "Malformed UTF-8 in shortstr")

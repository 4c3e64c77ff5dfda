"""Schema version 2: how keys and values look in the LMDB databases, and how a batch travels to the writer.

q     queue_id u32, seq u64    an entry: HEAD, extras, then its message or a reference to one in `msg`
lanes queue_id u32, level u8   of each lane of a queue: watermark u64, and how many entries it has u64, with how
                               many octets of bodies u64, how many of them references u64
msg   store_id u64             a message that several queues share, as an entry without extras
defs  kind and key             msgpack of (kind, key, value): see `definitions`
meta  name                     the schema version, the highest queue id, the last batch taken over from the
                               log, the ranges still to be removed

Numbers are big-endian. The top octet of a seq is the level of its lane. HEAD is flags u8 and body_offset u32; the
extras are expiry u64 and deliveries u32, each there if its flag is set. This module touches no file and imports next
to nothing, as the writer process lives on it.
"""

from __future__ import annotations

import struct
from typing import Final

SCHEMA_VERSION: Final = 2

REFERENCE: Final = 1
EXPIRY: Final = 2
DELIVERIES: Final = 4
KNOWN_FLAGS: Final = REFERENCE | EXPIRY | DELIVERIES

MAX_SEQ: Final = (1 << 64) - 1
MAX_QUEUE_ID: Final = (1 << 32) - 1

META: Final = b"meta"
DEFINITIONS: Final = b"defs"
ENTRIES: Final = b"q"
MESSAGES: Final = b"msg"
LANES: Final = b"lanes"

SCHEMA_KEY: Final = b"schema"
QUEUE_ID_KEY: Final = b"queue_id"
LOG_KEY: Final = b"log"
RANGE_PREFIX: Final = b"range"

# Sections of a batch, in the order in which a writer must apply them: what is removed goes first, so that a
# range can never reach an entry of its own batch.
DEFINE: Final = 1
UNDEFINE: Final = 2
COUNTER: Final = 3
DELETE: Final = 4
DELETE_REFERENCE: Final = 5
DELETE_RANGE: Final = 6
DELETE_QUEUE: Final = 7
DELETE_MESSAGES: Final = 8
PUT_MESSAGES: Final = 9
PUT: Final = 10
PUT_REFERENCE: Final = 11
MARK: Final = 12
COUNT: Final = 13

ENTRY_KEY: Final[struct.Struct] = struct.Struct(">IQ")
QUEUE_ID: Final[struct.Struct] = struct.Struct(">I")
LANE_KEY: Final[struct.Struct] = struct.Struct(">IB")
LANE: Final[struct.Struct] = struct.Struct(">QQQQ")
LEVEL_SHIFT: Final = 56
U64: Final[struct.Struct] = struct.Struct(">Q")
HEAD: Final[struct.Struct] = struct.Struct(">BI")
REFERENCE_TAIL: Final[struct.Struct] = struct.Struct(">QQ")
RANGE_KEY: Final[struct.Struct] = struct.Struct(">5sIQ")
_EXPIRY: Final[struct.Struct] = struct.Struct(">Q")
_DELIVERIES: Final[struct.Struct] = struct.Struct(">I")


class Row:
    """One decoded value of `q` or `msg`. A reference has a store_id and a body_size, and empty bytes."""

    __slots__ = ("address", "body", "body_size", "deliveries", "expiry", "header", "store_id")

    def __init__(self) -> None:
        self.address: bytes = b""
        self.header: bytes = b""
        self.body: bytes = b""
        self.body_size: int = 0
        self.deliveries: int = 0
        self.expiry: int = 0
        self.store_id: int = 0


def encode_extras(expiry: int, deliveries: int) -> tuple[int, bytes]:
    """Flags and bytes for what an entry has beside its message; expiry in milliseconds since the epoch."""
    flags = 0
    extras = b""
    if expiry:
        flags |= EXPIRY
        extras += _EXPIRY.pack(expiry)
    if deliveries:
        flags |= DELIVERIES
        extras += _DELIVERIES.pack(min(deliveries, 0xFFFFFFFF))
    return flags, extras


def encode_reference(flags: int, extras: bytes, store_id: int, body_size: int) -> bytes:
    """The value of an entry whose message lies in `msg`."""
    head = HEAD.pack(flags | REFERENCE, HEAD.size + len(extras) + REFERENCE_TAIL.size)
    return head + extras + REFERENCE_TAIL.pack(store_id, body_size)


def body_size(value: bytes | memoryview) -> tuple[int, int]:
    """Of an entry: the octets of its body, and whether it is a reference (1) or not (0)."""
    flags, body_offset = HEAD.unpack_from(value)
    if flags & REFERENCE:
        return REFERENCE_TAIL.unpack_from(value, body_offset - REFERENCE_TAIL.size)[1], 1
    return len(value) - body_offset, 0


def with_deliveries(value: bytes, deliveries: int) -> bytes:
    """The value of the same entry with another count of deliveries."""
    flags, body_offset = HEAD.unpack_from(value)
    at = HEAD.size + (_EXPIRY.size if flags & EXPIRY else 0)
    rest = at + (_DELIVERIES.size if flags & DELIVERIES else 0)
    count = _DELIVERIES.pack(min(deliveries, 0xFFFFFFFF))
    head = HEAD.pack(flags | DELIVERIES, body_offset + at + len(count) - rest)
    return head + value[HEAD.size : at] + count + value[rest:]


def decode_row(value: bytes | memoryview) -> Row:
    """Read a value of `q` or `msg`; raises ValueError for flags of a later schema or a value cut short."""
    row = Row()
    flags, body_offset = HEAD.unpack_from(value)
    if flags & ~KNOWN_FLAGS:
        raise ValueError(f"unknown entry flags {flags:#x}")
    at = HEAD.size
    if flags & EXPIRY:
        row.expiry = _EXPIRY.unpack_from(value, at)[0]
        at += _EXPIRY.size
    if flags & DELIVERIES:
        row.deliveries = _DELIVERIES.unpack_from(value, at)[0]
        at += _DELIVERIES.size
    if flags & REFERENCE:
        row.store_id, row.body_size = REFERENCE_TAIL.unpack_from(value, at)
        return row
    if not at < body_offset <= len(value):
        raise ValueError("entry cut short")
    key_at = at + 1 + value[at]
    header_at = key_at + 1 + value[key_at]
    row.address = bytes(value[at:header_at])
    row.header = bytes(value[header_at:body_offset])
    row.body = bytes(value[body_offset:])
    row.body_size = len(row.body)
    return row

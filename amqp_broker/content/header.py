"""Content headers (AMQP 0-9-1 section 4.2.6): the size and the properties of a message.

A `ContentHeader` keeps the payload of the header frame as it was received, because that is what consumers
get; it checks every property once and notes the few that routing and queues ask for. Everything else is found
again on demand. A changed header is a new one, in which the properties that did not change keep their bytes.
Messages share headers, so nothing here changes one, and nothing here knows about frames or channels.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import Final, TypeAlias

from amqp_broker.content.table import Field, TableError, check_table, read_table, write_table

CLASS_BASIC: Final = 60
FIXED_SIZE: Final = 14

CONTENT_TYPE: Final = 1 << 15
CONTENT_ENCODING: Final = 1 << 14
HEADERS: Final = 1 << 13
DELIVERY_MODE: Final = 1 << 12
PRIORITY: Final = 1 << 11
CORRELATION_ID: Final = 1 << 10
REPLY_TO: Final = 1 << 9
EXPIRATION: Final = 1 << 8
MESSAGE_ID: Final = 1 << 7
TIMESTAMP: Final = 1 << 6
TYPE: Final = 1 << 5
USER_ID: Final = 1 << 4
APP_ID: Final = 1 << 3
CLUSTER_ID: Final = 1 << 2

PROPERTY_NAMES: Final[dict[int, str]] = {
    CONTENT_TYPE: "content_type",
    CONTENT_ENCODING: "content_encoding",
    HEADERS: "headers",
    DELIVERY_MODE: "delivery_mode",
    PRIORITY: "priority",
    CORRELATION_ID: "correlation_id",
    REPLY_TO: "reply_to",
    EXPIRATION: "expiration",
    MESSAGE_ID: "message_id",
    TIMESTAMP: "timestamp",
    TYPE: "type",
    USER_ID: "user_id",
    APP_ID: "app_id",
    CLUSTER_ID: "cluster_id",
}

PropertyValue: TypeAlias = "bytes | int | dict[str, Field] | None"

# How many headers one memory of rewritten headers holds, and how long a header is at most, in octets, to be held.
MOST_REWRITTEN: Final = 64
LONGEST_REWRITTEN: Final = 4096
# The same of one memory of parsed headers.
MOST_KNOWN: Final = 256
LONGEST_KNOWN: Final = 512

_CONTINUED: Final = 1
_LATER: Final = 0x07FC  # CORRELATION_ID and everything after it
_OCTETS: Final = DELIVERY_MODE | PRIORITY
_FIXED: Final = Struct(">HHQH")
_TIMESTAMP: Final = Struct(">Q")


class HeaderError(ValueError):
    """The payload is not a content header, or a property does not fit into one; the text says why."""


class ContentHeader:
    """One content header. Made by `parse_header`, `build_header` and `rebuilt`; not changed afterwards.

    payload: the payload of the header frame. body_size: octets. flags: the property flags, whose bits are the
    constants of this module. delivery_mode, priority: 0 if absent. expiration: as sent, None if absent.
    """

    __slots__ = (
        "_headers",
        "_headers_at",
        "body_size",
        "delivery_mode",
        "expiration",
        "flags",
        "payload",
        "priority",
    )

    def __init__(self, payload: bytes, body_size: int, flags: int) -> None:
        self.payload: bytes = payload
        self.body_size: int = body_size
        self.flags: int = flags
        self.delivery_mode: int = 0
        self.priority: int = 0
        self.expiration: bytes | None = None
        self._headers_at: int = 0
        self._headers: dict[str, Field] | None = None

    @property
    def has_headers(self) -> bool:
        """Whether there is a headers table, be it an empty one."""
        return self._headers_at > 0

    def headers(self) -> dict[str, Field]:
        """The headers table, empty if there is none; shared by all who ask, so not to be changed."""
        found = self._headers
        if found is None:
            found = read_table(self.payload, self._headers_at)[0] if self._headers_at else {}
            self._headers = found
        return found

    def forget_headers(self) -> None:
        """Keep the headers table as octets only, for a message that may wait for long; `headers` reads it again."""
        self._headers = None

    def short_string(self, bit: int) -> bytes | None:
        """A short string property, CONTENT_TYPE for one; None if absent."""
        if not self.flags & bit:
            return None
        start, end = _spans(self)[bit]
        return self.payload[start + 1 : end]

    def content_type(self) -> bytes | None:
        return self.short_string(CONTENT_TYPE)

    def correlation_id(self) -> bytes | None:
        return self.short_string(CORRELATION_ID)

    def reply_to(self) -> bytes | None:
        return self.short_string(REPLY_TO)

    def message_id(self) -> bytes | None:
        return self.short_string(MESSAGE_ID)

    def user_id(self) -> bytes | None:
        return self.short_string(USER_ID)

    def timestamp(self) -> int | None:
        """Seconds since the epoch; None if absent."""
        if not self.flags & TIMESTAMP:
            return None
        start, end = _spans(self)[TIMESTAMP]
        return int.from_bytes(self.payload[start:end], "big")

    def properties(self) -> dict[str, PropertyValue]:
        """The properties that are present, in wire order, by name (PROPERTY_NAMES).

        Short strings are bytes, delivery_mode, priority and timestamp int, headers the table.
        """
        found: dict[str, PropertyValue] = {}
        for bit, (start, end) in _spans(self).items():
            name = PROPERTY_NAMES[bit]
            if bit == HEADERS:
                found[name] = self.headers()
            elif bit & _OCTETS or bit == TIMESTAMP:
                found[name] = int.from_bytes(self.payload[start:end], "big")
            else:
                found[name] = self.payload[start + 1 : end]
        return found


def parse_header(payload: bytes) -> ContentHeader:
    """Check a header frame's payload and note what is asked for often.

    Every property has to end within the payload, and the last one at its end; the headers table is checked to
    its depths, so that no consumer gets one it cannot read. The class and the weight are not looked at.
    Raises HeaderError, also for flags that announce more flags; the other spare bit means nothing.
    """
    size = len(payload)
    if size < FIXED_SIZE:
        raise HeaderError(f"content header of {size} octets is cut short")
    flags = (payload[12] << 8) | payload[13]
    body_size = (payload[8] << 24) | (payload[9] << 16) | (payload[10] << 8) | payload[11]
    if payload[7] or payload[6] or payload[5] or payload[4]:
        body_size += int.from_bytes(payload[4:8], "big") << 32
    header = ContentHeader(payload, body_size, flags)
    if flags == DELIVERY_MODE and size == FIXED_SIZE + 1:
        header.delivery_mode = payload[FIXED_SIZE]
        return header
    if flags & _CONTINUED:
        raise HeaderError(f"property flags {flags:#06x} announce more flags")
    end = _note_properties(header, payload, flags, size)
    if end != size:
        raise HeaderError(f"properties end at octet {end} of {size}")
    return header


def _note_properties(header: ContentHeader, payload: bytes, flags: int, size: int) -> int:
    """Walk the properties; returns where they end."""
    position = FIXED_SIZE
    if flags & CONTENT_TYPE:
        position = _string_end(payload, position, size)
    if flags & CONTENT_ENCODING:
        position = _string_end(payload, position, size)
    if flags & HEADERS:
        header._headers_at = position
        position = _table_end(payload, position, size)
    if flags & DELIVERY_MODE:
        position = _fixed_end(position, 1, size)
        header.delivery_mode = payload[position - 1]
    if flags & PRIORITY:
        position = _fixed_end(position, 1, size)
        header.priority = payload[position - 1]
    return _note_later_properties(header, flags, position) if flags & _LATER else position


def _note_later_properties(header: ContentHeader, flags: int, position: int) -> int:
    """Walk on from the correlation id, which most messages do not."""
    payload = header.payload
    size = len(payload)
    if flags & CORRELATION_ID:
        position = _string_end(payload, position, size)
    if flags & REPLY_TO:
        position = _string_end(payload, position, size)
    if flags & EXPIRATION:
        start = position + 1
        position = _string_end(payload, position, size)
        header.expiration = payload[start:position]
    if flags & MESSAGE_ID:
        position = _string_end(payload, position, size)
    if flags & TIMESTAMP:
        position = _fixed_end(position, 8, size)
    if flags & TYPE:
        position = _string_end(payload, position, size)
    if flags & USER_ID:
        position = _string_end(payload, position, size)
    if flags & APP_ID:
        position = _string_end(payload, position, size)
    if flags & CLUSTER_ID:
        position = _string_end(payload, position, size)
    return position


def _string_end(payload: bytes, position: int, size: int) -> int:
    if position < size:
        end = position + 1 + payload[position]
        if end <= size:
            return end
    raise HeaderError(f"property at octet {position} is cut short")


def _fixed_end(position: int, width: int, size: int) -> int:
    if position + width > size:
        raise HeaderError(f"property at octet {position} is cut short")
    return position + width


def _table_end(payload: bytes, position: int, size: int) -> int:
    try:
        return check_table(payload, position, size)
    except TableError as error:
        raise HeaderError(f"headers: {error}") from error


def _spans(header: ContentHeader) -> dict[int, tuple[int, int]]:
    """Where each property that is present begins and ends, in wire order."""
    payload, flags = header.payload, header.flags
    spans: dict[int, tuple[int, int]] = {}
    start = FIXED_SIZE
    for bit in PROPERTY_NAMES:
        if flags & bit:
            if bit & _OCTETS:
                end = start + 1
            elif bit == TIMESTAMP:
                end = start + 8
            elif bit == HEADERS:
                end = start + 4 + int.from_bytes(payload[start : start + 4], "big")
            else:
                end = start + 1 + payload[start]
            spans[bit] = (start, end)
            start = end
    return spans


def build_header(body_size: int, properties: dict[int, PropertyValue]) -> ContentHeader:
    """A header made here; properties by flag bit, as for `rebuilt`. Raises HeaderError."""
    return rebuilt(parse_header(_FIXED.pack(CLASS_BASIC, 0, body_size, 0)), properties)


def rebuilt(header: ContentHeader, changes: dict[int, PropertyValue]) -> ContentHeader:
    """The header with some properties replaced, added or (None) removed; all others keep their bytes.

    changes: by flag bit; bytes for a short string, int for delivery mode, priority and timestamp, a table for
    headers. Raises HeaderError for a value that does not fit.
    """
    spans = _spans(header)
    flags = 0
    parts: list[bytes] = []
    for bit in PROPERTY_NAMES:
        if bit in changes:
            value = changes[bit]
            if value is not None:
                flags |= bit
                parts.append(_encode_property(bit, value))
        elif bit in spans:
            flags |= bit
            start, end = spans[bit]
            parts.append(header.payload[start:end])
    return parse_header(header.payload[:12] + flags.to_bytes(2, "big") + b"".join(parts))


def with_headers(header: ContentHeader, headers: dict[str, Field] | None) -> ContentHeader:
    """The header with another headers table, or (None) without one."""
    return rebuilt(header, {HEADERS: headers})


def without_expiration(header: ContentHeader) -> ContentHeader:
    """The header without its expiration; itself if it has none."""
    return rebuilt(header, {EXPIRATION: None}) if header.flags & EXPIRATION else header


class KnownHeaders:
    """Headers by what was received, so that messages that come from the disk one after the other share theirs too."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, ContentHeader] = {}

    def __len__(self) -> int:
        return len(self._known)

    def parsed(self, payload: bytes) -> ContentHeader:
        """As `parse_header`, but perhaps one that others have. Raises HeaderError."""
        header = self._known.get(payload)
        if header is None:
            header = parse_header(payload)
            if len(payload) <= LONGEST_KNOWN:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[payload] = header
        return header


class Rewritten:
    """A few headers with what each was rewritten to, so that messages that share a header go on sharing one.

    A header is found by itself and a number that tells one way of rewriting it from another. Another header is never
    taken for it, be its octets the same: headers are compared as objects, and those that are known stay alive.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[ContentHeader, int], ContentHeader] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, header: ContentHeader, number: int) -> ContentHeader | None:
        return self._known.get((header, number))

    def keep(self, header: ContentHeader, number: int, rewritten: ContentHeader) -> None:
        """Find it from now on, unless it is long. The headers table that was read for it is not needed any more."""
        header.forget_headers()
        if len(rewritten.payload) > LONGEST_REWRITTEN:
            return
        if len(self._known) >= MOST_REWRITTEN:
            self._known.clear()
        self._known[header, number] = rewritten


def _encode_property(bit: int, value: bytes | int | dict[str, Field]) -> bytes:
    try:
        if bit == HEADERS:
            if isinstance(value, dict):
                return write_table(value)
        elif bit & _OCTETS:
            if isinstance(value, int):
                return bytes((value,))
        elif bit == TIMESTAMP:
            if isinstance(value, int):
                return _TIMESTAMP.pack(value)
        elif isinstance(value, bytes):
            return bytes((len(value),)) + value
    except (ValueError, struct.error) as error:
        raise HeaderError(f"{PROPERTY_NAMES[bit]}: {error}") from error
    raise HeaderError(f"{PROPERTY_NAMES[bit]}: not a {type(value).__name__}")

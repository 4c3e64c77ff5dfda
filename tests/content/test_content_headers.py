"""Content headers: what is noted of the properties, what is refused, and that changes touch nothing else."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.header import ContentHeader as PamqpHeader

from amqp_broker.content import header as content
from amqp_broker.content.header import (
    HeaderError,
    PropertyValue,
    build_header,
    parse_header,
    rebuilt,
    with_headers,
    without_expiration,
)
from amqp_broker.content.table import Field, plain_table, table_of, write_table

EVERYTHING: dict[int, PropertyValue] = {
    content.CONTENT_TYPE: b"text/plain",
    content.CONTENT_ENCODING: b"gzip",
    content.HEADERS: table_of({"z": 1, "a": {"deep": [1.5, None]}}),
    content.DELIVERY_MODE: 2,
    content.PRIORITY: 9,
    content.CORRELATION_ID: b"c-1",
    content.REPLY_TO: b"replies",
    content.EXPIRATION: b"60000",
    content.MESSAGE_ID: b"m-1",
    content.TIMESTAMP: 1700000000,
    content.TYPE: b"order",
    content.USER_ID: b"guest",
    content.APP_ID: b"shop",
    content.CLUSTER_ID: b"",
}


def payload(flags: int, properties: bytes, body_size: int = 0) -> bytes:
    return struct.pack(">HHQH", 60, 0, body_size, flags) + properties


# Reading


def test_a_persistent_message_without_other_properties() -> None:
    header = parse_header(payload(0x1000, b"\2", 100))
    assert (header.delivery_mode, header.priority, header.expiration) == (2, 0, None)
    assert (header.body_size, header.flags, header.has_headers) == (100, 0x1000, False)
    assert header.headers() == {}
    assert header.properties() == {"delivery_mode": 2}


def test_no_properties_at_all() -> None:
    header = parse_header(payload(0, b""))
    assert (header.delivery_mode, header.priority, header.expiration) == (0, 0, None)
    assert (header.reply_to(), header.user_id(), header.timestamp()) == (None, None, None)
    assert header.properties() == {}


def test_golden_bytes_of_every_property() -> None:
    header = build_header(0x1_0000_0002, EVERYTHING)
    assert header.payload == bytes.fromhex("003c 0000 0000000100000002 fffc") + b"".join(
        [
            b"\x0atext/plain\4gzip",
            write_table(table_of({"z": 1, "a": {"deep": [1.5, None]}})),
            b"\2\x09\3c-1\7replies\00560000\3m-1",
            struct.pack(">Q", 1700000000),
            b"\5order\5guest\4shop\0",
        ]
    )


def test_every_property_is_found() -> None:
    header = parse_header(build_header(0x1_0000_0002, EVERYTHING).payload)
    assert header.body_size == 0x1_0000_0002
    assert (header.delivery_mode, header.priority, header.expiration) == (2, 9, b"60000")
    assert header.has_headers
    assert plain_table(header.headers()) == {"z": 1, "a": {"deep": [1.5, None]}}
    assert header.headers() is header.headers()
    assert header.content_type() == b"text/plain"
    assert header.correlation_id() == b"c-1"
    assert header.reply_to() == b"replies"
    assert header.message_id() == b"m-1"
    assert header.user_id() == b"guest"
    assert header.timestamp() == 1700000000
    assert header.short_string(content.CLUSTER_ID) == b""
    assert list(header.properties()) == list(content.PROPERTY_NAMES.values())
    assert list(header.properties().values()) == list(EVERYTHING.values())


def test_an_empty_headers_table_is_there() -> None:
    header = parse_header(payload(content.HEADERS, bytes(4)))
    assert header.has_headers
    assert header.headers() == {}


@pytest.mark.parametrize("size", [0, 1, 255, 1 << 16, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_body_sizes_of_all_lengths(size: int) -> None:
    assert parse_header(payload(0x1000, b"\1", size)).body_size == size


# Refusing


def test_a_header_cut_anywhere_is_refused() -> None:
    whole = build_header(0, EVERYTHING).payload
    for length in range(len(whole)):
        with pytest.raises(HeaderError):
            parse_header(whole[:length])


@pytest.mark.parametrize("bit", content.PROPERTY_NAMES)
def test_each_property_alone_cut_anywhere_is_refused(bit: int) -> None:
    whole = build_header(0, {bit: EVERYTHING[bit]}).payload
    assert parse_header(whole).flags == bit
    for length in range(14, len(whole)):
        with pytest.raises(HeaderError):
            parse_header(whole[:length])


@pytest.mark.parametrize("bit", content.PROPERTY_NAMES)
def test_octets_after_the_last_property_are_refused(bit: int) -> None:
    with pytest.raises(HeaderError, match="properties end at octet"):
        parse_header(build_header(0, {bit: EVERYTHING[bit]}).payload + b"\0")


@pytest.mark.parametrize("flags", [0x0001, 0x1001, 0xFFFF])
def test_flags_that_announce_more_flags_are_refused(flags: int) -> None:
    with pytest.raises(HeaderError, match="announce more flags"):
        parse_header(payload(flags, b"\2"))


def test_the_flag_bit_that_no_property_owns_means_nothing() -> None:
    assert parse_header(payload(0x1002, b"\2")).delivery_mode == 2


def test_a_headers_table_that_no_consumer_could_read_is_refused() -> None:
    table = b"\1aF\0\0\0\3\1b?"
    with pytest.raises(HeaderError, match="headers: unknown type tag 63"):
        parse_header(payload(content.HEADERS, struct.pack(">I", len(table)) + table))


# Changing


def test_removing_the_expiration_keeps_every_other_byte() -> None:
    header = build_header(5, EVERYTHING)
    changed = without_expiration(header)
    assert changed.expiration is None
    assert changed.payload == header.payload.replace(b"\00560000", b"").replace(b"\xff\xfc", b"\xfe\xfc", 1)
    assert header.expiration == b"60000"


def test_a_header_without_expiration_needs_no_change() -> None:
    header = build_header(5, {content.DELIVERY_MODE: 2})
    assert without_expiration(header) is header


def test_other_headers_replace_the_table_and_nothing_else() -> None:
    header = build_header(5, EVERYTHING)
    changed = with_headers(header, table_of({"x-death": []}))
    assert plain_table(changed.headers()) == {"x-death": []}
    assert changed.properties() | {"headers": None} == header.properties() | {"headers": None}
    assert changed.body_size == 5


def test_forgotten_headers_are_read_again() -> None:
    header = build_header(5, EVERYTHING)
    found = header.headers()
    assert header.headers() is found
    header.forget_headers()
    assert header.headers() is not found
    assert header.headers() == found


def test_headers_can_be_added_and_removed() -> None:
    header = build_header(5, {content.PRIORITY: 3})
    added = with_headers(header, table_of({"a": 1}))
    assert added.has_headers
    assert with_headers(added, None).payload == header.payload


@pytest.mark.parametrize(
    ("bit", "value"),
    [
        (content.TYPE, b"x" * 256),
        (content.TYPE, 5),
        (content.PRIORITY, 256),
        (content.PRIORITY, b"5"),
        (content.TIMESTAMP, -1),
        (content.TIMESTAMP, b"5"),
        (content.HEADERS, {"n" * 256: Field("V", None)}),
        (content.HEADERS, b"5"),
    ],
)
def test_a_value_that_does_not_fit_its_property_is_refused(bit: int, value: PropertyValue) -> None:
    with pytest.raises(HeaderError, match=content.PROPERTY_NAMES[bit]):
        build_header(0, {bit: value})


SHORT_STRINGS = st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode)
PROPERTY_SETS = st.fixed_dictionaries(
    {},
    optional={
        bit: st.just(value)
        if bit == content.HEADERS
        else st.integers(0, 255)
        if bit in (content.DELIVERY_MODE, content.PRIORITY)
        else st.integers(0, (1 << 64) - 1)
        if bit == content.TIMESTAMP
        else SHORT_STRINGS
        for bit, value in EVERYTHING.items()
    },
)


@given(PROPERTY_SETS, PROPERTY_SETS)
def test_changes_replace_exactly_what_they_name(
    before: dict[int, PropertyValue], changes: dict[int, PropertyValue]
) -> None:
    changed = rebuilt(build_header(7, before), changes)
    assert changed.payload == build_header(7, before | changes).payload


@given(PROPERTY_SETS, st.sets(st.sampled_from(list(content.PROPERTY_NAMES))))
def test_removing_leaves_exactly_the_rest(before: dict[int, PropertyValue], removed: set[int]) -> None:
    changed = rebuilt(build_header(7, before), dict.fromkeys(removed))
    rest = {bit: value for bit, value in before.items() if bit not in removed}
    assert changed.payload == build_header(7, rest).payload


# pamqp is the oracle

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
PAMQP_PROPERTIES = st.builds(
    commands.Basic.Properties,
    content_type=st.none() | TEXT,
    content_encoding=st.none() | TEXT,
    headers=st.none() | st.dictionaries(NAMES, st.integers(-5, 1 << 40) | TEXT, min_size=1, max_size=3),
    delivery_mode=st.none() | st.integers(1, 2),
    priority=st.none() | st.integers(0, 9),
    correlation_id=st.none() | TEXT,
    reply_to=st.none() | TEXT,
    expiration=st.none() | st.integers(0, 10**9).map(str),
    message_id=st.none() | TEXT,
    timestamp=st.none() | st.integers(0, 1 << 31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    message_type=st.none() | TEXT,
    user_id=st.none() | TEXT,
    app_id=st.none() | TEXT,
)


def as_pamqp_names(properties: dict[str, PropertyValue]) -> dict[str, object]:
    named: dict[str, object] = {}
    for name, value in properties.items():
        if isinstance(value, dict):
            named[name] = plain_table(value)
        elif name == "timestamp" and isinstance(value, int):
            named[name] = datetime.fromtimestamp(value, UTC)
        else:
            named["message_type" if name == "type" else name] = (
                value.decode() if isinstance(value, bytes) else value
            )
    return named


@given(PAMQP_PROPERTIES, st.integers(0, (1 << 63) - 1))
def test_what_pamqp_writes_is_read_as_the_same_properties(
    properties: commands.Basic.Properties, body_size: int
) -> None:
    header = parse_header(PamqpHeader(0, body_size, properties).marshal())
    assert header.body_size == body_size
    expected = {name: value for name, value in dict(properties).items() if value not in (None, "")}
    assert as_pamqp_names(header.properties()) == expected
    assert header.delivery_mode == (properties.delivery_mode or 0)
    assert header.priority == (properties.priority or 0)
    assert (header.expiration or b"").decode() == (properties.expiration or "")


@given(PAMQP_PROPERTIES)
def test_what_is_built_pamqp_reads(properties: commands.Basic.Properties) -> None:
    given_header = parse_header(PamqpHeader(0, 9, properties).marshal())
    bits = {name: bit for bit, name in content.PROPERTY_NAMES.items()}
    built = build_header(9, {bits[name]: value for name, value in given_header.properties().items()})
    read = PamqpHeader()
    read.unmarshal(built.payload)
    assert read.properties == properties
    assert read.body_size == 9

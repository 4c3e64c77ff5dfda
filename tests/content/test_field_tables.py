"""Field tables: the same bytes back, the values pamqp sees, and no trust in what arrives."""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode as pamqp_decode
from pamqp import encode as pamqp_encode

from amqp_broker.content.table import (
    TYPE_NAMES,
    Field,
    TableError,
    check_table,
    encode_field,
    field_of,
    plain,
    plain_table,
    read_entries,
    read_table,
    table_of,
    write_table,
)

VALUE_BY_KIND = {
    "A": "0000000a 4900000001 5300000000",
    "B": "ff",
    "D": "02 0000abcd",
    "F": "00000007 0161 4900000001",
    "I": "fffffffe",
    "L": "8000000000000000",
    "S": "00000003 616263",
    "T": "000000006553f100",
    "V": "",
    "b": "80",
    "d": "3ff8000000000000",
    "f": "3fc00000",
    "i": "fffffffe",
    "l": "ffffffffffffffff",
    "s": "fffe",
    "t": "01",
    "u": "fffe",
    "x": "00000002 00ff",
}
READ_AS = {
    "A": [1, ""],
    "B": 255,
    "D": (2, 0xABCD),
    "F": {"a": 1},
    "I": -2,
    "L": -(1 << 63),
    "S": "abc",
    "T": 1700000000,
    "V": None,
    "b": -128,
    "d": 1.5,
    "f": 1.5,
    "i": 0xFFFFFFFE,
    "l": -1,
    "s": -2,
    "t": True,
    "u": 0xFFFE,
    "x": b"\x00\xff",
}


def table_bytes(entries: bytes) -> bytes:
    return struct.pack(">I", len(entries)) + entries


def entry(kind: str) -> bytes:
    return b"\1k" + kind.encode() + bytes.fromhex(VALUE_BY_KIND[kind])


def everything() -> bytes:
    entries = b"".join(
        bytes([len(name)]) + name.encode() + kind.encode() + bytes.fromhex(VALUE_BY_KIND[kind])
        for kind, name in TYPE_NAMES.items()
        if name != "long" or kind == "l"
    )
    return table_bytes(entries + b"\5inner" + b"F" + table_bytes(entries))


@pytest.mark.parametrize("kind", TYPE_NAMES)
def test_each_type_is_read_as_its_value_and_written_as_the_same_bytes(kind: str) -> None:
    data = table_bytes(entry(kind))
    table, end = read_table(data, 0)
    assert end == len(data) == check_table(data, 0, len(data))
    assert table["k"].kind == kind
    assert plain_table(table) == {"k": READ_AS[kind]}
    assert write_table(table) == data


def test_golden_bytes_of_a_small_table() -> None:
    table = table_of({"b": "x", "a": 1, "n": None})
    assert write_table(table) == bytes.fromhex("00000012 0162 53 00000001 78 0161 49 00000001 016e 56")


def test_entries_keep_their_order() -> None:
    table = table_of({"z": 1, "a": 2, "m": 3})
    assert list(read_table(write_table(table), 0)[0]) == ["z", "a", "m"]


def test_a_table_is_read_where_it_stands_and_says_where_it_ends() -> None:
    data = b"before" + table_bytes(entry("S")) + b"after"
    table, end = read_table(data, 6)
    assert plain_table(table) == {"k": "abc"}
    assert data[end:] == b"after"


def test_entries_without_a_length_are_a_table_too() -> None:
    assert plain_table(read_entries(entry("S"))) == {"k": "abc"}


def test_of_entries_with_one_name_the_first_counts() -> None:
    table, _ = read_table(table_bytes(b"\1k" + b"t\1" + b"\1k" + b"t\0"), 0)
    assert plain_table(table) == {"k": True}


def test_names_may_be_any_octets_and_empty() -> None:
    data = table_bytes(b"\2\xff\xfeV" + b"\0V" + b"\2\xc3\xa9V")
    table, _ = read_table(data, 0)
    assert list(table) == ["\udcff\udcfe", "", "é"]
    assert write_table(table) == data


@pytest.mark.parametrize("bits", [0x7F800001, 0xFFC00001, 0x7FBFFFFF, 0xFF800000, 0x80000000, 0x3F8CCCCD, 1])
def test_every_bit_of_a_float_survives(bits: int) -> None:
    data = table_bytes(b"\1kf" + struct.pack(">I", bits))
    assert write_table(read_table(data, 0)[0]) == data


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0xFFF8000000000001, 0x3FF199999999999A, 1])
def test_every_bit_of_a_double_survives(bits: int) -> None:
    data = table_bytes(b"\1kd" + struct.pack(">Q", bits))
    assert write_table(read_table(data, 0)[0]) == data


def test_a_nan_that_has_no_bits_in_a_float_stays_a_nan() -> None:
    (narrow,) = struct.unpack(">d", struct.pack(">Q", 0x7FF0000000000001))
    (written,) = struct.unpack(">f", encode_field(Field("f", narrow))[1:])
    assert math.isnan(written)


# What must be refused


def assert_reading_and_checking_agree(data: bytes) -> None:
    try:
        table, end = read_table(data, 0)
    except TableError as error:
        with pytest.raises(TableError, match=re.escape(str(error))):
            check_table(data, 0, len(data))
    else:
        assert check_table(data, 0, len(data)) == end
        again = write_table(table)
        assert write_table(read_table(again, 0)[0]) == again


def test_a_table_cut_anywhere_is_refused() -> None:
    whole = everything()
    for length in range(len(whole)):
        with pytest.raises(TableError):
            read_table(whole[:length], 0)
        with pytest.raises(TableError):
            check_table(whole[:length], 0, length)


def test_reading_and_checking_agree_on_a_table_that_has_lost_its_end() -> None:
    entries = everything()[4:]
    for length in range(len(entries)):
        assert_reading_and_checking_agree(table_bytes(entries[:length]))


@given(st.binary(max_size=60), st.integers(0, 60))
def test_reading_and_checking_agree_on_any_bytes(noise: bytes, at: int) -> None:
    data = everything()
    assert_reading_and_checking_agree(data[:at] + noise + data[at + len(noise) :])


def test_an_unknown_tag_is_refused() -> None:
    for tag in set(range(256)) - {ord(kind) for kind in TYPE_NAMES}:
        data = table_bytes(b"\1k" + bytes([tag]) + bytes(8))
        with pytest.raises(TableError, match=f"unknown type tag {tag} at octet 6"):
            read_table(data, 0)
        with pytest.raises(TableError, match=f"unknown type tag {tag} at octet 6"):
            check_table(data, 0, len(data))


def test_an_inner_length_cannot_reach_into_what_follows_its_container() -> None:
    data = table_bytes(b"\1aF" + table_bytes(b"\1sS" + struct.pack(">I", 2) + b"x") + b"\1bV")
    with pytest.raises(TableError, match="1 octets too far"):
        read_table(data, 0)


def test_a_table_has_to_end_by_the_limit() -> None:
    data = table_bytes(entry("S"))
    with pytest.raises(TableError):
        check_table(data, 0, len(data) - 1)


@pytest.mark.parametrize(
    "field",
    [
        Field("I", 1 << 31),
        Field("i", -1),
        Field("b", 128),
        Field("B", 256),
        Field("l", 1 << 63),
        Field("T", -1),
        Field("D", (256, 0)),
        Field("f", 1e300),
        Field("I", 1.5),
        Field("S", None),
        Field("t", 1),
        Field("?", 1),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_not_written(field: Field) -> None:
    with pytest.raises(TableError):
        write_table({"k": field})


def test_a_name_of_256_octets_is_not_written() -> None:
    assert len(write_table({"n" * 255: Field("V", None)})) == 4 + 1 + 255 + 1
    with pytest.raises(TableError, match="256 octets"):
        write_table({"é" * 128: Field("V", None)})


# Depth


def test_a_hundred_thousand_nested_tables_are_read_checked_compared_and_written() -> None:
    innermost: dict[str, Field] = {}
    table = innermost
    for _ in range(100_000):
        table = {"k": Field("F", table)}
    data = write_table(table)
    assert len(data) == 4 + 7 * 100_000
    assert check_table(data, 0, len(data)) == len(data)
    found, _ = read_table(data, 0)
    assert Field("F", found) == Field("F", table)
    value = plain(Field("F", found))
    depth = 0
    while isinstance(value, dict) and value:
        value = value["k"]
        depth += 1
    assert depth == 100_000


def test_a_hundred_thousand_nested_arrays_are_read_and_written() -> None:
    array = Field("A", [])
    for _ in range(100_000):
        array = Field("A", [array])
    data = write_table({"k": array})
    assert write_table(read_table(data, 0)[0]) == data
    assert "<1 entries>" in repr(array)


# Fields and Python values


def test_fields_are_equal_when_they_are_the_same_on_the_wire() -> None:
    assert Field("I", 1) == Field("I", 1)
    assert hash(Field("I", 1)) == hash(Field("I", 1))
    assert Field("I", 1) != Field("l", 1)
    assert Field("d", 0.0) != Field("d", -0.0)
    assert Field("d", math.nan) == Field("d", math.nan)
    assert Field("A", [Field("I", 1)]) != Field("A", [Field("I", 2)])
    assert Field("I", 1) != 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "t"),
        (1, "I"),
        (-(1 << 31), "I"),
        (1 << 31, "l"),
        (1.0, "d"),
        ("é", "S"),
        (b"\xff", "x"),
        (None, "V"),
        ({"a": {"b": 1}}, "F"),
        ([1, [2, "x"], {}], "A"),
    ],
)
def test_a_python_value_becomes_the_usual_type_and_comes_back(value: object, kind: str) -> None:
    assert field_of(value).kind == kind
    assert plain(field_of(value)) == value


def test_a_field_is_its_own_field_and_an_object_has_none() -> None:
    field = Field("u", 7)
    assert field_of(field) is field
    with pytest.raises(TableError, match="object has no field type"):
        field_of(object())


# pamqp is the oracle

PAMQP_NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
PAMQP_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(width=32, allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.binary(max_size=20).map(bytearray)
    | st.decimals(0, 1000, places=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PAMQP_NAMES, inner, max_size=4),
    max_leaves=12,
)


def as_pamqp_sees_it(field: Field) -> object:
    if isinstance(field.value, dict):
        return {name: as_pamqp_sees_it(inner) for name, inner in field.value.items()}
    if isinstance(field.value, list):
        return [as_pamqp_sees_it(inner) for inner in field.value]
    if isinstance(field.value, tuple):
        scale, unscaled = field.value
        return Decimal(unscaled).scaleb(-scale)
    if field.kind == "x" and isinstance(field.value, bytes):
        return bytearray(field.value)
    return plain(field)


@given(st.dictionaries(PAMQP_NAMES, PAMQP_VALUES, max_size=5))
def test_what_pamqp_writes_is_read_as_the_same_values_and_written_as_the_same_bytes(
    values: dict[str, object],
) -> None:
    data = pamqp_encode.field_table(values)  # type: ignore[arg-type]
    table, end = read_table(data, 0)
    assert end == len(data) == check_table(data, 0, len(data))
    assert as_pamqp_sees_it(Field("F", table)) == pamqp_decode.field_table(data)[1]
    assert write_table(table) == data


INTEGER_RANGES = {
    "b": (-(1 << 7), (1 << 7) - 1),
    "B": (0, (1 << 8) - 1),
    "s": (-(1 << 15), (1 << 15) - 1),
    "u": (0, (1 << 16) - 1),
    "I": (-(1 << 31), (1 << 31) - 1),
    "i": (0, (1 << 32) - 1),
    "l": (-(1 << 63), (1 << 63) - 1),
    "L": (-(1 << 63), (1 << 63) - 1),
}


def integer_fields(kind: str) -> st.SearchStrategy[Field]:
    return st.integers(*INTEGER_RANGES[kind]).map(lambda value: Field(kind, value))


FIELDS = st.recursive(
    st.one_of(
        *[integer_fields(kind) for kind in INTEGER_RANGES],
        st.booleans().map(lambda value: Field("t", value)),
        st.floats(allow_nan=False).map(lambda value: Field("d", value)),
        st.floats(width=32, allow_nan=False).map(lambda value: Field("f", value)),
        st.text(st.characters(codec="utf-8"), max_size=20).map(field_of),
        st.binary(max_size=20).map(field_of),
        st.just(Field("V", None)),
        st.tuples(st.integers(0, 20), st.integers(0, (1 << 31) - 1)).map(lambda value: Field("D", value)),
    ),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda value: Field("A", value))
        | st.dictionaries(PAMQP_NAMES, inner, max_size=4).map(lambda value: Field("F", value))
    ),
    max_leaves=12,
)


@given(st.dictionaries(PAMQP_NAMES, FIELDS, max_size=5))
def test_what_is_written_pamqp_reads_as_the_same_values(table: dict[str, Field]) -> None:
    data = write_table(table)
    assert pamqp_decode.field_table(data) == (len(data), as_pamqp_sees_it(Field("F", table)))
    assert Field("F", read_table(data, 0)[0]) == Field("F", table)

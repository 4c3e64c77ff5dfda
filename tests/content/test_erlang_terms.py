"""Values in reply texts look as RabbitMQ prints them; the right-hand sides are what Erlang 25 printed."""

from __future__ import annotations

import pytest

from amqp_broker.content.erlang import binary_term, float_term, value_term
from amqp_broker.content.table import Field, field_of


@pytest.mark.parametrize(
    ("octets", "printed"),
    [
        (b"", "<<>>"),
        (b"foo", '<<"foo">>'),
        (b'a"b\\', '<<"a\\"b\\\\">>'),
        (b"\n\x1b", '<<"\\n\\e">>'),
        (b"\xff\x01", "<<255,1>>"),
        (b"\x80", "<<128>>"),
        ("é".encode(), '<<"é">>'),
        ("Ä".encode(), "<<195,132>>"),
        (b"\xe9", '<<"\udce9">>'),
    ],
)
def test_octets(octets: bytes, printed: str) -> None:
    assert binary_term(octets) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (1.0, "1.0"),
        (1.5, "1.5"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (0.0001, "0.0001"),
        (1.0e-5, "1.0e-5"),
        (1.1e-7, "1.1e-7"),
        (100000.0, "1.0e5"),
        (123456789012345.0, "123456789012345.0"),
        (1.0e15, "1.0e15"),
        (1.0e22, "1.0e22"),
        (12345678.9e10, "1.23456789e17"),
        (9007199254740992.0, "9.007199254740992e15"),
        (1.0e300, "1.0e300"),
    ],
)
def test_floats(value: float, printed: str) -> None:
    assert float_term(value) == printed


@pytest.mark.parametrize(
    ("field", "printed"),
    [
        (Field("I", -1), "-1"),
        (Field("t", False), "false"),
        (Field("V", None), "undefined"),
        (Field("D", (2, 150)), "{2,150}"),
        (Field("d", 1.5), "1.5"),
        (field_of({}), "[]"),
        (field_of([]), "[]"),
        (field_of({"a": "b"}), '[{<<"a">>,longstr,<<"b">>}]'),
        (field_of([["all"], True]), '[{array,[{longstr,<<"all">>}]},{bool,true}]'),
    ],
)
def test_fields(field: Field, printed: str) -> None:
    assert value_term(field) == printed


def test_infinities_and_nan_have_a_form_too() -> None:
    assert [float_term(float(name)) for name in ("inf", "-inf", "nan")] == ["inf", "-inf", "nan"]


def test_a_bottomless_value_is_printed_as_far_as_a_reply_text_reaches() -> None:
    field = Field("A", [])
    for _ in range(50_000):
        field = Field("A", [field])
    printed = value_term(field)
    assert printed.startswith("[{array," * 60)
    assert "..." in printed

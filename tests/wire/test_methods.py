"""The method codec agrees with pamqp's wherever pamqp can say it, and goes on where pamqp gives up."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.base import Frame as Method

from amqp_broker.content.table import plain_table, table_of
from amqp_broker.errors import HardError
from amqp_broker.wire.methods import decode_method, encode_method, method_frame
from tests.conversations import codec
from tests.examples import examples

METHODS: Final[dict[str, type[Method]]] = {
    method.name: method for method in cast("dict[int, type[Method]]", commands.INDEX_MAPPING).values()
}

# pamqp warns of it whenever it makes one.
pytestmark = pytest.mark.filterwarnings("ignore:This command is deprecated:DeprecationWarning")
# Each method has few arguments, and there are many methods.
FEW: Final = settings(max_examples=examples(20))

# pamqp accepts one value for these, as they are out of use.
OUT_OF_USE: Final = {
    "Basic.GetEmpty": {"cluster_id"},
    "Channel.Open": {"out_of_band"},
    "Channel.OpenOk": {"channel_id"},
    "Connection.Open": {"capabilities", "insist"},
    "Connection.OpenOk": {"known_hosts"},
}

NAMES: Final = st.text("abcXYZ019-_.:@#,/+ ", max_size=127)
# Only what both codecs write with the same tag and in the same order.
SCALARS: Final = st.none() | st.booleans() | st.text(max_size=20).filter(lambda text: "\0" not in text)
KEYS: Final = st.text("abcdefgh", min_size=1, max_size=8)


def sorted_table(table: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(table.items()))


TABLES: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3).map(sorted_table),
    max_leaves=8,
)
VALUES: Final = {
    "bit": st.booleans(),
    "octet": st.integers(0, 0xFF),
    "short": st.integers(0, 0xFFFF),
    "long": st.integers(0, 0xFFFFFFFF),
    "longlong": st.integers(0, (1 << 63) - 1),
    "shortstr": NAMES,
    "longstr": st.text(max_size=300),
    "table": st.dictionaries(KEYS, TABLES, max_size=4).map(sorted_table),
}


@st.composite
def arguments_of(draw: st.DrawFn, method_class: type[Method]) -> dict[str, Any]:
    fixed = OUT_OF_USE.get(method_class.name, set()) | {"ticket"}
    return {
        name: draw(VALUES[method_class.amqp_type(name)])
        for name in method_class.__slots__
        if name not in fixed
    }


def filled(method_class: type[Method], arguments: dict[str, Any], *, fields: bool) -> Method:
    """A method with these arguments; its table as `Field` values, or as pamqp has it."""
    method = method_class()
    for name, value in arguments.items():
        is_table = method_class.amqp_type(name) == "table"
        setattr(method, name, table_of(value) if fields and is_table else value)
    return method


def plain_argument(value: object) -> object:
    """An argument as plain Python, long strings as octets."""
    if isinstance(value, str):
        return value.encode()
    return plain_table(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(data=st.data())
def test_a_method_is_encoded_as_pamqp_does(name: str, data: st.DataObject) -> None:
    arguments = data.draw(arguments_of(METHODS[name]))
    ours = method_frame(3, filled(METHODS[name], arguments, fields=True))
    assert ours == frame.marshal(filled(METHODS[name], arguments, fields=False), 3)


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(data=st.data())
def test_what_pamqp_encoded_is_decoded(name: str, data: st.DataObject) -> None:
    arguments = data.draw(arguments_of(METHODS[name]))
    theirs = frame.marshal(filled(METHODS[name], arguments, fields=False), 3)
    method = decode_method(theirs[7:-1])
    assert isinstance(method, METHODS[name])
    for argument, value in arguments.items():
        found = getattr(method, argument)
        if METHODS[name].amqp_type(argument) == "table":
            assert plain_table(found) == value
        else:
            assert plain_argument(found) == plain_argument(value), argument


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(data=st.data())
def test_what_was_encoded_pamqp_decodes(name: str, data: st.DataObject) -> None:
    arguments = data.draw(arguments_of(METHODS[name]))
    ours = method_frame(3, filled(METHODS[name], arguments, fields=True))
    size, channel_id, method = frame.unmarshal(ours)
    assert (size, channel_id, type(method)) == (len(ours), 3, METHODS[name])
    for argument, value in arguments.items():
        assert getattr(method, argument) == value, argument


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(data=st.data())
def test_a_method_survives_both_ways(name: str, data: st.DataObject) -> None:
    payload = encode_method(filled(METHODS[name], data.draw(arguments_of(METHODS[name])), fields=True))
    assert encode_method(decode_method(payload)) == payload


# -- what pamqp refuses

DEMANDING_NAMES: Final = ["q*&é", "n" * 200, "tab\tand space", "日本", "a" * 255]


@pytest.mark.parametrize("queue", DEMANDING_NAMES)
def test_names_that_pamqp_refuses_are_read_and_written(queue: str) -> None:
    payload = codec.encode_method("queue.declare-ok", {"queue": queue, "message_count": 3})
    method = decode_method(payload)
    assert isinstance(method, commands.Queue.DeclareOk)
    assert method.queue == queue
    assert encode_method(method) == payload


def test_pamqp_does_refuse_such_names() -> None:
    with pytest.raises(ValueError, match="queue"):
        commands.Queue.Declare(queue="q*&é")


def test_a_delivery_tag_has_no_sign() -> None:
    method = decode_method(b"\0\x3c\0\x5a" + b"\xff" * 8 + b"\0")
    assert isinstance(method, commands.Basic.Reject)
    assert method.delivery_tag == (1 << 64) - 1


def test_a_ticket_that_pamqp_refuses_is_read() -> None:
    method = decode_method(codec.encode_method("queue.purge", {"ticket": 4711, "queue": "q"}))
    assert isinstance(method, commands.Queue.Purge)
    assert (method.ticket, method.queue) == (4711, "q")


def test_a_table_keeps_its_order_and_its_widths() -> None:
    table = {"z": codec.Typed("b", -1), "a": codec.Typed("l", 5), "m": codec.Typed("f", 0.1)}
    payload = codec.encode_method("queue.bind", {"queue": "q", "arguments": table})
    assert encode_method(decode_method(payload)) == payload


# -- what is malformed


def sample(name: str) -> bytes:
    """A method with something in each of its arguments."""
    values = {
        "bit": True,
        "shortstr": "name",
        "longstr": b"octets",
        "table": table_of({"k": [1, {"l": "v"}]}),
    }
    method = METHODS[name]()
    for argument in method.__slots__:
        setattr(method, argument, values.get(method.amqp_type(argument), 7))
    return encode_method(method)


def refused(payload: bytes) -> HardError:
    with pytest.raises(HardError) as caught:
        decode_method(payload)
    return caught.value


def taken_or_refused(payload: bytes) -> Method | None:
    """The method, or None if it was refused as malformed; any other exception is passed on."""
    try:
        return decode_method(payload)
    except HardError as error:
        if error.code != 501:
            raise
        return None


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_cut_short_anywhere_is_refused(name: str) -> None:
    payload = sample(name)
    for size in range(len(payload)):
        assert refused(payload[:size]).code == 501, f"cut to {size} octets"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_with_something_after_it_is_refused(name: str) -> None:
    assert refused(sample(name) + b"\0").code == 501


@pytest.mark.parametrize("name", METHODS)
@FEW
@given(rest=st.binary(max_size=80))
def test_any_arguments_are_taken_or_refused(name: str, rest: bytes) -> None:
    payload = METHODS[name].index.to_bytes(4, "big") + rest
    method = taken_or_refused(payload)
    assert method is None or isinstance(method, METHODS[name])


@given(at=st.integers(0, 1000), octet=st.integers(0, 255), name=st.sampled_from(sorted(METHODS)))
def test_a_method_with_a_wrong_octet_is_taken_or_refused(at: int, octet: int, name: str) -> None:
    payload = bytearray(sample(name))
    at = 4 + at % max(1, len(payload) - 4)
    payload[at : at + 1] = bytes((octet,))
    method = taken_or_refused(bytes(payload))
    assert method is None or isinstance(method, METHODS[name])


def test_the_text_for_arguments_that_cannot_be_read() -> None:
    assert refused(b"\0\x3c\0\x0a\0\0").text == "FRAME_ERROR - cannot decode <<0,0>>"


def test_the_text_for_a_name_that_is_not_utf_8() -> None:
    error = refused(codec.encode_method("queue.purge", {"queue": b"\xff"}))
    assert error.text == "FRAME_ERROR - Malformed UTF-8 in shortstr"


@pytest.mark.parametrize(
    ("octets", "text"),
    [(b"\0\x0a\0\x63", "unknown method 10.99"), (b"\0\x63\0\x0a", "unknown method 99.10")],
)
def test_a_method_that_does_not_exist_is_not_implemented(octets: bytes, text: str) -> None:
    assert refused(octets + b"whatever").text == f"NOT_IMPLEMENTED - {text}"

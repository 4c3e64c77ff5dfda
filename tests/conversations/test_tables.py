"""Field tables: every type there and back, in headers and in arguments, and tables at the edge of what is
legal.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

from .client import Channel
from .codec import (
    HEADER,
    METHOD,
    Frame,
    Typed,
    encode_header,
    encode_method,
    encode_table,
    encode_value,
    longstr,
)
from .conftest import Names

VALUES: dict[str, Any] = {
    "true": Typed("t", True),
    "false": Typed("t", False),
    "int8": Typed("b", -128),
    "uint8": Typed("B", 255),
    "int16": Typed("s", -32768),
    "uint16": Typed("u", 65535),
    "int32": Typed("I", -(2**31)),
    "uint32": Typed("i", 2**32 - 1),
    "int64": Typed("l", -(2**63)),
    "int64 max": Typed("l", 2**63 - 1),
    "float": Typed("f", 1.5),
    "float odd": Typed("f", struct.unpack(">f", struct.pack(">f", 1.1))[0]),
    "double": Typed("d", 1.1),
    "decimal": Typed("D", (2, 314)),
    "string": Typed("S", "text"),
    "empty string": Typed("S", ""),
    "no text": Typed("S", b"\xff\x00\xfe"),
    "octets": Typed("x", b"\x00\xff"),
    "timestamp": Typed("T", 2**40),
    "void": Typed("V", None),
    "empty table": Typed("F", {}),
    "table": Typed("F", {"a": Typed("F", {"b": Typed("A", [])})}),
    "empty array": Typed("A", []),
    "array": Typed(
        "A", [Typed("S", "x"), Typed("A", [Typed("V", None)]), Typed("F", {"k": Typed("d", 0.5)})]
    ),
}


def relayed(channel: Channel, queue: str, table: bytes) -> bytes:
    """A content header with these octets for a table, as it comes back from the queue: the same."""
    sent = encode_header(0, b"\x20\x00" + table)
    channel.client.send_bytes(
        Frame(METHOD, channel.number, encode_method("basic.publish", {"routing_key": queue})).encoded()
        + Frame(HEADER, channel.number, sent).encoded()
    )
    message = channel.get(queue)
    assert message is not None
    assert message.header == sent
    return message.header


@pytest.mark.parametrize("what", VALUES)
def test_a_value_in_headers_comes_back_octet_for_octet(channel: Channel, queue: str, what: str) -> None:
    relayed(channel, queue, encode_table({"key": VALUES[what]}))


@pytest.mark.parametrize("what", VALUES)
def test_a_value_in_arguments_is_accepted(channel: Channel, names: Names, what: str) -> None:
    queue, exchange = names.queue(), names.exchange()
    arguments = {"x-any": VALUES[what]}
    channel.declare(queue, arguments=arguments)
    channel.call("exchange.declare", exchange=exchange, type="fanout", arguments=arguments)
    channel.bind(queue, exchange, "", arguments)
    channel.consume(queue, arguments=arguments, no_ack=True)
    channel.publish("m", exchange=exchange)
    channel.expect("basic.deliver")
    channel.call("queue.unbind", queue=queue, exchange=exchange, arguments=arguments)
    channel.publish("m", exchange=exchange, mandatory=True)
    channel.expect("basic.return")


def test_keys_keep_their_order(channel: Channel, queue: str) -> None:
    relayed(channel, queue, encode_table({key: number for number, key in enumerate("zyxabc")}))


def test_a_key_may_come_twice(channel: Channel, queue: str) -> None:
    relayed(channel, queue, longstr(encode_table({"k": 1})[4:] + encode_table({"k": 2})[4:]))


@pytest.mark.parametrize("key", ["", "k" * 255, "\u00fc", b"\xff\xfe", "a\x00b", "x-death-like"])
def test_a_key_may_be_anything(channel: Channel, queue: str, key: str | bytes) -> None:
    inside = key if isinstance(key, bytes) else key.encode()
    relayed(channel, queue, longstr(bytes([len(inside)]) + inside + encode_value(1)))


def test_an_empty_table_of_headers_stays(channel: Channel, queue: str) -> None:
    relayed(channel, queue, encode_table({}))


def test_a_large_table_comes_back(channel: Channel, queue: str) -> None:
    relayed(channel, queue, encode_table({f"key-{number}": "x" * 100 for number in range(1000)}))


def test_a_truth_value_may_be_any_octet_but_zero(channel: Channel, queue: str) -> None:
    message = relayed(channel, queue, longstr(b"\x01kt\x02"))
    assert message.endswith(b"\x01kt\x02")


def test_minus_zero_comes_back(channel: Channel, queue: str) -> None:
    relayed(channel, queue, longstr(b"\x01kd" + struct.pack(">d", -0.0)))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("kind", ["f", "d"])
def test_a_float_that_is_no_number_comes_back(
    channel: Channel, queue: str, on_rabbitmq: bool, kind: str, value: str
) -> None:
    table = encode_table({"k": Typed(kind, float(value))})
    if on_rabbitmq:  # whose channel crashes, as Erlang has no such numbers
        channel.publish("m", routing_key=queue, headers={"k": Typed(kind, float(value))})
        channel.client.ends(541)
    else:
        relayed(channel, queue, table)


def test_headers_come_back_even_when_they_were_looked_at(channel: Channel, names: Names) -> None:
    exchange, queue = names.exchange(), channel.declare(names.queue())
    channel.call("exchange.declare", exchange=exchange, type="headers")
    channel.bind(queue, exchange, "", {"int8": Typed("b", -128)})
    headers = {name: VALUES[name] for name in VALUES}
    channel.publish("m", exchange=exchange, headers=headers, priority=3)
    message = channel.get(queue)
    assert message is not None
    assert message.header == encode_header(1, {"headers": headers, "priority": 3})


def test_arguments_given_twice_count_once(channel: Channel, names: Names) -> None:
    queue = names.queue()
    twice = encode_table({"x-max-length": 3})[4:] * 2
    channel.declare(queue, arguments=twice)
    assert channel.call("queue.declare", queue=queue, arguments={"x-max-length": 3})["queue"] == queue

"""Frames: bad ones, oversize ones, those in the wrong place, and that how octets are cut up makes no
difference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from .client import PROTOCOL_HEADER, Channel, Client
from .codec import BODY, HEADER, HEARTBEAT, METHOD, Frame, encode_header, encode_method, longstr
from .conftest import Connect, Names

Differs = Callable[..., Any]

NO_HEADER = "expected content header for class 60, got non content header frame instead"
NO_BODY = "expected content body, got non content body frame instead"
NO_METHOD = "expected method frame, got non method frame instead"


def method(name: str, channel: int = 1, **arguments: Any) -> bytes:
    return Frame(METHOD, channel, encode_method(name, arguments)).encoded()


def header(
    size: int, properties: dict[str, Any] | bytes = b"\0\0", class_id: int = 60, channel: int = 1
) -> bytes:
    return Frame(HEADER, channel, encode_header(size, properties, class_id)).encoded()


def body(data: bytes, channel: int = 1) -> bytes:
    return Frame(BODY, channel, data).encoded()


@pytest.fixture
def opened(client: Client) -> Client:
    """A connection whose channel 1 is open."""
    client.channel(1)
    return client


def squeezed(text: str) -> str:
    """A term without the line ends and blanks that Erlang's printer puts into long ones."""
    return "".join(text.split())


def refused_squeezed(client: Client, code: int, text: str) -> None:
    """Like Client.says_goodbye with no failing method, whatever the white space in the text."""
    reply = client.receive(0)
    assert reply.name == "connection.close", reply
    assert (reply["reply_code"], squeezed(reply["reply_text"])) == (code, squeezed(text)), reply
    assert (reply["class_id"], reply["method_id"]) == (0, 0)
    client.send(0, "connection.close-ok")


def refused(client: Client, farewells: list[Client], text: str) -> None:
    """A 501 for a frame that cannot be read, after which RabbitMQ is silent for three seconds before it
    closes.
    """
    client.says_goodbye(501, text)
    farewells.append(client)


# size


@pytest.mark.parametrize("kind", [METHOD, HEADER, BODY, HEARTBEAT, 9, 255])
@pytest.mark.parametrize("channel", [0, 1, 77])
@pytest.mark.parametrize("size", [131073, 200000, 2**32 - 1])
def test_a_frame_too_large_is_refused_at_its_head(
    opened: Client, kind: int, channel: int, size: int, farewells: list[Client]
) -> None:
    opened.send_bytes(struct.pack(">BHI", kind, channel, size))
    refused(opened, farewells, f"type {kind}, all octets = <<>>: {{frame_too_large,{size},131064}}")


@pytest.mark.parametrize("frame_max", [4096, 4097, 65536])
def test_the_size_allowed_is_what_was_negotiated(
    connect: Connect, frame_max: int, farewells: list[Client]
) -> None:
    client = connect(frame_max=frame_max)
    client.send_bytes(struct.pack(">BHI", METHOD, 1, frame_max + 1))
    refused(
        client, farewells, f"type 1, all octets = <<>>: {{frame_too_large,{frame_max + 1},{frame_max - 8}}}"
    )


def test_a_frame_of_just_the_size_allowed_is_taken(channel: Channel, queue: str) -> None:
    channel.client.send_bytes(
        method("basic.publish", routing_key=queue) + header(131064) + body(b"x" * 131064)
    )
    message = channel.get(queue)
    assert message is not None
    assert len(message.body) == 131064


def test_the_allowance_of_eight_octets_is_granted(channel: Channel, queue: str) -> None:
    channel.client.send_bytes(
        method("basic.publish", routing_key=queue) + header(131072) + body(b"x" * 131072)
    )
    message = channel.get(queue)
    assert message is not None
    assert len(message.body) == 131072


def test_a_protocol_header_amid_a_connection_is_a_frame_too_large(
    opened: Client, farewells: list[Client]
) -> None:
    opened.send_bytes(PROTOCOL_HEADER)
    refused(opened, farewells, "type 65, all octets = <<>>: {frame_too_large,1342177289,131064}")


# the end octet


@pytest.mark.parametrize("end", [0, 1, 205, 207, 255])
@pytest.mark.parametrize(
    ("kind", "channel"), [(METHOD, 0), (METHOD, 1), (METHOD, 9), (HEARTBEAT, 0), (BODY, 1)]
)
def test_a_wrong_frame_end_closes_the_connection(
    opened: Client, kind: int, channel: int, end: int, farewells: list[Client]
) -> None:
    opened.send_bytes(struct.pack(">BHI", kind, channel, 0) + bytes([end]))
    refused(opened, farewells, f"type {kind}, all octets = <<>>: {{invalid_frame_end_marker,{end}}}")


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"\x00\x32\x00\x0a\x00", "all octets = <<0,50,0,10,0>>"),
        (b"abc", 'all octets = <<"abc">>'),
        (bytes(range(16)), "all octets = <<0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15>>"),
        (bytes(range(200)), "first 16 octets = <<0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15>>"),
        (b"x" * 1000, 'first 16 octets = <<"xxxxxxxxxxxxxxxx">>'),
    ],
    ids=["five", "text", "sixteen", "many", "much-text"],
)
def test_a_frame_error_shows_the_first_sixteen_octets(
    opened: Client, payload: bytes, shown: str, farewells: list[Client]
) -> None:
    opened.send_bytes(Frame(METHOD, 1, payload).encoded()[:-1] + b"\0")
    refused_squeezed(opened, 501, f"FRAME_ERROR - type 1, {shown}: {{invalid_frame_end_marker,0}}")
    farewells.append(opened)


def test_nothing_after_a_bad_frame_is_read(
    channel: Channel, connect: Connect, queue: str, farewells: list[Client]
) -> None:
    other = connect()
    other.channel(1)
    other.send_bytes(b"\x01\x00\x01\x00\x00\x00\x00\x00" + method("queue.delete", queue=queue))
    refused(other, farewells, "type 1, all octets = <<>>: {invalid_frame_end_marker,0}")
    assert channel.counts(queue) == (0, 0)


# the type octet


@pytest.mark.parametrize("kind", [0, 4, 5, 6, 7, 9, 127, 128, 206, 255])
@pytest.mark.parametrize("channel", [0, 1, 50])
def test_an_unknown_frame_type_closes_the_connection(opened: Client, kind: int, channel: int) -> None:
    opened.send_frame(kind, channel, b"abc")
    opened.refuses(501, f'type {kind}, all octets = <<"abc">>: unknown_frame')


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x14\x00"])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_method_frame_without_a_method_closes_the_connection(
    opened: Client, channel: int, payload: bytes
) -> None:
    opened.send_frame(METHOD, channel, payload)
    shown = ",".join(str(octet) for octet in payload)
    opened.refuses(501, f"type 1, all octets = <<{shown}>>: unknown_frame")


@pytest.mark.parametrize("size", [0, 1, 8, 11])
def test_a_header_frame_without_a_header_closes_the_connection(opened: Client, size: int) -> None:
    opened.send_bytes(method("basic.publish") + Frame(HEADER, 1, bytes(size)).encoded())
    refused_squeezed(
        opened, 501, f"FRAME_ERROR - type 2, all octets = <<{','.join('0' * size)}>>: unknown_frame"
    )
    opened.is_closed()


# heartbeats


def test_a_heartbeat_may_come_at_any_time(channel: Channel, queue: str) -> None:
    beat = Frame(HEARTBEAT, 0, b"").encoded()
    parts = [method("basic.publish", routing_key=queue), header(2), body(b"a"), body(b"b")]
    channel.client.send_bytes(beat + beat.join(parts) + beat)
    assert channel.drain(queue) == ["ab"]


@pytest.mark.parametrize("channel", [1, 9, 65535])
def test_a_heartbeat_belongs_to_channel_zero(opened: Client, channel: int) -> None:
    opened.send_frame(HEARTBEAT, channel, b"")
    opened.refuses(505, "type 8, all octets = <<>>")


def test_a_heartbeat_has_no_payload(opened: Client) -> None:
    opened.send_frame(HEARTBEAT, 0, b"x")
    opened.refuses(501, 'type 8, all octets = <<"x">>: unknown_frame')


# content where none is due, and none where it is


@pytest.mark.parametrize("kind", [HEADER, BODY])
def test_channel_zero_carries_no_content(opened: Client, kind: int) -> None:
    payload = encode_header(0, {}) if kind == HEADER else b""
    opened.send_frame(kind, 0, payload)
    shown = ",".join(str(octet) for octet in payload)
    opened.refuses(505, f"type {kind}, all octets = <<{shown}>>")


@pytest.mark.parametrize("channel", [1, 5])
@pytest.mark.parametrize("frame", [header(0), body(b""), body(b"xyz")], ids=["header", "empty body", "body"])
def test_content_without_a_method_closes_the_connection(opened: Client, channel: int, frame: bytes) -> None:
    opened.send_bytes(frame[:1] + struct.pack(">H", channel) + frame[3:])
    opened.refuses(505, NO_METHOD)


@pytest.mark.parametrize(
    "frame",
    [
        method("basic.publish"),
        method("basic.ack", delivery_tag=1),
        method("channel.close"),
        method("channel.open"),
        body(b"x"),
        body(b""),
        Frame(HEADER, 1, struct.pack(">HHQH", 60, 1, 0, 0)).encoded(),
    ],
    ids=["publish", "ack", "close", "open", "body", "empty body", "header of weight 1"],
)
def test_after_publish_a_header_is_due(opened: Client, frame: bytes) -> None:
    opened.send_bytes(method("basic.publish") + frame)
    opened.refuses(505, NO_HEADER, "basic.publish")


@pytest.mark.parametrize("class_id", [0, 10, 50, 61, 65535])
def test_the_header_has_to_be_of_the_class_of_its_method(opened: Client, class_id: int) -> None:
    opened.send_bytes(method("basic.publish") + header(0, class_id=class_id))
    opened.refuses(
        505, f"expected content header for class 60, got one for class {class_id} instead", "basic.publish"
    )


@pytest.mark.parametrize(
    "frame",
    [header(5), method("basic.ack"), method("basic.publish"), method("channel.close")],
    ids=["header", "ack", "publish", "close"],
)
@pytest.mark.parametrize("so_far", [b"", b"1234"])
def test_after_a_header_a_body_is_due(opened: Client, frame: bytes, so_far: bytes) -> None:
    opened.send_bytes(method("basic.publish") + header(5) + (body(so_far) if so_far else b"") + frame)
    opened.refuses(505, NO_BODY, "basic.publish")


@pytest.mark.parametrize("data", [b"", b"x"])
def test_after_the_last_body_frame_no_other_is_due(opened: Client, data: bytes) -> None:
    opened.send_bytes(method("basic.publish") + header(2) + body(b"ab") + body(data))
    opened.refuses(505, NO_METHOD)


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_message_of_no_body_has_no_body_frame(opened: Client, data: bytes) -> None:
    opened.send_bytes(method("basic.publish") + header(0) + body(data))
    opened.refuses(505, NO_METHOD)


def test_a_body_longer_than_announced_closes_the_connection_at_the_latest_with_the_next_frame(
    opened: Client, differs_from_rabbitmq: Differs
) -> None:
    opened.send_bytes(method("basic.publish", exchange="amq.fanout") + header(3) + body(b"12345"))
    opened.send_bytes(method("channel.flow", active=True))
    opened.ends(*differs_from_rabbitmq("it waits for more of the body", rabbitmq=[505], ours=[501, 505]))


def test_an_announced_body_that_does_not_come_costs_nothing(
    channel: Channel, connect: Connect, queue: str
) -> None:
    other = connect()
    other.channel(1)
    other.send_bytes(method("basic.publish", routing_key=queue) + header(2**62) + body(b"some"))
    assert channel.counts(queue) == (0, 0)
    other.drop()


# methods that cannot be read


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (encode_method("queue.declare", {"queue": "abc"})[:-5], "0,0,3,97,98,99"),
        (encode_method("queue.declare", {"queue": "abc"}) + b"x", "0,0,3,97,98,99,0,0,0,0,0,120"),
        (struct.pack(">HHHB", 50, 10, 0, 200) + b"ab", "0,0,200,97,98"),
        (
            encode_method("queue.declare", {"queue": "zz"})[:-4] + b"\0\0\xff\xff",
            "0,0,2,122,122,0,0,0,255,255",
        ),
        (encode_method("queue.declare", {})[:4], ""),
        (encode_method("basic.qos", {})[:-1], "0,0,0,0,0,0"),
    ],
    ids=["cut", "too long", "short string beyond", "table beyond", "no arguments", "bits missing"],
)
def test_a_method_that_cannot_be_decoded_closes_the_connection(
    opened: Client, payload: bytes, shown: str
) -> None:
    opened.send_frame(METHOD, 1, payload)
    by = "queue.declare" if payload[1] == 50 else "basic.qos"
    opened.refuses(501, f"cannot decode <<{shown}>>", by)


def test_arguments_after_a_method_that_has_none_close_the_connection(opened: Client) -> None:
    opened.send_frame(METHOD, 1, encode_method("tx.select", {}) + b"\x01")
    opened.refuses(501, "cannot decode <<1>>", "tx.select")


def test_a_long_undecodable_method_is_shown_as_far_as_the_text_allows(opened: Client) -> None:
    opened.send_frame(METHOD, 1, struct.pack(">HHHB", 50, 10, 0, 200) + b"a" * 100)
    text = "cannot decode <<0,0,200," + "97," * 100
    opened.refuses(501, text[: 252 - len("FRAME_ERROR - ")] + "...", "queue.declare")


def test_an_undecodable_method_on_channel_zero_closes_the_connection(
    opened: Client, differs_from_rabbitmq: Differs
) -> None:
    opened.send_frame(METHOD, 0, struct.pack(">HHB", 10, 40, 200))
    opened.ends(*differs_from_rabbitmq("its reader crashes", rabbitmq=[541], ours=[501, 502, 541]))


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize(("class_id", "method_id"), [(99, 99), (60, 99), (0, 0), (10, 12), (65535, 65535)])
def test_an_unknown_method_ends_the_connection(
    opened: Client, differs_from_rabbitmq: Differs, channel: int, class_id: int, method_id: int
) -> None:
    opened.send_frame(METHOD, channel, struct.pack(">HH", class_id, method_id))
    opened.ends(*differs_from_rabbitmq("its reader crashes without a word", rabbitmq=[0], ours=[503, 540]))


@pytest.mark.parametrize(
    "flags",
    [
        b"\xff\xff",
        b"\x80\x00",
        b"\x00\x00extra",
        b"\x20\x00\x00\x00\xff\xff",
        b"\x20\x00\x00\x00\x00\x03\x01aZ",
        b"",
    ],
    ids=["all", "missing value", "more than flagged", "table beyond", "unknown field type", "no flags"],
)
def test_a_content_header_that_cannot_be_decoded_ends_the_connection(
    opened: Client, differs_from_rabbitmq: Differs, flags: bytes
) -> None:
    opened.send_bytes(method("basic.publish", exchange="amq.fanout") + header(0, flags))
    opened.send_bytes(method("channel.flow", active=True))
    opened.ends(*differs_from_rabbitmq("its channel crashes", rabbitmq=[541], ours=[501, 502, 541]))


def test_the_first_flag_beyond_the_properties_is_ignored(channel: Channel, queue: str) -> None:
    channel.client.send_bytes(method("basic.publish", routing_key=queue) + header(0, b"\x00\x02"))
    assert channel.drain(queue) == [""]


def test_an_unknown_field_type_in_arguments_ends_the_connection(
    opened: Client, differs_from_rabbitmq: Differs
) -> None:
    opened.send_bytes(method("queue.declare", queue="never", arguments=b"\x01aZ"))
    opened.ends(
        *differs_from_rabbitmq("its reader crashes without a word", rabbitmq=[0], ours=[501, 502, 541])
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("queue.declare", {"queue": b"\xff\xfe"}),
        ("queue.declare", {"queue": b"\xff\xfe", "passive": True}),
        ("queue.bind", {"exchange": "amq.direct", "routing_key": b"\xc3"}),
        ("queue.delete", {"queue": b"\xff\xfe"}),
        ("exchange.declare", {"exchange": b"\xe4\xb8", "type": "direct"}),
        ("basic.consume", {"consumer_tag": b"\xff"}),
        ("basic.get", {"queue": b"\x80"}),
    ],
)
def test_names_have_to_be_utf_8(opened: Client, name: str, arguments: dict[str, Any]) -> None:
    opened.send(1, name, **arguments)
    opened.refuses(501, "Malformed UTF-8 in shortstr")


def test_the_routing_key_of_a_message_may_be_any_octets(channel: Channel) -> None:
    channel.send("basic.publish", exchange="amq.topic", routing_key=b"\xff\x00.\xfe", mandatory=True)
    channel.client.send_bytes(header(0))
    channel.expect("basic.return", routing_key="\udcff\x00.\udcfe")


def test_bits_that_mean_nothing_are_ignored(opened: Client) -> None:
    opened.send_frame(METHOD, 1, encode_method("basic.qos", {})[:-1] + b"\xfe")
    opened.expect("basic.qos-ok")


# depth


def test_a_table_may_be_very_deep(channel: Channel, queue: str) -> None:
    inside = b""
    for _ in range(9000):
        inside = b"\x01aF" + longstr(inside)
    sent = encode_header(0, b"\x20\x00" + longstr(inside))
    channel.client.send_bytes(method("basic.publish", routing_key=queue) + Frame(HEADER, 1, sent).encoded())
    message = channel.get(queue)
    assert message is not None
    assert message.header == sent


def test_arguments_may_be_very_deep(channel: Channel, names: Names) -> None:
    inside = b""
    for _ in range(9000):
        inside = b"A" + longstr(inside)
    channel.declare(names.queue(), arguments=b"\x01a" + inside)


# how octets are cut up


def test_a_conversation_of_single_octets_is_understood(channel: Channel, queue: str) -> None:
    said = (
        method("basic.publish", routing_key=queue)
        + header(3)
        + body(b"abc")
        + method("basic.get", queue=queue, no_ack=True)
    )
    for octet in said:
        channel.client.send_bytes(bytes([octet]))
    assert channel.expect("basic.get-ok").body == b"abc"


@pytest.mark.parametrize("step", [2, 3, 5, 7, 8, 9, 13])
def test_a_conversation_in_pieces_is_understood(channel: Channel, queue: str, step: int) -> None:
    said = b"".join(
        method("basic.publish", routing_key=queue) + header(4) + body(b"%d" % number) + body(b"%03d" % number)
        for number in range(10)
    )
    for at in range(0, len(said), step):
        channel.client.send_bytes(said[at : at + step])
    assert channel.drain(queue) == [f"{number}{number:03}" for number in range(10)]


def test_a_whole_conversation_in_one_piece_is_understood(client: Client, names: Names) -> None:
    queue = names.queue()
    client.send_bytes(
        method("channel.open")
        + method("queue.declare", queue=queue)
        + method("basic.publish", routing_key=queue)
        + header(1)
        + body(b"m")
        + method("basic.get", queue=queue, no_ack=True)
        + method("channel.close")
    )
    seen = [client.receive().name for _ in range(4)]
    assert seen == ["channel.open-ok", "queue.declare-ok", "basic.get-ok", "channel.close-ok"]

"""Golden octets: each kind of frame as it stands in the specification, written out by hand."""

from __future__ import annotations

from pamqp import commands

from amqp_broker.content.table import table_of
from amqp_broker.wire.content import body_frames
from amqp_broker.wire.methods import (
    FRAME_HEADER,
    HEARTBEAT,
    decode_method,
    longstr,
    method_frame,
    payload_frame,
    shortstr,
    snippet,
)
from amqp_broker.wire.reader import FrameReader, Publish
from tests.wire.recorder import Recorder


def octets(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


def test_a_heartbeat() -> None:
    assert octets("08 0000 00000000 ce") == HEARTBEAT


def test_a_method_without_arguments() -> None:
    assert method_frame(1, commands.Tx.CommitOk()) == octets("01 0001 00000004 005a0015 ce")


def test_a_method_with_every_fixed_argument() -> None:
    tune = commands.Connection.Tune()
    tune.channel_max, tune.frame_max, tune.heartbeat = 2047, 131072, 60
    assert method_frame(0, tune) == octets("01 0000 0000000c 000a001e 07ff 00020000 003c ce")


def test_a_method_with_strings_bits_and_a_table() -> None:
    declare = commands.Queue.Declare()
    declare.queue, declare.durable, declare.auto_delete = "tä", True, True
    declare.arguments = table_of({"x-max-length": 5, "on": True})  # type: ignore[assignment]
    payload = octets("0032000a 0000 03 74c3a4 0a 00000017")
    payload += b"\x0cx-max-lengthI\0\0\0\x05" + b"\x02ont\x01"
    assert method_frame(0x0102, declare) == octets("01 0102", f"{len(payload):08x}") + payload + b"\xce"


def test_bits_share_octets_in_the_order_of_the_arguments() -> None:
    nack = commands.Basic.Nack()
    nack.delivery_tag, nack.multiple, nack.requeue = 0x0102030405060708, False, True
    assert method_frame(1, nack)[7:-1] == octets("003c0078 0102030405060708 02")


def test_a_content_header_frame() -> None:
    header = octets("003c 0000 0000000000000003 1000 02")
    assert payload_frame(FRAME_HEADER, 3, header) == octets("02 0003 0000000f") + header + b"\xce"


def test_body_frames() -> None:
    assert b"".join(body_frames(1, (b"abc",), 3, 4096)) == octets("03 0001 00000003 616263 ce")


def test_an_empty_body_has_no_frame() -> None:
    assert body_frames(1, (), 0, 4096) == []


def test_strings() -> None:
    assert shortstr("") == b"\0"
    assert shortstr("é") == b"\x02\xc3\xa9"
    assert longstr(b"ab\0") == octets("00000003 616200")


def test_octets_that_are_not_utf_8_survive_a_short_string() -> None:
    assert shortstr(b"\xff\xfe".decode("utf-8", "surrogateescape")) == b"\x02\xff\xfe"


def test_payloads_as_errors_quote_them() -> None:
    assert snippet(b"") == "all octets = <<>>"
    assert snippet(b"ok") == 'all octets = <<"ok">>'
    assert snippet(bytes(17)) == "first 16 octets = <<" + ",".join(["0"] * 16) + ">>"


def test_a_publish_keeps_the_octets_a_delivery_needs() -> None:
    publish = Publish(7, octets("003c0028 0000 02 6578 03 6b6579 01"))
    assert publish.address == octets("02 6578 03 6b6579")
    assert (publish.exchange, publish.routing_key) == ("ex", "key")
    assert (publish.mandatory, publish.immediate) == (True, False)


def test_the_flags_of_a_publish() -> None:
    flags = [Publish(1, octets("003c0028 0000 00 00", f"{bits:02x}")) for bits in range(4)]
    assert [(publish.mandatory, publish.immediate) for publish in flags] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_frames_as_received() -> None:
    recorder = Recorder()
    reader = FrameReader(recorder, 4096, 100)
    reader.feed(octets("01 0001 00000005 0014000a 00 ce"))
    reader.feed(octets("01 0001 0000000a 003c0028 0000 00 01 71 00 ce"))
    reader.feed(octets("02 0001 0000000e 003c 0000 0000000000000002 0000 ce"))
    reader.feed(octets("08 0000 00000000 ce"))
    reader.feed(octets("03 0001 00000002 6869 ce"))
    assert recorder.calls == [
        ("method", 1, octets("0014000a 00")),
        ("publish", 1, octets("003c0028 0000 00 01 71 00")),
        ("message", 1, b"\0\x01q", octets("003c 0000 0000000000000002 0000"), b"hi"),
    ]


def test_a_method_as_received() -> None:
    method = decode_method(octets("003c0014 0000 01 71 01 74 02 00000007 01 61 49 ffffffff"))
    assert isinstance(method, commands.Basic.Consume)
    assert (method.queue, method.consumer_tag, method.no_local, method.no_ack) == ("q", "t", False, True)
    assert method.arguments == table_of({"a": -1})

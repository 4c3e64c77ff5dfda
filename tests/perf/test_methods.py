"""What we pack, pamqp reads; what pamqp packs, we read; and names that pamqp would refuse pass."""

from __future__ import annotations

import pytest
from pamqp import base, commands
from pamqp import frame as frames
from pamqp.header import ContentHeader

from amqp_broker.perf import methods
from amqp_broker.perf.frames import FRAME_HEADER, FRAME_METHOD, frame


def read(payload: bytes) -> base.Frame:
    _, channel, method = frames.unmarshal(frame(FRAME_METHOD, 7, payload))
    assert channel == 7
    assert isinstance(method, base.Frame)
    return method


def payload_of(method: base.Frame) -> bytes:
    return frames.marshal(method, 1)[7:-1]


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (methods.pack_tune_ok(2047, 131072, 60), commands.Connection.TuneOk(2047, 131072, 60)),
        (methods.pack_connection_open("/"), commands.Connection.Open("/")),
        (methods.pack_empty(methods.CONNECTION_CLOSE_OK), commands.Connection.CloseOk()),
        (methods.pack_close(methods.CHANNEL_CLOSE, "done"), commands.Channel.Close(200, "done", 0, 0)),
        (methods.pack_close(methods.CONNECTION_CLOSE, "done"), commands.Connection.Close(200, "done", 0, 0)),
        (methods.pack_flow_ok(True), commands.Channel.FlowOk(True)),
        (methods.pack_exchange_declare("e", "topic", 0), commands.Exchange.Declare(0, "e", "topic")),
        (
            methods.pack_exchange_declare("e", "topic", methods.PASSIVE_BIT),
            commands.Exchange.Declare(0, "e", "topic", passive=True),
        ),
        (
            methods.pack_queue_declare(
                "q", methods.DURABLE_BIT | methods.AUTO_DELETE_BIT, {"x-max-length": 5, "a": "b", "c": True}
            ),
            commands.Queue.Declare(
                0, "q", durable=True, auto_delete=True, arguments={"x-max-length": 5, "a": "b", "c": True}
            ),
        ),
        (methods.pack_queue_bind("q", "e", "k"), commands.Queue.Bind(0, "q", "e", "k")),
        (methods.pack_qos(500, True), commands.Basic.Qos(0, 500, True)),
        (methods.pack_consume("q", "t", True), commands.Basic.Consume(0, "q", "t", no_ack=True)),
        (methods.pack_confirm_select(), commands.Confirm.Select()),
        (methods.pack_publish("e", "k", True), commands.Basic.Publish(0, "e", "k", mandatory=True)),
    ],
    ids=lambda value: value.name if isinstance(value, base.Frame) else "",
)
def test_pamqp_reads_what_is_packed(packed: bytes, expected: base.Frame) -> None:
    method = read(packed)
    assert type(method) is type(expected)
    assert dict(method) == dict(expected)


def test_a_channel_is_opened_with_an_empty_reserved_string() -> None:
    assert methods.pack_channel_open() == b"\x00\x14\x00\x0a\x00"


def test_the_start_ok_logs_in_and_asks_for_reasons() -> None:
    method = read(methods.pack_start_ok("product", "user", "pässword"))
    assert isinstance(method, commands.Connection.StartOk)
    assert (method.mechanism, method.locale) == ("PLAIN", "en_US")
    assert method.response == "\x00user\x00pässword"
    assert method.client_properties["product"] == "product"
    capabilities = method.client_properties["capabilities"]
    assert isinstance(capabilities, dict)
    assert capabilities["authentication_failure_close"] is True


@pytest.mark.parametrize(("persistent", "mode"), [(True, 2), (False, 1)])
def test_a_content_header_holds_size_and_delivery_mode(persistent: bool, mode: int) -> None:
    header = frames.unmarshal(frame(FRAME_HEADER, 1, methods.pack_content_header(2**40, persistent)))[2]
    assert isinstance(header, ContentHeader)
    assert (header.body_size, header.properties.delivery_mode) == (2**40, mode)


def test_any_name_that_fits_passes() -> None:
    name = "q*&é" + "x" * 250
    assert methods.read_name(b"\x00\x32\x00\x0b" + methods.short_string(name)) == name
    with pytest.raises(ValueError, match="256 bytes"):
        methods.short_string("é" * 128)


def test_replies_of_the_broker_are_read() -> None:
    assert methods.read_tune(payload_of(commands.Connection.Tune(10, 4096, 5))) == (10, 4096, 5)
    assert methods.read_close(payload_of(commands.Channel.Close(404, "no such", 50, 10))) == (404, "no such")
    assert methods.read_name(payload_of(commands.Queue.DeclareOk("amq.gen-x", 1, 2))) == "amq.gen-x"


@pytest.mark.parametrize(
    ("method", "reader"),
    [
        (commands.Connection.Tune(10, 4096, 5), methods.read_tune),
        (commands.Channel.Close(404, "x", 0, 0), methods.read_close),
        (commands.Queue.DeclareOk("q", 0, 0), methods.read_name),
        (commands.Connection.CloseOk(), methods.method_of),
    ],
    ids=["tune", "close", "declare-ok", "method"],
)
def test_a_reply_cut_short_is_said_to_be(method: base.Frame, reader: object) -> None:
    assert callable(reader)
    shortest = {methods.read_tune: 12, methods.read_close: 8, methods.read_name: 6, methods.method_of: 4}[
        reader
    ]
    for size in range(shortest):
        with pytest.raises(methods.UnreadableMethod):
            reader(payload_of(method)[:size])

"""Publishing: what is routed, returned or refused; properties and bodies arrive as they were sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .codec import BODY, HEADER, METHOD, Frame, Typed, encode_header, encode_method, encode_properties
from .conftest import Connect, Names

Declare = Callable[..., str]


def test_a_message_reaches_the_queue_named_by_its_routing_key(channel: Channel, queue: str) -> None:
    channel.publish("hello", routing_key=queue)
    message = channel.get(queue)
    assert message is not None
    assert message.arguments == {
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "",
        "routing_key": queue,
        "message_count": 0,
    }
    assert (message.properties, message.body) == ({}, b"hello")


def test_a_message_nobody_wants_is_dropped_silently(channel: Channel, names: Names) -> None:
    channel.publish("m", routing_key=names.queue())
    channel.publish("m", exchange="amq.direct", routing_key="unbound")
    channel.hears_nothing()


@pytest.mark.parametrize("exchange", ["", "amq.direct", "amq.topic", "amq.fanout", "amq.headers"])
def test_a_mandatory_message_nobody_wants_comes_back(channel: Channel, exchange: str) -> None:
    properties: dict[str, Any] = {"headers": {"a": Typed("I", 1)}, "delivery_mode": 2, "message_id": "m1"}
    channel.publish("body", exchange=exchange, routing_key="no.such.key", mandatory=True, **properties)
    returned = channel.expect("basic.return")
    assert returned.arguments == {
        "reply_code": 312,
        "reply_text": "NO_ROUTE",
        "exchange": exchange,
        "routing_key": "no.such.key",
    }
    assert (returned.properties, returned.body) == (properties, b"body")


def test_a_mandatory_message_that_is_routed_does_not_come_back(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, mandatory=True)
    assert channel.drain(queue) == ["m"]
    channel.hears_nothing()


def test_returns_come_in_the_order_of_publishing(channel: Channel) -> None:
    for body in "abcde":
        channel.publish(body, exchange="amq.direct", routing_key="unbound", mandatory=True)
    assert [channel.expect("basic.return").body for _ in range(5)] == [b"a", b"b", b"c", b"d", b"e"]


def test_a_returned_message_of_no_body_has_a_header_and_nothing_more(channel: Channel) -> None:
    channel.publish(b"", exchange="amq.direct", routing_key="unbound", mandatory=True)
    assert channel.expect("basic.return").body == b""
    channel.hears_nothing()


def test_an_immediate_message_closes_the_connection(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, immediate=True)
    channel.client.refuses(540, "immediate=true", "basic.publish")


@pytest.mark.parametrize("mandatory", [True, False])
def test_publishing_to_a_missing_exchange_closes_the_channel(
    channel: Channel, names: Names, mandatory: bool
) -> None:
    name = names.exchange()
    channel.publish("m", exchange=name, mandatory=mandatory)
    channel.refuses(404, f"no exchange '{name}' in vhost '/'", "basic.publish")


def test_what_was_published_before_a_refusal_is_kept_and_what_comes_after_is_not(
    channel: Channel, queue: str, names: Names
) -> None:
    missing = names.exchange()
    channel.publish("before", routing_key=queue)
    channel.publish("m", exchange=missing)
    channel.publish("after", routing_key=queue)
    channel.send("queue.delete", queue=queue)
    channel.refuses(404, f"no exchange '{missing}' in vhost '/'", "basic.publish")
    assert channel.drain(queue) == ["before"]


def test_a_message_for_several_queues_reaches_each(channel: Channel, names: Names) -> None:
    queues = [channel.declare(names.queue()) for _ in range(3)]
    exchange = names.exchange()
    channel.call("exchange.declare", exchange=exchange, type="fanout")
    for queue in queues:
        channel.bind(queue, exchange)
    channel.publish("m", exchange=exchange)
    assert [channel.drain(queue) for queue in queues] == [["m"]] * 3


def test_messages_keep_their_order(channel: Channel, queue: str) -> None:
    for number in range(100):
        channel.publish(str(number), routing_key=queue)
    assert channel.drain(queue) == [str(number) for number in range(100)]


# properties


EVERY_PROPERTY: dict[str, Any] = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "headers": {"k": Typed("S", "v")},
    "delivery_mode": 1,
    "priority": 9,
    "correlation_id": "corr",
    "reply_to": "back",
    "expiration": "60000",
    "message_id": "id",
    "timestamp": 2**63 + 5,
    "type": "kind",
    "user_id": "guest",
    "app_id": "app",
    "cluster_id": "cluster",
}


@pytest.mark.parametrize("name", EVERY_PROPERTY)
def test_a_property_alone_arrives_as_sent(channel: Channel, queue: str, name: str) -> None:
    channel.publish("m", routing_key=queue, **{name: EVERY_PROPERTY[name]})
    message = channel.get(queue)
    assert message is not None
    assert message.properties == {name: EVERY_PROPERTY[name]}


def test_all_properties_together_arrive_octet_for_octet(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, **EVERY_PROPERTY)
    message = channel.get(queue)
    assert message is not None
    assert message.header == encode_header(1, EVERY_PROPERTY)


@pytest.mark.parametrize("mode", [1, 2])
def test_there_are_two_delivery_modes(channel: Channel, queue: str, mode: int) -> None:
    channel.publish("m", routing_key=queue, delivery_mode=mode)
    message = channel.get(queue)
    assert message is not None
    assert message.properties == {"delivery_mode": mode}


@pytest.mark.parametrize("mode", [0, 3, 255])
def test_there_is_no_third_delivery_mode(channel: Channel, queue: str, mode: int) -> None:
    channel.publish("m", routing_key=queue, delivery_mode=mode)
    channel.refuses(406, f"invalid message: {{delivery_mode_unknown,{mode}}}", "basic.publish")


@pytest.mark.parametrize("priority", [0, 255])
def test_any_priority_is_taken(channel: Channel, queue: str, priority: int) -> None:
    channel.publish("m", routing_key=queue, priority=priority)
    message = channel.get(queue)
    assert message is not None
    assert message.properties == {"priority": priority}


def test_a_string_property_may_hold_any_octets(channel: Channel, queue: str) -> None:
    header = encode_header(
        0, encode_properties({"message_id": b"\xff\x00\xfe", "correlation_id": b"x" * 255})
    )
    channel.client.send_bytes(
        Frame(METHOD, channel.number, encode_method("basic.publish", {"routing_key": queue})).encoded()
        + Frame(HEADER, channel.number, header).encoded()
    )
    message = channel.get(queue)
    assert message is not None
    assert message.header == header


@pytest.mark.parametrize(
    ("expiration", "complaint"),
    [
        ("abc", "no_integer"),
        ("", "no_integer"),
        (" 10", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("10ms", '{leftover_string,"ms"}'),
        ("1.5", '{leftover_string,".5"}'),
        ("10 ", '{leftover_string," "}'),
        ("315360000001", "{value_too_large,315360000001}"),
        ("99999999999999", "{value_too_large,99999999999999}"),
    ],
)
def test_an_expiration_that_is_no_number_of_milliseconds_is_refused(
    channel: Channel, queue: str, expiration: str, complaint: str
) -> None:
    channel.publish("m", routing_key=queue, expiration=expiration)
    channel.refuses(406, f"invalid expiration '{expiration}': {complaint}", "basic.publish")


@pytest.mark.parametrize("expiration", ["60000", "+60000", "0060000", "315360000000"])
def test_an_expiration_in_digits_is_taken(channel: Channel, queue: str, expiration: str) -> None:
    channel.publish("m", routing_key=queue, expiration=expiration)
    message = channel.get(queue)
    assert message is not None
    assert message.properties == {"expiration": expiration}


def test_a_user_id_has_to_be_the_user(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, user_id="guest")
    channel.publish("m", routing_key=queue, user_id="joe")
    channel.refuses(406, "user_id property set to 'joe' but authenticated user was 'guest'", "basic.publish")
    assert channel.drain(queue) == ["m"]


def test_an_empty_user_id_is_not_the_user(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, user_id="")
    channel.refuses(406, "user_id property set to '' but authenticated user was 'guest'", "basic.publish")


def test_a_missing_exchange_is_noticed_before_a_wrong_user_id(channel: Channel, names: Names) -> None:
    name = names.exchange()
    channel.publish("m", exchange=name, user_id="joe", expiration="x")
    channel.refuses(404, f"no exchange '{name}' in vhost '/'", "basic.publish")


def test_a_wrong_user_id_is_noticed_before_a_wrong_expiration(channel: Channel) -> None:
    channel.publish("m", exchange="amq.direct", user_id="joe", expiration="x")
    channel.refuses(406, "user_id property set to 'joe' but authenticated user was 'guest'", "basic.publish")


# bodies


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 131064, 131065, 300000])
def test_a_body_of_any_size_arrives_whole(channel: Channel, queue: str, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    channel.publish(body[:size], routing_key=queue)
    message = channel.get(queue)
    assert message is not None
    assert message.body == body[:size]


@pytest.mark.parametrize("size", [0, 4087, 4088, 4089, 50000])
def test_a_body_is_cut_to_the_receivers_frame_max(
    channel: Channel, connect: Connect, queue: str, size: int
) -> None:
    channel.publish(b"x" * size, routing_key=queue)
    small = connect(frame_max=4096).channel()
    message = small.get(queue)
    assert message is not None
    assert message.body == b"x" * size


def test_a_body_may_come_in_frames_of_any_size_even_empty_ones(channel: Channel, queue: str) -> None:
    frames = [
        Frame(METHOD, channel.number, encode_method("basic.publish", {"routing_key": queue})),
        Frame(HEADER, channel.number, encode_header(10, {})),
        *(Frame(BODY, channel.number, piece) for piece in (b"", b"0", b"", b"12345", b"6789")),
    ]
    channel.client.send_bytes(b"".join(frame.encoded() for frame in frames))
    message = channel.get(queue)
    assert message is not None
    assert message.body == b"0123456789"


def test_contents_on_two_channels_may_interleave(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    for channel in (one, two):
        channel.send("basic.publish", routing_key=queue)
    for channel in (two, one):
        client.send_frame(HEADER, channel.number, encode_header(2, {}))
    for channel, piece in ((one, b"a"), (two, b"b"), (two, b"B"), (one, b"A")):
        client.send_frame(BODY, channel.number, piece)
    one.counts_become(queue, 2, 0)
    assert sorted(one.drain(queue)) == ["aA", "bB"]


def test_a_message_of_a_mebibyte_and_more_arrives_whole(channel: Channel, queue: str) -> None:
    body = bytes(range(256)) * 5000
    channel.publish(body, routing_key=queue)
    message = channel.get(queue)
    assert message is not None
    assert message.body == body


def test_an_exchange_whose_name_is_not_utf_8_is_not_found(channel: Channel) -> None:
    channel.publish("m", exchange=b"x\xff")  # type: ignore[arg-type]
    reply = channel.receive()
    assert (reply.name, reply["reply_code"]) == ("channel.close", 404)
    assert reply["reply_text"] == "NOT_FOUND - no exchange 'x\udcff' in vhost '/'"

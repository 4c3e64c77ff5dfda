"""To bring the broker down, or somebody else's connection, by what is sent."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.conversations.client import Channel
from tests.conversations.codec import METHODS, encode_method, encode_table, longstr, shortstr
from tests.penetration.site import Site, closed, ends_silently, refused


@pytest.fixture
def channel(site: Site) -> Channel:
    return site.channel("alice")


def nested(kind: bytes, depth: int) -> bytes:
    """A table value within a table value within ..."""
    inside = b""
    for _ in range(depth):
        value = kind + struct.pack(">I", len(inside)) + inside
        inside = b"\x01x" + value if kind == b"F" else value
    return inside


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"basic.publish"}))
def test_content_behind_a_method_that_has_none_is_refused(site: Site, name: str) -> None:
    """Every method there is, followed by a content header and a body: each ends in an answer, none in a crash."""
    client = site.opened("alice")
    number = 0 if name.startswith("connection.") else 1
    client.channel(1)
    client.send(number, name)
    client.send_frame(2, number, b"\0\x3c\0\0" + (1).to_bytes(8, "big") + b"\0\0")
    client.send_frame(3, number, b"x")
    while (reply := client.receive()).name != "connection.close":
        assert reply.name != "basic.deliver"
        if reply.name == "connection.close-ok":
            return
    assert reply["reply_code"] in (501, 503, 504, 505, 530, 540)


@pytest.mark.parametrize("size", range(12))
@pytest.mark.parametrize("kind", [1, 2, 3])
def test_frames_shorter_than_what_has_to_be_in_them_are_refused(site: Site, kind: int, size: int) -> None:
    client = site.opened("alice")
    channel = client.channel()
    if kind != 1:
        channel.send("basic.publish", exchange="", routing_key="nobody")
    client.send_frame(kind, channel.number, b"\0\x3c\0\x28\0\0\xff\0\0\0\0\0"[:size])
    if kind != 3:
        reply = client.receive(0)
        assert (reply.name, reply["reply_code"] in (501, 505)) == ("connection.close", True), reply
    else:
        closed(client, 505)


@pytest.mark.parametrize("size", [131073, 2**31, 2**32 - 1])
def test_a_frame_that_claims_to_be_huge_is_refused_before_it_comes(site: Site, size: int) -> None:
    client = site.opened("alice")
    client.send_bytes(struct.pack(">BHI", 1, 1, size))
    reply = client.receive(0)
    assert (reply.name, reply["reply_code"]) == ("connection.close", 501), reply
    assert "frame_too_large" in reply["reply_text"]


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_thousands_of_tables_in_one_another_do_not_exhaust_the_stack(channel: Channel, kind: bytes) -> None:
    deep = nested(kind, 9000)
    table = deep if kind == b"F" else b"\x01x" + deep
    assert len(table) < 131000
    properties = b"\x20\x00" + longstr(table)
    channel.call("confirm.select")
    for exchange in ("amq.headers", "amq.fanout"):
        channel.send("basic.publish", exchange=exchange, routing_key="x")
        channel.client.send_frame(2, channel.number, b"\0\x3c\0\0" + bytes(8) + properties)
        reply = channel.client.receive()
        if reply.name == "connection.close":
            assert reply["reply_code"] in (501, 502, 541)
            return
        assert reply.name in ("basic.ack", "channel.close"), reply


def test_lengths_that_reach_beyond_their_frame_read_nothing_else(site: Site) -> None:
    """Long strings, short strings, tables and arrays, each with a length of nearly 4 GiB or just one too many."""
    for length in (2**32 - 1, 2**31, 5):
        inside = b"\x01x" + b"S" + struct.pack(">I", length) + b"abcd"
        for table in (
            longstr(inside),
            struct.pack(">I", length) + inside,
            longstr(inside.replace(b"S", b"A", 1)),
        ):
            client = site.opened("alice")
            client.channel(1)
            method = b"\0\x32\0\x0a\0\0" + shortstr("long") + b"\0" + table
            client.send_frame(1, 1, method)
            reply = client.receive(0)
            assert (reply.name, reply["reply_code"] in (501, 502, 541)) == ("connection.close", True), reply
    client = site.opened("alice")
    client.channel(1)
    client.send_frame(1, 1, b"\0\x32\0\x0a\0\0\xffshort")
    closed(client, 501)


def test_deaths_that_a_client_makes_up_neither_loop_nor_overflow(channel: Channel) -> None:
    dead = channel.declare("", exclusive=True)
    queue = channel.declare(
        "", exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    )
    made_up: list[Any] = [
        [{"count": 2**63 - 1, "queue": queue, "reason": "rejected"}],
        [{"count": -(2**63), "queue": queue, "reason": "rejected"}],
        [{"count": "many", "queue": 7, "reason": []}],
        ["no table", 1, None],
        "no array",
        [{"queue": queue, "reason": "rejected"}] * 300,
    ]
    for deaths in made_up:
        channel.publish(b"x", routing_key=queue, headers={"x-death": deaths, "CC": []})
        message = channel.arrival(queue, no_ack=False)
        channel.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=False)
        recorded = channel.arrival(dead).properties["headers"]["x-death"].value
        counts = [death.value["count"].value for death in recorded if "count" in death.value]
        assert all(-(2**63) <= count < 2**63 for count in counts if isinstance(count, int))
        assert len(recorded) <= 3


def test_a_circle_of_dead_letters_ends(channel: Channel) -> None:
    """Three queues, each the dead letter queue of another, where messages live for no time."""
    names = ["circle.1", "circle.2", "circle.3"]
    for name, following in zip(names, names[1:] + names[:1], strict=True):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": following, "x-message-ttl": 0}
        channel.declare(name, exclusive=True, arguments=arguments)
    channel.publish(b"x", routing_key="circle.1")
    for name in names:
        channel.counts_become(name, 0, 0)


def test_a_circle_of_exchanges_ends(channel: Channel) -> None:
    for name in ("ring.1", "ring.2"):
        channel.call(
            "exchange.declare", exchange=name, type="fanout", arguments={"alternate-exchange": "ring.1"}
        )
    channel.call("exchange.bind", destination="ring.2", source="ring.1")
    channel.call("exchange.bind", destination="ring.1", source="ring.2")
    channel.call("confirm.select")
    channel.publish(b"x", exchange="ring.1")
    channel.expect("basic.ack")
    for name in ("ring.1", "ring.2"):
        channel.call("exchange.delete", exchange=name)


def test_a_topic_pattern_of_many_hashes_takes_no_time_to_match(channel: Channel) -> None:
    queue = channel.declare("", exclusive=True)
    channel.bind(queue, "amq.topic", ".".join(["#", "a"] * 60 + ["b"]))
    channel.call("confirm.select")
    channel.publish(b"x", exchange="amq.topic", routing_key=".".join(["a"] * 127))
    channel.expect("basic.ack")
    assert channel.counts(queue) == (0, 0)


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x00\x00\x09\x02",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c",
        b"CONNECT\naccept-version:1.2\n\n\0",
        b"\x00\x00\x01\x00\x1f\x00\x00\x00\x00",
    ],
)
def test_other_protocols_are_turned_away(site: Site, octets: bytes) -> None:
    """HTTP, other AMQPs, TLS, MQTT, STOMP and OpenWire get the header of AMQP 0-9-1, and the end."""
    client = site.dial()
    client.send_bytes(octets)
    assert client.receive_octets(8) == b"AMQP\0\0\x09\x01"
    ends_silently(client)


def test_names_of_classes_in_messages_are_just_text(channel: Channel) -> None:
    """Nothing that a message holds is made into anything: headers and bodies of any type come back as they were."""
    queue = channel.declare("", exclusive=True)
    bodies = [
        b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap",
        b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
        b'\x1f\x00\x01\x00"org.springframework.context.support.ClassPathXmlApplicationContext',
        b"\x83h\x02d\x00\x04exit",
        b"!!python/object/apply:os.system ['id']",
    ]
    for body in bodies:
        kind = "application/x-python-serialize"
        channel.publish(
            body, routing_key=queue, content_type=kind, headers={"__TypeId__": "java.lang.Runtime"}
        )
        message = channel.arrival(queue)
        assert (message.body, message.properties["content_type"]) == (body, kind)


def test_what_follows_a_refused_method_is_not_done(channel: Channel) -> None:
    """Frames behind the error, sent before its answer came, change nothing."""
    channel.send("basic.get", queue="not there")
    channel.send("queue.declare", queue="declared-behind-the-error")
    channel.publish(b"x", routing_key="bystander")
    refused(channel, 404)
    channel.send("queue.declare", queue="declared-behind-the-error", passive=True)
    refused(channel, 404)
    assert channel.counts("bystander") == (0, 0)


def test_a_body_does_not_grow_beyond_what_its_header_announced(site: Site) -> None:
    """By one frame that is too long, or by frame after frame."""
    for frames in ([b"xx"], [b"x", b"x"], [b"", b"x" * 4000, b"x" * 4000]):
        client = site.opened("alice")
        channel = client.channel()
        channel.send("basic.publish", exchange="", routing_key="bystander")
        client.send_frame(2, channel.number, b"\0\x3c\0\0" + (1).to_bytes(8, "big") + b"\0\0")
        for frame in frames:
            client.send_frame(3, channel.number, frame)
        reply = client.receive(0)
        assert (reply.name, reply["reply_code"] in (501, 505)) == ("connection.close", True), reply
    queue = site.channel("alice")
    assert queue.drain("bystander") in ([], ["x"])


def test_client_properties_of_any_shape_are_taken(site: Site) -> None:
    for capabilities in (
        True,
        [],
        "x",
        {"consumer_cancel_notify": "yes", "authentication_failure_close": 7},
        [None] * 3000,
        None,
    ):
        client = site.dial()
        client.send_bytes(b"AMQP\0\0\x09\x01")
        client.expect("connection.start")
        table = encode_table({"capabilities": capabilities, "product": {"a": [None]}, "": b"\xff"})
        payload = encode_method("connection.start-ok", {"mechanism": "PLAIN", "response": b"\0alice\0alice"})
        client.send_frame(1, 0, payload[:4] + table + payload[8:])
        client.expect("connection.tune")

"""What a connection may do before anybody knows whose it is, and how memory that nobody publishes is bounded."""

from __future__ import annotations

import pytest

from amqp_broker.session.connection import LARGE_METHOD, STRANGERS_FRAME
from tests.conversations.codec import BODY, HEADER, METHOD, Frame, encode_header, encode_method
from tests.session.world import PROTOCOL_HEADER, Peer, World, method


@pytest.fixture
def world() -> World:
    return World()


def start_ok(size: int) -> bytes:
    """A start-ok frame whose payload has this many octets."""
    arguments = {"mechanism": "PLAIN", "response": b"\0guest\0guest", "client_properties": {"x": ""}}
    padding = size - len(encode_method("connection.start-ok", arguments))
    arguments["client_properties"] = {"x": "x" * padding}
    return method(0, "connection.start-ok", **arguments)


def greeted(world: World) -> Peer:
    peer = world.dial().say(PROTOCOL_HEADER)
    peer.take()
    return peer


def test_a_frame_of_eight_kibibytes_is_taken_from_strangers(world: World) -> None:
    peer = greeted(world).say(start_ok(STRANGERS_FRAME))
    assert STRANGERS_FRAME == 8192
    assert peer.names() == ["connection.tune"]


def test_a_larger_one_ends_the_connection_at_its_head_and_without_a_word(world: World) -> None:
    frame = start_ok(STRANGERS_FRAME + 1)
    peer = greeted(world).say(frame[:7])
    assert peer.connection.finished
    assert peer.octets.count(b"\xce") == 1


@pytest.mark.parametrize("kind", [METHOD, HEADER, BODY, 8, 255])
def test_none_of_any_type_and_channel_may_be_larger(world: World, kind: int) -> None:
    for channel in (0, 1, 65535):
        head = Frame(kind, channel, bytes(STRANGERS_FRAME + 1)).encoded()[:7]
        assert greeted(world).say(head).connection.finished


def test_what_is_kept_of_a_stranger_is_no_more_than_a_frame(world: World) -> None:
    peer = greeted(world)
    frame = start_ok(STRANGERS_FRAME)
    for octet in frame[:-1]:
        peer.say(bytes([octet]))
    assert len(peer.connection.reader.rest) == len(frame) - 1
    peer.say(frame[-1:])
    assert peer.names() == ["connection.tune"]
    assert peer.connection.reader.rest == b""


def test_who_is_let_in_may_send_what_was_negotiated(world: World) -> None:
    peer = world.connect(frame_max=131072)
    large = {"queue": "q", "arguments": {"x": "x" * 100_000}}
    assert peer.reply(1, "queue.declare", **large).name == "queue.declare-ok"


def test_memory_for_a_message_that_never_ends_is_taken_by_no_client_that_is_paused(world: World) -> None:
    peer = world.connect()
    said = (
        method(1, "basic.publish", routing_key="q") + Frame(HEADER, 1, encode_header(1 << 26, {})).encoded()
    )
    peer.say(said + Frame(BODY, 1, b"some").encoded())
    world.broker.alarms.append("low on memory")
    peer.say(Frame(BODY, 1, b"more").encoded())
    assert peer.names() == ["connection.blocked"]
    assert peer.connection.paused


@pytest.mark.parametrize(("size", "is_paused"), [(10, False), (LARGE_METHOD, True)])
def test_where_memory_is_short_large_arguments_count_as_a_publish(
    world: World, size: int, is_paused: bool
) -> None:
    peer = world.connect()
    world.broker.alarms.append("low on memory")
    peer.send(1, "queue.declare", queue="q", arguments={"x": "x" * size})
    assert peer.names() == ["connection.blocked"] * is_paused + ["queue.declare-ok"]
    assert peer.connection.paused is is_paused

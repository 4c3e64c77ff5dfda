"""The handshake phase by phase, and the time each connection has for what it owes."""

from __future__ import annotations

import pytest

from amqp_broker.session.handshake import CLOSED, CLOSING, GREETING, OPENING, RUNNING, STARTING, TUNING
from tests.conversations import codec
from tests.session.world import PROTOCOL_HEADER, Peer, World, method


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer(world: World) -> Peer:
    return world.dial()


START_OK = method(0, "connection.start-ok", mechanism="PLAIN", response="\0guest\0guest")
TUNE_OK = method(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
OPEN = method(0, "connection.open", virtual_host="/")
WRONG_PASSWORD = codec.encode_table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:]
STEPS = {
    GREETING: PROTOCOL_HEADER,
    STARTING: START_OK,
    TUNING: TUNE_OK,
    OPENING: OPEN,
}


def reach(peer: Peer, phase: int) -> Peer:
    """Say what leads to this phase."""
    for step in range(GREETING, phase):
        peer.say(STEPS[step])
    assert peer.connection.phase == phase
    peer.take()
    return peer


def test_each_step_leads_to_the_next_phase(peer: Peer) -> None:
    replies = ["connection.start", "connection.tune", None, "connection.open-ok"]
    for phase, reply in enumerate(replies):
        assert peer.connection.phase == phase
        peer.say(STEPS[phase])
        assert peer.names() == ([reply] if reply else [])
    assert peer.connection.phase == RUNNING


def test_all_steps_may_come_in_one_piece_or_octet_by_octet(world: World) -> None:
    octets = b"".join(STEPS.values()) + method(1, "channel.open")
    expected = ["connection.start", "connection.tune", "connection.open-ok", "channel.open-ok"]
    for pieces in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
        peer = world.dial()
        for piece in pieces:
            peer.say(piece)
        assert peer.names() == expected


@pytest.mark.parametrize("header", [b"AMQP\1\1\0\x09", b"AMQP\1\1\x08\0"])
def test_earlier_protocol_headers_are_taken(peer: Peer, header: bytes) -> None:
    assert peer.say(header).names() == ["connection.start"]


@pytest.mark.parametrize(
    "header", [b"AMQP\0\1\0\0", b"AMQP\3\1\0\0", b"GET / HT", b"\x16\x03\x01\0\xf9\x01\0\0"]
)
def test_any_other_header_is_answered_with_the_right_one_and_the_end(peer: Peer, header: bytes) -> None:
    peer.say(header)
    assert peer.names() == ["protocol header"]
    assert peer.connection.finished


@pytest.mark.parametrize("phase", [GREETING, STARTING, TUNING, OPENING])
def test_who_does_not_go_on_is_dropped_after_the_handshake_timeout(
    world: World, peer: Peer, phase: int
) -> None:
    reach(peer, phase)
    world.pass_time(9.5)
    assert not peer.connection.finished
    world.pass_time(1)
    assert peer.connection.finished
    assert peer.connection.close_reason == "handshake timeout"
    assert peer.take() == []


def test_octets_alone_do_not_buy_time(world: World, peer: Peer) -> None:
    for octet in PROTOCOL_HEADER[:7]:
        peer.say(bytes((octet,)))
        world.pass_time(1.5)
    assert peer.connection.finished


def test_an_open_connection_without_heartbeats_lives_on(world: World, peer: Peer) -> None:
    reach(peer, RUNNING)
    world.pass_time(1_000_000, step=1000)
    assert peer.connection.phase == RUNNING
    assert peer.take() == []


def test_who_does_not_say_close_ok_is_dropped_after_the_close_timeout(world: World, peer: Peer) -> None:
    reach(peer, RUNNING).send(5, "basic.qos")
    assert peer.names() == ["connection.close"]
    assert peer.connection.phase == CLOSING
    world.pass_time(2.5)
    assert not peer.connection.finished
    world.pass_time(1)
    assert peer.connection.finished
    assert peer.connection.phase == CLOSED


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [("PLAIN", "\0guest\0wrong"), ("PLAIN", "\0nobody\0guest"), ("AMQPLAIN", WRONG_PASSWORD)],
)
def test_a_refused_login_says_why_to_who_can_hear_it(
    peer: Peer, mechanism: str, response: str | bytes
) -> None:
    reach(peer, STARTING)
    properties = {"capabilities": {"authentication_failure_close": True}}
    peer.send(0, "connection.start-ok", client_properties=properties, mechanism=mechanism, response=response)
    close = peer.take()[0]
    assert (close.name, close.reply_code, close.class_id, close.method_id) == ("connection.close", 403, 0, 0)
    assert close.reply_text == (
        f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. "
        "For details see the broker logfile."
    )
    peer.send(0, "connection.close-ok")
    assert peer.connection.finished


def test_a_refused_login_is_the_end_for_who_cannot_hear_it(peer: Peer) -> None:
    reach(peer, STARTING).send(0, "connection.start-ok", mechanism="PLAIN", response="\0guest\0wrong")
    assert peer.take() == []
    assert peer.connection.finished
    assert peer.connection.close_reason == "user 'guest' - invalid credentials"


@pytest.mark.parametrize(
    ("mechanism", "response"), [("PLAIN", "guest"), ("EXTERNAL", ""), ("AMQPLAIN", "nonsense")]
)
def test_a_response_that_is_none_is_the_end_without_a_word(peer: Peer, mechanism: str, response: str) -> None:
    reach(peer, STARTING)
    properties = {"capabilities": {"authentication_failure_close": True}}
    peer.send(0, "connection.start-ok", client_properties=properties, mechanism=mechanism, response=response)
    assert peer.take() == []
    assert peer.connection.finished


def test_amqplain_logs_in(peer: Peer) -> None:
    table = codec.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    reach(peer, STARTING).send(0, "connection.start-ok", mechanism="AMQPLAIN", response=table)
    assert peer.names() == ["connection.tune"]


def test_guest_comes_from_this_machine_only(world: World) -> None:
    peer = reach(world.dial(from_loopback=False), STARTING).say(START_OK)
    assert peer.connection.finished
    assert peer.connection.close_reason == "user 'guest' can only connect via localhost"


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"frame_max": 4095}, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
        (
            {"frame_max": 131073},
            "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        ({"frame_max": 0}, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)"),
        (
            {"channel_max": 2048},
            "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        ({"channel_max": 0}, "negotiated channel_max = 0 is higher than the maximum allowed value (2047)"),
    ],
)
def test_a_choice_outside_what_was_offered_ends_the_connection(
    peer: Peer, choice: dict[str, int], text: str
) -> None:
    arguments = {"channel_max": 2047, "frame_max": 131072, "heartbeat": 0} | choice
    reach(peer, TUNING).send(0, "connection.tune-ok", **arguments)
    assert peer.connection.phase in (CLOSING, CLOSED)
    assert peer.connection.close_reason == f"NOT_ALLOWED - {text}"


def test_an_unknown_vhost_is_not_allowed(peer: Peer) -> None:
    reach(peer, OPENING).send(0, "connection.open", virtual_host="elsewhere")
    close = peer.take()[0]
    assert (close.reply_text, close.class_id, close.method_id) == (
        "NOT_ALLOWED - vhost elsewhere not found",
        10,
        40,
    )


def test_a_vhost_without_permissions_is_not_allowed(world: World, peer: Peer) -> None:
    world.broker.add_vhost("closed")
    reach(peer, OPENING).send(0, "connection.open", virtual_host="closed")
    text = "NOT_ALLOWED - access to vhost 'closed' refused for user 'guest'"
    assert peer.take()[0].reply_text == text


@pytest.mark.parametrize("phase", [STARTING, TUNING])
def test_a_step_that_is_not_due_before_login_is_complete_is_the_end_without_a_word(
    peer: Peer, phase: int
) -> None:
    reach(peer, phase).say(OPEN)
    assert peer.take() == []
    assert peer.connection.finished


def test_a_client_may_leave_once_it_is_in(peer: Peer) -> None:
    reach(peer, RUNNING).send(0, "connection.close", reply_code=200)
    assert peer.names() == ["connection.close-ok"]
    assert peer.connection.finished
    assert peer.connection.close_reason is None


def test_a_broker_that_shuts_down_says_so_to_open_connections_only(world: World) -> None:
    opening, running = reach(world.dial(), OPENING), reach(world.dial(), RUNNING)
    for peer in (opening, running):
        peer.connection.shut_down("shutdown", world.now)
    world.end_turn()
    assert opening.take() == []
    assert opening.connection.finished
    close = running.take()[0]
    assert (close.reply_code, close.reply_text) == (
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    )
    running.send(0, "connection.close-ok")
    assert running.connection.finished

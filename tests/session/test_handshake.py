"""The handshake phase by phase, the time each connection has for what it owes, and what has to wait for an answer."""

from __future__ import annotations

import pytest

from amqp_broker.broker.access import Permission, Rights, User
from amqp_broker.broker.passwords import SHA256, PasswordHash, strong_hash
from amqp_broker.session.auth import Authenticator, shown
from amqp_broker.session.handshake import (
    CLOSED,
    CLOSING,
    GREETING,
    OPENING,
    RUNNING,
    STARTING,
    TUNING,
    Login,
    Opening,
)
from amqp_broker.wire.reader import MOST_HELD
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


# -- what waits for an answer


class Slow(Authenticator):
    """Answers nothing by itself: a test does."""

    def __init__(self) -> None:
        self.logins: list[Login] = []
        self.openings: list[Opening] = []

    def log_in(self, login: Login) -> None:
        self.logins.append(login)

    def open_vhost(self, opening: Opening) -> None:
        self.openings.append(opening)


@pytest.fixture
def slow(world: World) -> Slow:
    world.settings.authenticator = slow = Slow()
    return slow


def let_in(world: World, slow: Slow, rights: Rights | None = None) -> None:
    slow.logins.pop().allow(world.guest, world.now, rights)
    world.end_turn()


def others() -> Rights:
    """Rights that are not those of the permissions here."""
    return User("guest", PasswordHash(SHA256, b""), [])


CAPABLE = {"capabilities": {"authentication_failure_close": True}}


def test_the_question_says_who_asks(slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).send(0, "connection.start-ok", mechanism="PLAIN", response="\0alice\0w\u00f6nder")
    (login,) = slow.logins
    assert (login.mechanism, login.name, login.password) == ("PLAIN", "alice", "w\u00f6nder".encode())
    assert login.connection is peer.connection
    assert login.wanted


def test_nothing_is_acted_on_before_the_login_is_answered(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK + TUNE_OK + OPEN).say(method(1, "channel.open")).say(b"\x08\0\0")
    assert peer.take() == []
    assert peer.connection.phase == STARTING
    let_in(world, slow)
    assert peer.names() == ["connection.tune", "connection.open-ok", "channel.open-ok"]
    assert peer.say(b"\0\0\0\0\xce").send(1, "basic.qos").names() == ["basic.qos-ok"]


def test_the_answer_may_come_between_any_two_octets(world: World, slow: Slow) -> None:
    octets = START_OK + TUNE_OK + OPEN + method(1, "channel.open")
    for cut in range(len(START_OK), len(octets) + 1):
        peer = reach(world.dial(), STARTING).say(octets[:cut])
        let_in(world, slow)
        peer.say(octets[cut:])
        assert peer.names() == ["connection.tune", "connection.open-ok", "channel.open-ok"]


def test_a_second_answer_does_nothing(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK)
    (login,) = slow.logins
    login.allow(world.guest, world.now)
    login.allow(world.guest, world.now)
    login.refuse("no", world.now)
    login.drop("no", world.now)
    world.end_turn()
    assert peer.names() == ["connection.tune"]
    assert not login.wanted


def test_a_login_can_be_refused_later(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING)
    peer.send(0, "connection.start-ok", client_properties=CAPABLE, mechanism="PLAIN", response="\0guest\0x")
    peer.say(TUNE_OK)
    slow.logins[0].refuse("user 'guest' - invalid credentials", world.now)
    world.end_turn()
    assert peer.take()[0].reply_code == 403
    peer.send(0, "connection.close-ok")
    assert peer.connection.finished
    assert peer.connection.close_reason == "user 'guest' - invalid credentials"


def test_no_answer_is_the_end_without_a_word(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING)
    peer.send(0, "connection.start-ok", client_properties=CAPABLE, mechanism="PLAIN", response="\0guest\0x")
    slow.logins[0].drop("too many logins wait", world.now)
    world.end_turn()
    assert peer.take() == []
    assert peer.connection.finished
    assert peer.connection.close_reason == "too many logins wait"


def test_the_handshake_timeout_runs_on_while_the_login_waits(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK)
    world.pass_time(9.5)
    assert slow.logins[0].wanted
    world.pass_time(1)
    assert peer.connection.close_reason == "handshake timeout"
    assert not slow.logins[0].wanted
    let_in(world, slow)
    assert peer.take() == []
    assert peer.connection.user is None


def test_a_client_that_leaves_meanwhile_is_not_let_in(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK).lose()
    assert not slow.logins[0].wanted
    let_in(world, slow)
    assert peer.connection.user is None


def test_a_broker_that_shuts_down_lets_nobody_in(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK)
    peer.connection.shut_down("shutdown", world.now)
    let_in(world, slow)
    assert peer.take() == []
    assert peer.connection.finished


def test_what_a_stranger_may_send_in_advance_is_bounded(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK)
    for _ in range(MOST_HELD // 1024):
        peer.say(bytes(1024))
    assert slow.logins[0].wanted
    peer.say(b"\0")
    assert peer.connection.finished
    assert not slow.logins[0].wanted
    assert peer.connection.reader.rest == b""


def test_a_wrong_step_in_advance_ends_it_once_it_is_seen(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK + OPEN)
    assert not peer.connection.finished
    let_in(world, slow)
    assert peer.names() == ["connection.tune"]
    assert peer.connection.finished


def test_the_authenticator_is_asked_about_the_vhost_if_the_rights_are_not_ours(
    world: World, slow: Slow, peer: Peer
) -> None:
    reach(peer, STARTING).say(START_OK)
    let_in(world, slow, others())
    peer.take()
    peer.say(TUNE_OK + OPEN + method(1, "channel.open"))
    assert peer.take() == []
    (opening,) = slow.openings
    assert (opening.user, opening.vhost) == (world.guest, world.vhost)
    opening.allow(world.now)
    world.end_turn()
    assert peer.names() == ["connection.open-ok", "channel.open-ok"]


def test_a_vhost_that_it_refuses_is_not_allowed(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK)
    let_in(world, slow, others())
    peer.say(TUNE_OK + OPEN)
    peer.take()
    slow.openings[0].refuse(world.now)
    world.end_turn()
    close = peer.take()[0]
    assert (close.reply_text, close.class_id, close.method_id) == (
        "NOT_ALLOWED - access to vhost '/' refused for user 'guest'",
        10,
        40,
    )
    peer.send(0, "connection.close-ok")
    assert peer.connection.finished


def test_a_vhost_that_is_full_or_not_there_is_not_asked_about(world: World, slow: Slow, peer: Peer) -> None:
    reach(peer, STARTING).say(START_OK)
    let_in(world, slow, others())
    world.guest.limits = {"max-connections": 0}
    peer.say(TUNE_OK + OPEN)
    assert peer.received[-1].reply_text == (
        "NOT_ALLOWED - connection refused for user 'guest': user connection limit (0) is reached"
    )
    world.guest.limits = {}
    other = reach(world.dial(), STARTING).say(START_OK)
    let_in(world, slow, others())
    other.say(TUNE_OK).send(0, "connection.open", virtual_host="nowhere")
    assert other.received[-1].reply_text == "NOT_ALLOWED - vhost nowhere not found"
    assert slow.openings == []


def test_permissions_here_mean_nothing_to_who_has_other_rights(world: World, slow: Slow, peer: Peer) -> None:
    world.broker.clear_permission(world.guest, world.vhost)
    reach(peer, STARTING).say(START_OK)
    let_in(world, slow, others())
    peer.say(TUNE_OK + OPEN)
    slow.openings[0].allow(world.now)
    world.end_turn()
    world.broker.set_permission(world.guest, world.vhost, Permission("", "", ""))
    world.broker.clear_permission(world.guest, world.vhost)
    world.end_turn()
    assert peer.names()[-1] == "connection.open-ok"
    assert not peer.connection.finished


@pytest.mark.parametrize("lost", ["room", "vhost"])
def test_what_is_gone_when_the_answer_comes_is_not_opened(
    world: World, slow: Slow, peer: Peer, lost: str
) -> None:
    reach(peer, STARTING).say(START_OK)
    let_in(world, slow, others())
    peer.say(TUNE_OK + OPEN)
    peer.take()
    if lost == "room":
        world.guest.limits = {"max-connections": 0}
    else:
        world.broker.delete_vhost("/")
    slow.openings[0].allow(world.now)
    world.end_turn()
    expected = {
        "room": "NOT_ALLOWED - connection refused for user 'guest': user connection limit (0) is reached",
        "vhost": "NOT_ALLOWED - vhost / not found",
    }
    assert peer.take()[0].reply_text == expected[lost]


# -- EXTERNAL


@pytest.fixture
def certified(world: World) -> Peer:
    """A client with a certificate, on a broker that offers all mechanisms; its user has no password."""
    world.settings.mechanisms = ["EXTERNAL", "PLAIN"]
    alice = User("alice", PasswordHash(SHA256, b""), [])
    world.broker.add_user(alice)
    world.broker.permit(alice, "/", Permission(".*", ".*", ".*"))
    peer = world.dial(from_loopback=False)
    peer.connection.peer_names = ("alice", "CN=alice,O=Wonderland")
    return peer


def test_external_is_offered_to_who_shows_a_certificate(world: World, certified: Peer) -> None:
    assert certified.say(PROTOCOL_HEADER).take()[0].mechanisms == "EXTERNAL PLAIN"
    assert world.dial().say(PROTOCOL_HEADER).take()[0].mechanisms == "PLAIN"


@pytest.mark.parametrize("response", ["", "alice"])
def test_a_certificate_says_who_logs_in(certified: Peer, response: str) -> None:
    reach(certified, STARTING).send(0, "connection.start-ok", mechanism="EXTERNAL", response=response)
    assert certified.names() == ["connection.tune"]
    assert certified.connection.user is not None
    assert certified.connection.user.name == "alice"


def test_a_certificate_is_none_of_somebody_else(certified: Peer) -> None:
    reach(certified, STARTING)
    certified.send(
        0, "connection.start-ok", client_properties=CAPABLE, mechanism="EXTERNAL", response="guest"
    )
    close = certified.take()[0]
    assert (close.reply_code, close.reply_text) == (
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. "
        "For details see the broker logfile.",
    )


def test_the_whole_name_of_the_subject_can_be_the_user(world: World, certified: Peer) -> None:
    world.settings.external_is_distinguished = True
    world.broker.add_user(User("CN=alice,O=Wonderland", PasswordHash(SHA256, b""), []))
    reach(certified, STARTING).send(0, "connection.start-ok", mechanism="EXTERNAL", response="")
    assert certified.connection.user is not None
    assert certified.connection.user.name == "CN=alice,O=Wonderland"


@pytest.mark.parametrize("name", ["nobody", "Alice", ""])
def test_a_certificate_of_no_user_lets_nobody_in(certified: Peer, name: str) -> None:
    certified.connection.peer_names = (name, f"CN={name}")
    reach(certified, STARTING).send(0, "connection.start-ok", mechanism="EXTERNAL", response="")
    assert certified.take() == []
    assert certified.connection.finished


def test_a_certificate_does_not_bring_a_user_of_this_machine_from_elsewhere(certified: Peer) -> None:
    certified.connection.peer_names = ("guest", "CN=guest")
    reach(certified, STARTING).send(0, "connection.start-ok", mechanism="EXTERNAL", response="")
    assert certified.connection.close_reason == "user 'guest' can only connect via localhost"


def test_a_certificate_is_no_password(certified: Peer) -> None:
    reach(certified, STARTING).send(0, "connection.start-ok", mechanism="PLAIN", response="\0alice\0")
    assert certified.connection.close_reason == "user 'alice' - invalid credentials"


# -- passwords


def test_a_password_kept_by_argon2id_lets_in(world: World, peer: Peer) -> None:
    world.guest.password = strong_hash(b"guest")
    reach(peer, STARTING).say(START_OK)
    assert peer.names() == ["connection.tune"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a\nb", "a\ufffdb"),
        ("\x1b[31m", "\ufffd[31m"),
        ("x" * 300, "x" * 255),
        ("\udcff", "\ufffd"),
        ("zoë", "zoë"),
    ],
)
def test_a_name_in_the_log_stays_on_its_line(name: str, line: str) -> None:
    assert shown(name) == line

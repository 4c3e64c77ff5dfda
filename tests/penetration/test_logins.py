"""To get in without the password."""

from __future__ import annotations

import re
import socket
import struct
import unicodedata

import pytest

from tests.conversations.client import Channel, Client
from tests.conversations.codec import encode_table
from tests.penetration.site import Site, closed, digest, ends_silently, opened, plain, user
from tests.server.secure import StreamTransport

REFUSED = re.compile(
    r"ACCESS_REFUSED - Login was refused using authentication mechanism (PLAIN|AMQPLAIN|EXTERNAL)\. "
    r"For details see the broker logfile\."
)


def is_refused(said: str) -> bool:
    return REFUSED.fullmatch(said) is not None


def test_a_wrong_password_and_an_unknown_user_are_told_apart_by_nothing_that_is_said(site: Site) -> None:
    said = {site.asks_in(plain(name, "wrong")) for name in ("alice", "nobody", "ghost", "guest", "")}
    assert len(said) == 1
    assert is_refused(said.pop())


def test_an_empty_password_opens_no_user_that_has_one(site: Site) -> None:
    assert is_refused(site.asks_in(plain("alice", "")))


def test_an_empty_password_opens_no_user_without_a_password(site: Site) -> None:
    assert is_refused(site.asks_in(plain("ghost", "")))


def test_an_empty_password_does_not_fit_even_a_hash_that_was_made_of_it(site: Site) -> None:
    assert is_refused(site.asks_in(plain("nothing", "")))


def test_the_stored_hash_is_no_password(site: Site) -> None:
    assert is_refused(site.asks_in(plain("alice", digest("alice"))))


def test_a_name_that_only_looks_like_another_is_another(site: Site) -> None:
    lookalikes = ["Alice", "alice ", " alice", "alice\t", "аlice", "alice\u200b", "alice\u0301", "ALICE"]
    assert all(unicodedata.normalize("NFC", name) != "alice" for name in lookalikes)
    for name in lookalikes:
        assert is_refused(site.asks_in(plain(name, "alice"))), name


def test_a_name_with_octets_that_are_no_utf_8_is_nobody(site: Site) -> None:
    assert is_refused(site.asks_in(b"\0alice\xff\0alice"))
    assert is_refused(site.asks_in(b"\0\xff\xfe\0\xff\xfe"))


@pytest.mark.parametrize(
    "response",
    [
        b"boss\0alice\0alice",
        b"\0boss\0wrong\0alice\0alice",
        b"\0alice\0alice\0",
        b"\0boss",
        b"",
        b"alice",
        b"\0\0\0",
    ],
)
def test_nuls_in_plain_move_nothing_from_one_field_to_the_next(site: Site, response: bytes) -> None:
    assert site.asks_in(response) == ""


def test_a_very_long_name_or_password_is_just_wrong(site: Site) -> None:
    assert is_refused(site.asks_in(plain("x" * 2000, "y" * 900)))
    assert is_refused(site.asks_in(plain("alice", "alice" * 500)))


def test_amqplain_takes_a_password_of_no_other_type_than_a_string(site: Site) -> None:
    for password in (True, 0, None, {"alice": "alice"}, ["alice"]):
        table = encode_table({"LOGIN": "ghost", "PASSWORD": password})[4:]
        assert site.asks_in(table, "AMQPLAIN") == "", password


def test_amqplain_with_two_names_is_not_checked_as_one_and_let_in_as_the_other(site: Site) -> None:
    """The first of them counts, for both."""
    entries = [encode_table({"LOGIN": name})[4:] for name in ("alice", "boss")]
    password = encode_table({"PASSWORD": "alice"})[4:]
    assert site.asks_in(entries[0] + password + entries[1], "AMQPLAIN") == "in"
    assert is_refused(site.asks_in(entries[1] + password + entries[0], "AMQPLAIN"))


def test_amqplain_that_is_cut_short_lets_nobody_in(site: Site) -> None:
    whole = encode_table({"LOGIN": "alice", "PASSWORD": "alice"})[4:]
    for end in range(0, len(whole), 5):
        assert site.asks_in(whole[:end], "AMQPLAIN") == ""
    assert site.asks_in(whole, "AMQPLAIN") == "in"


@pytest.mark.parametrize(
    "mechanism", ["ANONYMOUS", "plain", "PLAIN ", "", "PLAIN AMQPLAIN", "CRAM-MD5", "RABBIT-CR-DEMO"]
)
def test_a_mechanism_that_is_not_offered_lets_nobody_in(site: Site, mechanism: str) -> None:
    assert site.asks_in(plain("alice"), mechanism) == ""


def test_external_lets_nobody_in_without_tls(site: Site) -> None:
    for response in (b"", b"alice", b"guest"):
        assert site.asks_in(response, "EXTERNAL") == ""


STEPS = {
    "connection.tune-ok": {"channel_max": 0, "frame_max": 131072, "heartbeat": 0},
    "connection.open": {"virtual_host": "/"},
    "connection.secure-ok": {"response": plain("alice")},
    "connection.update-secret": {"new_secret": "alice", "reason": ""},
    "connection.close-ok": {},
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_of_the_handshake_comes_before_the_login(site: Site, step: str) -> None:
    client = site.dial()
    client.send_bytes(b"AMQP\0\0\x09\x01")
    client.expect("connection.start")
    client.send(0, step, **STEPS[step])
    ends_silently(client)


def test_all_steps_sent_at_once_open_nothing_behind_a_wrong_password(site: Site) -> None:
    client = site.dial()
    client.send_bytes(b"AMQP\0\0\x09\x01")
    client.send_start_ok(response=plain("alice", "wrong"), capabilities={})
    client.send(0, "connection.tune-ok", channel_max=10, frame_max=131072, heartbeat=0)
    client.send(0, "connection.open", virtual_host="/")
    client.send(1, "channel.open")
    Channel(client, 1).send("queue.declare", queue="opened-before-the-answer")
    client.expect("connection.start")
    ends_silently(client)
    alice = site.channel("alice")
    alice.send("queue.declare", queue="opened-before-the-answer", passive=True)
    assert alice.receive()["reply_code"] == 404


def test_a_second_login_behind_the_first_does_not_count(site: Site) -> None:
    client = site.dial()
    client.send_bytes(b"AMQP\0\0\x09\x01")
    client.send_start_ok(response=plain("boss", "wrong"), capabilities={})
    client.send_start_ok(response=plain("boss"), capabilities={})
    client.expect("connection.start")
    ends_silently(client)


def test_nobody_becomes_another_user_on_an_open_connection(site: Site) -> None:
    client = site.opened("mallory")
    client.send_start_ok(response=plain("boss"))
    assert closed(client, 504) == "unexpected method in connection state running"


def test_the_virtual_host_is_not_opened_twice(site: Site) -> None:
    client = site.opened("alice")
    client.send(0, "connection.open", virtual_host="narrow")
    closed(client, 504)


def test_a_channel_before_the_virtual_host_is_open_is_refused(site: Site) -> None:
    client = site.dial()
    client.log_in(response=plain("alice"))
    client.send(1, "channel.open")
    ends_silently(client)


def test_limits_that_were_not_offered_are_not_taken(site: Site) -> None:
    for wish in ({"frame_max": 0}, {"frame_max": 4095}, {"frame_max": 2**32 - 1}, {"channel_max": 65535}):
        client = site.dial()
        client.log_in(response=plain("alice"))
        client.send(0, "connection.tune-ok", **(client.tune | wish))
        client.send(0, "connection.open", virtual_host="/")
        ends_silently(client)


def test_an_old_password_is_good_for_nothing_however_often_it_was_used(site: Site) -> None:
    """What the broker remembers of passwords that fitted goes with the hash."""
    for _ in range(3):
        assert site.asks_in(plain("changed")) == "in"
    before = len(site.process.stderr())
    site.reload(users=[user("changed", password_hash=digest("another"))])
    assert is_refused(site.asks_in(plain("changed", "changed")))
    assert site.asks_in(plain("changed", "another")) == "in"
    site.logs("the password of user 'changed' is kept by argon2id", before)
    assert site.asks_in(plain("changed", "another")) == "in"
    site.reload(users=[user("changed", password_hash="")])
    assert is_refused(site.asks_in(plain("changed", "another")))
    assert is_refused(site.asks_in(plain("changed", "")))


def test_a_new_secret_makes_nobody_anything_else(site: Site) -> None:
    """Whatever stands in connection.update-secret, the connection stays that of its user, and the password too."""
    client = site.opened("mallory")
    for secret in (b"", b"\0boss\0boss", b"x" * 60000, b"\xff\xfe", plain("boss")):
        client.send(0, "connection.update-secret", new_secret=secret, reason="x" * 255)
        client.expect("connection.update-secret-ok")
    channel = client.channel()
    channel.publish(b"x", exchange="mallory", user_id="boss")
    assert channel.receive()["reply_code"] in (404, 406)
    assert site.asks_in(plain("mallory")) == "in"


def test_a_client_that_cannot_be_told_of_the_refusal_is_told_nothing(site: Site) -> None:
    client = site.dial()
    client.send_bytes(b"AMQP\0\0\x09\x01")
    client.expect("connection.start")
    client.send_start_ok(
        response=plain("alice", "wrong"), capabilities={"authentication_failure_close": False}
    )
    ends_silently(client)


def test_a_frame_of_8_kib_is_not_read_before_the_login(site: Site) -> None:
    client = site.dial()
    client.send_bytes(b"AMQP\0\0\x09\x01")
    client.expect("connection.start")
    client.send_bytes(struct.pack(">BHI", 1, 0, 8192 + 1))
    ends_silently(client)


def test_a_unix_socket_asks_for_the_password_as_well(site: Site) -> None:
    def dial() -> Client:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(str(site.unix))
        return site.on(StreamTransport(connected))

    assert is_refused(site.asks_in(plain("alice", "wrong"), client=dial()))
    assert site.asks_in(b"alice", "EXTERNAL", client=dial()) == ""
    opened(dial(), "alice").close()

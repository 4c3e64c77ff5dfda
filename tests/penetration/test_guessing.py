"""To find out passwords and names by trying, or to keep others out by it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.client import Client
from tests.penetration.site import Site, opened, plain
from tests.penetration.test_logins import is_refused
from tests.penetration.test_proxy import line
from tests.server.secure import Authority

LONGEST = 0.2
# After so many wrong passwords the next login waits for the longest delay.
ENOUGH = 6


@pytest.fixture(scope="module")
def guarded(folder: Path, authority: Authority) -> Iterator[Site]:
    """A broker behind a proxy, so that clients can come from anywhere, with delays for wrong passwords."""
    more = f'[listeners]\nproxy_protocol = true\n[auth]\nlogin_delay_max = "{int(LONGEST * 1000)}ms"\n'
    with Site(folder / "guarded", authority, more) as running:
        yield running


@pytest.fixture(autouse=True)
def gone_afterwards(guarded: Site) -> Iterator[None]:
    yield
    guarded.hang_up()


def tries(site: Site, address: str, name: str, password: str) -> tuple[str, float]:
    """What comes of a login from an address, and how long it took."""
    client = site.dial()
    client.send_bytes(line(address, "TCP6", "::1") if ":" in address else line(address))
    began = time.monotonic()
    return site.asks_in(plain(name, password), client=client), time.monotonic() - began


def guesses(site: Site, address: str, name: str, times: int = ENOUGH) -> None:
    for number in range(times):
        assert is_refused(tries(site, address, name, f"guess {number}")[0])


def test_guessing_is_slowed_down_by_address_whatever_the_name(guarded: Site) -> None:
    for number in range(ENOUGH):
        assert is_refused(tries(guarded, "203.0.113.1", f"name {number}", "x")[0])
    assert tries(guarded, "203.0.113.1", "yet another", "x")[1] >= LONGEST


def test_guessing_is_slowed_down_by_name_whatever_the_address(guarded: Site) -> None:
    for number in range(ENOUGH):
        assert is_refused(tries(guarded, f"198.51.100.{number}", "boss", "x")[0])
    assert tries(guarded, "198.51.100.200", "boss", "x")[1] >= LONGEST


def test_an_attacker_does_not_get_around_the_delay_by_choosing_addresses_of_one_network(
    guarded: Site,
) -> None:
    for number in range(ENOUGH):
        assert is_refused(tries(guarded, f"2001:db8:1:1::{number}", f"name {number}", "x")[0])
    assert tries(guarded, "2001:db8:1:1:ffff::1", "yet another", "x")[1] >= LONGEST


def test_an_attacker_does_not_keep_a_user_out_by_guessing(guarded: Site) -> None:
    """Elsewhere the user waits for the longest delay and is let in; where it has been before, it does not wait."""
    assert tries(guarded, "192.0.2.1", "alice", "alice")[0] == "in"
    guesses(guarded, "203.0.113.9", "alice")
    # Its delay would be the longest; how long it took proves nothing on a busy machine, that it got in does.
    assert tries(guarded, "192.0.2.1", "alice", "alice")[0] == "in"
    said, took = tries(guarded, "192.0.2.77", "alice", "alice")
    assert (said, took >= LONGEST) == ("in", True)


def test_a_right_password_in_the_middle_does_not_start_the_count_anew(guarded: Site) -> None:
    """An attacker with an account of its own may not use it to guess at others for nothing."""
    for number in range(ENOUGH):
        assert is_refused(tries(guarded, "203.0.113.3", f"somebody {number}", "x")[0])
        assert tries(guarded, "203.0.113.3", "mallory", "mallory")[0] == "in"
    assert tries(guarded, "203.0.113.3", "somebody else", "x")[1] >= LONGEST


def test_nothing_is_heard_of_a_client_that_waits(guarded: Site) -> None:
    """Whoever sends on while its password is looked at gets no further by it."""
    guesses(guarded, "203.0.113.4", "few")
    client = guarded.dial()
    client.send_bytes(line("203.0.113.4") + b"AMQP\0\0\x09\x01")
    client.expect("connection.start")
    client.send_start_ok(response=plain("few", "wrong"))
    client.send(0, "connection.tune-ok", channel_max=0, frame_max=131072, heartbeat=0)
    client.send(0, "connection.open", virtual_host="/")
    client.send_bytes(b"\x08\0\0\0\0\0\0\xce" * 100)
    assert client.receive(0).name == "connection.close"


def test_time_does_not_tell_whether_there_is_such_a_user(guarded: Site) -> None:
    """Users with a digest, a hash by argon2id, no password, and none at all: each refusal takes a whole hash.

    A comparison alone, which takes some microseconds, would be over at once.
    """
    assert tries(guarded, "192.0.2.1", "changed", "changed")[0] == "in"
    guarded.logs("the password of user 'changed' is kept by argon2id")
    for number, name in enumerate(("changed", "fading.get", "ghost", "no such user", "")):
        for each in range(3):
            said, took = tries(guarded, f"100.64.{number}.{each}", name, f"wrong {each}")
            assert is_refused(said)
            assert took > 0.003, name


def test_clients_that_never_say_who_they_are_keep_nobody_out(guarded: Site) -> None:
    idle = []
    for _ in range(200):
        connected = socket.create_connection(("127.0.0.1", guarded.process.port), timeout=30)
        connected.sendall(line("203.0.113.7")[:9])
        idle.append(connected)
    client: Client = guarded.dial()
    client.send_bytes(line("192.0.2.1"))
    opened(client, "mallory").is_alive()
    for connected in idle:
        connected.close()

"""Logins as the server answers them: what is answered at once, what takes a hash, who has to wait."""

from __future__ import annotations

import time

import pytest

from amqp_broker.broker.passwords import ARGON2ID, SHA256, PasswordHash, hash_password, strong_hash
from amqp_broker.server import authentication
from amqp_broker.server.authentication import AT_A_TIME, MOST_WAITING
from amqp_broker.server.delayed_logins import AT_A_TIME as LOGINS_AT_A_TIME
from amqp_broker.server.delayed_logins import MOST
from amqp_broker.server.verified import MOST_REMEMBERED, Verified
from tests.server.login_house import House, answered

pytestmark = pytest.mark.anyio

REFUSED = "user 'alice' - invalid credentials"
STRONG = strong_hash(b"wonderland")


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def alice(house: House) -> House:
    """A house with a user whose password is kept by argon2id."""
    house.add("alice", STRONG)
    return house


async def test_a_right_password_lets_in_and_a_wrong_one_does_not(alice: House) -> None:
    assert await alice.login("alice", "wonderland") == "in"
    assert await alice.login("alice", "Wonderland") == REFUSED
    assert await alice.login("alice", "") == REFUSED
    assert await alice.login("alice", "wonderland") == "in"


async def test_a_hash_is_made_elsewhere_while_the_session_waits(alice: House) -> None:
    peer = alice.ask("alice", "wonderland")
    assert not answered(peer)
    assert peer.take() == []
    assert await alice.outcome(peer) == "in"
    assert peer.names() == ["connection.tune"]


async def test_a_digest_is_answered_at_once(house: House) -> None:
    assert answered(house.ask("guest", "guest"))
    assert house.workers.begun == 0


async def test_a_password_that_was_right_before_is_answered_at_once(alice: House) -> None:
    assert await alice.login("alice", "wonderland") == "in"
    begun = alice.workers.begun
    for _ in range(100):
        assert answered(alice.ask("alice", "wonderland"))
    assert alice.workers.begun == begun


async def test_what_was_verified_holds_no_longer_than_the_password(alice: House) -> None:
    assert await alice.login("alice", "wonderland") == "in"
    alice.add("alice", strong_hash(b"looking glass"))
    assert await alice.login("alice", "wonderland") == REFUSED
    assert await alice.login("alice", "looking glass") == "in"


async def test_a_wrong_password_is_never_remembered(alice: House) -> None:
    for _ in range(2):
        begun = alice.workers.begun
        assert await alice.login("alice", "Wonderland") == REFUSED
        assert alice.workers.begun == begun + 1


async def test_clients_that_say_the_same_at_once_take_one_hash(alice: House) -> None:
    peers = [alice.ask("alice", "wonderland") for _ in range(1000)]
    assert {await alice.outcome(peer) for peer in peers} == {"in"}
    assert alice.workers.begun == 1


async def test_no_more_hashes_are_made_at_a_time_than_two(alice: House) -> None:
    peers = [alice.ask("alice", f"guess {number}") for number in range(20)]
    assert alice.workers.waiting == 20 - AT_A_TIME
    alice.authentication.close()
    assert not any(answered(peer) for peer in peers)


async def test_the_lines_are_bounded_and_who_makes_them_long_is_turned_away(alice: House) -> None:
    peers = [alice.ask("alice", f"guess {number}", "10.0.0.9") for number in range(MOST_WAITING + AT_A_TIME)]
    late = alice.ask("alice", "one more", "10.0.0.9")
    assert late.connection.close_reason == "too many logins wait"
    assert late.take() == []
    assert await alice.login("alice", "wonderland", "10.0.0.1") == "in"
    assert alice.workers.begun < 10
    assert alice.workers.waiting > MOST_WAITING - 10
    assert peers[-1].connection.close_reason == "too many logins wait"
    alice.authentication.close()


async def test_a_client_that_has_left_costs_no_hash(alice: House) -> None:
    peers = [alice.ask("alice", f"guess {number}") for number in range(10)]
    for peer in peers:
        peer.lose()
    assert await alice.login("alice", "wonderland") == "in"
    assert alice.workers.begun == AT_A_TIME + 1


async def test_a_password_that_is_changed_meanwhile_is_asked_for_again(alice: House) -> None:
    peer = alice.ask("alice", "wonderland")
    alice.add("alice", strong_hash(b"looking glass"))
    assert await alice.outcome(peer) == REFUSED


async def test_a_user_who_is_deleted_meanwhile_does_not_get_in(alice: House) -> None:
    peer = alice.ask("alice", "wonderland")
    alice.world.broker.delete_user("alice")
    assert await alice.outcome(peer) == REFUSED


async def test_a_user_of_this_machine_is_refused_elsewhere_even_with_the_password(house: House) -> None:
    for _ in range(2):
        assert (
            await house.login("guest", "guest", "10.0.0.9") == "user 'guest' can only connect via localhost"
        )
    assert house.workers.begun == 2
    assert await house.login("guest", "wrong", "10.0.0.9") == "user 'guest' - invalid credentials"


async def test_a_hash_that_cannot_be_made_refuses_nobody(
    alice: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(_password: bytes) -> PasswordHash:
        raise MemoryError("Memory allocation error")

    monkeypatch.setattr(authentication, "strong_hash", out_of_memory)
    peer = alice.ask("nobody", "x")
    assert await alice.outcome(peer) == "the password could not be checked"
    assert peer.take() == []


# -- what a stranger can learn


KINDS = {
    "argon2id": STRONG,
    "a digest": hash_password("wonderland"),
    "no password": PasswordHash(SHA256, b""),
    "no user": None,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_refusal_costs_one_hash_and_says_the_same(house: House, kind: str) -> None:
    stored = KINDS[kind]
    if stored is not None:
        house.add("alice", stored)
    for password in ("Wonderland", ""):
        began, begun = time.monotonic(), house.workers.begun
        peer = house.ask("alice", password)
        assert await house.outcome(peer) == REFUSED
        assert house.workers.begun == begun + 1
        # A digest alone takes some microseconds.
        assert time.monotonic() - began > 0.003
        assert [(close.name, close.reply_code) for close in peer.take()] == [("connection.close", 403)]


# -- better hashes


async def test_a_digest_is_replaced_at_the_next_login(house: House) -> None:
    user = house.add("alice", hash_password("wonderland"))
    assert await house.login("alice", "wonderland") == "in"
    await house.settled()
    assert user.password.algorithm == ARGON2ID
    assert user.password.is_of(b"wonderland")
    begun = house.workers.begun
    assert answered(house.ask("alice", "wonderland"))
    assert house.workers.begun == begun


async def test_a_digest_stays_if_the_password_was_wrong(house: House) -> None:
    user = house.add("alice", hash_password("wonderland"))
    assert await house.login("alice", "Wonderland") == REFUSED
    await house.settled()
    assert user.password.algorithm == SHA256


async def test_many_logins_at_once_replace_a_digest_once(house: House) -> None:
    user = house.add("alice", hash_password("wonderland"))
    for _ in range(50):
        assert answered(house.ask("alice", "wonderland"))
    await house.settled()
    assert house.workers.begun == 1
    assert user.password.is_current


async def test_a_password_that_is_changed_meanwhile_is_not_replaced(house: House) -> None:
    user = house.add("alice", hash_password("wonderland"))
    house.ask("alice", "wonderland")
    house.add("alice", hash_password("looking glass"))
    await house.settled()
    assert user.password.is_of(b"looking glass")


async def test_what_it_was_changed_to_is_replaced_as_soon_as_it_is_used(house: House) -> None:
    user = house.add("alice", hash_password("wonderland"))
    house.ask("alice", "wonderland")
    house.add("alice", hash_password("looking glass"))
    house.ask("alice", "looking glass")
    await house.settled()
    assert user.password.is_current
    assert user.password.is_of(b"looking glass")


async def test_the_digest_it_replaced_does_not_come_back(house: House) -> None:
    digest = hash_password("wonderland")
    user = house.add("alice", digest)
    house.ask("alice", "wonderland")
    await house.settled()
    house.add("alice", PasswordHash(digest.algorithm, digest.octets))
    assert user.password.algorithm == ARGON2ID
    house.add("alice", hash_password("wonderland"))
    assert user.password.algorithm == SHA256


async def test_the_user_of_the_configuration_keeps_a_digest(house: House) -> None:
    house.ask("guest", "guest")
    await house.settled()
    assert house.world.guest.password.algorithm == SHA256


# -- who has to wait


async def guess(house: House, times: int, address: str, user: str = "alice") -> None:
    """So many wrong passwords, each as soon as it may be."""
    for number in range(times):
        peer = house.ask(user, f"guess {number}", address)
        while not answered(peer):
            await house.advance(0.5)
            await house.settled()


async def test_wrong_passwords_make_the_next_login_wait(alice: House) -> None:
    await guess(alice, 6, "10.0.0.9")
    peer = alice.ask("alice", "wonderland", "10.0.0.9")
    assert alice.workers.idle
    await alice.advance(0.19)
    assert alice.workers.idle
    await alice.advance(0.02)
    assert await alice.outcome(peer) == "in"


async def test_nobody_waits_longer_than_the_longest_delay(alice: House) -> None:
    await guess(alice, 30, "10.0.0.9")
    peer = alice.ask("alice", "wonderland", "10.0.0.9")
    await alice.advance(3.0)
    assert await alice.outcome(peer) == "in"


async def test_who_is_guessed_at_elsewhere_gets_in_where_known(alice: House) -> None:
    assert await alice.login("alice", "wonderland", "10.0.0.1") == "in"
    await guess(alice, 30, "10.0.0.9")
    assert answered(alice.ask("alice", "wonderland", "10.0.0.1"))


async def test_a_login_that_waits_ends_with_the_handshake(alice: House) -> None:
    await guess(alice, 30, "10.0.0.9")
    peer = alice.ask("alice", "wonderland", "10.0.0.9")
    peer.lose()
    begun = alice.workers.begun
    await alice.advance(3.0)
    await alice.settled()
    assert alice.workers.begun == begun


async def test_of_one_address_so_many_wait_at_a_time_and_the_rest_behind_them(alice: House) -> None:
    await guess(alice, 12, "10.0.0.9")
    peers = [alice.ask("alice", "wonderland", "10.0.0.9") for _ in range(LOGINS_AT_A_TIME + 3)]
    peers[LOGINS_AT_A_TIME].lose()
    await alice.advance(3.0)
    assert {await alice.outcome(peer) for peer in peers[:LOGINS_AT_A_TIME]} == {"in"}
    assert not any(answered(peer) for peer in peers[LOGINS_AT_A_TIME:])
    await alice.advance(3.0)
    assert {await alice.outcome(peer) for peer in peers[LOGINS_AT_A_TIME + 1 :]} == {"in"}


async def test_an_address_that_sends_too_many_keeps_out_nobody_else(alice: House) -> None:
    await guess(alice, 12, "10.0.0.9")
    await guess(alice, 12, "10.0.0.8")
    peers = [alice.ask("alice", "wonderland", "10.0.0.9") for _ in range(MOST)]
    assert not any(answered(peer) for peer in peers)
    assert alice.ask("alice", "wonderland", "10.0.0.9").connection.close_reason == "too many logins wait"
    other = alice.ask("alice", "wonderland", "10.0.0.8")
    assert peers[-1].connection.close_reason == "too many logins wait"
    await alice.advance(3.0)
    assert await alice.outcome(other) == "in"


async def test_delays_can_be_switched_off() -> None:
    house = House(login_delay_max=0)
    house.add("alice", STRONG)
    for number in range(20):
        assert await house.login("alice", f"guess {number}", "10.0.0.9") == REFUSED


# -- what is remembered of passwords


def test_what_was_verified_is_bounded_and_forgets_the_oldest() -> None:
    verified = Verified()
    keys = [verified.key(b"%d" % number) for number in range(MOST_REMEMBERED + 1)]
    for key in keys[:-1]:
        verified.remember(key)
    assert verified.holds(keys[0])
    verified.remember(keys[-1])
    assert len(verified) == MOST_REMEMBERED
    assert verified.holds(keys[0])
    assert not verified.holds(keys[1])


def test_parts_cannot_be_moved_from_one_to_the_next() -> None:
    verified = Verified()
    assert verified.key(b"ab", b"c") != verified.key(b"a", b"bc")
    assert verified.key(b"a") != Verified().key(b"a")

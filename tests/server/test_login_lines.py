"""In whose line a login waits, and what a refusal costs for hashes that were made elsewhere."""

from __future__ import annotations

import pytest
from argon2.low_level import Type, hash_secret

from amqp_broker.broker.passwords import ARGON2ID, PasswordHash, strong_hash
from amqp_broker.server import authentication
from amqp_broker.server.authentication import AT_A_TIME, MOST_WAITING
from amqp_broker.server.delayed_logins import MOST
from amqp_broker.server.login_delays import line_of
from tests.server.login_house import House, answered
from tests.server.test_login import guess

pytestmark = pytest.mark.anyio

REFUSED = "user 'alice' - invalid credentials"
STRONG = strong_hash(b"wonderland")


@pytest.fixture
def alice() -> House:
    house = House()
    house.add("alice", STRONG)
    return house


def address(number: int) -> str:
    """One of the 2^64 addresses that somebody with one IPv6 network has."""
    return f"[2001:db8:bad:bad::{number:x}]"


def test_all_that_counts_as_one_address_stands_in_one_line() -> None:
    assert line_of(address(1)) == line_of(address(2)) != line_of("2001:db8:bad:bae::1")
    assert line_of("192.0.2.1") == line_of("::ffff:192.0.2.1") != line_of("192.0.2.2")


async def test_a_network_full_of_addresses_does_not_fill_the_lines_for_hashes(alice: House) -> None:
    peers = [
        alice.ask("alice", f"guess {number}", address(number)) for number in range(MOST_WAITING + AT_A_TIME)
    ]
    assert await alice.login("alice", "wonderland", "10.0.0.1") == "in"
    assert peers[-1].connection.close_reason == "too many logins wait"
    alice.authentication.close()


async def test_a_network_full_of_addresses_does_not_fill_the_lines_of_those_who_wait(alice: House) -> None:
    await guess(alice, 12, address(0))
    await guess(alice, 12, "10.0.0.8")
    peers = [alice.ask("alice", "wonderland", address(number)) for number in range(MOST)]
    other = alice.ask("alice", "wonderland", "10.0.0.8")
    assert peers[-1].connection.close_reason == "too many logins wait"
    assert not answered(other)
    await alice.advance(3.0)
    assert await alice.outcome(other) == "in"


async def test_a_hash_that_is_cheaper_than_ours_does_not_make_a_refusal_cheaper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the time would tell that there is such a user."""
    house = House()
    cheap = hash_secret(b"wonderland", b"saltsaltsalt", 1, 8, 1, 16, Type.ID)
    house.add("alice", PasswordHash(ARGON2ID, cheap))
    made = []

    def counted(password: bytes, replaced: PasswordHash | None = None) -> PasswordHash:
        made.append(password)
        return strong_hash(password, replaced)

    monkeypatch.setattr(authentication, "strong_hash", counted)
    assert await house.login("alice", "Wonderland") == REFUSED
    assert made == [b"Wonderland"]

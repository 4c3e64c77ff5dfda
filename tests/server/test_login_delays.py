"""How long a login waits because of those before it."""

from __future__ import annotations

import pytest

from amqp_broker.server.login_delays import FREE, MOST_KNOWN, LoginDelays, network_of

ATTACKER, HOME, ELSEWHERE = "192.0.2.9", "192.0.2.1", "192.0.2.2"


@pytest.fixture
def delays() -> LoginDelays:
    return LoginDelays(3.0)


def fail(
    delays: LoginDelays, times: int, address: str = ATTACKER, user: str = "alice", now: float = 0.0
) -> None:
    for _ in range(times):
        delays.failed(address, user, now)


def test_a_few_wrong_passwords_cost_nothing(delays: LoginDelays) -> None:
    fail(delays, FREE - 1)
    assert delays.delay(ATTACKER, "alice", 0.0) == 0


def test_each_one_more_doubles_the_delay_up_to_the_longest(delays: LoginDelays) -> None:
    fail(delays, FREE)
    waits = []
    for _ in range(7):
        waits.append(delays.delay(ATTACKER, "alice", 0.0))
        fail(delays, 1)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0])


def test_an_address_waits_whatever_user_it_tries(delays: LoginDelays) -> None:
    for number in range(20):
        fail(delays, 1, user=f"user {number}")
    assert delays.delay(ATTACKER, "somebody else", 0.0) == 3.0


def test_a_user_waits_wherever_the_wrong_passwords_come_from(delays: LoginDelays) -> None:
    for number in range(20):
        fail(delays, 1, address=f"198.51.100.{number}")
    assert delays.delay(ELSEWHERE, "alice", 0.0) == 3.0
    assert delays.delay(ELSEWHERE, "bob", 0.0) == 0


def test_a_name_that_is_no_user_counts_like_one_that_is(delays: LoginDelays) -> None:
    fail(delays, 10, user="no such user")
    assert delays.delay(ELSEWHERE, "no such user", 0.0) == 3.0


def test_a_user_who_is_known_at_an_address_does_not_wait_there(delays: LoginDelays) -> None:
    delays.succeeded(HOME, "alice")
    fail(delays, 100)
    fail(delays, 100, address=HOME, user="bob")
    assert delays.delay(HOME, "alice", 0.0) == 0
    assert delays.delay(HOME, "bob", 0.0) == 3.0
    assert delays.delay(ELSEWHERE, "alice", 0.0) == 3.0


def test_a_guesser_at_the_address_where_the_user_is_known_waits(delays: LoginDelays) -> None:
    delays.succeeded(HOME, "alice")
    fail(delays, 100, address=HOME)
    assert delays.delay(HOME, "alice", 0.0) == 3.0


def test_an_account_of_ones_own_does_not_undo_wrong_passwords_for_others(delays: LoginDelays) -> None:
    for _ in range(10):
        fail(delays, 1)
        delays.succeeded(ATTACKER, "mallory")
    assert delays.delay(ATTACKER, "alice", 0.0) == 3.0


def test_wrong_passwords_are_forgotten_one_after_the_other(delays: LoginDelays) -> None:
    fail(delays, 1000)
    assert delays.delay(ATTACKER, "alice", 40.0) == 3.0
    assert delays.delay(ATTACKER, "alice", 120.0) == pytest.approx(0.2)
    assert delays.delay(ATTACKER, "alice", 160.0) == 0


def test_memory_is_bounded_by_whoever_was_not_seen_for_longest(delays: LoginDelays) -> None:
    fail(delays, 10)
    for number in range(MOST_KNOWN + 100):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        delays.failed(address, f"user {number}" * 100, 0.0)
        delays.succeeded(address, f"user {number}")
        assert delays.delay(ATTACKER, "alice", 0.0) == 3.0
    assert delays.remembered == 3 * MOST_KNOWN


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("[fe80::1%eth0]", "fe80::1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "unix", True),
        ("unix", "", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same

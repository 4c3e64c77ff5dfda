"""Permissions: three patterns a virtual host, matched as RabbitMQ does."""

from __future__ import annotations

import pytest

from amqp_broker.broker.access import CONFIGURE, MOST_VERDICTS, READ, WRITE, Permission, User
from amqp_broker.broker.passwords import hash_password
from amqp_broker.errors import SoftError


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        (".*", ["", "q", "anything at all"], []),
        ("", [""], ["q"]),
        ("^$", [""], ["q"]),
        ("^a", ["a", "ab"], ["ba", ""]),
        ("a", ["a", "bab"], ["b", ""]),
        ("^(a|b)$", ["a", "b"], ["ab", ""]),
    ],
)
def test_a_pattern_is_found_anywhere_in_the_name(
    pattern: str, allowed: list[str], refused: list[str]
) -> None:
    permission = Permission("", pattern, "")
    assert [name for name in allowed + refused if permission.allows(WRITE, name)] == allowed


def test_each_right_has_its_own_pattern() -> None:
    permission = Permission("^c", "^w", "^r")
    allowed = {
        (right, name)
        for right in (CONFIGURE, WRITE, READ)
        for name in ("c", "w", "r")
        if permission.allows(right, name)
    }
    assert allowed == {(CONFIGURE, "c"), (WRITE, "w"), (READ, "r")}


def test_verdicts_are_remembered_but_not_without_end() -> None:
    permission = Permission(".*", "^$", ".*")
    for number in range(3 * MOST_VERDICTS):
        assert permission.allows(CONFIGURE, str(number))
        assert not permission.allows(WRITE, str(number))
        assert len(permission.verdicts) <= MOST_VERDICTS


@pytest.fixture
def user() -> User:
    user = User("alice", hash_password("secret"), [])
    user.permissions["/"] = Permission("^own", "^(own|amq\\.default)", "^own")
    return user


def test_a_refusal_names_the_resource_and_the_user(user: User) -> None:
    with pytest.raises(SoftError) as caught:
        user.check_queue(READ, "q", "/")
    assert caught.value.text == "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'alice'"
    with pytest.raises(SoftError) as caught:
        user.check_exchange(WRITE, "x", "/")
    assert (
        caught.value.text == "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'alice'"
    )


def test_the_default_exchange_has_a_name_in_permissions(user: User) -> None:
    user.check_exchange(WRITE, "", "/")
    with pytest.raises(SoftError, match=r"exchange 'amq\.default' in vhost '/'"):
        user.check_exchange(READ, "", "/")


def test_what_is_allowed_is_silent(user: User) -> None:
    user.check_queue(CONFIGURE, "own-q", "/")
    user.check_exchange(CONFIGURE, "own-x", "/")


def test_a_virtual_host_without_an_entry_is_closed(user: User) -> None:
    with pytest.raises(SoftError, match="in vhost 'other' refused"):
        user.check_queue(READ, "own", "other")

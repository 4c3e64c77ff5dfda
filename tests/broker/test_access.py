"""Permissions: three patterns a virtual host, matched as RabbitMQ does."""

from __future__ import annotations

import pytest

from amqp_broker.broker.access import CONFIGURE, MOST_VERDICTS, READ, WRITE, Permission, TopicPermission, User
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


# -- topic permissions


def allowed_keys(
    user: User, right: int, *keys: str, vhost: str = "/", exchange: str = "amq.topic"
) -> list[str]:
    allowed = []
    for key in keys:
        try:
            user.check_topic(right, key, exchange, vhost)
        except SoftError:
            continue
        allowed.append(key)
    return allowed


def test_where_nothing_is_said_about_an_exchange_every_key_is_allowed(user: User) -> None:
    user.topic_permissions["/", "other"] = TopicPermission("", "")
    user.topic_permissions["v", "amq.topic"] = TopicPermission("", "")
    assert allowed_keys(user, WRITE, "a", "") == ["a", ""]


def test_keys_are_told_apart_for_publishing_and_for_binding(user: User) -> None:
    user.topic_permissions["/", "amq.topic"] = TopicPermission("^w", "^r")
    assert allowed_keys(user, WRITE, "w", "r") == ["w"]
    assert allowed_keys(user, READ, "w", "r") == ["r"]


def test_an_empty_topic_pattern_allows_the_empty_key_alone(user: User) -> None:
    user.topic_permissions["/", "amq.topic"] = TopicPermission("", ".*")
    assert allowed_keys(user, WRITE, "", "a") == [""]


def test_variables_stand_for_user_and_virtual_host(user: User) -> None:
    user.topic_permissions["prod", "amq.topic"] = TopicPermission(r"^{vhost}\.{username}\.", ".*")
    keys = ("prod.alice.x", "prod.bob.x", "test.alice.x", "{vhost}.{username}.x")
    assert allowed_keys(user, WRITE, *keys, vhost="prod") == ["prod.alice.x"]


def test_a_name_is_no_pattern() -> None:
    mallory = User(".*", hash_password("secret"), [])
    mallory.topic_permissions["/", "amq.topic"] = TopicPermission("^{username}$", "^{username}$")
    assert allowed_keys(mallory, WRITE, "alice", ".*") == [".*"]


def test_a_pattern_that_a_name_breaks_allows_nothing() -> None:
    nobody = User("", hash_password("secret"), [])
    nobody.topic_permissions["/", "amq.topic"] = TopicPermission("{username}+", ".*")
    assert allowed_keys(nobody, WRITE, "", "a") == []


def test_a_key_may_be_any_octets(user: User) -> None:
    user.topic_permissions["/", "amq.topic"] = TopicPermission("^\\xff$", "")
    assert allowed_keys(user, WRITE, "\udcff", "ÿ") == ["\udcff"]


def test_a_refused_key_is_named_with_its_exchange(user: User) -> None:
    user.topic_permissions["/", "amq.topic"] = TopicPermission("^w", "^r")
    with pytest.raises(SoftError) as caught:
        user.check_topic(WRITE, "a.b", "amq.topic", "/")
    assert caught.value.text == (
        "ACCESS_REFUSED - access to topic 'a.b' in exchange 'amq.topic' in vhost '/' refused for user 'alice'"
    )

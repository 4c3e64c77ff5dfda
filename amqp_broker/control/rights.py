"""Permissions and topic permissions of users in virtual hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.access import (
    Permission,
    TopicPermission,
    pattern_problem,
    topic_pattern_problem,
)
from amqp_broker.control.verb import INVALID, Given, Quick, Refused, Verb, user_named, vhost_named

if TYPE_CHECKING:
    from amqp_broker.broker.access import User
    from amqp_broker.control.node import Node

_PROBLEM: Final = "not a regular expression: "


class Whose(Given, frozen=True):
    """None for all of them."""

    user: str | None = None
    vhost: str | None = None


class Place(Given, frozen=True):
    user: str
    vhost: str


class NewPermission(Place, frozen=True):
    configure: str
    write: str
    read: str


class NewTopicPermission(Place, frozen=True):
    exchange: str
    write: str
    read: str


class TopicPlace(Place, frozen=True):
    """exchange: None for every one."""

    exchange: str | None = None


def permission_rows(users: list[User], vhost: str | None) -> list[dict[str, object]]:
    return [
        {
            "user": user.name,
            "vhost": place,
            "configure": permission.configure,
            "write": permission.write,
            "read": permission.read,
        }
        for user in users
        for place, permission in sorted(user.permissions.items(), key=_place)
        if vhost in (None, place)
    ]


def topic_permission_rows(users: list[User], vhost: str | None) -> list[dict[str, object]]:
    return [
        {
            "user": user.name,
            "vhost": place,
            "exchange": exchange,
            "write": permission.write,
            "read": permission.read,
        }
        for user in users
        for (place, exchange), permission in sorted(user.topic_permissions.items(), key=_place)
        if vhost in (None, place)
    ]


def _place(item: tuple[Any, object]) -> Any:
    return item[0]


def _users(node: Node, given: Whose) -> list[User]:
    if given.vhost is not None:
        vhost_named(node, given.vhost)
    if given.user is not None:
        return [user_named(node, given.user)]
    return [node.broker.users[name] for name in sorted(node.broker.users)]


def list_permissions(node: Node, given: Whose) -> object:
    return permission_rows(_users(node, given), given.vhost)


def list_topic_permissions(node: Node, given: Whose) -> object:
    return topic_permission_rows(_users(node, given), given.vhost)


def set_permission(node: Node, given: NewPermission) -> object:
    user, vhost = user_named(node, given.user), vhost_named(node, given.vhost)
    for pattern in (given.configure, given.write, given.read):
        _check(pattern, pattern_problem(pattern))
    permission = Permission(given.configure, given.write, given.read)
    node.broker.set_permission(user, vhost, permission)
    return None


def clear_permission(node: Node, given: Place) -> object:
    """One that is not there is no mistake, as with RabbitMQ."""
    user, vhost = user_named(node, given.user), vhost_named(node, given.vhost)
    return {"cleared": int(node.broker.clear_permission(user, vhost))}


def set_topic_permission(node: Node, given: NewTopicPermission) -> object:
    user, vhost = user_named(node, given.user), vhost_named(node, given.vhost)
    for pattern in (given.write, given.read):
        _check(pattern, topic_pattern_problem(pattern))
    permission = TopicPermission(given.write, given.read)
    node.broker.set_topic_permission(user, vhost, given.exchange, permission)
    return None


def clear_topic_permission(node: Node, given: TopicPlace) -> object:
    user, vhost = user_named(node, given.user), vhost_named(node, given.vhost)
    exchanges = [
        exchange
        for place, exchange in list(user.topic_permissions)
        if place == vhost.name and given.exchange in (None, exchange)
    ]
    for exchange in exchanges:
        node.broker.clear_topic_permission(user, vhost, exchange)
    return {"cleared": len(exchanges)}


def _check(pattern: str, problem: str | None) -> None:
    if problem is not None:
        reason = problem.removeprefix(_PROBLEM)
        raise Refused(INVALID, f"regular expression '{pattern}' is invalid: {reason}")


VERBS: Final[dict[str, Verb[Any]]] = {
    "permissions.list": Quick(Whose, list_permissions, changes=False),
    "permissions.set": Quick(NewPermission, set_permission),
    "permissions.clear": Quick(Place, clear_permission),
    "topic_permissions.list": Quick(Whose, list_topic_permissions, changes=False),
    "topic_permissions.set": Quick(NewTopicPermission, set_topic_permission),
    "topic_permissions.clear": Quick(TopicPlace, clear_topic_permission),
}

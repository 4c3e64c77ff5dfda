"""Users: who there is, how they prove it, and which tags they have.

Passwords come in the clear, are hashed by argon2id in a thread, and are not kept. What users may do is in `rights`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from amqp_broker.broker.passwords import ARGON2ID, SHA256, PasswordHash, strong_hash
from amqp_broker.control.rights import permission_rows, topic_permission_rows
from amqp_broker.control.verb import (
    EXISTS,
    INVALID,
    Given,
    Quick,
    Refused,
    Slow,
    Verb,
    check_name,
    user_named,
)

if TYPE_CHECKING:
    from amqp_broker.broker.access import User
    from amqp_broker.control.node import Node

# RabbitMQ's name for it: a hash that fits nothing can go back there.
NO_PASSWORD: Final = PasswordHash(SHA256, b"")


class NoArguments(Given, frozen=True):
    """Nothing to say."""


class Named(Given, frozen=True):
    name: str


class NewUser(Given, frozen=True):
    """password: None for a user who has none, and comes with a certificate or by another backend."""

    name: str
    password: str | None = None
    tags: list[str] = msgspec.field(default_factory=list)


class Credentials(Given, frozen=True):
    name: str
    password: str


class Tags(Given, frozen=True):
    name: str
    tags: list[str]


def list_users(node: Node, given: NoArguments) -> object:
    users = node.broker.users
    return [_row(users[name]) for name in sorted(users)]


def show_user(node: Node, given: Named) -> object:
    user = user_named(node, given.name)
    return {
        **_row(user),
        "connections": len(user.presences),
        "channels": user.channels,
        "permissions": permission_rows([user], None),
        "topic_permissions": topic_permission_rows([user], None),
    }


def _row(user: User) -> dict[str, object]:
    kept = user.password
    kind = ("argon2id" if kept.algorithm == ARGON2ID else kept.algorithm) if kept.octets else "none"
    return {"name": user.name, "tags": user.tags, "password": kind, "limits": user.limits}


def _hash_for_new(node: Node, given: NewUser) -> Callable[[], object]:
    _check_new(node, given)
    return _no_password if given.password is None else _hashing(given.password)


def _check_new(node: Node, given: NewUser) -> None:
    check_name("a user", given.name)
    if given.name in node.broker.users:
        raise Refused(EXISTS, f"user '{given.name}' already exists")


def _no_password() -> PasswordHash:
    return NO_PASSWORD


def _hashing(password: str) -> Callable[[], object]:
    if not password:
        raise Refused(INVALID, "the password cannot be empty")
    return partial(strong_hash, password.encode())


def add_user(node: Node, given: NewUser, hashed: PasswordHash) -> object:
    """The same name may have come up while the password was hashed."""
    _check_new(node, given)
    node.broker.put_user(given.name, hashed, given.tags, {})
    return None


def delete_user(node: Node, given: Named) -> object:
    user_named(node, given.name)
    node.broker.delete_user(given.name)
    return None


def _hash_for_user(node: Node, given: Credentials) -> Callable[[], object]:
    user_named(node, given.name)
    return _hashing(given.password)


def set_password(node: Node, given: Credentials, hashed: PasswordHash) -> object:
    user = user_named(node, given.name)
    node.broker.put_user(user.name, hashed, user.tags, user.limits)
    return None


def clear_password(node: Node, given: Named) -> object:
    user = user_named(node, given.name)
    node.broker.put_user(user.name, NO_PASSWORD, user.tags, user.limits)
    return None


def set_tags(node: Node, given: Tags) -> object:
    user = user_named(node, given.name)
    node.broker.put_user(user.name, user.password, given.tags, user.limits)
    return None


def _comparison(node: Node, given: Credentials) -> Callable[[], object]:
    """A user who is not there has no password that fits."""
    user = node.broker.users.get(given.name)
    kept = NO_PASSWORD if user is None else user.password
    return partial(kept.is_of, given.password.encode())


def authenticate(node: Node, given: Credentials, fits: bool) -> object:
    if not fits:
        raise Refused(INVALID, f"user '{given.name}' - invalid credentials")
    return None


VERBS: Final[dict[str, Verb[Any]]] = {
    "users.list": Quick(NoArguments, list_users, changes=False),
    "users.show": Quick(Named, show_user, changes=False),
    "users.add": Slow(NewUser, _hash_for_new, add_user),
    "users.delete": Quick(Named, delete_user),
    "users.set_password": Slow(Credentials, _hash_for_user, set_password),
    "users.clear_password": Quick(Named, clear_password),
    "users.set_tags": Quick(Tags, set_tags),
    "users.authenticate": Slow(Credentials, _comparison, authenticate, changes=False),
}

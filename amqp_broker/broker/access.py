"""Who may do what: users and their permissions in each virtual host.

Answers questions; raises the refusal that the client is told. How a user proved who they are is the session's
business, and where the users come from is the configuration's.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.names import generated_name
from amqp_broker.broker.passwords import PasswordHash
from amqp_broker.content.patterns import Pattern, compile_pattern
from amqp_broker.errors import SoftError, access_refused, exchange_in, queue_in

if TYPE_CHECKING:
    from amqp_broker.broker.presence import Presence
    from amqp_broker.broker.vhost import VirtualHost

CONFIGURE: Final = 0
WRITE: Final = 1
READ: Final = 2

MOST_VERDICTS: Final = 4096
TOPIC: Final = "topic"
# What the variables stand for while nothing but the pattern's form matters.
_ANY_VARIABLES: Final = {b"{username}": b"user", b"{vhost}": b"vhost"}
_NEVER: Final = compile_pattern("(?!)")


class Permission:
    """Three regular expressions, matched unanchored; an empty one matches only the empty name.

    key: in the store, b"" if not there. Raises re.error for what is no regular expression.
    """

    __slots__ = ("configure", "key", "patterns", "read", "verdicts", "write")

    def __init__(self, configure: str, write: str, read: str) -> None:
        self.configure: str = configure
        self.write: str = write
        self.read: str = read
        self.patterns: list[Pattern] = [compile_pattern(text) for text in (configure, write, read)]
        self.verdicts: dict[tuple[int, str], bool] = {}
        self.key: bytes = b""

    def allows(self, right: int, name: str) -> bool:
        """right: CONFIGURE, WRITE or READ; name: of a queue or exchange, `amq.default` for the default exchange."""
        verdict = self.verdicts.get((right, name))
        if verdict is None:
            verdict = self.patterns[right].found_in(name.encode("utf-8", "surrogateescape"))
            if len(self.verdicts) >= MOST_VERDICTS:
                self.verdicts.clear()
            self.verdicts[right, name] = verdict
        return verdict

    def says_the_same_as(self, other: Permission) -> bool:
        same_topology = self.configure == other.configure
        return same_topology and self.write == other.write and self.read == other.read


class TopicPermission:
    """Two regular expressions for the routing keys of one topic exchange, with {username} and {vhost} in them.

    It belongs to one user in one virtual host, so each is compiled once for both. key: in the store. Raises re.error
    for what is no regular expression.
    """

    __slots__ = ("_compiled", "key", "read", "write")

    def __init__(self, write: str, read: str) -> None:
        self.write: str = write
        self.read: str = read
        self.key: bytes = b""
        for text in (write, read):
            compile_pattern(text, _ANY_VARIABLES)
        self._compiled: dict[int, Pattern] = {}

    def allows(self, right: int, routing_key: str, user: str, vhost: str) -> bool:
        """right: WRITE for publishing with this key, READ for binding with it."""
        pattern = self._compiled.get(right)
        if pattern is None:
            pattern = self._compiled[right] = self._pattern(
                self.write if right == WRITE else self.read, user, vhost
            )
        return pattern.found_in(routing_key.encode("utf-8", "surrogateescape"))

    def says_the_same_as(self, other: TopicPermission) -> bool:
        return self.write == other.write and self.read == other.read

    def _pattern(self, text: str, user: str, vhost: str) -> Pattern:
        names = ((b"{username}", user), (b"{vhost}", vhost))
        try:
            return compile_pattern(
                text, {name: value.encode("utf-8", "surrogateescape") for name, value in names}
            )
        except re.error:
            # With a name like this it is no regular expression: `{username}+` for a user without a name.
            return _NEVER


def topic_pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern of a topic permission."""
    return _problem(pattern, _ANY_VARIABLES)


def pattern_problem(pattern: str) -> str | None:
    return _problem(pattern, {})


def _problem(pattern: str, variables: dict[bytes, bytes]) -> str | None:
    try:
        compile_pattern(pattern, variables)
    except re.error as error:
        return f"not a regular expression: {error}"
    return None


class Rights(ABC):
    """What somebody who has logged in may do. name: as which user; tags: of that login.

    Of a `check_...` everything that it may raise comes before anything has changed.
    """

    __slots__ = ("name", "tags")

    def __init__(self, name: str, tags: list[str]) -> None:
        self.name: str = name
        self.tags: list[str] = tags

    @abstractmethod
    def may_use_queue(self, right: int, name: str, vhost: str) -> bool:
        """Whether the permissions that are kept here give this right on the queue."""

    @abstractmethod
    def check_queue(self, right: int, name: str, vhost: str) -> None:
        """Raises SoftError 403 unless there is this right on the queue."""

    @abstractmethod
    def check_exchange(self, right: int, name: str, vhost: str) -> None:
        """Raises SoftError 403 unless there is this right on the exchange ("" is the default exchange)."""

    @abstractmethod
    def check_topic(self, right: int, routing_key: str, exchange: str, vhost: str) -> None:
        """Raises SoftError 403 unless this routing key may be used with this topic exchange."""

    @abstractmethod
    def has_topics(self, exchange: str, vhost: str) -> bool:
        """Whether `check_topic` may refuse anything for this exchange."""

    def new_queue_name(self, vhost: VirtualHost) -> str:
        """For a queue whose name is left to the broker."""
        return generated_name(vhost.queues)

    def refused(self, resource: str, more: str = "") -> SoftError:
        return access_refused(f"access to {resource} refused for user '{self.name}'{more}")


class User(Rights):
    """permissions: by virtual host; a virtual host without an entry is closed to the user.

    topic_permissions: by virtual host and exchange. limits: as RabbitMQ names them, see `limits`.
    presences: the user's open connections; channels: how many are open on them.
    key: in the store, b"" for one who is not there, such as the configuration's. deleted: who logged in before that
    opens nothing any more.
    """

    __slots__ = (
        "channels",
        "deleted",
        "key",
        "limits",
        "password",
        "permissions",
        "presences",
        "topic_permissions",
    )

    def __init__(self, name: str, password: PasswordHash, tags: list[str]) -> None:
        super().__init__(name, tags)
        self.password: PasswordHash = password
        self.limits: dict[str, object] = {}
        self.permissions: dict[str, Permission] = {}
        self.topic_permissions: dict[tuple[str, str], TopicPermission] = {}
        self.presences: dict[Presence, None] = {}
        self.channels: int = 0
        self.deleted: bool = False
        self.key: bytes = b""

    def may_use_queue(self, right: int, name: str, vhost: str) -> bool:
        permission = self.permissions.get(vhost)
        return permission is not None and permission.allows(right, name)

    def check_queue(self, right: int, name: str, vhost: str) -> None:
        if not self.may_use_queue(right, name, vhost):
            raise self.refused(queue_in(name, vhost))

    def check_exchange(self, right: int, name: str, vhost: str) -> None:
        permission = self.permissions.get(vhost)
        name = name or "amq.default"
        if permission is None or not permission.allows(right, name):
            raise self.refused(exchange_in(name, vhost))

    def check_topic(self, right: int, routing_key: str, exchange: str, vhost: str) -> None:
        """Where nothing is said about the exchange, every key is allowed."""
        permission = self.topic_permissions.get((vhost, exchange))
        if permission is not None and not permission.allows(right, routing_key, self.name, vhost):
            raise self.refused(topic_in(routing_key, exchange, vhost))

    def has_topics(self, exchange: str, vhost: str) -> bool:
        return (vhost, exchange) in self.topic_permissions


def topic_in(routing_key: str, exchange: str, vhost: str) -> str:
    return f"topic '{routing_key}' in {exchange_in(exchange, vhost)}"

"""Who may do what: users and their permissions in each virtual host.

Answers questions; raises the refusal that the client is told. How a user proved who they are is the session's
business, and where the users come from is the configuration's.
"""

from __future__ import annotations

import re
from typing import Final

from amqp_broker.broker.passwords import PasswordHash
from amqp_broker.errors import SoftError, access_refused, exchange_in, queue_in

CONFIGURE: Final = 0
WRITE: Final = 1
READ: Final = 2

MOST_VERDICTS: Final = 4096


class Permission:
    """Three regular expressions, matched unanchored; an empty one matches only the empty name.

    key: in the store, b"" if not there. Raises re.error for what is no regular expression.
    """

    __slots__ = ("configure", "key", "patterns", "read", "verdicts", "write")

    def __init__(self, configure: str, write: str, read: str) -> None:
        self.configure: str = configure
        self.write: str = write
        self.read: str = read
        self.patterns: list[re.Pattern[str]] = [re.compile(text or "^$") for text in (configure, write, read)]
        self.verdicts: dict[tuple[int, str], bool] = {}
        self.key: bytes = b""

    def allows(self, right: int, name: str) -> bool:
        """right: CONFIGURE, WRITE or READ; name: of a queue or exchange, `amq.default` for the default exchange."""
        verdict = self.verdicts.get((right, name))
        if verdict is None:
            verdict = self.patterns[right].search(name) is not None
            if len(self.verdicts) >= MOST_VERDICTS:
                self.verdicts.clear()
            self.verdicts[right, name] = verdict
        return verdict


class TopicPermission:
    """Two regular expressions for routing keys, kept and not enforced yet. key: in the store."""

    __slots__ = ("key", "read", "write")

    def __init__(self, write: str, read: str) -> None:
        self.write: str = write
        self.read: str = read
        self.key: bytes = b""


class User:
    """permissions: by virtual host; a virtual host without an entry is closed to the user.

    topic_permissions: by virtual host and exchange. limits: as RabbitMQ names them; kept and not enforced yet.
    key: in the store, b"" for one who is not there, such as the configuration's.
    """

    __slots__ = ("key", "limits", "name", "password", "permissions", "tags", "topic_permissions")

    def __init__(self, name: str, password: PasswordHash, tags: list[str]) -> None:
        self.name: str = name
        self.password: PasswordHash = password
        self.tags: list[str] = tags
        self.limits: dict[str, object] = {}
        self.permissions: dict[str, Permission] = {}
        self.topic_permissions: dict[tuple[str, str], TopicPermission] = {}
        self.key: bytes = b""

    def check_queue(self, right: int, name: str, vhost: str) -> None:
        """Raises SoftError 403 unless the user has this right on the queue."""
        permission = self.permissions.get(vhost)
        if permission is None or not permission.allows(right, name):
            raise self._refused(queue_in(name, vhost))

    def check_exchange(self, right: int, name: str, vhost: str) -> None:
        """Raises SoftError 403 unless the user has this right on the exchange ("" is the default exchange)."""
        permission = self.permissions.get(vhost)
        name = name or "amq.default"
        if permission is None or not permission.allows(right, name):
            raise self._refused(exchange_in(name, vhost))

    def _refused(self, resource: str) -> SoftError:
        return access_refused(f"access to {resource} refused for user '{self.name}'")

"""A checked `Document` into a broker, by the same verbs that clients use.

What is there already is changed where it can be (users, permissions, policies, parameters, what is said about virtual
hosts) and otherwise kept as it is, as RabbitMQ keeps a queue whose arguments are others. Nothing is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from amqp_broker.broker.access import Permission, TopicPermission
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.broker.policy import new_policy
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.definitions.checking import Checker, is_reserved
from amqp_broker.definitions.problems import InvalidDefinitions, Problem
from amqp_broker.definitions.rows import (
    BindingRow,
    Document,
    ExchangeRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    QueueRow,
    Row,
    UserRow,
    VirtualHostRow,
)
from amqp_broker.errors import AmqpError

R = TypeVar("R", bound=Row)

# A category by its rows' list, and its words for one and for several.
_WORDS = {
    "vhosts": ("virtual host", "virtual hosts"),
    "users": ("user", "users"),
    "permissions": ("permission", "permissions"),
    "parameters": ("parameter", "parameters"),
    "policies": ("policy", "policies"),
    "exchanges": ("exchange", "exchanges"),
    "queues": ("queue", "queues"),
    "bindings": ("binding", "bindings"),
}


class _Gone(Exception):
    """What a row is about was there when it was checked."""


class Loaded:
    """counts: how many of each category were set or made. warnings: what was passed over."""

    def __init__(self, warnings: list[Problem]) -> None:
        self.counts = dict.fromkeys(_WORDS, 0)
        self.warnings = warnings

    def __str__(self) -> str:
        """`2 users, 1 queue and 3 bindings`; `nothing new` if there is nothing."""
        parts = [
            f"{count} {_WORDS[category][0 if count == 1 else 1]}"
            for category, count in self.counts.items()
            if count
        ]
        if len(parts) < 2:
            return parts[0] if parts else "nothing new"
        return f"{', '.join(parts[:-1])} and {parts[-1]}"


def load(document: Document, broker: Broker) -> Loaded:
    """Load all of it, or nothing. Raises InvalidDefinitions before anything is changed."""
    loading = Loading(document, broker)
    for _ in loading.steps():
        pass
    return loading.loaded


class Loading:
    """loaded: what was, once `steps` has come to its end."""

    def __init__(self, document: Document, broker: Broker) -> None:
        self.document = document
        self.broker = broker
        self.loaded = Loaded([])

    def steps(self) -> Iterator[None]:
        """Check all rows, then load all, and stop after each. Raises InvalidDefinitions before anything is changed.

        Whoever lets clients go on meanwhile may find that a row cannot be loaded any more: that is a warning.
        """
        checker = Checker(self.document, self.broker)
        yield from checker.steps()
        if checker.problems:
            raise InvalidDefinitions(checker.problems)
        self.loaded.warnings += checker.warnings
        document = self.document
        yield from self._each("vhosts", document.vhosts, self._put_vhost)
        yield from self._each("users", document.users, self._put_user)
        yield from self._each("permissions", document.permissions, self._permit)
        yield from self._each("parameters", document.parameters, self._set_parameter)
        yield from self._each("policies", document.policies, self._set_policy)
        yield from self._each("exchanges", document.exchanges, self._declare_exchange)
        yield from self._each("queues", document.queues, self._declare_queue)
        yield from self._each("bindings", document.bindings, self._bind)

    def _each(self, category: str, rows: Sequence[R], put: Callable[[R], bool]) -> Iterator[None]:
        for row in rows:
            try:
                self.loaded.counts[category] += put(row)
            except _Gone as gone:
                self._warn(row, str(gone))
            except AmqpError as error:
                self._warn(row, error.explanation)
            yield

    def _warn(self, row: Row, text: str) -> None:
        self.loaded.warnings.append(Problem(row.path, f"not loaded: {text}"))

    def _vhost(self, name: str) -> VirtualHost:
        vhost = self.broker.vhosts.get(name)
        if vhost is None:
            raise _Gone(f"vhost {name} has been removed meanwhile")
        return vhost

    def _put_vhost(self, row: VirtualHostRow) -> bool:
        self.broker.put_vhost(row.name, row.metadata)
        return True

    def _put_user(self, row: UserRow) -> bool:
        if row.password is not None:
            self.broker.put_user(row.name, row.password, row.tags, row.limits)
        return row.password is not None

    def _set_parameter(self, row: ParameterRow) -> bool:
        parameters = self.broker.parameters if row.vhost is None else self._vhost(row.vhost).parameters
        parameters.set(row.component, row.name, row.value)
        return True

    def _permit(self, row: PermissionRow) -> bool:
        user, vhost = self.broker.users.get(row.user), self._vhost(row.vhost)
        if user is None:
            raise _Gone(f"user '{row.user}' has been removed meanwhile")
        if row.exchange is None:
            self.broker.set_permission(user, vhost, Permission(row.configure, row.write, row.read))
        else:
            permission = TopicPermission(row.write, row.read)
            self.broker.set_topic_permission(user, vhost, row.exchange, permission)
        return True

    def _set_policy(self, row: PolicyRow) -> bool:
        policy = new_policy(
            row.name, row.pattern, row.definition, row.priority, row.apply_to, operator=row.operator
        )
        vhost = self._vhost(row.vhost)
        if row.operator:
            vhost.set_operator_policy(policy)
        else:
            vhost.set_policy(policy)
        return True

    def _declare_exchange(self, row: ExchangeRow) -> bool:
        """Whether it was made."""
        vhost = self._vhost(row.vhost)
        if row.name in vhost.exchanges or is_reserved(row.name):
            return False
        flags = ExchangeFlags(row.durable, row.auto_delete, row.internal)
        vhost.declare_exchange(row.name, row.kind, flags, row.arguments)
        return True

    def _declare_queue(self, row: QueueRow) -> bool:
        vhost = self._vhost(row.vhost)
        if row.name in vhost.queues or is_reserved(row.name):
            return False
        flags = QueueFlags(row.durable, exclusive=False, auto_delete=row.auto_delete)
        vhost.declare_queue(row.name, flags, row.arguments, None)
        return True

    def _bind(self, row: BindingRow) -> bool:
        vhost = self._vhost(row.vhost)
        source = vhost.exchanges.get(row.source) if row.source else None
        ends = vhost.exchanges if row.to_exchange else vhost.queues
        destination = ends.get(row.destination)
        if source is None or destination is None:
            return False
        if vhost.is_bound(source, destination, row.routing_key, row.arguments):
            return False
        vhost.bind(source, destination, row.routing_key, row.arguments)
        return True

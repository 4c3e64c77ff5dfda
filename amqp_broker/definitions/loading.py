"""A checked `Document` into a broker, by the same verbs that clients use.

What is there already is changed where it can be (users, permissions, policies, parameters, what is said about virtual
hosts) and otherwise kept as it is, as RabbitMQ keeps a queue whose arguments are others. Nothing is removed.
"""

from __future__ import annotations

from amqp_broker.broker.access import Permission, TopicPermission
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.broker.policy import new_policy
from amqp_broker.definitions.checking import check, is_reserved
from amqp_broker.definitions.problems import InvalidDefinitions, Problem
from amqp_broker.definitions.rows import BindingRow, Document, ExchangeRow, PermissionRow, PolicyRow, QueueRow

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
    problems, warnings = check(document, broker)
    if problems:
        raise InvalidDefinitions(problems)
    loading = _Loading(broker, Loaded(warnings))
    loading.load(document)
    return loading.loaded


class _Loading:
    def __init__(self, broker: Broker, loaded: Loaded) -> None:
        self.broker = broker
        self.loaded = loaded

    def load(self, document: Document) -> None:
        broker, counts = self.broker, self.loaded.counts
        for row in document.vhosts:
            broker.put_vhost(row.name, row.metadata)
            counts["vhosts"] += 1
        for user in document.users:
            if user.password is not None:
                broker.put_user(user.name, user.password, user.tags, user.limits)
                counts["users"] += 1
        for permission in document.permissions:
            self._permit(permission)
            counts["permissions"] += 1
        for parameter in document.parameters:
            vhost = parameter.vhost
            parameters = broker.parameters if vhost is None else broker.vhosts[vhost].parameters
            parameters.set(parameter.component, parameter.name, parameter.value)
            counts["parameters"] += 1
        for policy in document.policies:
            self._set_policy(policy)
            counts["policies"] += 1
        for exchange in document.exchanges:
            counts["exchanges"] += self._declare_exchange(exchange)
        for queue in document.queues:
            counts["queues"] += self._declare_queue(queue)
        for binding in document.bindings:
            counts["bindings"] += self._bind(binding)

    def _permit(self, row: PermissionRow) -> None:
        user, vhost = self.broker.users[row.user], self.broker.vhosts[row.vhost]
        if row.exchange is None:
            self.broker.set_permission(user, vhost, Permission(row.configure, row.write, row.read))
        else:
            permission = TopicPermission(row.write, row.read)
            self.broker.set_topic_permission(user, vhost, row.exchange, permission)

    def _set_policy(self, row: PolicyRow) -> None:
        policy = new_policy(
            row.name, row.pattern, row.definition, row.priority, row.apply_to, operator=row.operator
        )
        vhost = self.broker.vhosts[row.vhost]
        if row.operator:
            vhost.set_operator_policy(policy)
        else:
            vhost.set_policy(policy)

    def _declare_exchange(self, row: ExchangeRow) -> bool:
        """Whether it was made."""
        vhost = self.broker.vhosts[row.vhost]
        if row.name in vhost.exchanges or is_reserved(row.name):
            return False
        flags = ExchangeFlags(row.durable, row.auto_delete, row.internal)
        vhost.declare_exchange(row.name, row.kind, flags, row.arguments)
        return True

    def _declare_queue(self, row: QueueRow) -> bool:
        vhost = self.broker.vhosts[row.vhost]
        if row.name in vhost.queues or is_reserved(row.name):
            return False
        flags = QueueFlags(row.durable, exclusive=False, auto_delete=row.auto_delete)
        vhost.declare_queue(row.name, flags, row.arguments, None)
        return True

    def _bind(self, row: BindingRow) -> bool:
        vhost = self.broker.vhosts[row.vhost]
        source = vhost.exchanges.get(row.source) if row.source else None
        ends = vhost.exchanges if row.to_exchange else vhost.queues
        destination = ends.get(row.destination)
        if source is None or destination is None:
            return False
        if vhost.is_bound(source, destination, row.routing_key, row.arguments):
            return False
        vhost.bind(source, destination, row.routing_key, row.arguments)
        return True

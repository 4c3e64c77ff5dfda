"""Limits of users, of virtual hosts and of all together: how many connections, channels and queues there may be.

Those of all together are the configuration's. The others are kept as definitions bring them, under RabbitMQ's names: a
user's with the user, a virtual host's among its parameters. A limit counts for what is new; what is there already
stays. Each check raises what the client is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.parameters import VHOST_LIMITS
from amqp_broker.errors import not_allowed, precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.access import User
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.vhost import VirtualHost

MAX_CONNECTIONS: Final = "max-connections"
MAX_CHANNELS: Final = "max-channels"
MAX_QUEUES: Final = "max-queues"
LIMITS: Final = "limits"
NO_LIMIT: Final = -1


def limit_in(limits: object, name: str) -> int:
    """The limit of that name, NO_LIMIT for none: one that is missing, negative or no whole number."""
    table = limit_table(limits)
    value = None if table is None else table.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return NO_LIMIT
    return value


def limit_table(limits: object) -> dict[str, object] | None:
    """Limits by name; None for what are none. A list of pairs is how rabbitmqctl writes a table."""
    if isinstance(limits, dict):
        return limits
    if not isinstance(limits, list):
        return None
    table: dict[str, object] = {}
    for pair in limits:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            return None
        table[pair[0]] = pair[1]
    return table


def vhost_limit(vhost: VirtualHost, name: str) -> int:
    parameter = vhost.parameters.by_name.get((VHOST_LIMITS, LIMITS))
    return NO_LIMIT if parameter is None else limit_in(parameter.value, name)


def check_connection(user: User, vhost: VirtualHost) -> None:
    """Raises HardError 530 if one connection more would be too many."""
    limit = vhost_limit(vhost, MAX_CONNECTIONS)
    if limit != NO_LIMIT and len(vhost.presences) >= limit:
        raise not_allowed(
            f"access to vhost '{vhost.name}' refused for user '{user.name}': connection limit ({limit}) is reached"
        )
    limit = limit_in(user.limits, MAX_CONNECTIONS)
    if limit != NO_LIMIT and len(user.presences) >= limit:
        raise not_allowed(
            f"connection refused for user '{user.name}': user connection limit ({limit}) is reached"
        )


def check_channel(user: User) -> None:
    """Raises HardError 530 if one channel more would be too many."""
    limit = limit_in(user.limits, MAX_CHANNELS)
    if limit != NO_LIMIT and user.channels >= limit:
        raise not_allowed(
            f"number of channels opened for user '{user.name}' has reached the maximum allowed user limit of ({limit})"
        )


def check_new_queue(vhost: VirtualHost, name: str) -> None:
    """Raises SoftError 406 if a queue of this name, which is not there yet, would be one too many."""
    limit = vhost_limit(vhost, MAX_QUEUES)
    if limit != NO_LIMIT and len(vhost.queues) - vhost.reply_queues >= limit:
        raise precondition_failed(
            f"cannot declare queue '{name}': queue limit in vhost '{vhost.name}' ({limit}) is reached"
        )


class NodeLimits:
    """Of all users and virtual hosts together; 0 for none. node: the name that clients are told."""

    __slots__ = ("channels", "node", "queues")

    def __init__(self, node: str = "rabbit@localhost", channels: int = 0, queues: int = 0) -> None:
        self.node: str = node
        self.channels: int = channels
        self.queues: int = queues

    def check_channel(self, broker: Broker) -> None:
        """Raises HardError 530 if one channel more would be too many."""
        if not self.channels:
            return
        opened = 0
        for vhost in broker.vhosts.values():
            opened += len(vhost.unsettled)
        if opened >= self.channels:
            raise not_allowed(
                f"number of channels opened on node '{self.node}' has reached "
                f"the maximum allowed limit of ({self.channels})"
            )

    def check_new_queue(self, broker: Broker, name: str) -> None:
        """Raises SoftError 406 if a queue of this name, which is not there yet, would be one too many."""
        if not self.queues:
            return
        declared = 0
        for vhost in broker.vhosts.values():
            declared += len(vhost.queues) - vhost.reply_queues
        if declared >= self.queues:
            raise precondition_failed(
                f"cannot declare queue '{name}': queue limit in cluster ({self.queues}) is reached"
            )


def limits_problem(limits: object, names: tuple[str, ...]) -> str | None:
    """What is wrong with limits that are to be kept. names: of those that are interpreted here."""
    table = limit_table(limits)
    if table is None:
        return "expected an object"
    for name in names:
        value = table.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            return f"{name} should be a whole number"
    return None

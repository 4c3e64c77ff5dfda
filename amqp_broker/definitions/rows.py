"""A file of definitions, read: its rows with values of the right types, each with the path it stands at.

That a row is here says nothing about whether its virtual host exists or its arguments make sense. One that could not
be read is a problem instead; users and virtual hosts are here all the same, for others to refer to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.broker.passwords import PasswordHash
from amqp_broker.content.table import Field
from amqp_broker.definitions.problems import Problem


@dataclass(frozen=True)
class VirtualHostRow:
    path: str
    name: str
    metadata: VirtualHostMetadata


@dataclass(frozen=True)
class UserRow:
    """password: None if it could not be read."""

    path: str
    name: str
    password: PasswordHash | None
    tags: list[str]
    limits: dict[str, object]


@dataclass(frozen=True)
class PermissionRow:
    """exchange: None for a permission, else it is a topic permission and has no `configure`."""

    path: str
    user: str
    vhost: str
    configure: str
    write: str
    read: str
    exchange: str | None = None


@dataclass(frozen=True)
class ParameterRow:
    """vhost: None for a global one."""

    path: str
    vhost: str | None
    component: str
    name: str
    value: object


@dataclass(frozen=True)
class PolicyRow:
    path: str
    vhost: str
    name: str
    pattern: str
    definition: dict[str, Field]
    priority: int
    apply_to: str
    operator: bool = False


@dataclass(frozen=True)
class ExchangeRow:
    path: str
    vhost: str
    name: str
    kind: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: dict[str, Field]


@dataclass(frozen=True)
class QueueRow:
    path: str
    vhost: str
    name: str
    durable: bool
    auto_delete: bool
    arguments: dict[str, Field]


@dataclass(frozen=True)
class BindingRow:
    path: str
    vhost: str
    source: str
    destination: str
    to_exchange: bool
    routing_key: str
    arguments: dict[str, Field]


Row: TypeAlias = (
    VirtualHostRow | UserRow | PermissionRow | ParameterRow | PolicyRow | ExchangeRow | QueueRow | BindingRow
)


@dataclass
class Document:
    """In the order in which they are to be loaded. problems: of rows that could not be read."""

    vhosts: list[VirtualHostRow] = field(default_factory=list)
    users: list[UserRow] = field(default_factory=list)
    permissions: list[PermissionRow] = field(default_factory=list)
    parameters: list[ParameterRow] = field(default_factory=list)
    policies: list[PolicyRow] = field(default_factory=list)
    exchanges: list[ExchangeRow] = field(default_factory=list)
    queues: list[QueueRow] = field(default_factory=list)
    bindings: list[BindingRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, row: Row) -> None:
        lists: dict[type, list[Any]] = {
            VirtualHostRow: self.vhosts,
            UserRow: self.users,
            PermissionRow: self.permissions,
            ParameterRow: self.parameters,
            PolicyRow: self.policies,
            ExchangeRow: self.exchanges,
            QueueRow: self.queues,
            BindingRow: self.bindings,
        }
        lists[type(row)].append(row)

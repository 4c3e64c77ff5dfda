"""Durable topology as plain data: written to the store as it changes, and read back at a start.

Keys are numbers that are never reused, so that a definition costs the store the same whatever its names are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from amqp_broker.broker.access import Permission, TopicPermission, User
from amqp_broker.broker.exchange import EXCHANGE_TYPES, Binding, Exchange, new_exchange
from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.broker.parameters import Parameter, Parameters
from amqp_broker.broker.passwords import PasswordHash
from amqp_broker.broker.policies import OPERATOR_POLICY
from amqp_broker.broker.policy import Policy
from amqp_broker.broker.ports import Definition, Store, StoredQueue
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.queue_types import new_queue
from amqp_broker.content.table import Field, read_table, write_table

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.vhost import VirtualHost


class DefinitionWriter:
    """Gives definitions their keys and puts them into the store."""

    __slots__ = ("next_key", "store")

    def __init__(self, store: Store) -> None:
        self.store: Store = store
        self.next_key: int = 1

    def new_key(self) -> bytes:
        key = self.next_key
        self.next_key = key + 1
        return key.to_bytes(8, "big")

    def seen(self, key: bytes) -> None:
        """A start found this key in use."""
        self.next_key = max(self.next_key, int.from_bytes(key, "big") + 1)

    def put_exchange(self, exchange: Exchange) -> None:
        exchange.definition = exchange.definition or self.new_key()
        value: dict[str, object] = {
            "vhost": exchange.vhost_name,
            "name": exchange.name,
            "type": exchange.kind,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": exchange.packed or write_table(exchange.arguments),
        }
        if exchange.holds is not None:
            value["store_id"] = exchange.holds.store_id
        if exchange.seen_id:
            value["seen_id"] = exchange.seen_id
        self.store.put_definition(Definition("exchange", exchange.definition, value))

    def put_queue(self, queue: Queue) -> None:
        queue.definition = queue.definition or self.new_key()
        value: dict[str, object] = {
            "vhost": queue.vhost_name,
            "name": queue.name,
            "store_id": queue.store_id,
            "auto_delete": queue.auto_delete,
            "arguments": queue.packed or write_table(queue.arguments),
        }
        if queue.seen_id:
            value["seen_id"] = queue.seen_id
        self.store.put_definition(Definition("queue", queue.definition, value))

    def put_binding(self, binding: Binding) -> None:
        binding.definition = binding.definition or self.new_key()
        value: dict[str, object] = {
            "vhost": binding.source.vhost_name,
            "source": binding.source.name,
            "to_exchange": isinstance(binding.destination, Exchange),
            "destination": binding.destination.name,
            "routing_key": binding.routing_key,
            "arguments": write_table(binding.arguments),
        }
        self.store.put_definition(Definition("binding", binding.definition, value))

    def put_policy(self, kind: str, vhost_name: str, policy: Policy) -> None:
        """kind: "policy" or "operator_policy"."""
        policy.key = policy.key or self.new_key()
        value: dict[str, object] = {
            "vhost": vhost_name,
            "name": policy.name,
            "pattern": policy.pattern,
            "definition": write_table(policy.definition),
            "priority": policy.priority,
            "apply_to": policy.apply_to,
        }
        self.store.put_definition(Definition(kind, policy.key, value))

    def put_parameter(self, parameter: Parameter, vhost_name: str | None) -> None:
        parameter.key = parameter.key or self.new_key()
        value: dict[str, object] = {
            "vhost": vhost_name,
            "component": parameter.component,
            "name": parameter.name,
            "value": parameter.value,
        }
        self.store.put_definition(Definition("parameter", parameter.key, value))

    def put_vhost(self, vhost: VirtualHost) -> None:
        vhost.definition = vhost.definition or self.new_key()
        metadata = vhost.metadata
        value: dict[str, object] = {
            "vhost": vhost.name,
            "description": metadata.description,
            "tags": metadata.tags,
            "default_queue_type": metadata.default_queue_type,
            "other": metadata.other,
        }
        self.store.put_definition(Definition("vhost", vhost.definition, value))

    def put_user(self, user: User) -> None:
        user.key = user.key or self.new_key()
        value: dict[str, object] = {
            "name": user.name,
            "algorithm": user.password.algorithm,
            "password": user.password.octets,
            "tags": user.tags,
            "limits": user.limits,
        }
        if user.password.replaced:
            value["replaced"] = user.password.replaced
        self.store.put_definition(Definition("user", user.key, value))

    def put_permission(self, user: str, vhost: str, permission: Permission) -> None:
        permission.key = permission.key or self.new_key()
        value: dict[str, object] = {
            "user": user,
            "vhost": vhost,
            "configure": permission.configure,
            "write": permission.write,
            "read": permission.read,
        }
        self.store.put_definition(Definition("permission", permission.key, value))

    def put_topic_permission(self, user: str, vhost: str, exchange: str, permission: TopicPermission) -> None:
        permission.key = permission.key or self.new_key()
        value: dict[str, object] = {
            "user": user,
            "vhost": vhost,
            "exchange": exchange,
            "write": permission.write,
            "read": permission.read,
        }
        self.store.put_definition(Definition("topic_permission", permission.key, value))

    def put_dismissal(self, what: tuple[str, ...]) -> None:
        """what: see `Broker.configured`."""
        self.store.put_definition(Definition("dismissal", self.new_key(), {"of": list(what)}))

    def delete(self, kind: str, key: bytes) -> None:
        self.store.delete_definition(kind, key)


def restore_exchange(vhost: VirtualHost, definition: Definition, stored: dict[int, StoredQueue]) -> None:
    value = definition.value
    kind = cast(str, value["type"])
    if kind not in EXCHANGE_TYPES:
        raise ValueError(f"exchange '{value['name']}' in vhost '{vhost.name}' has unknown type '{kind}'")
    exchange = new_exchange(kind, cast(str, value["name"]), vhost.name, _arguments(value))
    exchange.durable = True
    exchange.auto_delete = cast(bool, value["auto_delete"])
    exchange.internal = cast(bool, value["internal"])
    exchange.definition = definition.key
    exchange.seen_id = cast(int, value.get("seen_id", 0))
    stored.pop(exchange.seen_id, None)
    vhost.add_exchange(exchange)
    if exchange.holds is not None:
        exchange.holds.store_id = cast(int, value["store_id"])
        found = stored.pop(exchange.holds.store_id, None)
        if found is not None:
            exchange.holds.recovered(found)


def restore_queue(vhost: VirtualHost, definition: Definition, stored: dict[int, StoredQueue]) -> Queue:
    value = definition.value
    queue = new_queue(
        cast(str, value["name"]), vhost.name, durable=True, arguments=_arguments(value), store=vhost.store
    )
    queue.auto_delete = cast(bool, value["auto_delete"])
    queue.store_id = cast(int, value["store_id"])
    queue.definition = definition.key
    queue.seen_id = cast(int, value.get("seen_id", 0))
    stored.pop(queue.seen_id, None)
    found = stored.pop(queue.store_id, None)
    # Whether it counts deliveries decides how it takes what it finds.
    vhost.policies.apply_to_queue(queue)
    if found is not None:
        queue.recovered(found)
    vhost.add_queue(queue)
    return queue


def restore_binding(vhost: VirtualHost, definition: Definition) -> None:
    """A binding whose ends are not both there is left out: its end was deleted in the same batch or not durable."""
    value = definition.value
    source = vhost.exchanges.get(cast(str, value["source"]))
    name = cast(str, value["destination"])
    to_exchange = cast(bool, value["to_exchange"])
    destination = vhost.exchanges.get(name) if to_exchange else vhost.queues.get(name)
    if source is None or destination is None:
        return
    binding = Binding(source, destination, cast(str, value["routing_key"]), _arguments(value))
    binding.definition = definition.key
    vhost.add_binding(binding)


def restore_vhost(vhost: VirtualHost, definition: Definition) -> None:
    value = definition.value
    vhost.definition = definition.key
    vhost.metadata = VirtualHostMetadata(
        cast(str, value["description"]),
        cast("list[str]", value["tags"]),
        cast(str, value["default_queue_type"]),
        cast("dict[str, object]", value["other"]),
    )


def restore_dismissal(broker: Broker, definition: Definition) -> None:
    """What the configuration has just made again is not to be there. What is stored of that name comes after it."""
    what = tuple(cast("list[str]", definition.value["of"]))
    broker.dismissed.add(what)
    if what[0] == "user":
        broker.users.pop(what[1], None)
    elif what[0] == "vhost":
        broker.vhosts.pop(what[1], None)
        for user in broker.users.values():
            user.permissions.pop(what[1], None)
    elif what[1] in broker.users:
        broker.users[what[1]].permissions.pop(what[2], None)


def restore_user(broker: Broker, definition: Definition) -> None:
    """One of a name that is there already, the configuration's, becomes this one and keeps its permissions."""
    value = definition.value
    name = cast(str, value["name"])
    replaced = cast(bytes, value.get("replaced", b""))
    password = PasswordHash(cast(str, value["algorithm"]), cast(bytes, value["password"]), replaced)
    user = broker.users.get(name)
    if user is None:
        user = User(name, password, [])
        broker.add_user(user)
    user.password = password
    user.tags = cast("list[str]", value["tags"])
    user.limits = cast("dict[str, object]", value["limits"])
    user.key = definition.key


def restore_permission(broker: Broker, definition: Definition) -> None:
    """That of a user who is not there any more is left out."""
    value = definition.value
    user = broker.users.get(cast(str, value["user"]))
    if user is None:
        return
    vhost, write, read = cast(str, value["vhost"]), cast(str, value["write"]), cast(str, value["read"])
    if definition.kind == "permission":
        permission = Permission(cast(str, value["configure"]), write, read)
        permission.key = definition.key
        user.permissions[vhost] = permission
    else:
        topic_permission = TopicPermission(write, read)
        topic_permission.key = definition.key
        user.topic_permissions[vhost, cast(str, value["exchange"])] = topic_permission


def restore_policy(vhost: VirtualHost, definition: Definition) -> None:
    value = definition.value
    policy = Policy(
        cast(str, value["name"]),
        cast(str, value["pattern"]),
        read_table(cast(bytes, value["definition"]), 0)[0],
        cast(int, value["priority"]),
        cast(str, value["apply_to"]),
    )
    policy.key = definition.key
    policies = vhost.policies.operator if definition.kind == OPERATOR_POLICY else vhost.policies.ordinary
    policies.put(policy)


def restore_parameter(parameters: Parameters, definition: Definition) -> None:
    value = definition.value
    parameter = Parameter(cast(str, value["component"]), cast(str, value["name"]), value["value"])
    parameter.key = definition.key
    parameters.add(parameter)


def _arguments(value: dict[str, object]) -> dict[str, Field]:
    return read_table(cast(bytes, value["arguments"]), 0)[0]

"""A broker's definitions as JSON text, in the form of RabbitMQ's HTTP API, for `reading` and for RabbitMQ's import.

Left out is what no import takes: exclusive queues, what is predeclared or has a reserved name, and bindings from or to
such, apart from bindings from the predeclared exchanges. Rows are in order of their names, so that exports compare.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TypeAlias

import msgspec

from amqp_broker.broker.access import User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import Binding, Exchange
from amqp_broker.broker.kept_arguments import whole
from amqp_broker.broker.policy import Policy
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.definitions.checking import is_reserved
from amqp_broker.definitions.values import json_of_table, text_of

Rows: TypeAlias = "list[dict[str, object]]"


def write(broker: Broker, *, version: str, product: str, product_version: str) -> str:
    """version: the RabbitMQ version to name, by which readers know the file's form."""
    users = [broker.users[name] for name in sorted(broker.users)]
    vhosts = [broker.vhosts[name] for name in sorted(broker.vhosts)]
    content: dict[str, object] = {
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": product,
        "product_version": product_version,
        "users": [_user(user) for user in users],
        "vhosts": [_vhost(vhost) for vhost in vhosts],
        "permissions": _permissions(users),
        "topic_permissions": _topic_permissions(users),
        "parameters": _parameters(vhosts),
        "global_parameters": [
            {"name": parameter.name, "value": parameter.value}
            for _, parameter in sorted(broker.parameters.by_name.items())
        ],
        "policies": [
            {"vhost": vhost.name, "name": name, **_policy(policy)}
            for vhost in vhosts
            for name, policy in sorted(vhost.policies.ordinary.by_name.items())
        ],
        "queues": [_queue(queue) for vhost in vhosts for queue in _queues(vhost)],
        "exchanges": [_exchange(exchange) for vhost in vhosts for exchange in _exchanges(vhost)],
        "bindings": [_binding(binding) for vhost in vhosts for binding in _bindings(vhost)],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _user(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "password_hash": b64encode(user.password.octets).decode(),
        "hashing_algorithm": user.password.algorithm,
        "tags": user.tags,
        "limits": user.limits,
    }


def _vhost(vhost: VirtualHost) -> dict[str, object]:
    metadata = vhost.metadata
    said: dict[str, object] = {"description": metadata.description, "tags": metadata.tags}
    if metadata.default_queue_type:
        said["default_queue_type"] = metadata.default_queue_type
    return {"name": vhost.name, **said, "metadata": {**metadata.other, **said}}


def _permissions(users: list[User]) -> Rows:
    return [
        {
            "user": user.name,
            "vhost": vhost,
            "configure": permission.configure,
            "write": permission.write,
            "read": permission.read,
        }
        for user in users
        for vhost, permission in sorted(user.permissions.items(), key=_first)
    ]


def _topic_permissions(users: list[User]) -> Rows:
    return [
        {
            "user": user.name,
            "vhost": vhost,
            "exchange": exchange,
            "write": permission.write,
            "read": permission.read,
        }
        for user in users
        for (vhost, exchange), permission in sorted(user.topic_permissions.items(), key=_first)
    ]


def _first(item: tuple[object, object]) -> str:
    return str(item[0])


def _parameters(vhosts: list[VirtualHost]) -> Rows:
    """With the operator policies among them."""
    rows: Rows = []
    for vhost in vhosts:
        for name, policy in sorted(vhost.policies.operator.by_name.items()):
            row = {"vhost": vhost.name, "component": "operator_policy", "name": name}
            rows.append({**row, "value": _policy(policy)})
        for (component, name), parameter in sorted(vhost.parameters.by_name.items()):
            row = {"vhost": vhost.name, "component": component, "name": name}
            rows.append({**row, "value": parameter.value})
    return rows


def _policy(policy: Policy) -> dict[str, object]:
    return {
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": json_of_table(policy.definition),
        "priority": policy.priority,
    }


def _queues(vhost: VirtualHost) -> list[Queue]:
    return [
        queue for name, queue in sorted(vhost.queues.items()) if queue.owner is None and not is_reserved(name)
    ]


def _exchanges(vhost: VirtualHost) -> list[Exchange]:
    return [exchange for name, exchange in sorted(vhost.exchanges.items()) if not is_reserved(name)]


def _bindings(vhost: VirtualHost) -> list[Binding]:
    queues = {*_queues(vhost)}
    found: list[Binding] = []
    for name, exchange in sorted(vhost.exchanges.items()):
        if name:
            found += [
                binding
                for _, binding in sorted(exchange.bindings.items())
                if isinstance(binding.destination, Exchange) or binding.destination in queues
            ]
    return found


def _queue(queue: Queue) -> dict[str, object]:
    return {
        "name": queue.name,
        "vhost": queue.vhost_name,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": json_of_table(whole(queue.packed, queue.arguments)),
    }


def _exchange(exchange: Exchange) -> dict[str, object]:
    return {
        "name": exchange.name,
        "vhost": exchange.vhost_name,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": json_of_table(whole(exchange.packed, exchange.arguments)),
    }


def _binding(binding: Binding) -> dict[str, object]:
    return {
        "source": binding.source.name,
        "vhost": binding.source.vhost_name,
        "destination": binding.destination.name,
        "destination_type": "exchange" if isinstance(binding.destination, Exchange) else "queue",
        "routing_key": text_of(binding.routing_key.encode("utf-8", "surrogateescape")),
        "arguments": json_of_table(binding.arguments),
    }

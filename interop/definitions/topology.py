"""Definitions of every kind, made in a RabbitMQ by its own tools and a client, and definitions in comparable form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pika

# What a start makes, or only RabbitMQ has.
OWN = {"global_parameters", "rabbit_version", "rabbitmq_version", "product_name", "product_version"}

COMMANDS = [
    ["add_user", "alice", "wonderland"],
    ["set_user_tags", "alice", "monitoring", "policymaker"],
    ["add_user", "bob", "builder"],
    ["set_user_limits", "bob", '{"max-connections":3,"max-channels":10}'],
    ["add_vhost", "shop", "--description", "the shop", "--tags", "prod,eu"],
    ["add_vhost", "empty"],
    ["set_permissions", "-p", "shop", "alice", "^shop-", ".*", "^(shop|amq)"],
    ["set_permissions", "-p", "shop", "guest", ".*", ".*", ".*"],
    ["set_permissions", "-p", "/", "bob", "", "^orders$", ".*"],
    ["set_topic_permissions", "-p", "shop", "alice", "amq.topic", "^a", "^b"],
    [
        *("set_policy", "-p", "shop", "--priority", "5", "--apply-to", "queues"),
        *("limits", "^shop-", '{"max-length":1000,"dead-letter-exchange":"shop-dlx"}'),
    ],
    ["set_policy", "ttl", "^tmp", '{"message-ttl":60000,"expires":1800000}'],
    ["set_policy", "ae", "^ex", '{"alternate-exchange":"unrouted"}', "--apply-to", "exchanges"],
    ["set_policy", "ha", "^ha", '{"ha-mode":"exactly","ha-params":2,"ha-sync-mode":"automatic"}'],
    ["set_operator_policy", "cap", ".*", '{"max-length-bytes":1073741824}', "--apply-to", "queues"],
    ["set_vhost_limits", "-p", "shop", '{"max-connections":256,"max-queues":1024}'],
    ["set_global_parameter", "mine", '{"a":[1,2],"c":"d"}'],
]
PLUGINS = (
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
)


def declare(port: int) -> None:
    """Exchanges, queues and bindings in the virtual host shop."""
    parameters = pika.ConnectionParameters("127.0.0.1", port, "shop")
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        exchanges: list[tuple[str, str, dict[str, Any]]] = [
            ("shop-orders", "topic", {}),
            ("shop-dlx", "fanout", {}),
            ("shop-headers", "headers", {"alternate-exchange": "shop-dlx"}),
            ("shop-hash", "x-consistent-hash", {"hash-header": "h"}),
            ("shop-random", "x-random", {}),
            ("shop-recent", "x-recent-history", {"x-recent-history-length": 3}),
        ]
        for name, kind, arguments in exchanges:
            channel.exchange_declare(name, kind, durable=True, arguments=arguments)
        channel.exchange_declare("shop-transient", "direct", auto_delete=True)
        queues: list[tuple[str, dict[str, Any]]] = [
            (
                "shop-classic",
                {"x-message-ttl": 60000, "x-max-length": 500, "x-overflow": "reject-publish-dlx"},
            ),
            ("shop-dead", {"x-dead-letter-exchange": "shop-dlx", "x-dead-letter-routing-key": "dead"}),
            ("shop-quorum", {"x-queue-type": "quorum", "x-delivery-limit": 5}),
            ("shop-prio", {"x-max-priority": 10, "x-single-active-consumer": True, "x-queue-mode": "lazy"}),
            ("shop-café", {"big": 2**40, "nested": {"list": [1, "a", {}]}, "text": "é"}),
        ]
        for name, arguments in queues:
            channel.queue_declare(name, durable=True, arguments=arguments)
        channel.queue_declare("shop-auto", auto_delete=True)
        channel.queue_bind("shop-classic", "shop-orders", "order.*")
        channel.queue_bind("shop-quorum", "shop-orders", "#")
        channel.queue_bind("shop-dead", "shop-dlx", "")
        channel.queue_bind("shop-classic", "shop-hash", "10")
        channel.queue_bind("shop-auto", "amq.fanout", "k")
        channel.queue_bind(
            "shop-prio", "shop-headers", "", {"x-match": "any", "kind": "urgent", "n": 3, "flag": True}
        )
        channel.exchange_bind("shop-dlx", "shop-orders", "dead.#")


def comparable(text: str) -> dict[str, set[str]]:
    """The rows of each list as text, without the forms in which the versions of RabbitMQ differ."""
    content: dict[str, Any] = json.loads(text)
    return {
        key: {json.dumps(_plain(key, row), sort_keys=True) for row in rows}
        for key, rows in content.items()
        if key not in OWN
    }


def _plain(key: str, row: Mapping[str, Any]) -> dict[str, Any]:
    plain = dict(row)
    if key == "vhosts":
        metadata = row.get("metadata", {})
        tags = metadata.get("tags", [])
        tags = [tag for tag in tags.split(",") if tag] if isinstance(tags, str) else tags
        description = metadata.get("description", "")
        return {"name": row["name"], "description": description, "tags": tags}
    if key == "parameters" and isinstance(row["value"].get("definition"), list):
        # rabbitmqctl writes what an operator policy says as a list of pairs
        plain["value"] = {**row["value"], "definition": dict(row["value"]["definition"])}
    plain.pop("type" if key == "queues" else "", None)
    plain.pop("internal" if key == "exchanges" else "", None)
    return plain

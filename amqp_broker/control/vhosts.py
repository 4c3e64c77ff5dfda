"""Virtual hosts: which there are, and what people say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.argument_table import QUEUE_TYPES
from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.control.users import Named, NoArguments
from amqp_broker.control.verb import (
    INVALID,
    Given,
    Quick,
    Refused,
    Verb,
    check_name,
    vhost_named,
    vhosts_named,
)

if TYPE_CHECKING:
    from amqp_broker.broker.vhost import VirtualHost
    from amqp_broker.control.node import Node


class NewVirtualHost(Given, frozen=True):
    """What is None stays as it is, in a virtual host that is there already."""

    name: str
    description: str | None = None
    tags: list[str] | None = None
    default_queue_type: str | None = None


def list_vhosts(node: Node, given: NoArguments) -> object:
    return [_row(vhost) for vhost in vhosts_named(node, None)]


def _row(vhost: VirtualHost) -> dict[str, object]:
    metadata = vhost.metadata
    return {
        "name": vhost.name,
        "description": metadata.description,
        "tags": metadata.tags,
        "default_queue_type": metadata.default_queue_type or "classic",
        "queues": len(vhost.queues) - vhost.reply_queues,
        "connections": len(vhost.presences),
    }


def add_vhost(node: Node, given: NewVirtualHost) -> object:
    """One that is there is no mistake, as with RabbitMQ; what is said about it counts then, too."""
    check_name("a virtual host", given.name)
    kind = given.default_queue_type
    if kind is not None and kind not in QUEUE_TYPES:
        raise Refused(INVALID, f"there are no queues of type '{kind}'; there are: {', '.join(QUEUE_TYPES)}")
    vhost = node.broker.vhosts.get(given.name)
    before = VirtualHostMetadata() if vhost is None else vhost.metadata
    metadata = VirtualHostMetadata(
        before.description if given.description is None else given.description,
        before.tags if given.tags is None else given.tags,
        before.default_queue_type if kind is None else kind,
        before.other,
    )
    node.broker.put_vhost(given.name, metadata)
    return {"made": vhost is None}


def delete_vhost(node: Node, given: Named) -> object:
    vhost_named(node, given.name)
    node.broker.delete_vhost(given.name)
    return None


VERBS: Final[dict[str, Verb[Any]]] = {
    "vhosts.list": Quick(NoArguments, list_vhosts, changes=False),
    "vhosts.add": Quick(NewVirtualHost, add_vhost),
    "vhosts.delete": Quick(Named, delete_vhost),
}

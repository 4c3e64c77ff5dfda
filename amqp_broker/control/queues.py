"""Queues: what is in them, emptying them, and removing them.

Queues behind direct replies are nobody's to see. A list comes in pages, so that a broker with many queues is not kept.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from amqp_broker.broker.arguments import queue_type
from amqp_broker.broker.kept_arguments import whole
from amqp_broker.broker.names import REPLY_PREFIX
from amqp_broker.control.verb import (
    IMPOSSIBLE,
    NOT_FOUND,
    Given,
    Quick,
    Refused,
    Verb,
    queue_named,
    vhost_named,
    vhosts_named,
)
from amqp_broker.definitions.values import json_of_table
from amqp_broker.errors import AmqpError

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue
    from amqp_broker.broker.vhost import VirtualHost
    from amqp_broker.control.node import Node

PAGE: Final = 1000
PageSize = Annotated[int, msgspec.Meta(ge=1, le=PAGE)]


class Page(Given, frozen=True):
    """after: virtual host and name of the last queue of the page before. most: rows of this one."""

    vhost: str | None = None
    after: tuple[str, str] | None = None
    most: PageSize = PAGE


class QueueName(Given, frozen=True):
    vhost: str
    name: str


class Deleted(QueueName, frozen=True):
    if_unused: bool = False
    if_empty: bool = False


def list_queues(node: Node, given: Page) -> object:
    names = [
        (vhost.name, name)
        for vhost in vhosts_named(node, given.vhost)
        for name in vhost.queues
        if not name.startswith(REPLY_PREFIX) and (given.after is None or (vhost.name, name) > given.after)
    ]
    return [
        _row(node.broker.vhosts[vhost], node.broker.vhosts[vhost].queues[name])
        for vhost, name in nsmallest(given.most, names)
    ]


def _row(vhost: VirtualHost, queue: Queue) -> dict[str, object]:
    numbers = queue.statistics()
    kind = queue_type(queue.arguments)
    policy = vhost.policies.ordinary.for_queue(queue.name, kind)
    return {
        "vhost": vhost.name,
        "name": queue.name,
        "type": kind,
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.owner is not None,
        "messages_ready": numbers.ready,
        "messages_unacknowledged": numbers.unacked,
        "messages_delayed": numbers.delayed,
        "consumers": numbers.consumers,
        "policy": "" if policy is None else policy.name,
        "arguments": json_of_table(whole(queue.packed, queue.arguments)),
    }


def _queue(node: Node, given: QueueName) -> tuple[VirtualHost, Queue]:
    vhost = vhost_named(node, given.vhost)
    queue = queue_named(vhost, given.name)
    if given.name.startswith(REPLY_PREFIX):
        raise Refused(NOT_FOUND, f"queue '{given.name}' is there for direct replies alone")
    return vhost, queue


def purge_queue(node: Node, given: QueueName) -> object:
    """What is unacknowledged stays."""
    _, queue = _queue(node, given)
    return {"messages": queue.purge()}


def delete_queue(node: Node, given: Deleted) -> object:
    vhost, queue = _queue(node, given)
    try:
        return {"messages": vhost.delete_queue(queue, given.if_unused, given.if_empty)}
    except AmqpError as error:
        raise Refused(IMPOSSIBLE, error.explanation) from None


VERBS: Final[dict[str, Verb[Any]]] = {
    "queues.list": Quick(Page, list_queues, changes=False),
    "queues.purge": Quick(QueueName, purge_queue),
    "queues.delete": Quick(Deleted, delete_queue),
}

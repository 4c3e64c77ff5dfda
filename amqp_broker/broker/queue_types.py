"""Which class of queue a declaration asks for: the one place that knows them all."""

from __future__ import annotations

from amqp_broker.broker.arguments import queue_type
from amqp_broker.broker.ports import Store
from amqp_broker.broker.priority_queue import PriorityQueue
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.quorum_queue import QuorumQueue
from amqp_broker.content.table import Field


def new_queue(name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store) -> Queue:
    """A queue of the type, and with the priorities, that its arguments ask for. They have been checked."""
    if queue_type(arguments) == "quorum":
        return QuorumQueue(name, vhost_name, durable, arguments, store)
    if "x-max-priority" in arguments:
        return PriorityQueue(name, vhost_name, durable, arguments, store)
    return Queue(name, vhost_name, durable, arguments, store)

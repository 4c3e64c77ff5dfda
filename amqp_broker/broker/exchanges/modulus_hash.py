"""The x-modulus-hash exchange, RabbitMQ's from rabbitmq_sharding: one binding by the hash of the routing key.

The hash modulo the number of bindings counts them off in an order that follows from the bindings alone, not from
when they were made: the same bindings always send a key the same way, and any change of them moves most keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import BoundDestinations
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue


class ModulusHashExchange(Exchange):
    """Counts its bindings off by the routing key: a queue that is bound twice gets two shares."""

    kind = "x-modulus-hash"
    __slots__ = ("destinations",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.destinations: BoundDestinations = BoundDestinations()

    def add(self, binding: Binding) -> None:
        self.destinations.add(binding)

    def remove(self, binding: Binding) -> None:
        self.destinations.remove(binding)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        destinations = self.destinations.in_order()
        count = len(destinations)
        if count < 2:
            return destinations
        return [destinations[crc32(routing_key.encode("utf-8", "surrogateescape")) % count]]

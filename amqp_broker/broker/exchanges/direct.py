"""The direct exchange (AMQP 0-9-1 section 3.1.3.1): destinations by equality of the routing key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import CountedDestinations
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue


class DirectExchange(Exchange):
    """Routes by equality of the routing key."""

    kind = "direct"
    __slots__ = ("by_key",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.each_key = True
        self.by_key: dict[str, CountedDestinations[Queue | Exchange]] = {}

    def add(self, binding: Binding) -> None:
        destinations = self.by_key.get(binding.routing_key)
        if destinations is None:
            destinations = self.by_key[binding.routing_key] = CountedDestinations()
        destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        destinations = self.by_key[binding.routing_key]
        destinations.remove(binding.destination)
        if not destinations.counts:
            del self.by_key[binding.routing_key]

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        destinations = self.by_key.get(routing_key)
        return [] if destinations is None else destinations.listed

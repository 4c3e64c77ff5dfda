"""The fanout exchange (AMQP 0-9-1 section 3.1.3.2): every destination, whatever the message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import CountedDestinations
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue


class FanoutExchange(Exchange):
    """Routes to every destination."""

    kind = "fanout"
    __slots__ = ("destinations",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.destinations: CountedDestinations[Queue | Exchange] = CountedDestinations()

    def add(self, binding: Binding) -> None:
        self.destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self.destinations.remove(binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.destinations.listed

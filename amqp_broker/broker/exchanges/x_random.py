"""The x-random exchange, RabbitMQ's rabbitmq_random_exchange: each message to one binding by chance."""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import BoundDestinations
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue


class RandomExchange(Exchange):
    """Draws one of its bindings for each message: a queue that is bound twice gets twice as many."""

    kind = "x-random"
    __slots__ = ("destinations",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.varies = True
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
        return [destinations[int(random() * count)]]  # noqa: S311  nobody gains by a guess

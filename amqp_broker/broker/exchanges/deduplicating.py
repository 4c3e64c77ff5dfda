"""The x-message-deduplication exchange of RabbitMQ's plugin: a fanout that always deduplicates.

Every exchange can deduplicate (`exchanges.gate`); what is special here is that this one need not be asked to, that it
has to be told how many values to remember, and how it says what is wrong with its arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.argument_values import check_cache_persistence, check_digits, check_positive_time
from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import CountedDestinations
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field
from amqp_broker.errors import precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

SIZE: Final = "x-cache-size"
TTL: Final = "x-cache-ttl"
PERSISTENCE: Final = "x-cache-persistence"


class DeduplicatingExchange(Exchange):
    """Routes every message that is no duplicate to every destination."""

    kind = "x-message-deduplication"
    __slots__ = ("destinations",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.deduplicates = True
        self.destinations: CountedDestinations[Queue | Exchange] = CountedDestinations()

    def check_arguments(self) -> None:
        if not _is_number(self.arguments.get(SIZE)):
            raise precondition_failed(
                f"Missing or invalid argument, '{SIZE}' must be an integer greater than 0"
            )
        if TTL in self.arguments and not _is_number(self.arguments[TTL]):
            raise precondition_failed(f"Invalid argument, '{TTL}' must be an integer greater than 0")
        if PERSISTENCE in self.arguments and check_cache_persistence(self.arguments[PERSISTENCE]) is not None:
            raise precondition_failed(f"Invalid argument, '{PERSISTENCE}' must be either 'disk' or 'memory'")

    def add(self, binding: Binding) -> None:
        self.destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self.destinations.remove(binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.destinations.listed


def _is_number(field: Field | None) -> bool:
    return field is not None and (check_positive_time(field) is None or check_digits(field) is None)

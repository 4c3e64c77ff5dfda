"""The x-recent-history exchange, RabbitMQ's rabbitmq_recent_history_exchange: a fanout with a memory.

It remembers the last messages that came through, whether anybody took them or not, and a new binding is given them
at once (`vhost.VirtualHost.bind` does that). The memory is not durable: a restart, or deleting the exchange,
empties it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.exchanges.base import Binding, Exchange, Remembered
from amqp_broker.broker.exchanges.destinations import CountedDestinations
from amqp_broker.content.erlang import value_term
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field
from amqp_broker.errors import precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.message import Message
    from amqp_broker.broker.queue import Queue

LENGTH: Final = "x-recent-history-length"
NO_STORE: Final = "x-recent-history-no-store"
DEFAULT_LENGTH: Final = 20
# The plugin takes the signed integers only.
_LENGTH_KINDS: Final = frozenset("bsIlL")


class RecentHistoryExchange(Exchange):
    """Routes to every destination and remembers the last messages. history: oldest first."""

    kind = "x-recent-history"
    __slots__ = ("destinations", "history")

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.varies = True
        self.notices = True
        self.destinations: CountedDestinations[Queue | Exchange] = CountedDestinations()
        length = _length(arguments.get(LENGTH))
        self.history: deque[Remembered] = deque(maxlen=DEFAULT_LENGTH if length is None else length)

    def check_arguments(self) -> None:
        field = self.arguments.get(LENGTH)
        if field is not None and _length(field) is None:
            raise precondition_failed(
                f"Invalid argument {value_term(field)}, '{LENGTH}' must be a positive integer"
            )

    def add(self, binding: Binding) -> None:
        self.destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self.destinations.remove(binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.destinations.listed

    def notice(self, message: Message, routing_key: str, further_keys: list[str]) -> bool:
        no_store = message.header.headers().get(NO_STORE)
        if no_store is None or no_store.value is not True:
            self.history.append(Remembered(message, routing_key, further_keys))
        return False

    def remembered(self) -> list[Remembered]:
        return list(self.history)


def _length(field: Field | None) -> int | None:
    """How many messages to remember; None without a usable argument."""
    if field is None or field.kind not in _LENGTH_KINDS:
        return None
    value = field.value
    return value if isinstance(value, int) and value > 0 else None

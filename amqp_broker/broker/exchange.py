"""Exchanges and bindings: from a routing key and headers to destinations.

An `Exchange` knows its bindings and matches one message against them; following bindings between exchanges
and alternate exchanges is `vhost.VirtualHost.route`. The types are in `EXCHANGE_TYPES`; those that need a
structure of their own have it in `exchanges/`. Nothing here checks permissions or is durable by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, TypeAlias

from amqp_broker.broker.exchanges.headers import HeadersRouter, validate_x_match
from amqp_broker.broker.exchanges.topic import TopicRouter
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field, write_table
from amqp_broker.errors import precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

BindingKey: TypeAlias = "tuple[bool, str, str, bytes]"


class Binding:
    """From an exchange to a queue or an exchange. definition: its key in the store, b"" if not durable."""

    __slots__ = ("arguments", "definition", "destination", "exchange", "queue", "routing_key", "source")

    def __init__(
        self, source: Exchange, destination: Queue | Exchange, routing_key: str, arguments: dict[str, Field]
    ) -> None:
        self.source: Exchange = source
        self.destination: Queue | Exchange = destination
        self.routing_key: str = routing_key
        self.arguments: dict[str, Field] = arguments
        self.definition: bytes = b""

    def key(self) -> BindingKey:
        """What makes two bindings of one source the same: destination, routing key and arguments in any order."""
        arguments = {name: self.arguments[name] for name in sorted(self.arguments)}
        is_exchange = isinstance(self.destination, Exchange)
        return (
            is_exchange,
            self.destination.name,
            self.routing_key,
            write_table(arguments) if arguments else b"",
        )


class Exchange(ABC):
    """alternate: name of the exchange that takes what this one cannot route, or None.

    bindings: those it is the source of, by `Binding.key`; incoming: those it is the destination of.
    to_exchanges: how many of its bindings lead to an exchange.
    """

    kind: str = ""
    by_headers: bool = False

    __slots__ = (
        "alternate",
        "arguments",
        "auto_delete",
        "bindings",
        "definition",
        "durable",
        "incoming",
        "internal",
        "name",
        "to_exchanges",
        "vhost_name",
    )

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        self.name: str = name
        self.vhost_name: str = vhost_name
        self.durable: bool = False
        self.auto_delete: bool = False
        self.internal: bool = False
        self.arguments: dict[str, Field] = arguments
        self.definition: bytes = b""
        self.alternate: str | None = None
        alternate = arguments.get("alternate-exchange")
        if alternate is not None and isinstance(alternate.value, bytes):
            self.alternate = alternate.value.decode("utf-8", "surrogateescape")
        self.bindings: dict[BindingKey, Binding] = {}
        self.incoming: dict[Binding, None] = {}
        self.to_exchanges: int = 0

    def check_binding(self, routing_key: str, arguments: dict[str, Field]) -> None:
        """Raises SoftError 406 for binding arguments that this type cannot use."""
        return

    @abstractmethod
    def add(self, binding: Binding) -> None:
        """Route by a new binding from now on."""

    @abstractmethod
    def remove(self, binding: Binding) -> None:
        """Stop routing by a binding that was added."""

    @abstractmethod
    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        """The destinations of a message, each once."""


class _Destinations:
    """Destinations in the order they were first bound, with the number of bindings that lead to each."""

    __slots__ = ("counts", "listed")

    def __init__(self) -> None:
        self.counts: dict[Queue | Exchange, int] = {}
        self.listed: list[Queue | Exchange] = []

    def add(self, destination: Queue | Exchange) -> None:
        count = self.counts.get(destination, 0)
        self.counts[destination] = count + 1
        if not count:
            self.listed = list(self.counts)

    def remove(self, destination: Queue | Exchange) -> None:
        count = self.counts[destination] - 1
        if count:
            self.counts[destination] = count
            return
        del self.counts[destination]
        self.listed = list(self.counts)


class DirectExchange(Exchange):
    """Routes by equality of the routing key."""

    kind = "direct"
    __slots__ = ("by_key",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.by_key: dict[str, _Destinations] = {}

    def add(self, binding: Binding) -> None:
        destinations = self.by_key.get(binding.routing_key)
        if destinations is None:
            destinations = self.by_key[binding.routing_key] = _Destinations()
        destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        destinations = self.by_key[binding.routing_key]
        destinations.remove(binding.destination)
        if not destinations.counts:
            del self.by_key[binding.routing_key]

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        destinations = self.by_key.get(routing_key)
        return [] if destinations is None else destinations.listed


class FanoutExchange(Exchange):
    """Routes to every destination."""

    kind = "fanout"
    __slots__ = ("destinations",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.destinations: _Destinations = _Destinations()

    def add(self, binding: Binding) -> None:
        self.destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self.destinations.remove(binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.destinations.listed


class TopicExchange(Exchange):
    """Routes by patterns of words; see `exchanges.topic`."""

    kind = "topic"
    __slots__ = ("router",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.router: TopicRouter[Queue | Exchange] = TopicRouter()

    def add(self, binding: Binding) -> None:
        self.router.bind(binding.routing_key, binding.destination)

    def remove(self, binding: Binding) -> None:
        self.router.unbind(binding.routing_key, binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.router.match(routing_key)


class HeadersExchange(Exchange):
    """Routes by the message's headers; see `exchanges.headers`."""

    kind = "headers"
    by_headers = True
    __slots__ = ("router",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.router: HeadersRouter[Queue | Exchange] = HeadersRouter()

    def check_binding(self, routing_key: str, arguments: dict[str, Field]) -> None:
        problem = validate_x_match(arguments)
        if problem is not None:
            raise precondition_failed(problem)

    def add(self, binding: Binding) -> None:
        self.router.bind(binding.arguments, binding.destination)

    def remove(self, binding: Binding) -> None:
        self.router.unbind(binding.arguments, binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.router.match(header.headers())


EXCHANGE_TYPES: Final[dict[str, type[Exchange]]] = {
    "direct": DirectExchange,
    "fanout": FanoutExchange,
    "headers": HeadersExchange,
    "topic": TopicExchange,
}


def new_exchange(kind: str, name: str, vhost_name: str, arguments: dict[str, Field]) -> Exchange:
    """An exchange of a type in EXCHANGE_TYPES."""
    return EXCHANGE_TYPES[kind](name, vhost_name, arguments)

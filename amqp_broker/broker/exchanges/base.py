"""What all exchange types have in common: `Binding`, and the contract of `Exchange`.

An `Exchange` knows its bindings and matches one message against them. Following bindings between exchanges and
alternate exchanges is `vhost.VirtualHost.route`; the types are found by name in `broker.exchange`. Nothing here
checks permissions or is durable by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, TypeAlias

from amqp_broker.broker.arguments import EXCHANGE_ARGUMENTS
from amqp_broker.broker.exchanges.gate import Gate
from amqp_broker.broker.kept_arguments import looked_up, packed, whole
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field, write_table

if TYPE_CHECKING:
    from amqp_broker.broker.features import Deduplication
    from amqp_broker.broker.host import QueueHost
    from amqp_broker.broker.message import Message
    from amqp_broker.broker.ports import Store
    from amqp_broker.broker.queue import Queue

BindingKey: TypeAlias = "tuple[bool, str, str, bytes]"


class Binding:
    """From an exchange to a queue or an exchange. definition: its key in the store, b"" if not durable."""

    __slots__ = ("_arguments", "_packed", "definition", "destination", "routing_key", "source")

    def __init__(
        self, source: Exchange, destination: Queue | Exchange, routing_key: str, arguments: dict[str, Field]
    ) -> None:
        self.source: Exchange = source
        self.destination: Queue | Exchange = destination
        self.routing_key: str = routing_key
        self._packed: bytes = packed(arguments)
        self._arguments: dict[str, Field] = looked_up(arguments, self._packed, {})
        self.definition: bytes = b""

    @property
    def arguments(self) -> dict[str, Field]:
        """Do not change the table."""
        return whole(self._packed, self._arguments)

    def key(self) -> BindingKey:
        """What makes two bindings of one source the same: destination, routing key and arguments in any order."""
        arguments = self.arguments
        arguments = {name: arguments[name] for name in sorted(arguments)}
        is_exchange = isinstance(self.destination, Exchange)
        return (
            is_exchange,
            self.destination.name,
            self.routing_key,
            write_table(arguments) if arguments else b"",
        )


class Remembered:
    """A message that went through an exchange, and the keys it came with besides its own."""

    __slots__ = ("further_keys", "message", "routing_key")

    def __init__(self, message: Message, routing_key: str, further_keys: list[str]) -> None:
        self.message: Message = message
        self.routing_key: str = routing_key
        self.further_keys: list[str] = further_keys


NOTHING_REMEMBERED: Final[list[Remembered]] = []


class Exchange(ABC):
    """alternate: name of the exchange that takes what this one cannot route, or None. packed, arguments: see
    `kept_arguments`.

    bindings: those it is the source of, by `Binding.key`; incoming: those it is the destination of.
    to_exchanges: how many of its bindings lead to an exchange.
    each_key: a message with several routing keys (CC, BCC) is matched by each; else by its own alone, once.
    varies: where a message goes depends on more than its keys and the bindings, so that no route is kept.
    holds: the queue of its own that `attach` made, whose messages go with the exchange.
    notices: `notice` wants to hear of every message. Such an exchange varies.
    deduplicates: it always does, as its type has it. gate: where duplicates stay, None if it takes them like other
    messages; seen_id: of the values that the gate knows, in the store, 0 if there is none.
    """

    kind: str = ""

    __slots__ = (
        "alternate",
        "arguments",
        "auto_delete",
        "bindings",
        "deduplicates",
        "definition",
        "durable",
        "each_key",
        "gate",
        "holds",
        "host",
        "incoming",
        "internal",
        "name",
        "notices",
        "packed",
        "seen_id",
        "store",
        "to_exchanges",
        "varies",
        "vhost_name",
    )

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        self.name: str = name
        self.vhost_name: str = vhost_name
        self.durable: bool = False
        self.auto_delete: bool = False
        self.internal: bool = False
        self.packed: bytes = packed(arguments)
        self.arguments: dict[str, Field] = looked_up(arguments, self.packed, EXCHANGE_ARGUMENTS)
        self.definition: bytes = b""
        self.alternate: str | None = None
        alternate = arguments.get("alternate-exchange")
        if alternate is not None and isinstance(alternate.value, bytes):
            self.alternate = alternate.value.decode("utf-8", "surrogateescape")
        self.bindings: dict[BindingKey, Binding] = {}
        self.incoming: dict[Binding, None] = {}
        self.to_exchanges: int = 0
        self.holds: Queue | None = None
        self.each_key: bool = False
        self.varies: bool = False
        self.notices: bool = False
        self.deduplicates: bool = False
        self.gate: Gate | None = None
        self.seen_id: int = 0
        self.host: QueueHost | None = None
        self.store: Store | None = None

    def attach(self, host: QueueHost, store: Store) -> None:
        """It belongs to a virtual host from now on; an exchange that needs a queue of its own makes it now."""
        self.host = host
        self.store = store

    def deduplicate(self, terms: Deduplication | None) -> None:
        """Have duplicates stay here from now on, or not any more. Called in a virtual host only.

        What is remembered stays so, if the new terms allow it.
        """
        gate, store, host = self.gate, self.store, self.host
        if store is None or host is None or (gate is None and terms is None):
            return
        if gate is not None:
            if terms is not None and gate.cache.follow(terms):
                return
            self.forget_values()
        if terms is not None:
            self.seen_id = self.seen_id or store.next_queue_id()
            self.gate = Gate(self.name, self.vhost_name, self.durable, terms, self.seen_id, store)
            self.gate.join(host)

    def forget_values(self) -> None:
        """Nothing was seen here, and nothing will be."""
        if self.gate is None:
            return
        if self.durable and self.store is not None:
            self.store.delete_queue(self.seen_id)
        self.gate.delete()
        self.gate = None
        self.seen_id = 0

    def check_arguments(self) -> None:
        """Raises SoftError 406 for arguments that this type cannot be declared with.

        Called once before a new exchange is added, never for one that a restart brings back.
        """
        return

    def check_binding(self, routing_key: str, arguments: dict[str, Field]) -> None:
        """Raises SoftError 406 for a key or arguments that this type cannot be bound with."""
        return

    @abstractmethod
    def add(self, binding: Binding) -> None:
        """Route by a new binding from now on."""

    @abstractmethod
    def remove(self, binding: Binding) -> None:
        """Stop routing by a binding that was added."""

    @abstractmethod
    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        """The destinations of a message, each once. The list is not to be changed."""

    def notice(self, message: Message, routing_key: str, further_keys: list[str]) -> bool:
        """Hear of a message that is about to be matched; whether it stays here and is not matched at all."""
        return False

    def remembered(self) -> list[Remembered]:
        """What a new binding is given at once, oldest first; a list of the caller's own, or an empty one."""
        return NOTHING_REMEMBERED

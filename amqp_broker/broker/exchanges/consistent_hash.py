"""The x-consistent-hash exchange, RabbitMQ's rabbitmq_consistent_hash_exchange: one destination by a hash.

What is hashed is the routing key, a header or a property; a binding's key is its destination's weight. Every
destination bids for each of a fixed number of slots, and the highest bid has the slot (weighted rendezvous
hashing). Bids depend on the slot, the destination's name and its weight and on nothing else, so shares follow the
weights, a destination that comes or goes moves only what it wins or had, and a restart moves nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log
from typing import TYPE_CHECKING, Final
from zlib import crc32

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.headers import comparable
from amqp_broker.content.erlang import binary_term
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import TYPE_NAMES, Field
from amqp_broker.errors import exchange_in, precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

HASH_HEADER: Final = "hash-header"
HASH_PROPERTY: Final = "hash-property"

# With so many a share among ten is met within 2.3 % (one standard deviation), for 128 KiB an exchange in use.
SLOTS: Final = 16384

_WORD: Final = 0xFFFFFFFF
_SCRAMBLE: Final = 0x45D9F3B


class _Destination:
    """A bound queue or exchange. weights: of its bindings, oldest first; the first counts."""

    __slots__ = ("high", "low", "routed", "weights")

    def __init__(self, target: Queue | Exchange) -> None:
        kind = b"exchange " if isinstance(target, Exchange) else b"queue "
        name = target.name.encode("utf-8", "surrogateescape")
        identity = int.from_bytes(blake2b(kind + name, digest_size=8).digest(), "big")
        self.low: int = identity & _WORD
        self.high: int = identity >> 32
        self.routed: list[Queue | Exchange] = [target]
        self.weights: list[int] = []


class ConsistentHashExchange(Exchange):
    """Routes each hashed value to one destination, in proportion to weights.

    slots: who has each slot as far as anybody asked since the last change of bindings; empty if nobody did.
    """

    kind = "x-consistent-hash"
    __slots__ = ("by_target", "header_name", "property_name", "slots")

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.header_name: str = _name(arguments.get(HASH_HEADER))
        self.property_name: str = _name(arguments.get(HASH_PROPERTY))
        self.varies = HASH_HEADER in arguments or HASH_PROPERTY in arguments
        self.by_target: dict[Queue | Exchange, _Destination] = {}
        self.slots: list[_Destination | None] = []

    def check_arguments(self) -> None:
        for name in (HASH_HEADER, HASH_PROPERTY):
            field = self.arguments.get(name)
            if field is not None and field.kind != "S":
                resource = exchange_in(self.name, self.vhost_name)
                raise precondition_failed(
                    f"invalid type '{TYPE_NAMES[field.kind]}' for arg '{name}' in {resource}"
                )
        if HASH_PROPERTY not in self.arguments:
            return
        if HASH_HEADER in self.arguments:
            raise precondition_failed("hash-header and hash-property are mutually exclusive")
        if self.property_name not in ("correlation_id", "message_id", "timestamp"):
            raise precondition_failed(f"Unsupported property: {self.property_name}")

    def check_binding(self, routing_key: str, arguments: dict[str, Field]) -> None:
        digits = routing_key[1:] if routing_key[:1] in ("+", "-") else routing_key
        if not (digits.isascii() and digits.isdigit()):
            term = binary_term(routing_key.encode("utf-8", "surrogateescape"))
            raise precondition_failed(f"The binding key must be an integer: {term}")
        if int(routing_key) < 1:
            raise precondition_failed("The binding key must be greater than 0")

    def add(self, binding: Binding) -> None:
        found = self.by_target.get(binding.destination)
        if found is None:
            found = self.by_target[binding.destination] = _Destination(binding.destination)
        found.weights.append(int(binding.routing_key))
        self.slots = []

    def remove(self, binding: Binding) -> None:
        found = self.by_target[binding.destination]
        found.weights.remove(int(binding.routing_key))
        if not found.weights:
            del self.by_target[binding.destination]
        self.slots = []

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        if not self.by_target:
            return []
        if not self.slots:
            self.slots = [None] * SLOTS
        slot = crc32(self._hashed(routing_key, header)) % SLOTS
        owner = self.slots[slot]
        if owner is None:
            owner = self.slots[slot] = self._highest_bidder(slot)
        return owner.routed

    def _hashed(self, routing_key: str, header: ContentHeader) -> bytes:
        """The octets to hash; none at all for a message that lacks the header or property."""
        if not self.varies:
            return routing_key.encode("utf-8", "surrogateescape")
        if self.property_name == "correlation_id":
            return header.correlation_id() or b""
        if self.property_name == "message_id":
            return header.message_id() or b""
        if self.property_name == "timestamp":
            seconds = header.timestamp()
            return b"" if seconds is None else str(seconds).encode()
        field = header.headers().get(self.header_name)
        if field is None:
            return b""
        value = comparable(field)
        return value if isinstance(value, bytes) else str(value).encode()

    def _highest_bidder(self, slot: int) -> _Destination:
        """A bid is log(u) / weight with u from (0, 1): the chance that it is the highest is the weight's share."""
        best: _Destination | None = None
        highest = 0.0
        for destination in self.by_target.values():
            draw = _scrambled(_scrambled(slot ^ destination.low) ^ destination.high)
            bid = log((draw + 0.5) / 4294967296.0) / destination.weights[0]
            if best is None or bid > highest:
                best, highest = destination, bid
        assert best is not None
        return best


def _name(field: Field | None) -> str:
    if field is None or not isinstance(field.value, bytes):
        return ""
    return field.value.decode("utf-8", "surrogateescape")


def _scrambled(word: int) -> int:
    """A permutation of the 32-bit numbers that has every bit depend on every other."""
    word = (((word >> 16) ^ word) * _SCRAMBLE) & _WORD
    word = (((word >> 16) ^ word) * _SCRAMBLE) & _WORD
    return (word >> 16) ^ word

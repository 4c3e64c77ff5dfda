"""The destinations of one exchange, in an order of their own.

Routers find destinations in whatever order their index yields; the order in which they were first bound makes a
routing result the same every time and independent of the index. `Destinations` has it for those that look
destinations up, `CountedDestinations` for those that take them all; a destination counts its bindings and is
forgotten with the last of them. `BoundDestinations` are for those that pick among bindings. What a destination is
(a queue, an exchange) does not matter here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.base import Binding, BindingKey, Exchange
    from amqp_broker.broker.queue import Queue

D = TypeVar("D")


class Destination(Generic[D]):
    """A bound queue or exchange. order: rises with first binding. bindings: how many it has."""

    __slots__ = ("bindings", "order", "target")

    def __init__(self, target: D, order: int) -> None:
        self.target: D = target
        self.order: int = order
        self.bindings: int = 0


class Destinations(Generic[D]):
    """All destinations that have a binding."""

    __slots__ = ("_by_target", "_next_order")

    def __init__(self) -> None:
        self._by_target: dict[D, Destination[D]] = {}
        self._next_order: int = 0

    def __len__(self) -> int:
        return len(self._by_target)

    def hold(self, target: D) -> Destination[D]:
        """Count a binding to `target`; the first one gives it the next place in the order."""
        found = self._by_target.get(target)
        if found is None:
            found = Destination(target, self._next_order)
            self._next_order += 1
            self._by_target[target] = found
        found.bindings += 1
        return found

    def release(self, destination: Destination[D]) -> None:
        """Count a binding less; without bindings the destination loses its place."""
        destination.bindings -= 1
        if not destination.bindings:
            del self._by_target[destination.target]


def in_order(found: dict[int, D]) -> list[D]:
    """The values by rising key, `Destination.order`."""
    if len(found) < 2:
        return list(found.values())
    return [found[order] for order in sorted(found)]


class CountedDestinations(Generic[D]):
    """counts: how many bindings lead to each; listed: those that have one, first bound first. Not to be changed."""

    __slots__ = ("counts", "listed")

    def __init__(self) -> None:
        self.counts: dict[D, int] = {}
        self.listed: list[D] = []

    def add(self, destination: D) -> None:
        count = self.counts.get(destination, 0)
        self.counts[destination] = count + 1
        if not count:
            self.listed = list(self.counts)

    def remove(self, destination: D) -> None:
        count = self.counts[destination] - 1
        if count:
            self.counts[destination] = count
            return
        del self.counts[destination]
        self.listed = list(self.counts)


class BoundDestinations:
    """The destination of every binding, as often as it is bound, in an order that the bindings alone decide.

    That is the order of RabbitMQ's routing table: by key, exchanges before queues, by name, by arguments.
    """

    __slots__ = ("_by_place", "_listed")

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, bool, str, bytes], Queue | Exchange] = {}
        self._listed: list[Queue | Exchange] | None = []

    def add(self, binding: Binding) -> None:
        self._by_place[_place(binding.key())] = binding.destination
        self._listed = None

    def remove(self, binding: Binding) -> None:
        del self._by_place[_place(binding.key())]
        self._listed = None

    def in_order(self) -> list[Queue | Exchange]:
        """Do not change the list."""
        listed = self._listed
        if listed is None:
            listed = self._listed = [self._by_place[place] for place in sorted(self._by_place)]
        return listed


def _place(key: BindingKey) -> tuple[str, bool, str, bytes]:
    is_exchange, name, routing_key, arguments = key
    return (routing_key, not is_exchange, name, arguments)

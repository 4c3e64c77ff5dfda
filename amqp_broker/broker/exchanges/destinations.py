"""The destinations of one exchange, in the order in which they were first bound.

Routers find destinations in whatever order their index yields; this order makes a routing result the same
every time and independent of the index. A destination counts its bindings and is forgotten with the last of
them. What a destination is (a queue, an exchange) does not matter here.
"""

from __future__ import annotations

from typing import Generic, TypeVar

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

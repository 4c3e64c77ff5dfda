"""Headers routing (AMQP 0-9-1 section 3.1.3.4): which destinations the headers of a message reach.

A binding's arguments are conditions: a header has to have a value, or (a void argument) only to be there.
`x-match` tells whether all have to hold or any, and whether arguments named `x-...` count. Bindings are found
by the headers of the message: those that want any of their conditions by each of them, those that want all by
one, the rarest when it was bound, after which the others are checked. Where the specification is silent, this
does as RabbitMQ does. The routing key, permissions and what becomes of a message do not matter here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import Destination, Destinations, in_order
from amqp_broker.content.erlang import value_term
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import TYPE_NAMES, Field, encode_field, write_table
from amqp_broker.errors import precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

D = TypeVar("D")

X_MATCH: Final = "x-match"
_ALL: Final = 0
_ANY: Final = 1
_ALL_WITH_X: Final = 2
_ANY_WITH_X: Final = 3
_MATCH_KINDS: Final[dict[bytes, int]] = {
    b"all": _ALL,
    b"any": _ANY,
    b"all-with-x": _ALL_WITH_X,
    b"any-with-x": _ANY_WITH_X,
}

# A value as it is compared: numbers by number whatever their width, strings by octets whatever their tag.
Comparable: TypeAlias = "bytes | int | float | str | tuple[int, int] | tuple[str, bytes]"
# A condition: the name of a header, and its value or PRESENT.
Condition: TypeAlias = tuple[str, Comparable]

PRESENT: Final = "present"
_EMPTY: Final = "[]"
_ATOMS: Final[dict[str, str]] = {"True": "true", "False": "false", "None": "undefined"}


def validate_x_match(arguments: dict[str, Field]) -> str | None:
    """How RabbitMQ refuses such binding arguments (PRECONDITION_FAILED); None if it takes them."""
    field = arguments.get(X_MATCH)
    if field is None:
        return None
    value = value_term(field)
    if field.kind != "S":
        return f"Invalid x-match field type {TYPE_NAMES[field.kind]} (value {value}); expected longstr"
    if field.value in _MATCH_KINDS:
        return None
    return f"Invalid x-match field value {value}; expected all, any, all-with-x, or any-with-x"


def comparable(field: Field) -> Comparable:
    """What makes two values equal: of scalars the value alone, of tables and arrays also every type within.

    1, 1.0 and the timestamp 1 are equal, true and 1 are not, a longstr and a binary with the same octets are.
    Nested tables are equal only in the same order, and an empty table equals an empty array.
    """
    value = field.value
    if value is None or isinstance(value, bool):
        return _ATOMS[str(value)]
    if isinstance(value, (bytes, int, float, tuple)):
        return value
    return (field.kind, encode_field(field)) if value else _EMPTY


class _Binding(Generic[D]):
    """One set of arguments bound to one destination. count: how often, with other routing keys."""

    __slots__ = ("any_will_do", "conditions", "count", "destination", "found_by")

    def __init__(self, destination: Destination[D], arguments: dict[str, Field]) -> None:
        kind = _match_kind(arguments)
        self.destination: Destination[D] = destination
        self.conditions: list[Condition] = _conditions(arguments, kind in (_ALL_WITH_X, _ANY_WITH_X))
        self.any_will_do: bool = kind in (_ANY, _ANY_WITH_X)
        self.found_by: list[Condition] = []
        self.count: int = 0


def _match_kind(arguments: dict[str, Field]) -> int:
    field = arguments.get(X_MATCH)
    if field is None or field.kind != "S" or not isinstance(field.value, bytes):
        return _ALL
    return _MATCH_KINDS.get(field.value, _ALL)


def _conditions(arguments: dict[str, Field], with_x: bool) -> list[Condition]:
    conditions: list[Condition] = []
    for name, field in arguments.items():
        if name != X_MATCH and (with_x or not name.startswith("x-")):
            conditions.append((name, PRESENT if field.kind == "V" else comparable(field)))
    return conditions


class HeadersRouter(Generic[D]):
    """The bindings of one headers exchange."""

    __slots__ = ("_bindings", "_destinations", "_index", "_unconditional")

    def __init__(self) -> None:
        self._bindings: dict[tuple[bytes, D], _Binding[D]] = {}
        self._destinations: Destinations[D] = Destinations()
        self._index: dict[Condition, dict[_Binding[D], None]] = {}
        self._unconditional: dict[_Binding[D], None] = {}

    def bind(self, arguments: dict[str, Field], destination: D) -> None:
        """Add a binding. The same one again (with another routing key) has to be unbound as often."""
        identity = (_identity(arguments), destination)
        held = self._destinations.hold(destination)
        binding = self._bindings.get(identity)
        if binding is None:
            binding = _Binding(held, arguments)
            self._bindings[identity] = binding
            self._enter(binding)
        binding.count += 1

    def unbind(self, arguments: dict[str, Field], destination: D) -> None:
        """Remove a binding with equal arguments, in whatever order; nothing happens if there is none."""
        identity = (_identity(arguments), destination)
        binding = self._bindings.get(identity)
        if binding is None:
            return
        self._destinations.release(binding.destination)
        binding.count -= 1
        if not binding.count:
            del self._bindings[identity]
            self._remove(binding)

    def match(self, headers: dict[str, Field]) -> list[D]:
        """Each destination that a binding leads to, once, first bound first."""
        found: dict[int, D] = {}
        for binding in self._unconditional:
            found[binding.destination.order] = binding.destination.target
        if self._index:
            met: dict[Condition, None] = {}
            for name, field in headers.items():
                met[(name, comparable(field))] = None
                met[(name, PRESENT)] = None
            for condition in met:
                candidates = self._index.get(condition)
                if candidates is not None:
                    _take(candidates, met, found)
        return in_order(found)

    def index_size(self) -> int:
        """How many conditions bindings are found by."""
        return len(self._index)

    def _enter(self, binding: _Binding[D]) -> None:
        conditions = binding.conditions
        if not conditions:
            # Nothing to hold: all of nothing does, any of nothing does not.
            if not binding.any_will_do:
                self._unconditional[binding] = None
            return
        binding.found_by = conditions if binding.any_will_do else [self._rarest(conditions)]
        for condition in binding.found_by:
            entries = self._index.get(condition)
            if entries is None:
                entries = {}
                self._index[condition] = entries
            entries[binding] = None

    def _remove(self, binding: _Binding[D]) -> None:
        self._unconditional.pop(binding, None)
        for condition in binding.found_by:
            entries = self._index[condition]
            del entries[binding]
            if not entries:
                del self._index[condition]

    def _rarest(self, conditions: list[Condition]) -> Condition:
        """The condition that finds the fewest bindings so far; rather one on a value than on presence."""
        best = conditions[0]
        best_cost = -1
        for condition in conditions:
            entries = self._index.get(condition)
            cost = 2 * (len(entries) if entries is not None else 0) + (condition[1] == PRESENT)
            if best_cost < 0 or cost < best_cost:
                best, best_cost = condition, cost
        return best


def _take(candidates: dict[_Binding[D], None], met: dict[Condition, None], found: dict[int, D]) -> None:
    """Note the destinations of the candidates whose conditions hold."""
    for binding in candidates:
        destination = binding.destination
        if destination.order not in found and (binding.any_will_do or _all_met(binding.conditions, met)):
            found[destination.order] = destination.target


def _all_met(conditions: list[Condition], met: dict[Condition, None]) -> bool:
    return all(condition in met for condition in conditions)


def _identity(arguments: dict[str, Field]) -> bytes:
    """Equal for arguments that are the same but for their order."""
    return write_table({name: arguments[name] for name in sorted(arguments)})


class HeadersExchange(Exchange):
    """Routes by the message's headers."""

    kind = "headers"
    __slots__ = ("router",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.varies = True
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

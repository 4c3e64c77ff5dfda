"""Checks of optional arguments, at declaration and redeclaration, with RabbitMQ's texts and in its order.

What is known about each argument stands in `argument_table`; this follows from it.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.argument_table import (
    CONSUMER_ROWS,
    EXCHANGE_ROWS,
    QUEUE_ROWS,
    QUEUE_TYPES,
    Argument,
)
from amqp_broker.broker.argument_values import check_queue_type, text
from amqp_broker.content.table import INTEGER_KINDS, TYPE_NAMES, Field
from amqp_broker.errors import SoftError, precondition_failed

QUEUE_TYPE: Final = "x-queue-type"

QUEUE_ARGUMENTS: Final[dict[str, Argument]] = {row.name: row for row in QUEUE_ROWS}
EXCHANGE_ARGUMENTS: Final[dict[str, Argument]] = {row.name: row for row in EXCHANGE_ROWS}
CONSUMER_ARGUMENTS: Final[dict[str, Argument]] = {row.name: row for row in CONSUMER_ROWS}

DEDUPLICATION: Final = (
    "x-message-deduplication",
    "x-deduplication-header",
    "x-cache-size",
    "x-cache-ttl",
    "x-cache-persistence",
)

_CLASSIC: Final = Field("S", b"classic")


def queue_type(arguments: dict[str, Field]) -> str:
    field = arguments.get(QUEUE_TYPE)
    return "classic" if field is None else text(field)


def with_default_type(
    arguments: dict[str, Field], default: str, current: dict[str, Field] | None
) -> dict[str, Field]:
    """The arguments of a declaration, with the virtual host's default type if they name none.

    current: those of the queue that is there; one of another type stays what it was when it was declared.
    """
    if default not in QUEUE_TYPES or QUEUE_TYPE in arguments:
        return arguments
    if current is not None and queue_type(current) != default:
        return arguments
    return {**arguments, QUEUE_TYPE: Field("S", default.encode())}


# A quorum queue's arguments are compared in an order of their own (rabbit_quorum_queue:capabilities).
_COMPARED_FIRST: Final[dict[str, tuple[str, ...]]] = {
    "quorum": (
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        QUEUE_TYPE,
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-message-ttl",
        "x-queue-leader-locator",
    ),
}


def _names_for(kind: str) -> list[str]:
    """What RabbitMQ knows in its order, and the rest in the order of the table."""
    names = list(_COMPARED_FIRST.get(kind, ()))
    for name, row in QUEUE_ARGUMENTS.items():
        if name not in names and (not row.types or kind in row.types):
            names.append(name)
    return names


_NAMES: Final[dict[str, list[str]]] = {kind: _names_for(kind) for kind in QUEUE_TYPES}


def compared_arguments(kind: str) -> list[str]:
    """What a redeclaration of a queue of this type must not change, in the order in which it is compared."""
    return _NAMES[kind]


def check_queue_arguments(resource: str, arguments: dict[str, Field]) -> None:
    """Raises SoftError 406 for the first known argument whose value will not do, or that the queue's type lacks.

    First the type, then values in the order of the table, then arguments of other types in the order given
    (rabbit_amqqueue:check_declare_arguments).
    """
    kind_field = arguments.get(QUEUE_TYPE)
    problem = check_queue_type(kind_field) if kind_field is not None else None
    if problem is not None:
        raise _invalid(QUEUE_TYPE, resource, problem)
    _check_values(QUEUE_ARGUMENTS, queue_type(arguments), resource, arguments)


def check_consumer_arguments(resource: str, kind: str, arguments: dict[str, Field]) -> None:
    """The same for the arguments of basic.consume on a queue of this type."""
    _check_values(CONSUMER_ARGUMENTS, kind, resource, arguments)


def check_deduplication(resource: str, arguments: dict[str, Field]) -> None:
    """The same for the arguments by which an exchange of any type deduplicates."""
    for name in DEDUPLICATION:
        field = arguments.get(name)
        problem = None if field is None else EXCHANGE_ARGUMENTS[name].check(field)
        if problem is not None:
            raise _invalid(name, resource, problem)


def _check_values(rows: dict[str, Argument], kind: str, resource: str, arguments: dict[str, Field]) -> None:
    for name, row in rows.items():
        field = arguments.get(name)
        if field is None or (row.types and kind not in row.types):
            continue
        problem = row.check(field)
        if problem is None and row.needs and row.needs not in arguments:
            problem = "routing_key_but_no_dlx_defined"
        if problem is not None:
            raise _invalid(name, resource, problem)
    for name in arguments:
        other = rows.get(name)
        if other is not None and other.types and kind not in other.types:
            raise precondition_failed(
                f"invalid arg '{name}' for {resource} of queue type rabbit_{kind}_queue"
            )


def _invalid(name: str, resource: str, problem: str) -> SoftError:
    return precondition_failed(f"invalid arg '{name}' for {resource}: {problem}")


def check_queue_properties(
    kind: str, resource: str, durable: bool, exclusive: bool, auto_delete: bool
) -> None:
    """Raises SoftError 406 unless a queue of this type can be declared so: a quorum queue is durable and shared."""
    if kind != "quorum":
        return
    if auto_delete:
        raise precondition_failed(f"invalid property 'auto-delete' for {resource}")
    if exclusive:
        raise precondition_failed(f"invalid property 'exclusive-owner' for {resource}")
    if not durable:
        raise precondition_failed(f"invalid property 'non-durable' for {resource}")


def name_argument(name: str, resource: str, arguments: dict[str, Field]) -> None:
    """Raises SoftError 406 unless an argument that names an exchange is absent or a long string."""
    field = arguments.get(name)
    if field is not None and field.kind != "S":
        raise precondition_failed(f"invalid type '{TYPE_NAMES[field.kind]}' for arg '{name}' in {resource}")


def inequivalent(name: str, resource: str, received: str, current: str) -> SoftError:
    return precondition_failed(
        f"inequivalent arg '{name}' for {resource}: received {received} but current is {current}"
    )


def check_equivalent_flag(name: str, resource: str, received: bool, current: bool) -> None:
    """Raises SoftError 406 if a redeclaration changes a flag."""
    if received != current:
        raise inequivalent(name, resource, _flag(received), _flag(current))


def check_equivalent_arguments(
    names: list[str], resource: str, received: dict[str, Field], current: dict[str, Field]
) -> None:
    """Raises SoftError 406 for the first argument among `names` that a redeclaration changes.

    Integer widths are one class (rabbit_misc:type_class).
    """
    for name in names:
        new, old = received.get(name), current.get(name)
        if new is None and old is None:
            continue
        if name == QUEUE_TYPE and text(new or _CLASSIC) == text(old or _CLASSIC):
            continue
        if new is None or old is None:
            raise inequivalent(name, resource, _typed(new), _typed(old))
        if _type_class(new) != _type_class(old) or new.value != old.value:
            raise inequivalent(name, resource, f"'{text(new)}'", f"'{text(old)}'")


def _type_class(field: Field) -> str:
    return "int" if field.kind in INTEGER_KINDS else field.kind


def _flag(value: bool) -> str:
    return "'true'" if value else "'false'"


def _typed(field: Field | None) -> str:
    if field is None:
        return "none"
    return f"the value '{text(field)}' of type '{TYPE_NAMES[field.kind]}'"

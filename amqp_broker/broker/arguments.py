"""The optional arguments of queues, exchanges and consumers: which are known, and what their values may be.

One row an argument. From the rows follow the checks at declaration and the comparison at redeclaration, with
RabbitMQ's texts (rabbit_amqqueue's and rabbit_misc's). What an argument does is its feature's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from amqp_broker.content.table import INTEGER_KINDS, TYPE_NAMES, Field
from amqp_broker.errors import SoftError, precondition_failed

LONGEST_MILLISECONDS: Final = 315_360_000_000  # ten years
MOST_PRIORITIES: Final = 255

# Each check returns the Erlang term RabbitMQ prints for a bad value, or None.
Check = Callable[[Field, dict[str, Field]], str | None]


def integer_term(field: Field) -> str | None:
    if field.kind in INTEGER_KINDS:
        return None
    return f'"expected integer, got {TYPE_NAMES[field.kind]}"'


def _number(field: Field) -> int:
    value = field.value
    assert isinstance(value, int)
    return value


def check_count(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = integer_term(field)
    if problem is None and _number(field) < 0:
        problem = f"{{value_negative,{_number(field)}}}"
    return problem


def check_ttl(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_count(field, arguments)
    if problem is None and _number(field) > LONGEST_MILLISECONDS:
        problem = f"{{value_too_large,{_number(field)}}}"
    return problem


def check_expires(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = integer_term(field)
    if problem is None and _number(field) == 0:
        problem = "{value_zero,0}"
    return problem or check_ttl(field, arguments)


def check_max_priority(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_count(field, arguments)
    if problem is None and _number(field) > MOST_PRIORITIES:
        problem = f"{{max_value_exceeded,{_number(field)}}}"
    return problem


def check_longstr(field: Field, arguments: dict[str, Field]) -> str | None:
    return None if field.kind == "S" else f"{{unacceptable_type,{TYPE_NAMES[field.kind]}}}"


def check_bool(field: Field, arguments: dict[str, Field]) -> str | None:
    return None if field.kind == "t" else f"{{unacceptable_type,{TYPE_NAMES[field.kind]}}}"


def check_dead_letter_key(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_longstr(field, arguments)
    if problem is None and "x-dead-letter-exchange" not in arguments:
        problem = "routing_key_but_no_dlx_defined"
    return problem


def check_overflow(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_longstr(field, arguments)
    if problem is None and field.value not in (b"drop-head", b"reject-publish", b"reject-publish-dlx"):
        problem = "invalid_overflow"
    return problem


def check_queue_mode(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_longstr(field, arguments)
    if problem is None and field.value not in (b"default", b"lazy"):
        problem = f"\"unsupported queue mode '{_text(field)}'\""
    return problem


def check_queue_version(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_count(field, arguments)
    if problem is None and _number(field) not in (1, 2):
        problem = f"\"unsupported queue version '{_number(field)}'\""
    return problem


def check_queue_type(field: Field, arguments: dict[str, Field]) -> str | None:
    problem = check_longstr(field, arguments)
    if problem is None and field.value not in (b"classic", b"quorum"):
        problem = f"\"unsupported queue type '{_text(field)}'\""
    return problem


def accept(field: Field, arguments: dict[str, Field]) -> str | None:
    return None


QUEUE_ARGUMENTS: Final[dict[str, Check]] = {
    "x-expires": check_expires,
    "x-message-ttl": check_ttl,
    "x-dead-letter-exchange": check_longstr,
    "x-dead-letter-routing-key": check_dead_letter_key,
    "x-max-length": check_count,
    "x-max-length-bytes": check_count,
    "x-max-in-memory-length": check_count,
    "x-max-in-memory-bytes": check_count,
    "x-max-priority": check_max_priority,
    "x-overflow": check_overflow,
    "x-queue-mode": check_queue_mode,
    "x-queue-version": check_queue_version,
    "x-single-active-consumer": check_bool,
    "x-queue-type": check_queue_type,
    "x-quorum-initial-group-size": accept,
    "x-delivery-limit": check_count,
    "x-queue-leader-locator": accept,
    "x-queue-master-locator": accept,
}


# Known arguments that not every queue type has; the others are for all.
OF_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "x-max-priority": ("classic",),
    "x-queue-mode": ("classic",),
    "x-queue-version": ("classic",),
    "x-delivery-limit": ("quorum",),
    "x-quorum-initial-group-size": ("quorum",),
    "x-max-in-memory-length": ("quorum",),
    "x-max-in-memory-bytes": ("quorum",),
    "x-max-age": ("stream",),
    "x-stream-max-segment-size-bytes": ("stream",),
    "x-initial-cluster-size": ("stream",),
}


def queue_type(arguments: dict[str, Field]) -> str:
    field = arguments.get("x-queue-type")
    return "classic" if field is None else _text(field)


def check_queue_arguments(resource: str, arguments: dict[str, Field]) -> None:
    """Raises SoftError 406 for the first known argument that the queue's type lacks, or whose value will not do."""
    kind = queue_type(arguments)
    for name in arguments:
        if name in OF_TYPES and kind not in OF_TYPES[name] and kind in ("classic", "quorum"):
            raise precondition_failed(
                f"invalid arg '{name}' for {resource} of queue type rabbit_{kind}_queue"
            )
    for name, field in arguments.items():
        check = QUEUE_ARGUMENTS.get(name)
        problem = check(field, arguments) if check is not None else None
        if problem is not None:
            raise precondition_failed(f"invalid arg '{name}' for {resource}: {problem}")


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
        if name == "x-queue-type":
            new, old = new or _CLASSIC, old or _CLASSIC
        if new is None and old is None:
            continue
        if new is None or old is None:
            raise inequivalent(name, resource, _typed(new), _typed(old))
        if _type_class(new) != _type_class(old) or new.value != old.value:
            raise inequivalent(name, resource, f"'{_text(new)}'", f"'{_text(old)}'")


_CLASSIC: Final = Field("S", b"classic")


def _type_class(field: Field) -> str:
    return "int" if field.kind in INTEGER_KINDS else field.kind


def _flag(value: bool) -> str:
    return "'true'" if value else "'false'"


def _text(field: Field) -> str:
    value = field.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _typed(field: Field | None) -> str:
    if field is None:
        return "none"
    return f"the value '{_text(field)}' of type '{TYPE_NAMES[field.kind]}'"

"""What counts for a queue or an exchange: its policies merged, and a queue's policies merged with its arguments.

Numbers that limit something: the lowest of all counts. Anything else: an operator policy's before a policy's, and an
argument's before either, as RabbitMQ has it. Nothing here remembers anything.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.argument_table import POLICY_KEYS, Argument
from amqp_broker.broker.argument_values import check_digits, number
from amqp_broker.broker.arguments import EXCHANGE_ARGUMENTS, QUEUE_ARGUMENTS, queue_type
from amqp_broker.broker.features import (
    DROP_HEAD,
    NO_LIMIT,
    REJECT_PUBLISH,
    REJECT_PUBLISH_DLX,
    RETRY_ALL,
    RETRY_DISABLED,
    RETRY_FAILED,
    RETRY_RETURNED,
    Deduplication,
    QueueFeatures,
)
from amqp_broker.broker.policy import Policy
from amqp_broker.content.table import INTEGER_KINDS, Field

SWITCH: Final = "x-message-deduplication"
DEDUPLICATION_HEADER: Final = "x-deduplication-header"
# How many values an exchange remembers that is told neither a number nor a time.
REMEMBERED: Final = 10_000

# How long a message waits the first time if it is only said which messages wait, milliseconds.
RETRY_DELAY: Final = 1000

OVERFLOWS: Final[dict[bytes, int]] = {
    b"drop-head": DROP_HEAD,
    b"reject-publish": REJECT_PUBLISH,
    b"reject-publish-dlx": REJECT_PUBLISH_DLX,
}
# A quorum queue knows nothing of the third: RabbitMQ accepts it there and drops from the head.
QUORUM_OVERFLOWS: Final[dict[bytes, int]] = {b"reject-publish": REJECT_PUBLISH}
RETRY_TYPES: Final[dict[bytes, int]] = {
    b"disabled": RETRY_DISABLED,
    b"all": RETRY_ALL,
    b"failed": RETRY_FAILED,
    b"returned": RETRY_RETURNED,
}


class Effective:
    """policy, operator_policy: those that count, or None. definition: what they come to, by policy key."""

    __slots__ = ("definition", "operator_policy", "policy")

    def __init__(self, policy: Policy | None, operator_policy: Policy | None) -> None:
        self.policy: Policy | None = policy
        self.operator_policy: Policy | None = operator_policy
        self.definition: dict[str, Field] = _merged(policy, operator_policy)

    def is_same(self, other: Effective) -> bool:
        return self.policy is other.policy and self.operator_policy is other.operator_policy


def _merged(policy: Policy | None, operator_policy: Policy | None) -> dict[str, Field]:
    if operator_policy is None:
        return {} if policy is None else policy.definition
    merged = {} if policy is None else dict(policy.definition)
    for key, value in operator_policy.definition.items():
        ours = merged.get(key)
        row = POLICY_KEYS.get(key)
        lower = row is not None and row.policy is not None and row.policy.lower
        merged[key] = _lower(ours, value) if lower and ours is not None else value
    return merged


def _lower(one: Field, other: Field) -> Field:
    """The lower limit; a negative number is none."""
    if one.kind not in INTEGER_KINDS or number(one) < 0:
        return other
    return one if number(other) < 0 or number(one) <= number(other) else other


class _Values:
    """Looks up what arguments and a merged policy say."""

    __slots__ = ("arguments", "definition", "rows")

    def __init__(
        self, arguments: dict[str, Field], definition: dict[str, Field], rows: dict[str, Argument]
    ) -> None:
        self.arguments: dict[str, Field] = arguments
        self.definition: dict[str, Field] = definition
        self.rows: dict[str, Argument] = rows

    def field(self, name: str) -> Field | None:
        argument = self.arguments.get(name)
        key = self.rows[name].policy
        policy = None if key is None else self.definition.get(key.name)
        if argument is None or policy is None:
            return policy if argument is None else argument
        return _lower(argument, policy) if key is not None and key.lower else argument

    def number(self, name: str, default: int) -> int:
        field = self.field(name)
        if field is not None and isinstance(field.value, bytes) and check_digits(field) is None:
            return int(field.value)
        if field is None or field.kind not in INTEGER_KINDS:
            return default
        return number(field)

    def octets(self, name: str) -> bytes | None:
        field = self.field(name)
        if field is None or not isinstance(field.value, bytes):
            return None
        return field.value

    def name(self, name: str) -> str | None:
        octets = self.octets(name)
        return None if octets is None else octets.decode("utf-8", "surrogateescape")

    def switch(self, name: str) -> bool:
        field = self.field(name)
        return field is not None and field.value is True


def features_of(
    arguments: dict[str, Field], effective: Effective, quorum_delivery_limit: int = NO_LIMIT
) -> QueueFeatures:
    """What a queue works by. quorum_delivery_limit: for quorum queues to which nothing else gives one."""
    values = _Values(arguments, effective.definition, QUEUE_ARGUMENTS)
    is_quorum = queue_type(arguments) == "quorum"
    features = QueueFeatures()
    features.message_ttl = values.number("x-message-ttl", NO_LIMIT)
    features.expires = values.number("x-expires", 0)
    features.max_length = values.number("x-max-length", NO_LIMIT)
    features.max_length_bytes = values.number("x-max-length-bytes", NO_LIMIT)
    overflows = QUORUM_OVERFLOWS if is_quorum else OVERFLOWS
    features.overflow = overflows.get(values.octets("x-overflow") or b"", DROP_HEAD)
    features.dead_letter_exchange = values.name("x-dead-letter-exchange")
    features.dead_letter_routing_key = values.name("x-dead-letter-routing-key")
    features.max_priority = values.number("x-max-priority", 0)
    default = quorum_delivery_limit if is_quorum else NO_LIMIT
    features.delivery_limit = max(NO_LIMIT, values.number("x-delivery-limit", default))
    features.lease = values.number("x-consumer-timeout", 0)
    _retries(features, values)
    if values.switch(SWITCH):
        features.deduplication = _deduplication(values)
    return features


def _deduplication(values: _Values) -> Deduplication:
    header = values.name(DEDUPLICATION_HEADER) or DEDUPLICATION_HEADER
    return Deduplication(header, values.number("x-cache-size", NO_LIMIT), values.number("x-cache-ttl", 0))


def _retries(features: QueueFeatures, values: _Values) -> None:
    kind = values.octets("x-delayed-retry-type")
    least = values.number("x-delayed-retry-min", 0)
    features.retry_type = RETRY_TYPES.get(kind or (b"all" if least else b""), RETRY_DISABLED)
    if features.retry_type == RETRY_DISABLED:
        return
    features.retry_min = least or RETRY_DELAY
    features.retry_max = values.number("x-delayed-retry-max", 0)
    features.retry_multiplier = values.number("x-delayed-retry-multiplier", 0)
    features.retry_jitter = values.number("x-delayed-retry-jitter", 0)


def exchange_deduplication(
    arguments: dict[str, Field], effective: Effective, always: bool
) -> Deduplication | None:
    """How an exchange deduplicates, if it does. always: its type does, whatever arguments and policies say.

    A policy switches it on only if it is for exchanges alone: one for everything of a name, made for RabbitMQ's
    plugin, concerns the queues there, and an exchange that followed it would drop what the queues are to take.
    """
    values = _Values(arguments, effective.definition, EXCHANGE_ARGUMENTS)
    if not always and SWITCH not in arguments and not _is_for_exchanges(effective.policy):
        return None
    if not always and not values.switch(SWITCH):
        return None
    terms = _deduplication(values)
    if not terms.remembers():
        terms.size = REMEMBERED
    return terms


def _is_for_exchanges(policy: Policy | None) -> bool:
    return policy is not None and policy.apply_to == "exchanges"


def alternate_exchange(arguments: dict[str, Field], effective: Effective) -> str | None:
    """The name of the exchange that takes what an exchange cannot route: its own argument's before a policy's."""
    field = arguments.get("alternate-exchange") or effective.definition.get("alternate-exchange")
    if field is None or not isinstance(field.value, bytes):
        return None
    return field.value.decode("utf-8", "surrogateescape")

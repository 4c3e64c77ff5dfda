"""Every optional argument of queues, exchanges, consumers and bindings, and every key of a policy: one row each.

A row says where the argument may stand, what its value may be, which policy key says the same and what happens if
both do. Declaration checks, redeclaration, policies, `QueueFeatures` and the tables of docs/queues.md are made from
the rows; nothing else lists arguments. What an argument does is its feature's business.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.argument_values import (
    Check,
    accept,
    check_bool,
    check_cache_persistence,
    check_count,
    check_dead_letter_strategy,
    check_delivery_limit,
    check_ha_mode,
    check_integer,
    check_leader_locator,
    check_longstr,
    check_max_age,
    check_max_priority,
    check_overflow,
    check_percent,
    check_positive,
    check_positive_time,
    check_queue_mode,
    check_queue_type,
    check_queue_version,
    check_retry_type,
    check_routing_key,
    check_time,
)

QUEUE_TYPES: Final = ("classic", "quorum")


class PolicyKey:
    """The key with which a policy says what an argument says.

    complaint: RabbitMQ's text about a bad value, {} standing for the value. lower: of a policy's and an operator
    policy's value, or an argument's, the lower one counts; otherwise the operator's and the argument's do.
    operator: an operator policy may set it. check: None to check as the argument is checked.
    """

    __slots__ = ("check", "complaint", "lower", "name", "operator")

    def __init__(
        self,
        name: str,
        complaint: str,
        *,
        lower: bool = False,
        operator: bool = False,
        check: Check | None = None,
    ) -> None:
        self.name: str = name
        self.complaint: str = complaint
        self.lower: bool = lower
        self.operator: bool = operator
        self.check: Check | None = check


class Argument:
    """name: "" for what only policies can say. kind: what its value is, in words. effect: a sentence or two.

    types: the queue or exchange types that have it, () for all; others refuse it. needs: another argument that has to
    be there. policy: None if no policy can say it.
    """

    __slots__ = ("check", "effect", "kind", "name", "needs", "policy", "types")

    def __init__(
        self,
        name: str,
        kind: str,
        check: Check,
        effect: str,
        *,
        types: tuple[str, ...] = (),
        needs: str = "",
        policy: PolicyKey | None = None,
    ) -> None:
        self.name: str = name
        self.kind: str = kind
        self.check: Check = check
        self.effect: str = effect
        self.types: tuple[str, ...] = types
        self.needs: str = needs
        self.policy: PolicyKey | None = policy


# Keys that queues and exchanges have in common: a policy says them to whichever it is for.
_DEDUPLICATION: Final = PolicyKey(
    "x-message-deduplication", "'x-message-deduplication' must be a boolean, got {}"
)
_HEADER: Final = PolicyKey("x-deduplication-header", "'x-deduplication-header' must be a string, got {}")
_SIZE: Final = PolicyKey("x-cache-size", "'x-cache-size' must be an integer greater than 0, got {}")
_TTL: Final = PolicyKey("x-cache-ttl", "'x-cache-ttl' must be an integer greater than 0, got {}")

CLASSIC: Final = ("classic",)
QUORUM: Final = ("quorum",)
STREAM: Final = ("stream",)

# In the order in which RabbitMQ looks at them: of several bad values the first one here is told.
QUEUE_ROWS: Final = (
    Argument(
        "x-expires", "milliseconds, from 1", check_positive_time,
        "Deletes the queue when it has had no consumer, no redeclaration and no `basic.get` for so long.",
        policy=PolicyKey("expires", "{} is not a valid queue expiry", lower=True, operator=True),
    ),
    Argument(
        "x-message-ttl", "milliseconds", check_time,
        "Messages that have been in the queue for so long leave it as dead letters.",
        policy=PolicyKey("message-ttl", "{} is not a valid message TTL", lower=True, operator=True),
    ),
    Argument(
        "x-dead-letter-exchange", "string", check_longstr,
        "Where messages go that are rejected, expire, do not fit or come back too often.",
        policy=PolicyKey("dead-letter-exchange", "{} is not a valid dead letter exchange name"),
    ),
    Argument(
        "x-dead-letter-routing-key", "string, up to 255 octets", check_routing_key,
        "The routing key of dead letters; without it they keep their own.",
        needs="x-dead-letter-exchange",
        policy=PolicyKey("dead-letter-routing-key", "{} is not a valid dead letter routing key"),
    ),
    Argument(
        "x-dead-letter-strategy", "`at-most-once` or `at-least-once`", check_dead_letter_strategy,
        "Nothing: dead letters are moved in one transaction, so that a crash neither loses nor doubles one.",
        types=QUORUM,
        policy=PolicyKey("dead-letter-strategy", "{} is not a valid dead letter strategy"),
    ),
    Argument(
        "x-max-length", "whole number", check_count,
        "How many ready messages the queue holds; `x-overflow` says what happens to more.",
        policy=PolicyKey("max-length", "{} is not a valid maximum length", lower=True, operator=True),
    ),
    Argument(
        "x-max-length-bytes", "bytes", check_count,
        "How many bytes of ready bodies the queue holds.",
        policy=PolicyKey(
            "max-length-bytes", "{} is not a valid maximum length in bytes", lower=True, operator=True
        ),
    ),
    Argument(
        "x-max-in-memory-length", "whole number", check_count,
        "Nothing: the broker decides what stays in memory.",
        types=QUORUM,
        policy=PolicyKey(
            "max-in-memory-length", "{} is not a valid maximum memory in bytes", lower=True, operator=True
        ),
    ),
    Argument(
        "x-max-in-memory-bytes", "bytes", check_count,
        "Nothing: the broker decides what stays in memory.",
        types=QUORUM,
        policy=PolicyKey(
            "max-in-memory-bytes", "{} is not a valid maximum memory in bytes", lower=True, operator=True
        ),
    ),
    Argument(
        "x-max-priority", "0 to 255", check_max_priority,
        "Messages of a higher `priority` are delivered first; higher ones than this count as this.",
        types=CLASSIC,
    ),
    Argument(
        "x-overflow", "`drop-head`, `reject-publish` or `reject-publish-dlx`", check_overflow,
        "What a queue at its limit does: lets go of its oldest message, or refuses the new one.",
        policy=PolicyKey("overflow", "{} is not a valid overflow value", operator=True),
    ),
    Argument(
        "x-queue-mode", "`default` or `lazy`", check_queue_mode,
        "Nothing: every queue keeps a part of its messages on the disk only.",
        types=CLASSIC,
        policy=PolicyKey("queue-mode", "{} is not a valid queue-mode value"),
    ),
    Argument(
        "x-queue-version", "1 or 2", check_queue_version,
        "Nothing: there is one way in which queues are stored.",
        types=CLASSIC,
        policy=PolicyKey("queue-version", "{} is not a valid queue-version value"),
    ),
    Argument(
        "x-single-active-consumer", "true or false", check_bool,
        "Only one consumer gets messages; the next one takes over when it is gone.",
    ),
    Argument(
        "x-queue-type", "`classic` or `quorum`", check_queue_type,
        "Which rules the queue follows.",
    ),
    Argument(
        "x-quorum-initial-group-size", "whole number, from 1", check_positive,
        "Nothing: there is one node.",
        types=QUORUM,
    ),
    Argument(
        "x-max-age", "a number and one of Y, M, D, h, m, s", check_max_age,
        "For streams, which there are none of.",
        types=STREAM,
        policy=PolicyKey("max-age", "{} is not a valid max age"),
    ),
    Argument(
        "x-stream-max-segment-size-bytes", "bytes", check_count,
        "For streams, which there are none of.",
        types=STREAM,
        policy=PolicyKey("stream-max-segment-size-bytes", "{} is not a valid segment size"),
    ),
    Argument(
        "x-stream-filter-size-bytes", "bytes", check_count,
        "For streams, which there are none of.",
        types=STREAM,
        policy=PolicyKey("stream-filter-size-bytes", "{} is not a valid filter size"),
    ),
    Argument(
        "x-initial-cluster-size", "whole number, from 1", check_positive,
        "For streams, which there are none of.",
        types=STREAM,
        policy=PolicyKey("initial-cluster-size", "{} is not a valid cluster size", check=check_count),
    ),
    Argument(
        "x-queue-leader-locator", "`client-local`, `balanced`, ...", check_leader_locator,
        "Nothing: there is one node.",
        types=QUORUM,
        policy=PolicyKey("queue-leader-locator", "{} is not a valid queue leader locator value"),
    ),
    Argument(
        "x-queue-master-locator", "anything", accept,
        "Nothing: there is one node.",
        types=CLASSIC,
        policy=PolicyKey("queue-master-locator", "{} invalid queue-master-locator value", check=check_longstr),
    ),
    Argument(
        "x-quorum-target-group-size", "anything", accept,
        "Nothing: there is one node.",
        types=QUORUM,
        policy=PolicyKey(
            "target-group-size", "{} is not a valid target group size", lower=True, operator=True,
            check=check_positive,
        ),
    ),
    Argument(
        "x-delivery-limit", "whole number, or -1 for no limit", check_delivery_limit,
        "How often a message may be delivered again; after that it leaves as a dead letter.",
        policy=PolicyKey("delivery-limit", "{} is not a valid delivery limit", lower=True, operator=True),
    ),
    Argument(
        "x-consumer-timeout", "milliseconds", check_time,
        "How long a delivery may stay unacknowledged; after that it returns to the queue. 0 for ever.",
        policy=PolicyKey(
            "consumer-timeout", "{} is not a valid consumer timeout", lower=True, operator=True
        ),
    ),
    Argument(
        "x-delayed-retry-type", "`disabled`, `all`, `failed` or `returned`", check_retry_type,
        "Which messages wait before they are delivered again: those rejected (failed), those returned, all.",
        policy=PolicyKey("delayed-retry-type", "{} is not a valid delayed retry type"),
    ),
    Argument(
        "x-delayed-retry-min", "milliseconds", check_time,
        "How long it waits the first time. Alone it stands for the type `all`.",
        policy=PolicyKey("delayed-retry-min", "{} is not a valid delayed retry minimum"),
    ),
    Argument(
        "x-delayed-retry-max", "milliseconds", check_time,
        "The longest it waits.",
        policy=PolicyKey("delayed-retry-max", "{} is not a valid delayed retry maximum"),
    ),
    Argument(
        "x-delayed-retry-multiplier", "whole number, from 1", check_positive,
        "How many times longer each wait is than the one before; without it each is longer by the first.",
        policy=PolicyKey("delayed-retry-multiplier", "{} is not a valid delayed retry multiplier"),
    ),
    Argument(
        "x-delayed-retry-jitter", "0 to 100", check_percent,
        "The share of each wait, in percent, that is random.",
        policy=PolicyKey("delayed-retry-jitter", "{} is not a valid delayed retry jitter"),
    ),
    Argument(
        "x-message-deduplication", "true or false", check_bool,
        "A message whose deduplication header has a value that the queue remembers is confirmed, not stored.",
        policy=_DEDUPLICATION,
    ),
    Argument(
        "x-deduplication-header", "string", check_longstr,
        "The name of that header, if it is not `x-deduplication-header`.",
        policy=_HEADER,
    ),
    Argument(
        "x-cache-size", "whole number, from 1", check_positive,
        "How many values are remembered, whatever becomes of their messages.",
        policy=_SIZE,
    ),
    Argument(
        "x-cache-ttl", "milliseconds, from 1", check_positive_time,
        "How long a value is remembered, whatever becomes of its message.",
        policy=_TTL,
    ),
)  # fmt: skip

# What RabbitMQ's policies can say and arguments cannot; kept, shown and exported, and without effect here.
POLICY_ROWS: Final = (
    Argument(
        "", "`all`, `exactly` or `nodes`", check_ha_mode, "Nothing: there is one node.", types=CLASSIC,
        policy=PolicyKey("ha-mode", "{} is not a valid ha-mode value"),
    ),
    Argument(
        "", "anything", accept, "Nothing: there is one node.", types=CLASSIC,
        policy=PolicyKey("ha-params", "{} is not a valid ha-params value"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: there is one node.", types=CLASSIC,
        policy=PolicyKey("ha-sync-mode", "{} is not a valid ha-sync-mode value"),
    ),
    Argument(
        "", "whole number, from 1", check_positive, "Nothing: there is one node.", types=CLASSIC,
        policy=PolicyKey("ha-sync-batch-size", "ha-sync-batch-size must be a positive integer, {} given"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: there is one node.", types=CLASSIC,
        policy=PolicyKey("ha-promote-on-shutdown", "{} is not a valid ha-promote-on-shutdown value"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: there is one node.", types=CLASSIC,
        policy=PolicyKey("ha-promote-on-failure", "{} is not a valid ha-promote-on-failure value"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: nothing is federated.",
        policy=PolicyKey("federation-upstream", "{} is not a valid federation upstream name"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: nothing is federated.",
        policy=PolicyKey("federation-upstream-set", "{} is not a valid federation upstream set name"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: nothing is federated.",
        policy=PolicyKey("federation-upstream-pattern", "{} is not a valid federation upstream pattern"),
    ),
    Argument(
        "", "whole number", check_count, "Nothing: nothing is sharded.",
        policy=PolicyKey("shards-per-node", "\"shards-per-node\" should be greater than 0, actually was {}"),
    ),
    Argument(
        "", "string", check_longstr, "Nothing: nothing is sharded.",
        policy=PolicyKey("routing-key", "\"routing-key\" should be binary, actually was {}"),
    ),
)  # fmt: skip

# The types check their own arguments, in their own words (`exchanges/`).
EXCHANGE_ROWS: Final = (
    Argument(
        "alternate-exchange", "string", check_longstr,
        "Takes what this exchange cannot route.",
        policy=PolicyKey("alternate-exchange", "{} is not a valid alternate exchange name"),
    ),
    Argument(
        "x-delayed-type", "the name of an exchange type", check_longstr,
        "How messages are routed once their time has come.",
        types=("x-delayed-message",),
    ),
    Argument(
        "hash-header", "string", check_longstr,
        "The header that is hashed instead of the routing key.",
        types=("x-consistent-hash",),
    ),
    Argument(
        "hash-property", "`message_id`, `correlation_id` or `timestamp`", check_longstr,
        "The property that is hashed instead of the routing key.",
        types=("x-consistent-hash",),
    ),
    Argument(
        "x-recent-history-length", "whole number, from 1", check_positive,
        "How many messages a new binding is given.",
        types=("x-recent-history",),
    ),
    Argument(
        "x-message-deduplication", "true or false", check_bool,
        "A message whose deduplication header has a value that the exchange remembers is confirmed, not routed.",
        policy=_DEDUPLICATION,
    ),
    Argument(
        "x-deduplication-header", "string", check_longstr,
        "The name of that header, if it is not `x-deduplication-header`.",
        policy=_HEADER,
    ),
    Argument(
        "x-cache-size", "whole number, from 1", check_positive,
        "How many values are remembered; 10,000 without it and `x-cache-ttl`.",
        policy=_SIZE,
    ),
    Argument(
        "x-cache-ttl", "milliseconds, from 1", check_positive_time,
        "How long a value is remembered.",
        policy=_TTL,
    ),
    Argument(
        "x-cache-persistence", "`disk` or `memory`", check_cache_persistence,
        "Nothing: what a durable exchange remembers is on the disk.",
        policy=PolicyKey(
            "x-cache-persistence", "'x-cache-persistence' must be either 'disk' or 'memory', got {}"
        ),
    ),
)  # fmt: skip

CONSUMER_ROWS: Final = (
    Argument(
        "x-priority", "whole number", check_integer,
        "Consumers of a higher priority get messages first, as long as they can take some.",
    ),
    Argument(
        "x-cancel-on-ha-failover", "true or false", check_bool,
        "Nothing: there is one node.",
        types=CLASSIC,
    ),
    Argument(
        "x-stream-offset", "anything", accept,
        "For streams, which there are none of.",
        types=STREAM,
    ),
)  # fmt: skip

BINDING_ROWS: Final = (
    Argument(
        "x-match", "`all`, `any`, `all-with-x` or `any-with-x`", accept,
        "How many of the binding's arguments a message's headers have to have.",
        types=("headers",),
    ),
)  # fmt: skip

POLICY_KEYS: Final[dict[str, Argument]] = {
    row.policy.name: row for row in EXCHANGE_ROWS + POLICY_ROWS + QUEUE_ROWS if row.policy is not None
}

"""What the arguments and policies of a queue, or an exchange, come to: the values that their features work with.

Plain values, made anew by `effective` whenever an argument or a policy says something else, and never changed in
place. A queue looks at them where something happens, so a policy takes effect with the next message.
"""

from __future__ import annotations

from typing import Final

NO_LIMIT: Final = -1

DROP_HEAD: Final = 0
REJECT_PUBLISH: Final = 1
REJECT_PUBLISH_DLX: Final = 2

RETRY_DISABLED: Final = 0
RETRY_ALL: Final = 1
RETRY_FAILED: Final = 2
RETRY_RETURNED: Final = 3


class Deduplication:
    """By which header messages are told apart, and how many of its values are remembered for how long.

    size: NO_LIMIT for any number. ttl: milliseconds, 0 for any time.
    """

    __slots__ = ("header", "size", "ttl")

    def __init__(self, header: str, size: int, ttl: int) -> None:
        self.header: str = header
        self.size: int = size
        self.ttl: int = ttl

    def remembers(self) -> bool:
        """Whether a value counts for longer than its message is in the queue."""
        return self.size != NO_LIMIT or self.ttl > 0


class QueueFeatures:
    """message_ttl, expires, retry_min, retry_max, lease: milliseconds; expires and lease 0 if unset.

    max_length, max_length_bytes: of what is ready; overflow: DROP_HEAD, REJECT_PUBLISH or REJECT_PUBLISH_DLX.
    dead_letter_exchange: None if dead letters are dropped; dead_letter_routing_key: None to keep their own keys.
    max_priority: 0 for none. delivery_limit: how often a message may come back.
    retry_type: RETRY_DISABLED, ...; retry_multiplier: 0 for a delay that grows by retry_min each time;
    retry_jitter: the share of a delay, in percent, that is random.
    deduplication: None if duplicates are taken like other messages.
    NO_LIMIT stands for a limit or a TTL that is not set.
    """

    __slots__ = (
        "dead_letter_exchange",
        "dead_letter_routing_key",
        "deduplication",
        "delivery_limit",
        "expires",
        "lease",
        "max_length",
        "max_length_bytes",
        "max_priority",
        "message_ttl",
        "overflow",
        "retry_jitter",
        "retry_max",
        "retry_min",
        "retry_multiplier",
        "retry_type",
    )

    def __init__(self) -> None:
        self.message_ttl: int = NO_LIMIT
        self.expires: int = 0
        self.max_length: int = NO_LIMIT
        self.max_length_bytes: int = NO_LIMIT
        self.overflow: int = DROP_HEAD
        self.dead_letter_exchange: str | None = None
        self.dead_letter_routing_key: str | None = None
        self.max_priority: int = 0
        self.delivery_limit: int = NO_LIMIT
        self.lease: int = 0
        self.retry_type: int = RETRY_DISABLED
        self.retry_min: int = 0
        self.retry_max: int = 0
        self.retry_multiplier: int = 0
        self.retry_jitter: int = 0
        self.deduplication: Deduplication | None = None

    def over_limit(self, length: int, octets: int) -> bool:
        """Whether so many messages, or octets of their bodies, are more than may be ready."""
        return 0 <= self.max_length < length or 0 <= self.max_length_bytes < octets

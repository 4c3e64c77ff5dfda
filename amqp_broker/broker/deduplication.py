"""Which messages have been seen before, by the value of one header.

Without a size and a time to live a value counts as seen as long as a message with it is in the queue; with either of
them it is remembered for so many messages or so long, whatever becomes of the message. After a restart the values of
the messages that are there count again. A message without the header is never a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable

from amqp_broker.broker.features import NO_LIMIT, QueueFeatures
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import encode_field


class Seen:
    """name: of the header. size: how many values are remembered; ttl: for how many milliseconds, 0 for any time."""

    __slots__ = ("_values", "name", "size", "ttl")

    def __init__(self, features: QueueFeatures) -> None:
        self.name: str = features.deduplication_header
        self.size: int = features.deduplication_size
        self.ttl: int = features.deduplication_ttl
        self._values: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def is_new(self, header: ContentHeader, now: int) -> bool:
        """Whether no message with this header value was seen; it is from now on."""
        value = self._value(header)
        if value is None:
            return True
        seen_at = self._values.get(value)
        if seen_at is not None:
            if not self.ttl or now < seen_at + self.ttl:
                return False
            del self._values[value]
        self._values[value] = now
        self._forget_oldest(now)
        return True

    def follows(self, features: QueueFeatures) -> bool:
        """Whether it does what these features ask for."""
        return (
            self.name == features.deduplication_header
            and self.size == features.deduplication_size
            and self.ttl == features.deduplication_ttl
        )

    def take_in(self, headers: Iterable[ContentHeader], now: int) -> None:
        """These messages are in the queue already, the oldest first."""
        for header in headers:
            self.is_new(header, now)

    def gone(self, header: ContentHeader) -> None:
        """A message left the queue."""
        if self.size == NO_LIMIT and not self.ttl:
            self.forget(header)

    def forget(self, header: ContentHeader) -> None:
        """A message was not let in after all."""
        value = self._value(header)
        if value is not None:
            self._values.pop(value, None)

    def _value(self, header: ContentHeader) -> bytes | None:
        if not header.has_headers:
            return None
        field = header.headers().get(self.name)
        return None if field is None else encode_field(field)

    def _forget_oldest(self, now: int) -> None:
        """Values stand in the order they were seen, so the oldest are in front."""
        values = self._values
        surplus = len(values) - self.size if self.size != NO_LIMIT else 0
        outdated: list[bytes] = []
        for value, seen_at in values.items():
            if len(outdated) >= surplus and not (self.ttl and seen_at + self.ttl <= now):
                break
            outdated.append(value)
        for value in outdated:
            del values[value]

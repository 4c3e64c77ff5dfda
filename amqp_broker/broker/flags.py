"""What a declaration says of a queue or an exchange besides its name, type and arguments, and of a virtual host."""

from __future__ import annotations


class ExchangeFlags:
    """The flags of exchange.declare."""

    __slots__ = ("auto_delete", "durable", "internal")

    def __init__(self, durable: bool, auto_delete: bool, internal: bool) -> None:
        self.durable: bool = durable
        self.auto_delete: bool = auto_delete
        self.internal: bool = internal


class QueueFlags:
    """The flags of queue.declare."""

    __slots__ = ("auto_delete", "durable", "exclusive")

    def __init__(self, durable: bool, exclusive: bool, auto_delete: bool) -> None:
        self.durable: bool = durable
        self.exclusive: bool = exclusive
        self.auto_delete: bool = auto_delete


class VirtualHostMetadata:
    """What people say about a virtual host. default_queue_type: of queues that name none, "" for classic.

    other: what only others understand, as plain data that JSON can hold; it is kept and handed on.
    """

    __slots__ = ("default_queue_type", "description", "other", "tags")

    def __init__(
        self,
        description: str = "",
        tags: list[str] | None = None,
        default_queue_type: str = "",
        other: dict[str, object] | None = None,
    ) -> None:
        self.description: str = description
        self.tags: list[str] = tags or []
        self.default_queue_type: str = default_queue_type
        self.other: dict[str, object] = other or {}

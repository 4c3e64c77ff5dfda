"""A consumer as a queue sees it: something that takes messages while it is not blocked.

The session implements it, as it does `Holder`, whoever has a delivery that the queue may take back. A queue calls
`deliver` or `hand_over` only for a consumer that is not blocked; a blocked one loses its place in the line, and who
unblocks it tells the queue (`Queue.activate`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue


@mypyc_attr(allow_interpreted_subclasses=True)
class Holder(ABC):
    """Who has a delivery that is not settled yet. A lease that ran out is told in two steps, as what comes back has
    to be in its queue again before the holder asks for more.
    """

    __slots__ = ()

    @abstractmethod
    def take_back(self, entry: QueueEntry, delivery_tag: int) -> bool:
        """The lease of a delivery ran out: it is the queue's again. Whether it was still outstanding."""

    @abstractmethod
    def resume(self) -> None:
        """What was taken back is in the queue: the holder may go on with the room that this made."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Consumer(Holder):
    """tag: the consumer tag. no_ack: messages count as acknowledged when sent. priority: `x-priority`.

    blocked: must not be given messages now (prefetch reached, or its connection has no room).
    waiting: stands in its queue's line of consumers; only the queue sets it.
    """

    __slots__ = ("blocked", "exclusive", "no_ack", "priority", "queue", "tag", "waiting")

    def __init__(
        self, tag: str, queue: Queue, no_ack: bool, exclusive: bool, arguments: dict[str, Field]
    ) -> None:
        self.tag: str = tag
        self.queue: Queue = queue
        self.no_ack: bool = no_ack
        self.exclusive: bool = exclusive
        self.priority: int = 0
        priority = arguments.get("x-priority")
        if priority is not None and isinstance(priority.value, int):
            self.priority = priority.value
        self.blocked: bool = False
        self.waiting: bool = False

    @abstractmethod
    def deliver(self, entry: QueueEntry) -> None:
        """Send an entry that stays unacknowledged until the client settles it. May set `blocked`."""

    @abstractmethod
    def hand_over(self, message: Message, redelivered: bool) -> None:
        """Send a message for good (a no-ack consumer). May set `blocked`."""

    def hand_over_again(self, entry: QueueEntry) -> None:
        """As `hand_over`, of an entry that has come back."""
        self.hand_over(entry.message, redelivered=True)

    @abstractmethod
    def cancelled(self) -> None:
        """The queue is gone or gave the consumer up; it gets nothing more."""

    @abstractmethod
    def last_tag(self) -> int:
        """The delivery tag of what was delivered last."""

"""What a transaction has gathered since tx.select or the last commit or rollback (AMQP 0-9-1 section 1.9).

Publishes are routed when they are made and held; settled deliveries have left the channel's unacked ones.
`publishing.tx_commit` applies both in one turn, so they are one batch of the store: all or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.queue import Queue

if TYPE_CHECKING:
    from amqp_broker.session.channel import KnownPublish

ACKED: Final = 0
REQUEUED: Final = 1
REJECTED: Final = 2


class HeldPublish:
    """A routed message that waits for the commit. unroutable: to be returned then if it is mandatory."""

    __slots__ = ("known", "message", "queues")

    def __init__(self, known: KnownPublish, message: Message, queues: list[Queue]) -> None:
        self.known: KnownPublish = known
        self.message: Message = message
        self.queues: list[Queue] = queues


class HeldSettlement:
    """A delivery that was settled within the transaction. how: ACKED, REQUEUED or REJECTED."""

    __slots__ = ("delivery_tag", "entry", "how")

    def __init__(self, delivery_tag: int, entry: QueueEntry, how: int) -> None:
        self.delivery_tag: int = delivery_tag
        self.entry: QueueEntry = entry
        self.how: int = how


class Transaction:
    __slots__ = ("publishes", "settlements")

    def __init__(self) -> None:
        self.publishes: list[HeldPublish] = []
        self.settlements: list[HeldSettlement] = []

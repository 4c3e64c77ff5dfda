"""What a queue needs of the virtual host it is in: the time, and somewhere for its dead letters to go.

An exchange's own queue also asks whether the topology is still the same. The contract keeps the queue from knowing
exchanges and routes. A virtual host is the one implementation; a queue without a host drops what would be a dead
letter, and nothing falls due in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.timetable import Timetable

if TYPE_CHECKING:
    from amqp_broker.broker.message import Message, QueueEntry
    from amqp_broker.broker.queue import Queue

# Why a message became a dead letter, in RabbitMQ's words.
REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
MAXLEN: Final = "maxlen"
DELIVERY_LIMIT: Final = "delivery_limit"


class QueueHost(ABC):
    """timetable: of the broker. generation: changes with every change of topology; what was derived from an earlier
    one is void. unsettled: the outstanding deliveries of each channel, by tag.
    """

    __slots__ = ("generation", "timetable", "unsettled")

    def __init__(self, timetable: Timetable) -> None:
        self.timetable: Timetable = timetable
        self.generation: int = 1
        self.unsettled: dict[object, dict[int, QueueEntry]] = {}

    def outstanding(self, queue: Queue) -> list[QueueEntry]:
        """The deliveries of a queue that channels have not settled, in no order."""
        found: list[QueueEntry] = []
        for entries in self.unsettled.values():
            if len(found) >= queue.unacked:
                break
            found.extend([entry for entry in entries.values() if entry.queue is queue])
        for comeback in queue.comebacks:
            found.extend(comeback.entries())
        return found

    @abstractmethod
    def dead_letter(self, queue: Queue, messages: list[Message], reason: str) -> None:
        """Publish messages that left `queue` to its dead letter exchange. Called last in a queue's operation."""

    @abstractmethod
    def expired(self, queue: Queue) -> None:
        """Nobody has used a queue for as long as it is to be kept: delete it."""

    @abstractmethod
    def release(self, exchange: str, message: Message) -> None:
        """Route a message that an exchange has held back until now, and publish it."""

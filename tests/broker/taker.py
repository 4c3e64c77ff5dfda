"""Consumers and messages for tests of the model alone."""

from __future__ import annotations

from amqp_broker.broker.consumer import Consumer, Holder
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import DELIVERY_MODE, build_header
from amqp_broker.content.table import table_of


class Taker(Consumer):
    """Takes up to `room` messages at a time. held: what it has not settled; log: what it was given, in order."""

    def __init__(
        self,
        queue: Queue,
        *,
        tag: str = "t",
        room: int = 1 << 30,
        no_ack: bool = False,
        exclusive: bool = False,
        priority: int | None = None,
        log: list[tuple[str, bytes, bool]] | None = None,
    ) -> None:
        arguments = {} if priority is None else table_of({"x-priority": priority})
        super().__init__(tag, queue, no_ack, exclusive, arguments)
        self.room = room
        self.held: list[QueueEntry] = []
        self.log = [] if log is None else log
        self.told = False
        self.blocked = room == 0

    def start(self) -> Taker:
        self.queue.add_consumer(self)
        self.queue.activate(self)
        return self

    def deliver(self, entry: QueueEntry) -> None:
        assert not self.blocked, "a blocked consumer is given nothing"
        self.held.append(entry)
        entry.consumer = self
        self.log.append((self.tag, entry.message.body, entry.deliveries > 0))
        self.blocked = len(self.held) >= self.room

    def hand_over(self, message: Message, redelivered: bool) -> None:
        assert not self.blocked, "a blocked consumer is given nothing"
        self.log.append((self.tag, message.body, redelivered))

    def last_tag(self) -> int:
        return len(self.log)

    def take_back(self, entry: QueueEntry, delivery_tag: int) -> bool:
        if entry not in self.held:
            return False
        self.held.remove(entry)
        return True

    def cancelled(self) -> None:
        self.told = True

    def settle(self, *bodies: bytes) -> None:
        """Acknowledge what it holds with these bodies, and ask for more."""
        for entry in self._take(bodies):
            self.queue.settle(entry)
        self.resume()

    def requeue(self, *bodies: bytes) -> None:
        """Give back what it holds with these bodies, and ask for more."""
        self.queue.requeue(self._take(bodies))
        self.resume()

    def resume(self) -> None:
        self.blocked = len(self.held) >= self.room
        if self in self.queue.consumers:
            self.queue.activate(self)

    def bodies(self) -> list[bytes]:
        """What it was given, in order."""
        return [body for _, body, _ in self.log]

    def _take(self, bodies: tuple[bytes, ...]) -> list[QueueEntry]:
        taken = [entry for entry in self.held if entry.message.body in bodies]
        assert len(taken) == len(bodies)
        self.held = [entry for entry in self.held if entry not in taken]
        return taken


class Getter(Holder):
    """Has what it got from a queue, as basic.get has. held: what it has not settled."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.held: list[QueueEntry] = []
        self.tags = 0

    def get(self) -> QueueEntry:
        entry = self.queue.get()
        assert entry is not None
        self.held.append(entry)
        self.tags += 1
        self.queue.lease(entry, self, self.tags)
        return entry

    def take_back(self, entry: QueueEntry, delivery_tag: int) -> bool:
        if entry not in self.held:
            return False
        self.held.remove(entry)
        return True

    def resume(self) -> None:
        assert not self.queue.unacked, "what was taken back is in the queue by now"


def message(body: bytes, *, persistent: bool = False) -> Message:
    header = build_header(len(body), {DELIVERY_MODE: 2} if persistent else {})
    return Message(b"\0\x01q", header, body)


def publish(queue: Queue, *bodies: bytes, persistent: bool = False) -> None:
    for body in bodies:
        queue.publish(message(body, persistent=persistent))


def drain(queue: Queue) -> list[tuple[bytes, bool]]:
    """Get and settle all that is ready, with its redelivered flag."""
    found = []
    while (entry := queue.get()) is not None:
        found.append((entry.message.body, entry.deliveries > 0))
        queue.settle(entry)
    return found


def bodies_in(queue: Queue) -> list[bytes]:
    return [body for body, _ in drain(queue)]

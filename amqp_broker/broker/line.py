"""The consumers of a queue, and the line in which those that have room wait for their turn.

Higher priorities stand before lower ones; within one, whoever was served goes to the back. A consumer without room
leaves the line when its turn comes, as in RabbitMQ, until the queue hears that it has some again: if that is before
its turn, it has kept its place. What a consumer is given is the queue's business.
"""

from __future__ import annotations

from collections import deque

from amqp_broker.broker.consumer import Consumer


class Line:
    """consumers: all, in the order they came; waiting: those in line, some of which may have no room any more;
    exclusive: the one that is alone, or None.
    """

    __slots__ = ("_mixed_priorities", "consumers", "exclusive", "waiting")

    def __init__(self) -> None:
        self.consumers: list[Consumer] = []
        self.waiting: deque[Consumer] = deque()
        self.exclusive: Consumer | None = None
        self._mixed_priorities: bool = False

    def add(self, consumer: Consumer) -> None:
        """One more consumer, that does not stand in the line yet."""
        self.consumers.append(consumer)
        if consumer.exclusive:
            self.exclusive = consumer
        self._mixed_priorities = any(other.priority != consumer.priority for other in self.consumers)

    def remove(self, consumer: Consumer) -> bool:
        """Take a consumer out; whether it was there."""
        if consumer not in self.consumers:
            return False
        self.consumers.remove(consumer)
        if consumer is self.exclusive:
            self.exclusive = None
        if consumer.waiting:
            self.waiting.remove(consumer)
            consumer.waiting = False
        return True

    def clear(self) -> list[Consumer]:
        """Take all consumers out, and return them."""
        consumers = list(self.consumers)
        for consumer in consumers:
            consumer.waiting = False
        self.consumers.clear()
        self.waiting.clear()
        self.exclusive = None
        return consumers

    def join(self, consumer: Consumer) -> None:
        """A consumer has room: to the end of its priority's part of the line."""
        consumer.waiting = True
        waiting = self.waiting
        if not self._mixed_priorities:
            waiting.append(consumer)
            return
        at = len(waiting)
        while at and waiting[at - 1].priority < consumer.priority:
            at -= 1
        waiting.insert(at, consumer)

    def turn_over(self, consumer: Consumer) -> None:
        """The consumer at the front was served: to the back of its part."""
        if consumer.waiting:
            self.waiting.popleft()
            self.join(consumer)

    def leave(self, consumer: Consumer) -> None:
        """It is the turn of the consumer at the front, and it has no room: out of the line."""
        self.waiting.popleft()
        consumer.waiting = False

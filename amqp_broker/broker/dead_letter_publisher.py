"""Publishes the messages that died in a virtual host's queues to where their queues send dead letters.

They go one after another, in the turn and the batch in which they left their queues: a letter that dies again at once,
or is pushed out of one queue while its message is still on the way to others, waits for its turn here. What is written
into a letter is the business of `dead_letters`.
"""

from __future__ import annotations

from collections import deque

from amqp_broker.broker.dead_letters import DeadLetters, Death
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.routing import Routes, without_circles
from amqp_broker.broker.timetable import Clock


class DeadLetterPublisher:
    """routes: of the virtual host. waiting: what died, where and why."""

    __slots__ = ("clock", "letters", "publishing", "routes", "waiting")

    def __init__(self, routes: Routes, clock: Clock) -> None:
        self.routes: Routes = routes
        self.clock: Clock = clock
        self.waiting: deque[tuple[Queue, Message, str]] = deque()
        self.letters: DeadLetters = DeadLetters()
        self.publishing: bool = False

    def publish(self, queue: Queue, messages: list[Message], reason: str) -> None:
        """Messages left `queue`. Those that die on the way wait, so that a chain of queues is no chain of calls."""
        for message in messages:
            self.waiting.append((queue, message, reason))
        if not self.publishing:
            self.send()

    def hold(self) -> None:
        """A message is on its way to several queues: what it pushes out of one comes after it in the others.

        `send` is to follow at once.
        """
        self.publishing = True

    def send(self) -> None:
        """Publish the letters that wait."""
        self.publishing = True
        try:
            while self.waiting:
                died_in, message, reason = self.waiting.popleft()
                self._publish(died_in, message, reason)
        finally:
            self.publishing = False

    def _publish(self, queue: Queue, message: Message, reason: str) -> None:
        features = queue.features
        if features.dead_letter_exchange is None:
            return
        exchange = self.routes.exchanges.get(features.dead_letter_exchange)
        if exchange is None:
            return
        death = Death(queue.name, reason, self.clock.milliseconds // 1000)
        letter = self.letters.letter(message, death, exchange.name, features.dead_letter_routing_key)
        dead = letter.message(message)
        reached = self.routes.find(exchange, letter.routing_key, letter.header, letter.further_keys, dead)
        for target in without_circles(reached, letter.visited):
            target.publish(dead)
        letter.header.forget_headers()

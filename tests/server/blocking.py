"""Small sentences over pika's blocking channel: publish, collect, drain, and be sure that nothing more comes.

Waiting always has a deadline and always ends on an event. That nothing comes is shown by a round trip that
the broker can only answer after whatever it had to deliver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import pika
from pika.adapters.blocking_connection import BlockingChannel

WAIT_SECONDS: Final = 30.0
PERSISTENT: Final = pika.BasicProperties(delivery_mode=2)


def wait_until(connection: pika.BlockingConnection, condition: Callable[[], bool], what: str) -> None:
    """Process the connection's events until the condition holds. Fails after WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        left = deadline - time.monotonic()
        assert left > 0, f"waited {WAIT_SECONDS} s for {what}"
        connection.process_data_events(time_limit=min(left, 0.05))


class Inbox:
    """What one consumer was given, in the order it came."""

    def __init__(
        self, channel: BlockingChannel, queue: str, auto_ack: bool = False, **options: object
    ) -> None:
        self.channel = channel
        self.queue = queue
        self.methods: list[pika.spec.Basic.Deliver] = []
        self.properties: list[pika.BasicProperties] = []
        self.bodies: list[bytes] = []
        self.tag: str = channel.basic_consume(queue, self._receive, auto_ack=auto_ack, **options)

    def _receive(
        self,
        _channel: BlockingChannel,
        method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        self.methods.append(method)
        self.properties.append(properties)
        self.bodies.append(body)

    @property
    def tags(self) -> list[int]:
        return [method.delivery_tag for method in self.methods]

    def wait_for(self, count: int) -> list[bytes]:
        """The bodies, once at least `count` have come."""
        wait_until(
            self.channel.connection, lambda: len(self.bodies) >= count, f"{count} deliveries: {self.bodies}"
        )
        return self.bodies

    def all_that_comes(self) -> list[bytes]:
        """The bodies, once everything on its way has come."""
        settle(self.channel, self.queue)
        return self.bodies


def settle(channel: BlockingChannel, queue: str) -> None:
    """Return when every delivery that the queue owes this channel has been handed to its callback.

    The second answer cannot overtake deliveries that were made before the first was.
    """
    channel.queue_declare(queue, passive=True)
    channel.queue_declare(queue, passive=True)
    channel.connection.process_data_events(time_limit=0)


def publish_all(channel: BlockingChannel, queue: str, bodies: Iterable[bytes | str]) -> None:
    for body in bodies:
        channel.basic_publish("", queue, body if isinstance(body, bytes) else body.encode())


def ready(channel: BlockingChannel, queue: str) -> int:
    """How many messages of the queue wait for a consumer; only confirmed publishes are sure to be counted."""
    count: int = channel.queue_declare(queue, passive=True).method.message_count
    return count


def drain(channel: BlockingChannel, queue: str) -> list[bytes]:
    """Take every ready message."""
    bodies: list[bytes] = []
    while True:
        method, _properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)

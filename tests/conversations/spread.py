"""How messages were spread over queues, once all that were published are there."""

from __future__ import annotations

from .client import Channel, eventually


def spread(channel: Channel, queues: list[str], published: int) -> list[int]:
    """The messages in each queue, together as many as were published.

    RabbitMQ may count a queue before it has taken what the same channel published.
    """

    def counts() -> list[int]:
        return [channel.counts(queue)[0] for queue in queues]

    eventually(lambda: sum(counts()), published)
    return counts()

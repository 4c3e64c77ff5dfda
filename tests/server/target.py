"""What the tests know of the broker under test: where it listens, and names nobody else uses on it."""

from __future__ import annotations

import itertools
import os
import re

import pika

_serial = itertools.count(1)


class RunningBroker:
    """Where a broker listens, and how the clients name that place."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"

    def parameters(self, **changes: object) -> pika.ConnectionParameters:
        settings: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "blocked_connection_timeout": 20,
        }
        return pika.ConnectionParameters(**(settings | changes))

    def connect(self, **changes: object) -> pika.BlockingConnection:
        return pika.BlockingConnection(self.parameters(**changes))


class Names:
    """Names for one test's queues and exchanges: readable, and used by nobody else."""

    def __init__(self, test: str) -> None:
        self._prefix = f"{re.sub('[^a-z0-9_]+', '-', test.lower())[:60]}-{os.getpid()}-{next(_serial)}"
        self.queues: list[str] = []
        self.exchanges: list[str] = []

    def queue(self, label: str = "q") -> str:
        self.queues.append(f"{self._prefix}.{label}{len(self.queues)}")
        return self.queues[-1]

    def exchange(self, label: str = "x") -> str:
        self.exchanges.append(f"{self._prefix}.{label}{len(self.exchanges)}")
        return self.exchanges[-1]

    def remove(self, broker: RunningBroker) -> None:
        """Delete whatever has one of these names."""
        if not self.queues and not self.exchanges:
            return
        with broker.connect() as connection:
            channel = connection.channel()
            for queue in self.queues:
                channel.queue_delete(queue)
            for exchange in self.exchanges:
                channel.exchange_delete(exchange)

"""What verbs work on: the model, and beside it what only whoever serves the broker knows of.

The server implements the contract for a running broker, and for one that does not run and has no connections.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker


class Connected(ABC):
    """A connection. name: `peer -> here`. user, vhost: "" while it has not come so far. channels: that are open."""

    name: str
    user: str
    vhost: str
    channels: int

    @abstractmethod
    def row(self) -> dict[str, object]:
        """What there is to tell of it, as plain data."""

    @abstractmethod
    def close(self, reason: str) -> bool:
        """Close it with 320 CONNECTION_FORCED and this reason; False if it is being closed already."""


class Node(ABC):
    """broker: the model. running: it serves clients."""

    broker: Broker
    running: bool

    @abstractmethod
    def connections(self) -> list[Connected]:
        """Those that are open now, in any order."""

    @abstractmethod
    def status(self) -> dict[str, object]:
        """What this is and how it is, as plain data."""

    @abstractmethod
    def definitions(self) -> str:
        """All definitions, as RabbitMQ's JSON."""

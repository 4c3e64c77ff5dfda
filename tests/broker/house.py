"""A virtual host with queues that have arguments, a clock that a test moves, and a store that survives a crash."""

from __future__ import annotations

from typing import Any

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import QueueFlags
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import (
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    PRIORITY,
    PropertyValue,
    build_header,
)
from amqp_broker.content.table import plain_table, table_of
from tests.broker.ledger_store import LedgerStore

START = 1_000_000


class House:
    """now: milliseconds; it stands still unless a test moves it. store: a `LedgerStore`, or what the test brings."""

    def __init__(self, store: Any = None, now: int = START, *, was_killed: bool = False) -> None:
        self.store = store or LedgerStore()
        self.broker = Broker(self.store)
        self.broker.clock.milliseconds = now
        self.broker.recover(was_killed=was_killed)
        self.vhost = self.broker.add_vhost("/")
        self.timetable = self.broker.timetable

    @property
    def now(self) -> int:
        return self.broker.clock.milliseconds

    def queue(self, name: str = "q", *, durable: bool = False, **arguments: object) -> Queue:
        """Declare a queue; `message_ttl=1` stands for the argument x-message-ttl."""
        table = table_of({"x-" + key.replace("_", "-"): value for key, value in arguments.items()})
        return self.vhost.declare_queue(name, QueueFlags(durable, False, False), table, self)

    def durable(self, name: str = "q", **arguments: object) -> Queue:
        return self.queue(name, durable=True, **arguments)

    def pass_time(self, milliseconds: int = 0) -> None:
        """The clock goes on, and what falls due on the way is done at its time."""
        until = self.now + milliseconds
        while self.timetable.next_due and self.timetable.next_due <= until:
            self.broker.clock.milliseconds = max(self.now, self.timetable.next_due)
            self.timetable.run_due()
        self.broker.clock.milliseconds = until

    def jump(self, milliseconds: int) -> None:
        """The clock goes on, and nobody does anything meanwhile."""
        self.broker.clock.milliseconds += milliseconds

    def restarted(self, after: int = 0, *, was_killed: bool = False) -> House:
        """The start after a crash now, `after` milliseconds later."""
        return House(self.store.survivor(), self.now + after, was_killed=was_killed)


def made(
    body: bytes,
    *,
    persistent: bool = False,
    priority: int | None = None,
    expiration: int | None = None,
    headers: dict[str, object] | None = None,
    key: bytes = b"q",
) -> Message:
    properties: dict[int, PropertyValue] = {}
    if headers is not None:
        properties[HEADERS] = table_of(headers)
    if persistent:
        properties[DELIVERY_MODE] = 2
    if priority is not None:
        properties[PRIORITY] = priority
    if expiration is not None:
        properties[EXPIRATION] = b"%d" % expiration
    return Message(b"\0" + bytes((len(key),)) + key, build_header(len(body), properties), body)


def headers_of(message: Message) -> dict[str, object]:
    return plain_table(message.header.headers())


def recount(queue: Queue) -> tuple[int, int]:
    """How many messages are ready and how many octets they have, counted one by one."""
    headers = list(queue.headers())
    return len(headers), sum(header.body_size for header in headers)

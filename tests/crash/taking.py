"""What is left in the queues after a crash, taken out in the order in which it stands there.

It waits for what is still on its way (messages whose time to live runs out, messages that are delayed), so that what
it returns is all there is. It does not judge; of a dead letter it keeps what is written about its death.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import pika
from pika.adapters.blocking_connection import BlockingChannel

from tests.crash.ledger import Message, body_of, message_in
from tests.crash.load import BARRIER
from tests.server.blocking import PERSISTENT, Inbox, drain, ready, wait_until
from tests.server.target import RunningBroker

LAST: Final[Message] = ("last", 0)


class Death(NamedTuple):
    """What the only entry of x-death says; entries: how many there are."""

    queue: str
    reason: str
    times: int
    entries: int


class Taken:
    """messages: queue -> what was in it. deaths: queue -> what its messages say about their deaths."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Message]] = {}
        self.deaths: dict[str, set[Death]] = {}


def take_everything(
    port: int,
    queues: Iterable[str],
    expiring: Iterable[str] = (),
    delayed: Iterable[tuple[str, str, int]] = (),
) -> Taken:
    """Empty every queue. The removals are committed when this returns.

    expiring: those of the queues that empty themselves, waited for. delayed: (queue, exchange, milliseconds), where
    nothing that leads from that exchange to the queue is delayed for longer.
    """
    taken = Taken()
    with RunningBroker(port).connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for _, exchange, delay in delayed:
            later = pika.BasicProperties(delivery_mode=2, headers={"x-delay": delay})
            channel.basic_publish(exchange, "", body_of(LAST, 0), later)
        for name in expiring:
            _wait_until_empty(channel, name)
        late = {name for name, _, _ in delayed}
        for name in (*queues, BARRIER):
            _take(connection.channel(), name, taken, until_last=name in late)
        channel.basic_publish("", BARRIER, body_of(("barrier", 0), 0), PERSISTENT)
        drain(channel, BARRIER)
    return taken


def _wait_until_empty(channel: BlockingChannel, name: str) -> None:
    wait_until(channel.connection, lambda: ready(channel, name) == 0, f"the end of {name}")


def _take(channel: BlockingChannel, name: str, taken: Taken, until_last: bool) -> None:
    count = ready(channel, name)
    inbox = Inbox(channel, name, auto_ack=True)
    inbox.wait_for(count)
    if until_last:
        last = body_of(LAST, 0)
        wait_until(channel.connection, lambda: inbox.bodies[-1:] == [last], f"the last one of {name}")
    messages = [message_in(body) for body in inbox.all_that_comes()]
    taken.messages[name] = [message for message in messages if message != LAST]
    taken.deaths[name] = {
        death_of(properties.headers["x-death"])
        for properties in inbox.properties
        if properties.headers and "x-death" in properties.headers
    }
    channel.close()


def death_of(table: list[dict[str, Any]]) -> Death:
    first = table[0]
    return Death(first["queue"], first["reason"], first["count"], len(table))

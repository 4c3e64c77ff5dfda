"""pika: messages that an exchange holds until their time has come, also over a restart."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.conversations.pace import Pace, in_pace
from tests.server.blocking import Inbox, drain, settle
from tests.server.broker_process import BrokerProcess
from tests.server.target import Names, RunningBroker

KIND = "x-delayed-message"
# The broker's time is within a millisecond of the wall clock, and both count whole ones.
CLOCKS_APART = 2


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


class Due(NamedTuple):
    """When a message may come at the earliest, and when it is due at the latest, however slow the machine is."""

    earliest: int
    latest: int


def publish(channel: BlockingChannel, exchange: str, key: str, body: bytes, **headers: int) -> Due:
    """With `x_delay=` or `x_deliver_at=`. What it returns holds if the channel waits for confirms."""
    named: Any = {name.replace("_", "-"): value for name, value in headers.items()}
    properties = pika.BasicProperties(delivery_mode=2, headers=named)
    before = milliseconds()
    channel.basic_publish(exchange, key, body, properties)
    delay, moment = headers.get("x_delay", 0), headers.get("x_deliver_at", 0)
    return Due(max(before + delay, moment) - CLOCKS_APART, max(milliseconds() + delay, moment) + CLOCKS_APART)


def assert_came_in_time(came: list[tuple[bytes, int]], due: dict[bytes, Due]) -> None:
    """All have come, none too early, and none before another that was due before it."""
    assert {body for body, _ in came} == due.keys()
    assert all(moment >= due[body].earliest for body, moment in came)
    for at, (body, _) in enumerate(came):
        assert not [later for later, _ in came[at + 1 :] if due[later].latest < due[body].earliest], came


def arrivals(inbox: Inbox, count: int) -> list[tuple[bytes, int]]:
    """The first so many bodies, each with a moment at which it had come."""
    found = []
    for number in range(1, count + 1):
        body = inbox.wait_for(number)[number - 1]
        found.append((body, milliseconds()))
    return found


@pytest.fixture
def exchange(channel: BlockingChannel, names: Names) -> str:
    """A delayed exchange that routes like a topic exchange."""
    name = names.exchange()
    channel.exchange_declare(name, KIND, arguments={"x-delayed-type": "topic"})
    return name


def test_messages_come_in_the_order_of_their_times_and_none_too_early(
    channel: BlockingChannel, names: Names, exchange: str
) -> None:
    queue = names.queue()
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange, "a.*")
    channel.confirm_delivery()
    due = {
        b"last": publish(channel, exchange, "a.b", b"last", x_delay=400),
        b"middle": publish(channel, exchange, "a.b", b"middle", x_deliver_at=milliseconds() + 200),
        b"early": publish(channel, exchange, "a.b", b"early", x_delay=100),
        b"past": publish(channel, exchange, "a.b", b"past", x_deliver_at=milliseconds() - 1000),
        b"now": publish(channel, exchange, "a.b", b"now"),
    }
    publish(channel, exchange, "other", b"unbound", x_delay=1)
    inbox = Inbox(channel, queue, auto_ack=True)
    assert_came_in_time(arrivals(inbox, 5), due)
    assert inbox.bodies.index(b"past") < inbox.bodies.index(b"now")
    delays = {
        body: (properties.headers or {}).get("x-delay")
        for body, properties in zip(inbox.bodies, inbox.properties, strict=True)
    }
    assert delays == {b"past": None, b"now": None, b"early": -100, b"middle": None, b"last": -400}


def test_the_bindings_of_the_moment_it_is_due_decide(
    channel: BlockingChannel, names: Names, exchange: str
) -> None:
    def attempt(pace: Pace) -> None:
        before, after = names.queue("before"), names.queue("after")
        for queue in (before, after):
            channel.queue_declare(queue)
        channel.queue_bind(before, exchange, before)
        pace.step()
        publish(channel, exchange, before, b"m", x_delay=200)
        channel.queue_unbind(before, exchange, before)
        channel.queue_bind(after, exchange, before)
        pace.step()
        assert Inbox(channel, after, auto_ack=True).wait_for(1) == [b"m"]
        assert drain(channel, before) == []

    in_pace(attempt, 0.2)


def test_a_type_that_does_not_exist_is_406(channel: BlockingChannel, names: Names) -> None:
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_declare(names.exchange(), KIND, arguments={"x-delayed-type": "nothing"})
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type",
    )


@pytest.mark.parametrize("ending", ["terminated", "killed"])
def test_what_waits_survives_a_restart_and_comes_once_and_in_time(
    own_broker: BrokerProcess, ending: str
) -> None:
    own_broker.start()
    connection = RunningBroker(own_broker.port).connect()
    channel = connection.channel()
    channel.exchange_declare("later", KIND, durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare("inbox", durable=True)
    channel.queue_bind("inbox", "later", "k")
    channel.confirm_delivery()
    due = {
        b"third": publish(channel, "later", "k", b"third", x_deliver_at=milliseconds() + 1500),
        b"second": publish(channel, "later", "k", b"second", x_delay=1200),
        b"first": publish(channel, "later", "k", b"first", x_delay=300),
    }
    connection.close()
    if ending == "killed":
        own_broker.kill()
    else:
        assert own_broker.stop() == 0

    own_broker.start()
    with RunningBroker(own_broker.port).connect() as connection:
        inbox = Inbox(connection.channel(), "inbox")
        assert_came_in_time(arrivals(inbox, 3), due)
        settle(inbox.channel, "inbox")
        assert sorted(inbox.bodies) == [b"first", b"second", b"third"]
        inbox.channel.basic_ack(0, multiple=True)
    assert own_broker.stop() == 0

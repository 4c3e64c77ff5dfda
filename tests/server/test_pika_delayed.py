"""pika: messages that an exchange holds until their time has come, also over a restart."""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import Inbox, drain, settle
from tests.server.broker_process import BrokerProcess
from tests.server.target import Names, RunningBroker

KIND = "x-delayed-message"


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def publish(channel: BlockingChannel, exchange: str, key: str, body: bytes, **headers: int) -> int:
    """With `x_delay=` or `x_deliver_at=`. Returns the earliest moment at which it may come."""
    before = milliseconds()
    named: Any = {name.replace("_", "-"): value for name, value in headers.items()}
    properties = pika.BasicProperties(delivery_mode=2, headers=named)
    channel.basic_publish(exchange, key, body, properties)
    return headers["x_deliver_at"] if "x_deliver_at" in headers else before + headers.get("x_delay", 0)


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
    came = arrivals(inbox, 5)
    assert [body for body, _ in came] == [b"past", b"now", b"early", b"middle", b"last"]
    assert all(moment >= due[body] for body, moment in came)
    delays = [(properties.headers or {}).get("x-delay") for properties in inbox.properties]
    assert delays == [None, None, -100, None, -400]


def test_the_bindings_of_the_moment_it_is_due_decide(
    channel: BlockingChannel, names: Names, exchange: str
) -> None:
    before, after = names.queue("before"), names.queue("after")
    for queue in (before, after):
        channel.queue_declare(queue)
    channel.queue_bind(before, exchange, "k")
    publish(channel, exchange, "k", b"m", x_delay=200)
    channel.queue_unbind(before, exchange, "k")
    channel.queue_bind(after, exchange, "k")
    assert Inbox(channel, after, auto_ack=True).wait_for(1) == [b"m"]
    assert drain(channel, before) == []


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
        came = arrivals(inbox, 3)
        assert [body for body, _ in came] == [b"first", b"second", b"third"]
        assert all(moment >= due[body] for body, moment in came)
        settle(inbox.channel, "inbox")
        assert inbox.bodies == [b"first", b"second", b"third"]
        inbox.channel.basic_ack(0, multiple=True)
    assert own_broker.stop() == 0

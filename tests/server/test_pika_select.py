"""pika: the callback-driven adapters against the same broker: SelectConnection and AsyncioConnection."""

from __future__ import annotations

import asyncio
from typing import Any

import pika
import pytest
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.select_connection import IOLoop, SelectConnection

from tests.server.target import Names, RunningBroker

MESSAGES = 20
PATIENCE = 30.0


class Conversation:
    """Declares, consumes, publishes with confirms, acknowledges, deletes, closes; keeps what happened."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.events: list[str] = []
        self.bodies: list[bytes] = []
        self.confirmed = 0
        self.connection: Any = None
        self.channel: Any = None

    def on_open(self, connection: Any) -> None:
        self.connection = connection
        self.events.append("open")
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel: Any) -> None:
        self.channel = channel
        self.events.append("channel")
        channel.confirm_delivery(self.on_confirm, callback=self.on_confirming)

    def on_confirming(self, _frame: Any) -> None:
        self.events.append("confirming")
        self.channel.queue_declare(self.queue, callback=self.on_declared)

    def on_declared(self, _frame: Any) -> None:
        self.events.append("declared")
        self.channel.basic_qos(prefetch_count=5, callback=self.on_prefetch)

    def on_prefetch(self, _frame: Any) -> None:
        self.events.append("prefetch")
        self.channel.basic_consume(self.queue, self.on_message, callback=self.on_consuming)

    def on_consuming(self, _frame: Any) -> None:
        self.events.append("consuming")
        for number in range(MESSAGES):
            self.channel.basic_publish("", self.queue, b"%d" % number)

    def on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        self.confirmed = max(self.confirmed, tag)
        self.finish_when_done()

    def on_message(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self.bodies.append(body)
        channel.basic_ack(method.delivery_tag)
        self.finish_when_done()

    def finish_when_done(self) -> None:
        if len(self.bodies) == MESSAGES and self.confirmed == MESSAGES and self.events[-1] == "consuming":
            self.events.append("deleting")
            self.channel.queue_delete(self.queue, callback=lambda _frame: self.connection.close())

    def check(self) -> None:
        assert self.events == [
            "open",
            "channel",
            "confirming",
            "declared",
            "prefetch",
            "consuming",
            "deleting",
            "closed: (200) 'Normal shutdown'",
        ]
        assert self.bodies == [b"%d" % number for number in range(MESSAGES)]


def test_select_connection_holds_a_whole_conversation(broker: RunningBroker, names: Names) -> None:
    conversation = Conversation(names.queue())
    loop = IOLoop()

    def on_closed(_connection: Any, reason: Any) -> None:
        conversation.events.append(f"closed: ({reason.reply_code}) {reason.reply_text!r}")
        loop.stop()

    connection = SelectConnection(
        broker.parameters(),
        on_open_callback=conversation.on_open,
        on_open_error_callback=lambda *_: loop.stop(),
        on_close_callback=on_closed,
        custom_ioloop=loop,
    )
    loop.call_later(PATIENCE, loop.stop)
    loop.start()
    assert connection.is_closed
    loop.close()
    conversation.check()


@pytest.mark.anyio
async def test_asyncio_connection_holds_a_whole_conversation(broker: RunningBroker, names: Names) -> None:
    conversation = Conversation(names.queue())
    closed = asyncio.get_running_loop().create_future()

    def on_closed(_connection: Any, reason: Any) -> None:
        conversation.events.append(f"closed: ({reason.reply_code}) {reason.reply_text!r}")
        closed.set_result(None)

    AsyncioConnection(
        broker.parameters(),
        on_open_callback=conversation.on_open,
        on_open_error_callback=lambda _connection, error: closed.set_exception(error),
        on_close_callback=on_closed,
    )
    await asyncio.wait_for(closed, PATIENCE)
    conversation.check()


def test_select_connection_is_told_the_code_and_text_of_an_error(broker: RunningBroker) -> None:
    reasons: list[Any] = []
    loop = IOLoop()

    def on_channel(channel: Any) -> None:
        channel.add_on_close_callback(on_channel_closed)
        channel.queue_declare("missing", passive=True, callback=lambda _frame: loop.stop())

    def on_channel_closed(channel: Any, reason: Any) -> None:
        reasons.append(reason)
        channel.connection.close()

    def on_connection_closed(_connection: Any, reason: Any) -> None:
        reasons.append(reason)
        loop.stop()

    SelectConnection(
        broker.parameters(),
        on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel),
        on_close_callback=on_connection_closed,
        custom_ioloop=loop,
    )
    loop.call_later(PATIENCE, loop.stop)
    loop.start()
    loop.close()
    assert isinstance(reasons[0], pika.exceptions.ChannelClosedByBroker)
    assert (reasons[0].reply_code, reasons[0].reply_text) == (
        404,
        "NOT_FOUND - no queue 'missing' in vhost '/'",
    )
    assert isinstance(reasons[1], pika.exceptions.ConnectionClosedByClient)

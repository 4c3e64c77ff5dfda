"""pika: questions and answers without a queue for the answers."""

from __future__ import annotations

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import Inbox, wait_until
from tests.server.target import Names, RunningBroker

REPLY_TO = "amq.rabbitmq.reply-to"


class Replies:
    """What comes to a channel that asked for direct replies. The pseudo-queue cannot be declared to wait for it."""

    def __init__(self, channel: BlockingChannel) -> None:
        self.channel = channel
        self.answers: dict[str, bytes] = {}
        self.tag = channel.basic_consume(REPLY_TO, self._receive, auto_ack=True)

    def _receive(
        self,
        _channel: BlockingChannel,
        _method: pika.spec.Basic.Deliver,
        properties: pika.BasicProperties,
        body: bytes,
    ) -> None:
        self.answers[properties.correlation_id] = body

    def wait_for(self, count: int) -> dict[str, bytes]:
        wait_until(self.channel.connection, lambda: len(self.answers) >= count, f"{count} answers")
        return self.answers


def ask(channel: BlockingChannel, queue: str, number: int) -> None:
    properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(number))
    channel.basic_publish("", queue, b"%d" % number, properties)


def answer(server: Inbox, mandatory: bool = False) -> None:
    """Everything that was asked, with twice the number."""
    for properties, body in zip(server.properties, server.bodies, strict=True):
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        doubled = b"%d" % (2 * int(body))
        server.channel.basic_publish("", properties.reply_to, doubled, reply, mandatory=mandatory)


@pytest.fixture
def questions(channel: BlockingChannel, names: Names) -> str:
    queue = names.queue()
    channel.queue_declare(queue)
    return queue


def test_each_client_has_the_answers_to_its_own_questions(
    broker: RunningBroker, channel: BlockingChannel, questions: str
) -> None:
    with broker.connect() as first, broker.connect() as second:
        clients = [first.channel(), second.channel()]
        replies = [Replies(client) for client in clients]
        for number in range(20):
            ask(clients[number % 2], questions, number)
        server = Inbox(channel, questions, auto_ack=True)
        server.wait_for(20)
        answer(server)
        for parity in range(2):
            expected = {str(number): b"%d" % (2 * number) for number in range(parity, 20, 2)}
            assert replies[parity].wait_for(10) == expected


def test_who_answers_can_tell_whether_the_client_is_still_there(
    broker: RunningBroker, channel: BlockingChannel, connection: pika.BlockingConnection, questions: str
) -> None:
    with broker.connect() as gone:
        client = gone.channel()
        Replies(client)
        ask(client, questions, 1)
        server = Inbox(channel, questions, auto_ack=True)
        server.wait_for(1)
        address = server.properties[0].reply_to
        assert connection.channel().queue_declare(address, passive=True).method.consumer_count == 1
    with pytest.raises(ChannelClosedByBroker) as closed:
        connection.channel().queue_declare(address, passive=True)
    assert closed.value.reply_code == 404
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        answer(server, mandatory=True)


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ("nobody waits for the answer", "fast reply consumer does not exist"),
        ("the answers are to be acknowledged", "reply consumer cannot acknowledge"),
        ("there are two consumers", "reply consumer already set"),
    ],
)
def test_a_mistake_is_406(channel: BlockingChannel, questions: str, mistake: str, text: str) -> None:
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        if mistake == "nobody waits for the answer":
            ask(channel, questions, 1)
        elif mistake == "the answers are to be acknowledged":
            channel.basic_consume(REPLY_TO, lambda *_: None)
        else:
            Replies(channel)
            Replies(channel)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {text}")

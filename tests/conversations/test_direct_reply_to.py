"""Direct reply-to: the pseudo-queue, the address that a question carries, and who may answer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client

Differs = Callable[..., Any]

REPLY_QUEUE = "amq.rabbitmq.reply-to"


def test_a_reply_reaches_the_channel_that_asked(client: Client, queue: str) -> None:
    asker, answerer = client.channel(), client.channel()
    tag = asker.consume(REPLY_QUEUE, "", no_ack=True)
    asker.publish("question", routing_key=queue, reply_to=REPLY_QUEUE, correlation_id="7")
    answerer.counts_become(queue, 1, 0)
    question = answerer.get(queue)
    assert question is not None
    address = question.properties["reply_to"]
    assert address.startswith(f"{REPLY_QUEUE}.")
    answerer.publish("answer", routing_key=address, correlation_id="7")
    answer = asker.expect("basic.deliver")
    assert answer.arguments == {
        "consumer_tag": tag,
        "delivery_tag": 1,
        "redelivered": False,
        "exchange": "",
        "routing_key": address,
    }
    assert (answer.properties, answer.body) == ({"correlation_id": "7"}, b"answer")
    answerer.hears_nothing()


def test_a_delivered_reply_does_not_come_back(
    client: Client, queue: str, differs_from_rabbitmq: Differs
) -> None:
    asker, answerer = client.channel(), client.channel()
    asker.consume(REPLY_QUEUE, no_ack=True)
    asker.publish("question", routing_key=queue, reply_to=REPLY_QUEUE)
    answerer.counts_become(queue, 1, 0)
    question = answerer.get(queue)
    assert question is not None
    answerer.publish("answer", routing_key=question.properties["reply_to"], mandatory=True)
    asker.expect("basic.deliver")
    for name in differs_from_rabbitmq(
        "it looks for a queue of that name and returns the message besides delivering it",
        rabbitmq=["basic.return"],
        ours=[],
    ):
        answerer.expect(name)
    answerer.hears_nothing()


def test_a_reply_to_nobody_comes_back_if_mandatory(channel: Channel, client: Client, queue: str) -> None:
    asker = client.channel()
    asker.consume(REPLY_QUEUE, no_ack=True)
    asker.publish("question", routing_key=queue, reply_to=REPLY_QUEUE)
    channel.counts_become(queue, 1, 0)
    question = channel.get(queue)
    assert question is not None
    asker.close()
    channel.publish("answer", routing_key=question.properties["reply_to"], mandatory=True)
    channel.expect("basic.return", reply_code=312, routing_key=question.properties["reply_to"])


def test_the_reply_address_can_be_declared_while_the_asker_is_there(
    channel: Channel, client: Client, queue: str
) -> None:
    asker = client.channel()
    asker.consume(REPLY_QUEUE, no_ack=True)
    asker.publish("question", routing_key=queue, reply_to=REPLY_QUEUE)
    channel.counts_become(queue, 1, 0)
    question = channel.get(queue)
    assert question is not None
    address = question.properties["reply_to"]
    for passive in (True, False):
        reply = channel.call("queue.declare", queue=address, passive=passive)
        assert reply == {"queue": address, "message_count": 0, "consumer_count": 1}
    asker.call("basic.cancel", consumer_tag="c")
    channel.send("queue.declare", queue=address, passive=True)
    channel.refuses(404, f"no queue '{address}' in vhost '/'", "queue.declare")


@pytest.mark.parametrize("passive", [True, False])
def test_who_declares_the_pseudo_queue_learns_that_there_is_direct_reply_to(
    channel: Channel, passive: bool
) -> None:
    found = channel.call("queue.declare", queue=REPLY_QUEUE, passive=passive)
    assert found == {"queue": REPLY_QUEUE, "message_count": 0, "consumer_count": 1}


def test_a_reply_consumer_has_to_be_there_before_the_question(channel: Channel, queue: str) -> None:
    channel.publish("question", routing_key=queue, reply_to=REPLY_QUEUE)
    channel.refuses(406, "fast reply consumer does not exist", "basic.publish")


def test_a_reply_consumer_cannot_acknowledge(channel: Channel) -> None:
    channel.send("basic.consume", queue=REPLY_QUEUE, consumer_tag="c")
    channel.refuses(406, "reply consumer cannot acknowledge", "basic.consume")


def test_a_channel_has_one_reply_consumer(channel: Channel) -> None:
    channel.consume(REPLY_QUEUE, "one", no_ack=True)
    channel.send("basic.consume", queue=REPLY_QUEUE, consumer_tag="two", no_ack=True)
    channel.refuses(406, "reply consumer already set", "basic.consume")


def test_a_cancelled_reply_consumer_can_be_set_again(channel: Channel) -> None:
    channel.consume(REPLY_QUEUE, "one", no_ack=True)
    channel.call("basic.cancel", consumer_tag="one")
    channel.consume(REPLY_QUEUE, "two", no_ack=True)


def test_any_other_reply_to_is_left_alone(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, reply_to="amq.rabbitmq.reply-to.made.up")
    message = channel.get(queue)
    assert message is not None
    assert message.properties == {"reply_to": "amq.rabbitmq.reply-to.made.up"}


@pytest.mark.parametrize("passive", [True, False])
def test_that_there_is_direct_reply_to_shows_in_a_declare(channel: Channel, passive: bool) -> None:
    assert channel.call("queue.declare", queue=REPLY_QUEUE, passive=passive) == {
        "queue": REPLY_QUEUE,
        "message_count": 0,
        "consumer_count": 1,
    }

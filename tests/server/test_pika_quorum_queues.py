"""pika: quorum queues with a delivery limit, without one, and after the broker was killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.blocking import drain
from tests.server.broker_process import BrokerProcess
from tests.server.target import Names
from tests.server.test_restart import Durable

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
TRANSIENT = pika.BasicProperties(delivery_mode=1)


@pytest.fixture
def durable(own_broker: BrokerProcess) -> Iterator[Durable]:
    broker = Durable(own_broker)
    yield broker
    broker.end("killed")


def refuse_one(channel: BlockingChannel, queue: str) -> tuple[bytes, int]:
    """Get a message and give it back: its body, and how often it had come back before."""
    method, properties, body = channel.basic_get(queue)
    assert method is not None
    channel.basic_nack(method.delivery_tag, requeue=True)
    return body, int(properties.headers["x-delivery-count"])


def test_a_poison_message_is_a_dead_letter_after_its_last_try(channel: BlockingChannel, names: Names) -> None:
    dead, queue = names.queue(), names.queue()
    channel.queue_declare(dead)
    limited = {"x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.queue_declare(queue, durable=True, arguments=QUORUM | limited)
    for body in (b"poison", b"good"):
        channel.basic_publish("", queue, body)
    assert [refuse_one(channel, queue) for _ in range(3)] == [(b"poison", 0), (b"poison", 1), (b"poison", 2)]
    _, properties, body = channel.basic_get(dead, auto_ack=True)
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"poison", "delivery_limit")
    assert drain(channel, queue) == [b"good"]


def test_a_confirmed_message_its_place_and_its_count_outlast_a_kill(durable: Durable) -> None:
    channel = durable.confirming()
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    for body in (b"refused", b"b", b"c"):
        channel.basic_publish("", "q", body, TRANSIENT)
    assert [refuse_one(channel, "q") for _ in range(4)] == [
        (b"refused", 0),
        (b"b", 0),
        (b"c", 0),
        (b"refused", 1),
    ]
    channel.basic_publish("", "q", b"last", TRANSIENT)  # its confirm says that what was before is on disk
    durable.restart("killed")
    channel = durable.channel()
    assert [refuse_one(channel, "q")[0] for _ in range(4)] == [b"b", b"c", b"refused", b"last"]
    channel.queue_delete("q")

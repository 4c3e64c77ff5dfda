"""pika: the exchange types that RabbitMQ has as plugins, one after the other, and all of them after a restart."""

from __future__ import annotations

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.blocking import PERSISTENT, drain
from tests.server.broker_process import BrokerProcess
from tests.server.target import Names, RunningBroker


def bound(channel: BlockingChannel, names: Names, exchange: str, *keys: str) -> list[str]:
    """A new queue for each key."""
    queues = [names.queue() for _ in keys]
    for queue, key in zip(queues, keys, strict=True):
        channel.queue_declare(queue)
        channel.queue_bind(queue, exchange, key)
    return queues


def test_consistent_hash_divides_customers_by_weight(channel: BlockingChannel, names: Names) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "x-consistent-hash", arguments={"hash-header": "customer"})
    queues = bound(channel, names, exchange, "1", "3")
    for number in range(400):
        properties = pika.BasicProperties(headers={"customer": f"c{number % 200}"})
        channel.basic_publish(exchange, "", b"%d" % (number % 200), properties)
    small, large = (drain(channel, queue) for queue in queues)
    assert len(small) + len(large) == 400
    assert len(small) == pytest.approx(100, rel=0.6)
    assert set(small).isdisjoint(large)


def test_random_draws_for_every_message(channel: BlockingChannel, names: Names) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "x-random")
    queues = bound(channel, names, exchange, "", "")
    for number in range(200):
        channel.basic_publish(exchange, "k", b"%d" % number)
    first, second = (drain(channel, queue) for queue in queues)
    assert sorted(first + second) == sorted(b"%d" % number for number in range(200))
    assert len(first) == pytest.approx(100, rel=0.5)


def test_modulus_hash_counts_keys_off(channel: BlockingChannel, names: Names) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "x-modulus-hash")
    queues = bound(channel, names, exchange, "", "", "")
    for number in range(300):
        channel.basic_publish(exchange, f"key {number % 100}", b"%d" % (number % 100))
    found = [drain(channel, queue) for queue in queues]
    assert sum(len(bodies) for bodies in found) == 300
    for value in range(100):
        assert sorted(bodies.count(b"%d" % value) for bodies in found) == [0, 0, 3]


def test_recent_history_gives_a_late_queue_what_it_missed(channel: BlockingChannel, names: Names) -> None:
    exchange = names.exchange()
    channel.exchange_declare(exchange, "x-recent-history", arguments={"x-recent-history-length": 2})
    for body in (b"1", b"2", b"3"):
        channel.basic_publish(exchange, "", body)
    (late,) = bound(channel, names, exchange, "")
    channel.basic_publish(exchange, "", b"4")
    assert drain(channel, late) == [b"2", b"3", b"4"]


DURABLE = {
    "x-consistent-hash": {"hash-property": "message_id"},
    "x-random": None,
    "x-modulus-hash": None,
    "x-recent-history": {"x-recent-history-length": 2},
}


def placed(channel: BlockingChannel, exchange: str) -> dict[bytes, str]:
    """Which of the queues a and b gets each of some messages."""
    for number in range(40):
        properties = pika.BasicProperties(message_id=f"m{number}")
        channel.basic_publish(exchange, f"k{number}", b"%d" % number, properties)
    return {body: queue for queue in "ab" for body in drain(channel, queue)}


def test_they_are_the_same_after_a_restart(own_broker: BrokerProcess) -> None:
    own_broker.start()
    with RunningBroker(own_broker.port).connect() as connection:
        channel = connection.channel()
        for kind, arguments in DURABLE.items():
            channel.exchange_declare(kind, kind, durable=True, arguments=arguments)
        for queue in "ab":
            channel.queue_declare(queue, durable=True)
            for kind in ("x-consistent-hash", "x-random", "x-modulus-hash"):
                channel.queue_bind(queue, kind, "1")
        before = [placed(channel, kind) for kind in ("x-consistent-hash", "x-modulus-hash")]
        channel.basic_publish("x-recent-history", "", b"gone with the memory", PERSISTENT)
    assert own_broker.stop() == 0
    own_broker.start()
    with RunningBroker(own_broker.port).connect() as connection:
        channel = connection.channel()
        for kind, arguments in DURABLE.items():
            channel.exchange_declare(kind, kind, durable=True, arguments=arguments)
        assert [placed(channel, kind) for kind in ("x-consistent-hash", "x-modulus-hash")] == before
        assert len(placed(channel, "x-random")) == 40
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("x-recent-history", "", body)
        channel.queue_bind("a", "x-recent-history")
        assert drain(channel, "a") == [b"2", b"3"]
    assert own_broker.stop() == 0

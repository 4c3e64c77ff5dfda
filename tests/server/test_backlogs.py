"""More waits in the queues than memory is to hold: nothing is lost, doubled or out of order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from tests.server.blocking import PERSISTENT, drain, wait_until
from tests.server.broker_process import BrokerProcess
from tests.server.target import RunningBroker

COUNT = 6000
BODY, SMALL = bytes(1500), bytes(150)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerProcess]:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_MESSAGES_IN_MEMORY", "64 KiB")
    process = BrokerProcess(tmp_path / "data").start()
    yield process
    process.kill()


@pytest.fixture
def channel(process: BrokerProcess) -> Iterator[BlockingChannel]:
    connection = RunningBroker(process.port).connect()
    yield connection.channel()
    with contextlib.suppress(AMQPError):
        connection.close()


def bodies(body: bytes = BODY) -> list[bytes]:
    return [b"%d " % number + body for number in range(COUNT)]


def has_spilled(process: BrokerProcess) -> bool:
    """Whether the broker has a file open in its data directory that has no name there."""
    descriptors = Path(f"/proc/{process.pid}/fd")
    if not descriptors.exists():
        # Nothing tells from outside on this system.
        return True
    targets = [os.readlink(descriptor) for descriptor in descriptors.iterdir()]
    return any(target.startswith(str(process.data)) and target.endswith("(deleted)") for target in targets)


@pytest.mark.parametrize(
    ("properties", "body", "spills"),
    [(pika.BasicProperties(), BODY, True), (PERSISTENT, SMALL, True), (PERSISTENT, BODY, False)],
    ids=["transient", "persistent-small", "persistent-large"],
)
def test_a_backlog_beyond_memory_comes_out_in_order(
    process: BrokerProcess,
    channel: BlockingChannel,
    properties: pika.BasicProperties,
    body: bytes,
    spills: bool,
) -> None:
    """spills: what is large may have its rows read again instead, which depends on how far the store has come."""
    expected = bodies(body)
    channel.queue_declare("deep", durable=True)
    for each in expected:
        channel.basic_publish("", "deep", each, properties)
    assert channel.queue_declare("deep", passive=True).method.message_count == COUNT
    if spills:
        # What is not committed yet stays in memory.
        wait_until(channel.connection, lambda: has_spilled(process), "memory is relieved")
    assert drain(channel, "deep") == expected


def test_a_backlog_beyond_memory_survives_a_kill(process: BrokerProcess, channel: BlockingChannel) -> None:
    channel.queue_declare("deep", durable=True, arguments={"x-max-priority": 3})
    channel.confirm_delivery()
    sample = bodies()[:1500]
    for number, body in enumerate(sample):
        priority = pika.BasicProperties(delivery_mode=2, priority=number % 4)
        channel.basic_publish("", "deep", body * 4, priority)
    process.kill()
    process.start()
    connection = RunningBroker(process.port).connect()
    expected = [
        body * 4 for level in (3, 2, 1, 0) for number, body in enumerate(sample) if number % 4 == level
    ]
    assert drain(connection.channel(), "deep") == expected
    connection.close()

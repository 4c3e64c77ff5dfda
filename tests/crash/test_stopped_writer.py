"""While the writer does not write, nothing that needs the disk is promised; everything else goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.blocking import PERSISTENT, drain, settle, wait_until
from tests.server.broker_process import BrokerProcess
from tests.server.target import RunningBroker


class Confirming:
    """A channel that publishes without waiting and counts its confirms."""

    def __init__(self, channel: BlockingChannel) -> None:
        self.channel = channel
        self.confirmed = 0
        channel._impl.confirm_delivery(self._on_confirm, callback=lambda _frame: None)

    def _on_confirm(self, frame: pika.frame.Method[pika.spec.Basic.Ack]) -> None:
        assert isinstance(frame.method, pika.spec.Basic.Ack)
        self.confirmed = frame.method.delivery_tag

    def publish(self, queue: str, body: bytes, properties: pika.BasicProperties | None = None) -> None:
        self.channel._impl.basic_publish("", queue, body, properties)

    def wait_for(self, count: int) -> None:
        wait_until(self.channel.connection, lambda: self.confirmed >= count, f"{count} confirms")


class Stopped:
    """A broker whose writer is stopped, with one connection to it. `resume` lets the writer go on."""

    def __init__(self, process: BrokerProcess) -> None:
        self.process = process.start()
        self.connection = RunningBroker(process.port).connect()
        channel = self.connection.channel()
        channel.queue_declare("durable", durable=True)
        channel.queue_declare("transient")
        (self._writer,) = process.writers()
        os.kill(self._writer, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._writer, signal.SIGCONT)


@pytest.fixture
def stopped(own_broker: BrokerProcess) -> Iterator[Stopped]:
    broker = Stopped(own_broker)
    yield broker
    broker.resume()
    broker.connection.close()


def test_a_persistent_message_is_confirmed_only_when_written(stopped: Stopped) -> None:
    publisher = Confirming(stopped.connection.channel())
    publisher.publish("durable", b"m", PERSISTENT)
    settle(publisher.channel, "durable")
    assert publisher.confirmed == 0
    stopped.resume()
    publisher.wait_for(1)


def test_a_message_that_need_not_be_written_is_confirmed_at_once(stopped: Stopped) -> None:
    publisher = Confirming(stopped.connection.channel())
    publisher.publish("transient", b"persistent in a transient queue", PERSISTENT)
    publisher.publish("durable", b"transient in a durable queue")
    publisher.wait_for(2)


def test_others_are_served_meanwhile(stopped: Stopped) -> None:
    waiting, other = Confirming(stopped.connection.channel()), stopped.connection.channel()
    waiting.publish("durable", b"m", PERSISTENT)
    for number in range(100):
        other.basic_publish("", "transient", b"%d" % number)
    assert drain(other, "transient") == [b"%d" % number for number in range(100)]
    assert waiting.confirmed == 0


@pytest.mark.parametrize("how", ["declare", "delete", "bind", "commit"])
def test_a_durable_change_is_answered_only_when_written(stopped: Stopped, how: str) -> None:
    answers: list[object] = []
    channel = stopped.connection.channel()
    if how == "declare":
        channel._impl.queue_declare("new", durable=True, callback=answers.append)
    elif how == "delete":
        channel._impl.queue_delete("durable", callback=answers.append)
    elif how == "bind":
        channel._impl.queue_bind("durable", "amq.topic", "k", callback=answers.append)
    else:
        channel.tx_select()
        channel.basic_publish("", "durable", b"m", PERSISTENT)
        channel._impl.tx_commit(callback=answers.append)
    settle(stopped.connection.channel(), "transient")
    assert answers == []
    stopped.resume()
    wait_until(stopped.connection, lambda: bool(answers), "the answer")

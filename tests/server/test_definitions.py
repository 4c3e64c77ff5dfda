"""Definitions in a running broker: loaded at the start, again on SIGHUP, seen by clients, kept over restarts."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.broker_process import BrokerProcess

PATIENCE = 30.0
EXPORT = Path(__file__).parents[1] / "definitions" / "exports" / "rabbitmq-3.10.8-http.json"

BASE: dict[str, Any] = {
    "exchanges": [{"name": "dlx", "vhost": "/", "type": "fanout", "durable": True}],
    "queues": [
        {"name": "work", "vhost": "/", "durable": True, "arguments": {}},
        {"name": "dead", "vhost": "/", "durable": True, "arguments": {}},
    ],
    "bindings": [
        {"source": "dlx", "vhost": "/", "destination": "dead", "destination_type": "queue", "routing_key": ""}
    ],
}


def policy(**definition: object) -> list[dict[str, Any]]:
    keys = {key.replace("_", "-"): value for key, value in definition.items()}
    return [{"vhost": "/", "name": "p", "pattern": "^work$", "apply-to": "queues", "definition": keys}]


class Configured:
    """A broker whose configuration names a file of definitions."""

    def __init__(self, broker: BrokerProcess, folder: Path) -> None:
        self.broker = broker
        self.file = folder / "definitions.json"
        config = folder / "broker.toml"
        config.write_text(f'[data]\nload_definitions = "{self.file}"\n')
        broker.arguments = ["--config", str(config)]

    def write(self, **rows: object) -> None:
        self.file.write_text(json.dumps({**BASE, **rows}))

    def reload(self) -> str:
        """Send SIGHUP; what was logged of it."""
        before = len(self.broker.stderr())
        self.broker.send_signal(signal.SIGHUP)
        return self.wait_until(lambda: "loaded " in self.broker.stderr()[before:])[before:]

    def wait_until(self, happened: Callable[[], bool]) -> str:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.broker.stderr()
            time.sleep(0.02)
        return self.broker.stderr()

    def connect(
        self, user: str = "guest", password: str = "guest", vhost: str = "/"
    ) -> pika.BlockingConnection:
        credentials = pika.PlainCredentials(user, password)
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", self.broker.port, vhost, credentials)
        )


@pytest.fixture
def configured(own_broker: BrokerProcess, tmp_path: Path) -> Configured:
    return Configured(own_broker, tmp_path)


@pytest.fixture
def channel(configured: Configured) -> Iterator[BlockingChannel]:
    """On a broker whose file gives the queue `work` a dead letter exchange by a policy."""
    configured.write(policies=policy(dead_letter_exchange="dlx"))
    configured.broker.start()
    connection = configured.connect()
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    connection.close()


def arrived(channel: BlockingChannel, queue: str) -> list[bytes]:
    bodies: list[bytes] = []
    while (found := channel.basic_get(queue, auto_ack=True))[0] is not None:
        assert found[2] is not None
        bodies.append(found[2])
    return bodies


def test_a_policy_in_the_file_gives_a_queue_its_dead_letter_exchange(channel: BlockingChannel) -> None:
    channel.basic_publish("", "work", b"1")
    method, _, _ = channel.basic_get("work")
    assert method is not None
    channel.basic_nack(method.delivery_tag, requeue=False)
    assert arrived(channel, "dead") == [b"1"]


def test_sighup_applies_a_changed_policy_to_a_running_queue(
    configured: Configured, channel: BlockingChannel
) -> None:
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", "work", body)
    configured.write(policies=policy(dead_letter_exchange="dlx", max_length=2))
    log = configured.reload()
    assert f"loaded definitions of {configured.file}: 1 policy" in log
    channel.basic_publish("", "work", b"4")
    assert arrived(channel, "work") == [b"3", b"4"]
    assert arrived(channel, "dead") == [b"1", b"2"]


def test_a_file_with_a_mistake_changes_nothing_in_a_running_broker(
    configured: Configured, channel: BlockingChannel
) -> None:
    configured.write(policies=policy(max_length=1), users=[{"name": "new"}])
    log = configured.reload()
    assert f"definitions of {configured.file}: $.users[0].password_hash: missing" in log
    assert f"loaded nothing of {configured.file}" in log
    for body in (b"1", b"2"):
        channel.basic_publish("", "work", body)
    assert arrived(channel, "work") == [b"1", b"2"]


def test_a_file_that_is_gone_changes_nothing_in_a_running_broker(
    configured: Configured, channel: BlockingChannel
) -> None:
    configured.file.unlink()
    assert "No such file or directory" in configured.reload()
    assert channel.connection.is_open


def test_sighup_without_a_file_does_nothing(own_broker: BrokerProcess) -> None:
    own_broker.start()
    own_broker.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + PATIENCE
    while "data.load_definitions names no file" not in own_broker.stderr():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert own_broker.stop() == 0


def test_a_start_with_a_mistake_in_the_file_ends_with_a_line_for_each(configured: Configured) -> None:
    configured.write(policies=policy(max_length=-1), users=[{"name": "new"}])
    configured.broker.launch()
    assert configured.broker.wait_ended() == 1
    lines = configured.broker.stderr().splitlines()
    assert [line for line in lines if line.startswith("amqp-broker: error: ")] == [
        f"amqp-broker: error: {configured.file}: $.users[0].password_hash: missing",
        f"amqp-broker: error: {configured.file}: $.policies[0].definition: -1 is not a valid maximum length",
    ]
    assert "Traceback" not in configured.broker.stderr()


def test_a_start_without_the_file_ends_with_one_line(configured: Configured) -> None:
    configured.broker.launch()
    assert configured.broker.wait_ended() == 1
    line = f"amqp-broker: error: {configured.file}: No such file or directory"
    assert line in configured.broker.stderr().splitlines()


def test_users_of_a_rabbitmq_log_in_with_their_passwords(configured: Configured) -> None:
    configured.file.write_text(EXPORT.read_text())
    configured.broker.start()
    for user, password in (("carol", "builder"), ("bob", "builder")):
        configured.connect(user, password).close()
    configured.connect("alice", "wonderland", "shop").close()
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        configured.connect("alice", "wonderlanD", "shop")
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="access to vhost '/' refused"):
        configured.connect("alice", "wonderland", "/")


def test_what_was_loaded_lasts_without_the_file(configured: Configured) -> None:
    configured.file.write_text(EXPORT.read_text())
    configured.broker.start()
    assert configured.broker.stop() == 0
    configured.broker.arguments = []
    configured.broker.start()
    with configured.connect("alice", "wonderland", "shop") as connection:
        assert connection.channel().queue_declare("shop-quorum", passive=True).method.message_count == 0

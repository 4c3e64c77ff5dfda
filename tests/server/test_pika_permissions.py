"""Users whose rights and limits come from definitions, as pika hears of them; RabbitMQ 3.10.8 says the same words.

What happens when the file is loaded again with other rights is our own: RabbitMQ goes on with those that it knows.
"""

from __future__ import annotations

import json
import re
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
Row = dict[str, Any]

FULL: Row = {"configure": ".*", "write": ".*", "read": ".*"}
BASE: dict[str, list[Row]] = {
    "vhosts": [{"name": "/"}, {"name": "narrow"}],
    "users": [
        {"name": "alice", "password": "alice", "tags": ""},
        {"name": "few", "password": "few", "tags": "", "limits": {"max-connections": 1, "max-channels": 2}},
    ],
    "permissions": [
        {"user": "alice", "vhost": "/", "configure": "^own", "write": "^(own|amq)", "read": "^(own|amq)"},
        {"user": "alice", "vhost": "narrow", **FULL},
        {"user": "few", "vhost": "/", **FULL},
    ],
    "topic_permissions": [
        {"user": "alice", "vhost": "/", "exchange": "amq.topic", "write": r"^{username}\.", "read": "^news"}
    ],
    "parameters": [
        {
            "vhost": "narrow",
            "component": "vhost-limits",
            "name": "limits",
            "value": {"max-connections": 1, "max-queues": 1},
        }
    ],
}


class Site:
    """A broker with the definitions of this file, and its clients."""

    def __init__(self, broker: BrokerProcess, folder: Path, further: str = "") -> None:
        self.broker = broker
        self.file = folder / "definitions.json"
        config = folder / "broker.toml"
        config.write_text(f'[data]\nload_definitions = "{self.file}"\n{further}')
        broker.arguments = ["--config", str(config)]
        self.write()
        broker.start()

    def write(self, **rows: list[Row]) -> None:
        self.file.write_text(json.dumps({**BASE, **rows}))

    def reload(self, **rows: list[Row]) -> None:
        """Load other rows, and return when they count."""
        self.write(**rows)
        before = len(self.broker.stderr())
        self.broker.send_signal(signal.SIGHUP)
        wait_until(lambda: "loaded definitions" in self.broker.stderr()[before:])

    def connect(self, user: str, vhost: str = "/") -> pika.BlockingConnection:
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", self.broker.port, vhost, pika.PlainCredentials(user, user), socket_timeout=10
            )
        )


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def site(own_broker: BrokerProcess, tmp_path: Path) -> Iterator[Site]:
    site = Site(own_broker, tmp_path)
    yield site
    assert own_broker.stop() == 0
    assert "Traceback" not in own_broker.stderr()


def refused(channel: BlockingChannel, attempt: Callable[[BlockingChannel], object]) -> tuple[int, str]:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        attempt(channel)
        channel.queue_declare("", exclusive=True, passive=True)
    return caught.value.reply_code, caught.value.reply_text


ACCESS = "ACCESS_REFUSED - access to "
BY_ALICE = "in vhost '/' refused for user 'alice'"
REFUSALS: list[tuple[str, Callable[[BlockingChannel], object]]] = [
    (f"queue 'q' {BY_ALICE}", lambda channel: channel.queue_declare("q")),
    (f"exchange 'x' {BY_ALICE}", lambda channel: channel.exchange_declare("x")),
    (f"queue 'q' {BY_ALICE}", lambda channel: channel.queue_delete("q")),
    (f"queue 'q' {BY_ALICE}", lambda channel: channel.queue_purge("q")),
    (f"queue 'q' {BY_ALICE}", lambda channel: channel.basic_get("q")),
    (f"queue 'q' {BY_ALICE}", lambda channel: channel.basic_consume("q", lambda *_: None)),
    (f"queue 'q' {BY_ALICE}", lambda channel: channel.queue_bind("q", "amq.topic", "news")),
    (f"exchange 'x' {BY_ALICE}", lambda channel: channel.queue_bind("own", "x", "news")),
    (
        f"topic 'gossip' in exchange 'amq.topic' {BY_ALICE}",
        lambda channel: channel.queue_bind("own", "amq.topic", "gossip"),
    ),
    (
        f"exchange 'dlx' {BY_ALICE}",
        lambda channel: channel.queue_declare("own-2", arguments={"x-dead-letter-exchange": "dlx"}),
    ),
    (
        f"exchange 'ae' {BY_ALICE}",
        lambda channel: channel.exchange_declare("own-x", arguments={"alternate-exchange": "ae"}),
    ),
    (f"exchange 'x' {BY_ALICE}", lambda channel: channel.basic_publish("x", "k", b"")),
    (
        f"topic 'bob.x' in exchange 'amq.topic' {BY_ALICE}",
        lambda channel: channel.basic_publish("amq.topic", "bob.x", b""),
    ),
]


def test_what_is_not_permitted_is_refused_in_rabbitmqs_words(site: Site) -> None:
    with site.connect("alice") as connection:
        connection.channel().queue_declare("own")
        for resource, attempt in REFUSALS:
            assert refused(connection.channel(), attempt) == (403, ACCESS + resource)


def test_limits_are_refused_in_rabbitmqs_words(site: Site) -> None:
    with site.connect("alice", "narrow") as connection:
        connection.channel().queue_declare("q")
        code, text = refused(connection.channel(), lambda channel: channel.queue_declare("r"))
        assert code == 406
        assert text == (
            "PRECONDITION_FAILED - cannot declare queue 'r': queue limit in vhost 'narrow' (1) is reached"
        )
        assert not_opened(lambda: site.connect("alice", "narrow")) == (
            "NOT_ALLOWED - access to vhost 'narrow' refused for user 'alice': connection limit (1) is reached"
        )
    with site.connect("few") as connection:
        assert not_opened(lambda: site.connect("few")) == (
            "NOT_ALLOWED - connection refused for user 'few': user connection limit (1) is reached"
        )
        connection.channel()
        connection.channel()
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
            connection.channel()
        assert (caught.value.reply_code, caught.value.reply_text) == (
            530,
            "NOT_ALLOWED - number of channels opened for user 'few' has reached the maximum allowed user limit of (2)",
        )


def not_opened(connect: Callable[[], object]) -> str:
    """Why the virtual host was not opened, in which pika has little doubt that it is a matter of rights."""
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError) as caught:
        connect()
    found = re.search(r'\(530\) "(.*)"', str(caught.value))
    assert found is not None, caught.value
    return found[1]


def test_rights_that_go_with_a_reload_go_from_open_channels_too(site: Site) -> None:
    with site.connect("alice") as connection:
        channel = connection.channel()
        channel.queue_declare("own")
        cancelled: list[str] = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        tag = channel.basic_consume("own", lambda *_: None)
        publisher = connection.channel()
        publisher.confirm_delivery()
        publisher.basic_publish("amq.direct", "k", b"")
        permission = {"user": "alice", "vhost": "/", "configure": "^own", "write": "^own", "read": "^amq"}
        site.reload(permissions=[permission])
        wait_until(lambda: connection.process_data_events(0.01) is None and bool(cancelled))
        assert cancelled == [tag]
        code, text = refused(publisher, lambda channel: channel.basic_publish("amq.direct", "k", b""))
        assert (code, text) == (403, f"{ACCESS}exchange 'amq.direct' {BY_ALICE}")


def test_limits_of_the_configuration_are_for_all_together(own_broker: BrokerProcess, tmp_path: Path) -> None:
    limits = '[limits]\nqueue_max = 1\nchannel_max_per_node = 2\n[protocol]\ncluster_name = "rabbit@here"\n'
    site = Site(own_broker, tmp_path, limits)
    with site.connect("alice", "narrow") as first, site.connect("few") as second:
        first.channel().queue_declare("q")
        assert refused(second.channel(), lambda channel: channel.queue_declare("r")) == (
            406,
            "PRECONDITION_FAILED - cannot declare queue 'r': queue limit in cluster (1) is reached",
        )
        second.channel()
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
            second.channel()
        assert caught.value.reply_text == (
            "NOT_ALLOWED - number of channels opened on node 'rabbit@here' has reached "
            "the maximum allowed limit of (2)"
        )
    assert own_broker.stop() == 0

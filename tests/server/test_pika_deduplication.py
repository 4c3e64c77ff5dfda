"""pika: exchanges that deduplicate, and what publishers hear of duplicates."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from tests.server.blocking import drain
from tests.server.target import Names

DEDUPLICATES: Any = {"x-message-deduplication": True, "x-cache-size": 1000}


def of(value: object, **headers: object) -> pika.BasicProperties:
    """A persistent message that others are told from by this value."""
    return pika.BasicProperties(delivery_mode=2, headers={"x-deduplication-header": value, **headers})


def bound(channel: BlockingChannel, names: Names, kind: str = "direct", **arguments: Any) -> tuple[str, str]:
    """An exchange that deduplicates, and a queue that is bound to it with the key "k"."""
    exchange, queue = names.exchange(), names.queue()
    channel.exchange_declare(exchange, kind, arguments=DEDUPLICATES | arguments)
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange, "k")
    return exchange, queue


def test_a_duplicate_is_confirmed_and_not_routed(channel: BlockingChannel, names: Names) -> None:
    exchange, queue = bound(channel, names)
    channel.confirm_delivery()
    for body, value in ((b"1", "a"), (b"2", "a"), (b"3", "b"), (b"4", "a")):
        channel.basic_publish(exchange, "k", body, of(value))
    assert drain(channel, queue) == [b"1", b"3"]
    channel.basic_publish(exchange, "k", b"5", of("a"))
    assert drain(channel, queue) == []


def test_a_mandatory_duplicate_is_not_returned_but_what_leads_nowhere_is(
    channel: BlockingChannel, names: Names
) -> None:
    exchange, queue = bound(channel, names)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "k", b"1", of("a"), mandatory=True)
    channel.basic_publish(exchange, "k", b"2", of("a"), mandatory=True)
    for body in (b"3", b"4"):
        with pytest.raises(UnroutableError):
            channel.basic_publish(exchange, "none", body, of("b"), mandatory=True)
    channel.basic_publish(exchange, "k", b"5", of("b"), mandatory=True)
    assert drain(channel, queue) == [b"1", b"5"]


@pytest.mark.parametrize("confirming", [False, True])
def test_a_delayed_message_is_a_duplicate_before_it_is_due(
    channel: BlockingChannel, names: Names, *, confirming: bool
) -> None:
    exchange, queue = bound(channel, names, "x-delayed-message", **{"x-delayed-type": "direct"})
    if confirming:
        channel.confirm_delivery()
    channel.basic_publish(exchange, "k", b"1", of("a", **{"x-delay": 60_000}))
    channel.basic_publish(exchange, "k", b"2", of("a"))
    channel.basic_publish(exchange, "k", b"3", of("b"))
    assert drain(channel, queue) == [b"3"]


def test_what_is_rolled_back_was_not_seen(channel: BlockingChannel, names: Names) -> None:
    exchange, queue = bound(channel, names)
    channel.tx_select()
    channel.basic_publish(exchange, "k", b"1", of("a"))
    channel.tx_rollback()
    for body in (b"2", b"3"):
        channel.basic_publish(exchange, "k", body, of("a"))
    channel.tx_commit()
    channel.basic_publish(exchange, "k", b"4", of("a"))
    channel.tx_commit()
    assert drain(channel, queue) == [b"2"]


def test_the_type_of_the_plugin_is_a_fanout_and_asks_for_a_size(
    channel: BlockingChannel, names: Names
) -> None:
    exchange, queue = names.exchange(), names.queue()
    kind = "x-message-deduplication"
    channel.exchange_declare(exchange, kind, arguments={"x-cache-size": "10", "x-cache-ttl": 60_000})
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange, "any")
    for body, value in ((b"1", "a"), (b"2", "a"), (b"3", "b")):
        channel.basic_publish(exchange, "another", body, of(value))
    assert drain(channel, queue) == [b"1", b"3"]
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_declare(names.exchange(), kind)
    assert closed.value.reply_code == 406
    text = "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"
    assert closed.value.reply_text == f"PRECONDITION_FAILED - {text}"

"""pika: transactions on a channel: publishes and acknowledgements that count from the commit on, or never."""

from __future__ import annotations

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import Inbox, drain, publish_all, ready, wait_until
from tests.server.target import Names


@pytest.fixture
def observer(connection: pika.BlockingConnection) -> BlockingChannel:
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


@pytest.fixture
def queue(observer: BlockingChannel, names: Names) -> str:
    name = names.queue()
    observer.queue_declare(name)
    return name


@pytest.fixture
def tx(connection: pika.BlockingConnection) -> BlockingChannel:
    channel = connection.channel()
    channel.tx_select()
    return channel


def test_publishes_appear_with_the_commit(tx: BlockingChannel, observer: BlockingChannel, queue: str) -> None:
    publish_all(tx, queue, ["a", "b"])
    tx.queue_declare(queue, passive=True)
    assert ready(observer, queue) == 0
    tx.tx_commit()
    assert drain(observer, queue) == [b"a", b"b"]


def test_rolled_back_publishes_never_appear(
    tx: BlockingChannel, observer: BlockingChannel, queue: str
) -> None:
    publish_all(tx, queue, ["discarded"])
    tx.tx_rollback()
    publish_all(tx, queue, ["kept"])
    tx.tx_commit()
    assert drain(observer, queue) == [b"kept"]


def test_a_transaction_spans_queues_and_exchanges(
    tx: BlockingChannel, observer: BlockingChannel, names: Names
) -> None:
    queues, exchange = [names.queue() for _ in range(3)], names.exchange()
    observer.exchange_declare(exchange, "fanout")
    for name in queues:
        observer.queue_declare(name, durable=True)
        observer.queue_bind(name, exchange)
    tx.basic_publish("", queues[0], b"to one", pika.BasicProperties(delivery_mode=2))
    tx.basic_publish(exchange, "", b"to all", pika.BasicProperties(delivery_mode=2))
    tx.tx_commit()
    assert [drain(observer, name) for name in queues] == [[b"to one", b"to all"], [b"to all"], [b"to all"]]


def test_acknowledgements_count_from_the_commit_on(
    tx: BlockingChannel, observer: BlockingChannel, queue: str
) -> None:
    publish_all(observer, queue, ["a", "b", "c"])
    inbox = Inbox(tx, queue)
    inbox.wait_for(3)
    tx.basic_ack(inbox.tags[1], multiple=True)
    tx.tx_commit()
    tx.close()
    assert drain(observer, queue) == [b"c"]


def test_uncommitted_acknowledgements_are_lost_with_the_channel(
    tx: BlockingChannel, observer: BlockingChannel, queue: str
) -> None:
    publish_all(observer, queue, ["a", "b"])
    inbox = Inbox(tx, queue)
    inbox.wait_for(2)
    tx.basic_ack(inbox.tags[1], multiple=True)
    tx.close()
    assert drain(observer, queue) == [b"a", b"b"]


def test_rollback_leaves_deliveries_unacknowledged_not_requeued(
    tx: BlockingChannel, observer: BlockingChannel, queue: str
) -> None:
    publish_all(observer, queue, ["a", "b"])
    inbox = Inbox(tx, queue)
    inbox.wait_for(2)
    tx.basic_ack(inbox.tags[1], multiple=True)
    tx.tx_rollback()
    tx.queue_declare(queue, passive=True)
    assert len(inbox.bodies) == 2
    assert ready(observer, queue) == 0
    tx.basic_ack(inbox.tags[0])
    tx.tx_commit()
    tx.close()
    assert drain(observer, queue) == [b"b"]


def test_refusals_count_from_the_commit_on(
    tx: BlockingChannel, observer: BlockingChannel, queue: str
) -> None:
    publish_all(observer, queue, ["a", "b"])
    first, _, _ = tx.basic_get(queue)
    second, _, _ = tx.basic_get(queue)
    assert first is not None
    assert second is not None
    tx.basic_nack(first.delivery_tag, requeue=True)
    tx.basic_reject(second.delivery_tag, requeue=False)
    tx.queue_declare(queue, passive=True)
    assert ready(observer, queue) == 0
    tx.tx_commit()
    method, _, body = observer.basic_get(queue, auto_ack=True)
    assert method is not None
    assert (body, method.redelivered) == (b"a", True)
    assert drain(observer, queue) == []


def test_consume_and_forward_is_one_transaction(
    tx: BlockingChannel, observer: BlockingChannel, names: Names
) -> None:
    source, target = names.queue("source"), names.queue("target")
    observer.queue_declare(source)
    observer.queue_declare(target)
    publish_all(observer, source, ["job"])
    method, _, body = tx.basic_get(source)
    assert method is not None
    tx.basic_publish("", target, b"JOB")
    tx.basic_ack(method.delivery_tag)
    tx.tx_rollback()
    tx.basic_recover(requeue=True)
    assert ready(observer, target) == 0
    method, _, body = tx.basic_get(source)
    assert method is not None
    assert (method.redelivered, body) == (True, b"job")
    tx.basic_publish("", target, b"JOB")
    tx.basic_ack(method.delivery_tag)
    tx.tx_commit()
    assert drain(observer, target) == [b"JOB"]
    assert drain(observer, source) == []


def test_an_unroutable_mandatory_publish_is_returned_by_the_commit(tx: BlockingChannel) -> None:
    returned: list[bytes] = []
    tx.add_on_return_callback(lambda _channel, _method, _properties, body: returned.append(body))
    tx.basic_publish("", "no-such-queue", b"back", mandatory=True)
    tx.tx_commit()
    wait_until(tx.connection, lambda: bool(returned), "a returned message")
    assert returned == [b"back"]


def test_routing_happens_at_publish_time(
    tx: BlockingChannel, observer: BlockingChannel, names: Names
) -> None:
    exchange, early, late = names.exchange(), names.queue("early"), names.queue("late")
    observer.exchange_declare(exchange, "fanout")
    observer.queue_declare(early)
    observer.queue_declare(late)
    observer.queue_bind(early, exchange)
    tx.basic_publish(exchange, "", b"m")
    tx.queue_declare(early, passive=True)
    observer.queue_bind(late, exchange)
    tx.tx_commit()
    assert drain(observer, early) == [b"m"]
    assert drain(observer, late) == []


def test_a_missing_exchange_closes_the_channel_at_publish_time(tx: BlockingChannel) -> None:
    tx.basic_publish("missing", "k", b"m")
    with pytest.raises(ChannelClosedByBroker) as closed:
        tx.tx_commit()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        404,
        "NOT_FOUND - no exchange 'missing' in vhost '/'",
    )


@pytest.mark.parametrize("verb", ["tx_commit", "tx_rollback"])
def test_a_channel_without_select_is_not_transactional(
    connection: pika.BlockingConnection, verb: str
) -> None:
    channel = connection.channel()
    with pytest.raises(ChannelClosedByBroker) as closed:
        getattr(channel, verb)()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - channel is not transactional",
    )


def test_select_may_be_repeated(tx: BlockingChannel, observer: BlockingChannel, queue: str) -> None:
    publish_all(tx, queue, ["a"])
    tx.tx_select()
    tx.tx_commit()
    assert drain(observer, queue) == [b"a"]


def test_a_channel_is_either_transactional_or_confirming(connection: pika.BlockingConnection) -> None:
    first, second = connection.channel(), connection.channel()
    first.tx_select()
    with pytest.raises(ChannelClosedByBroker) as closed:
        first.confirm_delivery()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    )
    second.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        second.tx_select()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    )


def test_empty_commits_and_rollbacks_are_answered(tx: BlockingChannel) -> None:
    for _ in range(3):
        tx.tx_commit()
        tx.tx_rollback()
    assert tx.is_open

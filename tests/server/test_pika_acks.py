"""pika: settling deliveries: ack, nack, reject, recover, what comes back, where, and marked how."""

from __future__ import annotations

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import Inbox, drain, publish_all, ready, settle, wait_until
from tests.server.target import Names, RunningBroker


@pytest.fixture
def publisher(connection: pika.BlockingConnection) -> BlockingChannel:
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


@pytest.fixture
def queue(publisher: BlockingChannel, names: Names) -> str:
    name = names.queue()
    publisher.queue_declare(name)
    publish_all(publisher, name, ["1", "2", "3", "4", "5"])
    return name


def take(channel: BlockingChannel, queue: str, count: int) -> list[int]:
    """Get messages without acknowledging them; their delivery tags."""
    tags = []
    for _ in range(count):
        method, _, _ = channel.basic_get(queue)
        assert method is not None
        tags.append(method.delivery_tag)
    return tags


def left_behind(channel: BlockingChannel, publisher: BlockingChannel, queue: str) -> list[bytes]:
    """What is in the queue once the channel is closed and its unacknowledged messages are back."""
    channel.close()
    return drain(publisher, queue)


def test_an_acknowledged_message_is_gone(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    tags = take(channel, queue, 3)
    channel.basic_ack(tags[1])
    assert left_behind(channel, publisher, queue) == [b"1", b"3", b"4", b"5"]


def test_multiple_acknowledges_up_to_the_tag(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    tags = take(channel, queue, 4)
    channel.basic_ack(tags[2], multiple=True)
    assert left_behind(channel, publisher, queue) == [b"4", b"5"]


def test_multiple_with_tag_zero_acknowledges_all(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    take(channel, queue, 4)
    channel.basic_ack(0, multiple=True)
    channel.basic_ack(0, multiple=True)
    assert left_behind(channel, publisher, queue) == [b"5"]


@pytest.mark.parametrize("verb", ["basic_nack", "basic_reject"])
def test_a_requeued_message_returns_to_its_place_and_is_marked(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str, verb: str
) -> None:
    tags = take(channel, queue, 3)
    getattr(channel, verb)(tags[1], requeue=True)
    channel.queue_declare(queue, passive=True)
    flags = []
    for _ in range(3):
        method, _, body = publisher.basic_get(queue, auto_ack=True)
        assert method is not None
        flags.append((body, method.redelivered))
    assert flags == [(b"2", True), (b"4", False), (b"5", False)]


@pytest.mark.parametrize("verb", ["basic_nack", "basic_reject"])
def test_a_message_refused_without_requeue_is_gone(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str, verb: str
) -> None:
    tags = take(channel, queue, 2)
    getattr(channel, verb)(tags[0], requeue=False)
    assert left_behind(channel, publisher, queue) == [b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("requeue", [False, True])
def test_nack_multiple_refuses_up_to_the_tag(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str, requeue: bool
) -> None:
    tags = take(channel, queue, 4)
    channel.basic_nack(tags[2], multiple=True, requeue=requeue)
    channel.basic_ack(tags[3])
    kept = [b"1", b"2", b"3"] if requeue else []
    assert left_behind(channel, publisher, queue) == [*kept, b"5"]


def test_nack_zero_multiple_refuses_all(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    take(channel, queue, 3)
    channel.basic_nack(0, multiple=True, requeue=False)
    assert left_behind(channel, publisher, queue) == [b"4", b"5"]


def test_messages_requeued_in_any_order_come_in_publish_order(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    tags = take(channel, queue, 5)
    for tag in (tags[3], tags[0], tags[4], tags[2], tags[1]):
        channel.basic_nack(tag)
    assert left_behind(channel, publisher, queue) == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("how", ["channel", "connection"])
def test_closing_gives_unacknowledged_messages_back_in_order(
    broker: RunningBroker, publisher: BlockingChannel, queue: str, how: str
) -> None:
    other = broker.connect()
    inbox = Inbox(other.channel(), queue)
    inbox.wait_for(5)
    inbox.channel.basic_ack(inbox.tags[1])
    if how == "channel":
        inbox.channel.close()
    else:
        other.close()
    again = Inbox(publisher, queue)
    assert again.wait_for(4) == [b"1", b"3", b"4", b"5"]
    assert [method.redelivered for method in again.methods] == [True] * 4
    if other.is_open:
        other.close()


def test_recover_redelivers_everything_unacknowledged(channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(channel, queue)
    inbox.wait_for(5)
    channel.basic_ack(inbox.tags[0])
    channel.basic_recover(requeue=True)
    assert inbox.wait_for(9)[5:] == [b"2", b"3", b"4", b"5"]
    assert [method.redelivered for method in inbox.methods] == [False] * 5 + [True] * 4
    assert inbox.tags == list(range(1, 10))


def test_recover_async_redelivers_without_an_answer(channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(channel, queue)
    inbox.wait_for(5)
    channel._impl._send_method(pika.spec.Basic.RecoverAsync(requeue=True))
    assert inbox.wait_for(10)[5:] == [b"1", b"2", b"3", b"4", b"5"]


def test_recover_covers_messages_of_a_cancelled_consumer_and_of_get(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    take(channel, queue, 2)
    inbox = Inbox(channel, queue)
    inbox.wait_for(3)
    channel.basic_cancel(inbox.tag)
    settle(channel, queue)
    channel.basic_recover(requeue=True)
    channel.queue_declare(queue, passive=True)
    assert drain(publisher, queue) == [b"1", b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("verb", ["basic_ack", "basic_nack", "basic_reject"])
def test_an_unknown_delivery_tag_is_406(channel: BlockingChannel, queue: str, verb: str) -> None:
    take(channel, queue, 1)
    getattr(channel, verb)(42)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(queue, passive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - unknown delivery tag 42",
    )


@pytest.mark.parametrize("multiple", [False, True])
def test_acknowledging_twice_is_406(channel: BlockingChannel, queue: str, multiple: bool) -> None:
    tags = take(channel, queue, 2)
    channel.basic_ack(tags[0])
    channel.basic_ack(tags[0], multiple=multiple)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(queue, passive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - unknown delivery tag 1",
    )


def test_acknowledging_an_auto_acked_delivery_is_406(channel: BlockingChannel, queue: str) -> None:
    method, _, _ = channel.basic_get(queue, auto_ack=True)
    assert method is not None
    channel.basic_ack(method.delivery_tag)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(queue, passive=True)
    assert closed.value.reply_text == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_a_tag_belongs_to_its_channel(connection: pika.BlockingConnection, queue: str) -> None:
    owner, stranger = connection.channel(), connection.channel()
    tags = take(owner, queue, 1)
    stranger.basic_ack(tags[0])
    with pytest.raises(ChannelClosedByBroker) as closed:
        stranger.queue_declare(queue, passive=True)
    assert closed.value.reply_code == 406
    owner.basic_ack(tags[0])
    owner.queue_declare(queue, passive=True)
    assert owner.is_open


def test_a_channel_error_gives_its_messages_back(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    take(channel, queue, 3)
    channel.basic_ack(42)
    wait_until(channel.connection, lambda: channel.is_closed, "the channel to be closed")
    inbox = Inbox(publisher, queue)
    assert inbox.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]


def test_a_requeued_message_goes_to_another_consumer(connection: pika.BlockingConnection, queue: str) -> None:
    first, second = connection.channel(), connection.channel()
    first.basic_qos(prefetch_count=5)
    refusing = Inbox(first, queue)
    refusing.wait_for(5)
    accepting = Inbox(second, queue)
    first.basic_cancel(refusing.tag)
    first.queue_declare(queue, passive=True)
    first.basic_nack(refusing.tags[-1], multiple=True, requeue=True)
    assert accepting.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]
    assert all(method.redelivered for method in accepting.methods)


def test_unacknowledged_messages_of_a_deleted_queue_can_still_be_acknowledged(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    tags = take(channel, queue, 2)
    assert publisher.queue_delete(queue).method.message_count == 3
    channel.basic_ack(tags[0])
    channel.basic_nack(tags[1])
    publisher.queue_declare(queue)
    assert ready(publisher, queue) == 0
    channel.queue_declare(queue, passive=True)
    assert channel.is_open


def test_a_thousand_single_acks_in_odd_order(connection: pika.BlockingConnection, names: Names) -> None:
    queue = names.queue()
    channel, publisher = connection.channel(), connection.channel()
    publisher.queue_declare(queue)
    publish_all(publisher, queue, [str(number) for number in range(1000)])
    inbox = Inbox(channel, queue)
    inbox.wait_for(1000)
    for tag in [*range(1, 1001, 2), *range(1000, 0, -2)]:
        channel.basic_ack(tag)
    assert left_behind(channel, publisher, queue) == []

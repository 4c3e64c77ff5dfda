"""pika: consumers, their tags, their turns and their ends; prefetch per consumer and per channel."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import Inbox, drain, publish_all, ready, settle, wait_until
from tests.server.target import Names, RunningBroker


@pytest.fixture
def queue(channel: BlockingChannel, names: Names) -> str:
    name = names.queue()
    channel.queue_declare(name)
    return name


@pytest.fixture
def publisher(connection: pika.BlockingConnection) -> BlockingChannel:
    """A confirming channel: what it published is in the queue when `basic_publish` returns."""
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def test_a_consumer_gets_what_is_there_and_what_comes(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, ["before 1", "before 2"])
    inbox = Inbox(channel, queue)
    publish_all(publisher, queue, ["after"])
    assert inbox.wait_for(3) == [b"before 1", b"before 2", b"after"]
    assert inbox.tags == [1, 2, 3]


def test_a_consumer_tag_is_kept_as_given(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    inbox = Inbox(channel, queue, consumer_tag="étiquette 1")
    publish_all(publisher, queue, ["m"])
    inbox.wait_for(1)
    assert inbox.tag == inbox.methods[0].consumer_tag == "étiquette 1"


def test_tags_may_repeat_on_another_channel(connection: pika.BlockingConnection, queue: str) -> None:
    for _ in range(2):
        assert Inbox(connection.channel(), queue, consumer_tag="same").tag == "same"


def test_a_cancelled_consumer_gets_nothing_more_and_keeps_what_it_has(
    connection: pika.BlockingConnection, channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    inbox = Inbox(channel, queue)
    publish_all(publisher, queue, ["held"])
    inbox.wait_for(1)
    channel.basic_cancel(inbox.tag)
    publish_all(publisher, queue, ["not for it"])
    settle(channel, queue)
    assert inbox.bodies == [b"held"]
    assert drain(publisher, queue) == [b"not for it"]
    channel.basic_ack(inbox.tags[0])
    channel.close()
    assert drain(publisher, queue) == []


def test_cancelling_an_unknown_tag_is_answered(channel: BlockingChannel) -> None:
    answers: list[Any] = []
    channel._impl._consumers["nobody"] = lambda *_: None
    channel._impl.basic_cancel("nobody", callback=answers.append)
    wait_until(channel.connection, lambda: bool(answers), "cancel-ok")
    assert answers[0].method.consumer_tag == "nobody"


def test_deleting_the_queue_cancels_its_consumers(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    cancelled: list[str] = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tags = {Inbox(channel, queue).tag, Inbox(channel, queue).tag}
    publisher.queue_delete(queue)
    wait_until(channel.connection, lambda: len(cancelled) == 2, "two cancel notifications")
    assert set(cancelled) == tags
    assert channel.is_open


def test_the_consume_generator_ends_when_the_queue_is_deleted(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, ["one", "two"])
    seen: list[bytes] = []
    for method, _, body in channel.consume(queue):
        seen.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 2:
            publisher.queue_delete(queue)
    assert seen == [b"one", b"two"]


def test_cancelling_the_generator_gives_back_what_was_waiting(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, ["1", "2", "3", "4", "5"])
    for method, _, body in channel.consume(queue):
        assert body == b"1"
        channel.basic_ack(method.delivery_tag)
        break
    channel.cancel()
    channel.close()
    assert drain(publisher, queue) == [b"2", b"3", b"4", b"5"]


def test_start_consuming_ends_when_a_callback_stops_it(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, ["1", "2", "3"])
    seen: list[bytes] = []

    def on_message(this: BlockingChannel, method: Any, _properties: Any, body: bytes) -> None:
        seen.append(body)
        this.basic_ack(method.delivery_tag)
        if body == b"3":
            this.stop_consuming()

    channel.basic_consume(queue, on_message)
    channel.start_consuming()
    assert seen == [b"1", b"2", b"3"]


def test_auto_ack_settles_on_delivery(
    connection: pika.BlockingConnection, publisher: BlockingChannel, queue: str
) -> None:
    channel = connection.channel()
    inbox = Inbox(channel, queue, auto_ack=True)
    publish_all(publisher, queue, ["a", "b"])
    inbox.wait_for(2)
    channel.close()
    assert ready(publisher, queue) == 0


def test_delivery_tags_count_per_channel_over_all_its_deliveries(
    connection: pika.BlockingConnection, publisher: BlockingChannel, queue: str
) -> None:
    channel = connection.channel()
    publish_all(publisher, queue, ["got", "auto", "consumed"])
    method, _, _ = channel.basic_get(queue)
    assert method is not None
    assert method.delivery_tag == 1
    method, _, _ = channel.basic_get(queue, auto_ack=True)
    assert method is not None
    assert method.delivery_tag == 2
    inbox = Inbox(channel, queue)
    inbox.wait_for(1)
    assert inbox.tags == [3]


def test_an_exclusive_consumer_is_alone(connection: pika.BlockingConnection, queue: str) -> None:
    refusal = (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use")
    first = Inbox(connection.channel(), queue, exclusive=True)
    for exclusive in (False, True):
        with pytest.raises(ChannelClosedByBroker) as closed:
            Inbox(connection.channel(), queue, exclusive=exclusive)
        assert (closed.value.reply_code, closed.value.reply_text) == refusal
    first.channel.basic_cancel(first.tag)
    Inbox(connection.channel(), queue)
    with pytest.raises(ChannelClosedByBroker) as closed:
        Inbox(connection.channel(), queue, exclusive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == refusal


def test_consumers_take_turns(
    connection: pika.BlockingConnection, publisher: BlockingChannel, queue: str
) -> None:
    inboxes = [Inbox(connection.channel(), queue) for _ in range(3)]
    publish_all(publisher, queue, [str(number) for number in range(9)])
    for inbox in inboxes:
        inbox.wait_for(3)
    assert [inbox.bodies for inbox in inboxes] == [
        [b"0", b"3", b"6"],
        [b"1", b"4", b"7"],
        [b"2", b"5", b"8"],
    ]


def test_a_higher_priority_is_served_until_it_is_full(
    connection: pika.BlockingConnection, publisher: BlockingChannel, queue: str
) -> None:
    low_channel, high_channel = connection.channel(), connection.channel()
    low = Inbox(low_channel, queue, arguments={"x-priority": 1})
    high_channel.basic_qos(prefetch_count=2)
    high = Inbox(high_channel, queue, arguments={"x-priority": 10})
    publish_all(publisher, queue, ["1", "2", "3", "4"])
    high.wait_for(2)
    low.wait_for(2)
    assert (high.bodies, low.bodies) == ([b"1", b"2"], [b"3", b"4"])
    high_channel.basic_ack(0, multiple=True)
    high_channel.queue_declare(queue, passive=True)
    publish_all(publisher, queue, ["5"])
    assert high.wait_for(3)[2:] == [b"5"]


def test_prefetch_bounds_each_consumer(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, [str(number) for number in range(10)])
    channel.basic_qos(prefetch_count=3)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    settle(channel, queue)
    assert (first.bodies, second.bodies) == ([b"0", b"1", b"2"], [b"3", b"4", b"5"])
    channel.basic_ack(first.tags[1])
    assert first.wait_for(4)[3:] == [b"6"]
    channel.basic_ack(second.tags[2], multiple=True)
    settle(channel, queue)
    assert ready(publisher, queue) == 0


def test_prefetch_one_hands_out_one_at_a_time(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, ["1", "2", "3"])
    channel.basic_qos(prefetch_count=1)
    inbox = Inbox(channel, queue)
    for number in (1, 2, 3):
        settle(channel, queue)
        assert len(inbox.bodies) == number
        channel.basic_ack(inbox.tags[-1])
        if number < 3:
            inbox.wait_for(number + 1)


def test_a_new_prefetch_is_for_new_consumers_only(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    channel.basic_qos(prefetch_count=1)
    early = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=2)
    late = Inbox(channel, queue)
    publish_all(publisher, queue, ["1", "2", "3", "4", "5"])
    settle(channel, queue)
    assert (len(early.bodies), len(late.bodies)) == (1, 2)
    assert ready(publisher, queue) == 2


def test_global_prefetch_is_shared_by_the_channel_and_changes_at_once(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, [str(number) for number in range(10)])
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    settle(channel, queue)
    assert len(first.bodies) + len(second.bodies) == 3
    channel.basic_qos(prefetch_count=5, global_qos=True)
    settle(channel, queue)
    wait_until(channel.connection, lambda: len(first.bodies) + len(second.bodies) >= 5, "two more deliveries")
    settle(channel, queue)
    assert len(first.bodies) + len(second.bodies) == 5
    channel.basic_qos(prefetch_count=0, global_qos=True)
    wait_until(channel.connection, lambda: len(first.bodies) + len(second.bodies) == 10, "all deliveries")


def test_both_limits_bind(channel: BlockingChannel, publisher: BlockingChannel, queue: str) -> None:
    publish_all(publisher, queue, [str(number) for number in range(10)])
    channel.basic_qos(prefetch_count=4)
    channel.basic_qos(prefetch_count=6, global_qos=True)
    first = Inbox(channel, queue)
    settle(channel, queue)
    assert len(first.bodies) == 4
    second = Inbox(channel, queue)
    settle(channel, queue)
    assert (len(first.bodies), len(second.bodies)) == (4, 2)


def test_prefetch_does_not_limit_auto_ack_or_get(
    channel: BlockingChannel, publisher: BlockingChannel, queue: str
) -> None:
    publish_all(publisher, queue, ["1", "2", "3", "4", "5"])
    channel.basic_qos(prefetch_count=1)
    assert channel.basic_get(queue)[2] == b"1"
    assert channel.basic_get(queue)[2] == b"2"
    inbox = Inbox(channel, queue, auto_ack=True)
    assert inbox.wait_for(3) == [b"3", b"4", b"5"]


def test_get_counts_what_is_left(channel: BlockingChannel, publisher: BlockingChannel, queue: str) -> None:
    publish_all(publisher, queue, ["1", "2", "3"])
    left = []
    for _ in range(3):
        method, _, _ = channel.basic_get(queue, auto_ack=True)
        assert method is not None
        left.append(method.message_count)
    assert left == [2, 1, 0]
    assert channel.basic_get(queue) == (None, None, None)


def test_a_consumer_on_another_connection_is_served(
    broker: RunningBroker, publisher: BlockingChannel, queue: str
) -> None:
    with broker.connect() as other:
        inbox = Inbox(other.channel(), queue, auto_ack=True)
        bodies = [b"%d" % number for number in range(200)]
        publish_all(publisher, queue, bodies)
        assert inbox.wait_for(200) == bodies


def test_a_ping_pong_between_two_connections_keeps_going(broker: RunningBroker, names: Names) -> None:
    ping, pong = names.queue("ping"), names.queue("pong")
    with broker.connect() as left_connection, broker.connect() as right_connection:
        left, right = left_connection.channel(), right_connection.channel()
        left.queue_declare(ping)
        left.queue_declare(pong)
        left_inbox, right_inbox = Inbox(left, pong, auto_ack=True), Inbox(right, ping, auto_ack=True)
        for number in range(100):
            left.basic_publish("", ping, b"%d" % number)
            assert right_inbox.wait_for(number + 1)[-1] == b"%d" % number
            right.basic_publish("", pong, b"%d" % number)
            assert left_inbox.wait_for(number + 1)[-1] == b"%d" % number


def test_a_single_active_consumer_hands_over(
    connection: pika.BlockingConnection, publisher: BlockingChannel, names: Names
) -> None:
    queue = names.queue()
    publisher.queue_declare(queue, arguments={"x-single-active-consumer": True})
    first, second = Inbox(connection.channel(), queue), Inbox(connection.channel(), queue)
    publish_all(publisher, queue, ["1", "2"])
    first.wait_for(2)
    first.channel.basic_ack(0, multiple=True)
    first.channel.basic_cancel(first.tag)
    publish_all(publisher, queue, ["3"])
    assert second.wait_for(1) == [b"3"]
    assert first.bodies == [b"1", b"2"]

"""pika: expiry, length limits, priorities, dead letters, redelivery and deduplication of queues."""

from __future__ import annotations

import time
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, NackError

from tests.conversations.pace import Pace, in_pace
from tests.server.blocking import WAIT_SECONDS, Inbox, drain, publish_all, ready, settle, wait_until
from tests.server.broker_process import BrokerProcess
from tests.server.target import Names, RunningBroker


def declare(channel: BlockingChannel, names: Names, **arguments: object) -> str:
    """A queue with arguments; `message_ttl=1` stands for x-message-ttl."""
    name = names.queue()
    channel.queue_declare(
        name, arguments={"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
    )
    return name


def reasons(inbox: Inbox) -> list[tuple[bytes, str]]:
    """Of dead letters: the body, and the reason of the newest death."""
    found = []
    for body, properties in zip(inbox.bodies, inbox.properties, strict=True):
        headers: Any = properties.headers
        found.append((body, headers["x-death"][0]["reason"]))
    return found


# -- expiry


def test_expired_messages_become_dead_letters(channel: BlockingChannel, names: Names) -> None:
    dead = declare(channel, names)
    queue = declare(channel, names, message_ttl=60_000, dead_letter_exchange="", dead_letter_routing_key=dead)
    inbox = Inbox(channel, dead, auto_ack=True)
    for number in range(3):
        channel.basic_publish("", queue, b"%d" % number, pika.BasicProperties(expiration=str(10 * number)))
    channel.basic_publish("", queue, b"stays")
    assert inbox.wait_for(3) == [b"0", b"1", b"2"]
    assert {reason for _, reason in reasons(inbox)} == {"expired"}
    headers: Any = inbox.properties[1].headers
    assert headers["x-death"][0]["original-expiration"] == "10"
    assert inbox.properties[1].expiration is None
    assert ready(channel, queue) == 1


def test_a_message_that_may_not_wait_is_for_a_waiting_consumer_only(
    channel: BlockingChannel, names: Names
) -> None:
    queue = declare(channel, names, message_ttl=0)
    channel.basic_publish("", queue, b"nobody is there")
    assert drain(channel, queue) == []
    inbox = Inbox(channel, queue, auto_ack=True)
    channel.basic_publish("", queue, b"1")
    assert inbox.wait_for(1) == [b"1"]


def test_an_unused_queue_is_gone_after_its_time(broker: RunningBroker, names: Names) -> None:
    with broker.connect() as connection:
        used = consumed_in_time(connection, names, 300)
        unused = declare(connection.channel(), names, expires=300)
        deadline = time.monotonic() + WAIT_SECONDS
        while exists(connection, unused):
            # A passive declaration is use as well, so the next one waits until it would be too late.
            assert time.monotonic() < deadline
            connection.process_data_events(time_limit=0.35)
        assert exists(connection, used)


def consumed_in_time(connection: pika.BlockingConnection, names: Names, expires: int) -> str:
    """A queue that has a consumer before its time is over, which on a busy machine the first ones may not have."""
    for _ in range(5):
        channel = connection.channel()
        queue = declare(channel, names, expires=expires)
        try:
            Inbox(channel, queue)
        except ChannelClosedByBroker as missing:
            assert missing.reply_code == 404
        else:
            return queue
    raise AssertionError("no queue lived until it was consumed from")


def exists(connection: pika.BlockingConnection, queue: str) -> bool:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as missing:
        assert missing.reply_code == 404
        return False
    channel.close()
    return True


# -- length limits


def test_a_full_queue_drops_its_head_and_confirms(channel: BlockingChannel, names: Names) -> None:
    dead = declare(channel, names)
    queue = declare(channel, names, max_length=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    channel.confirm_delivery()
    publish_all(channel, queue, [b"1", b"2", b"3", b"4"])
    assert drain(channel, queue) == [b"3", b"4"]
    inbox = Inbox(channel, dead, auto_ack=True)
    assert inbox.wait_for(2) == [b"1", b"2"]
    assert reasons(inbox) == [(b"1", "maxlen"), (b"2", "maxlen")]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_queue_that_refuses_says_so(channel: BlockingChannel, names: Names, overflow: str) -> None:
    dead = declare(channel, names)
    queue = declare(
        channel,
        names,
        max_length_bytes=4,
        overflow=overflow,
        dead_letter_exchange="",
        dead_letter_routing_key=dead,
    )
    channel.confirm_delivery()
    publish_all(channel, queue, [b"12", b"34"])
    with pytest.raises(NackError):
        channel.basic_publish("", queue, b"5")
    assert drain(channel, queue) == [b"12", b"34"]
    channel.basic_publish("", queue, b"6")
    assert drain(channel, queue) == [b"6"]
    assert drain(channel, dead) == ([b"5"] if overflow == "reject-publish-dlx" else [])


# -- priorities


def test_messages_come_by_priority(channel: BlockingChannel, names: Names) -> None:
    queue = declare(channel, names, max_priority=10)
    for priority in (1, 0, 10, 5, 10, None, 200):
        body = str(priority).encode()
        channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
    expected = [b"10", b"10", b"200", b"5", b"1", b"0", b"None"]
    channel.basic_qos(prefetch_count=1)
    inbox = Inbox(channel, queue)
    for count in range(1, 8):
        inbox.wait_for(count)
        channel.basic_ack(inbox.tags[-1])
    assert inbox.bodies == expected


# -- dead letters


def test_a_rejected_message_tells_its_story(channel: BlockingChannel, names: Names) -> None:
    dead = declare(channel, names)
    exchange = names.exchange()
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(dead, exchange)
    queue = declare(channel, names, dead_letter_exchange=exchange)
    channel.basic_publish("", queue, b"1", pika.BasicProperties(headers={"mine": "kept"}, message_id="m"))
    rejected = Inbox(channel, queue)
    rejected.wait_for(1)
    channel.basic_reject(rejected.tags[0], requeue=False)
    inbox = Inbox(channel, dead, auto_ack=True)
    inbox.wait_for(1)
    headers: Any = inbox.properties[0].headers
    (death,) = headers["x-death"]
    assert (death["count"], death["reason"], death["queue"]) == (1, "rejected", queue)
    assert (death["exchange"], death["routing-keys"]) == ("", [queue])
    for which in ("first", "last"):
        told = [headers[f"x-{which}-death-{what}"] for what in ("queue", "reason", "exchange")]
        assert told == [queue, "rejected", ""]
    assert (headers["mine"], inbox.properties[0].message_id) == ("kept", "m")
    assert (inbox.methods[0].exchange, inbox.methods[0].routing_key) == (exchange, queue)
    assert not inbox.methods[0].redelivered


def test_a_retry_by_two_queues_counts_the_attempts(channel: BlockingChannel, names: Names) -> None:
    """The usual way to try again later: reject into a queue whose messages expire back to the first."""
    work = names.queue()
    pause = declare(channel, names, message_ttl=20, dead_letter_exchange="", dead_letter_routing_key=work)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": pause}
    channel.queue_declare(work, arguments=arguments)
    channel.basic_publish("", work, b"job")
    inbox = Inbox(channel, work)
    for attempt in range(1, 4):
        inbox.wait_for(attempt)
        channel.basic_nack(inbox.tags[-1], requeue=False)
    inbox.wait_for(4)
    headers: Any = inbox.properties[-1].headers
    counts = {(death["queue"], death["reason"]): death["count"] for death in headers["x-death"]}
    assert counts == {(work, "rejected"): 3, (pause, "expired"): 3}


@pytest.mark.parametrize(("said", "count"), [("honour", 8), ("ignore", 1)])
def test_a_history_that_a_client_sends_counts_or_not(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch, said: str, count: int
) -> None:
    monkeypatch.setenv("AMQP_BROKER_PROTOCOL_X_DEATH_FROM_CLIENTS", said)
    own_broker.start()
    with RunningBroker(own_broker.port).connect() as connection:
        channel = connection.channel()
        channel.queue_declare("dead")
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        channel.queue_declare("work", arguments=arguments)
        history = [{"count": 7, "reason": "rejected", "queue": "work"}]
        channel.basic_publish("", "work", b"", pika.BasicProperties(headers={"x-death": history}))
        rejected = Inbox(channel, "work")
        rejected.wait_for(1)
        channel.basic_reject(rejected.tags[0], requeue=False)
        dead = Inbox(channel, "dead")
        dead.wait_for(1)
        headers: Any = dead.properties[0].headers
        assert [death["count"] for death in headers["x-death"]] == [count]


# -- redelivery


def test_a_message_that_comes_back_too_often_dies(channel: BlockingChannel, names: Names) -> None:
    dead = declare(channel, names)
    queue = declare(channel, names, delivery_limit=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    channel.basic_publish("", queue, b"poison")
    inbox = Inbox(channel, queue)
    for times in range(1, 4):
        inbox.wait_for(times)
        channel.basic_nack(inbox.tags[-1], requeue=True)
    last = Inbox(channel, dead, auto_ack=True)
    last.wait_for(1)
    assert reasons(last) == [(b"poison", "delivery_limit")]
    counts = [(properties.headers or {}).get("x-delivery-count", 0) for properties in inbox.properties]
    assert counts == [0, 1, 2]


def test_an_overdue_delivery_goes_to_another_consumer_and_a_late_ack_does_no_harm(
    channel: BlockingChannel, connection: pika.BlockingConnection, names: Names
) -> None:
    queue = declare(channel, names, consumer_timeout=200)
    channel.basic_qos(prefetch_count=1)
    slow = Inbox(channel, queue)
    publish_all(channel, queue, [b"1"])
    slow.wait_for(1)
    channel.basic_cancel(slow.tag)
    other = connection.channel()
    quick = Inbox(other, queue)
    # More than once, if this takes too long as well.
    assert set(quick.wait_for(1)) == {b"1"}
    assert quick.methods[0].redelivered
    other.basic_ack(0, multiple=True)
    channel.basic_ack(slow.tags[0])
    settle(channel, queue)
    assert (channel.is_open, ready(channel, queue)) == (True, 0)


def test_a_failed_message_is_tried_again_later_and_others_meanwhile(
    channel: BlockingChannel, names: Names
) -> None:
    def attempt(pace: Pace) -> None:
        queue = declare(channel, names, delayed_retry_min=300, delayed_retry_type="failed")
        inbox = Inbox(channel, queue)
        publish_all(channel, queue, [b"1"])
        inbox.wait_for(1)
        failed = time.monotonic()
        pace.step()
        channel.basic_nack(inbox.tags[0], requeue=True)
        publish_all(channel, queue, [b"2"])
        inbox.wait_for(2)
        pace.step()
        assert inbox.wait_for(3) == [b"1", b"2", b"1"]
        assert time.monotonic() - failed >= 0.29

    in_pace(attempt, 0.29)


# -- deduplication


def test_a_duplicate_is_confirmed_and_not_kept(channel: BlockingChannel, names: Names) -> None:
    queue = declare(channel, names, message_deduplication=True)
    channel.confirm_delivery()
    for body, value in ((b"1", "a"), (b"2", "b"), (b"3", "a")):
        properties = pika.BasicProperties(headers={"x-deduplication-header": value})
        channel.basic_publish("", queue, body, properties, mandatory=True)
    assert ready(channel, queue) == 2
    assert drain(channel, queue) == [b"1", b"2"]
    again = pika.BasicProperties(headers={"x-deduplication-header": "a"})
    channel.basic_publish("", queue, b"4", again)
    assert drain(channel, queue) == [b"4"]


# -- a queue that goes away


def test_a_consumer_is_told_when_its_queue_is_deleted(channel: BlockingChannel, names: Names) -> None:
    queue = declare(channel, names, max_priority=3)
    cancelled: list[object] = []
    channel.add_on_cancel_callback(cancelled.append)
    Inbox(channel, queue)
    channel.connection.channel().queue_delete(queue)
    wait_until(channel.connection, lambda: bool(cancelled), "the cancellation")

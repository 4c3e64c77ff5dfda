"""Days pass in milliseconds: a whole broker and real clients, whose time is moved.

What is to happen after a day has not happened a moment before, and has a moment after.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from amqp_broker.server.admission import CALM
from amqp_broker.server.commits import RETRY, STORE_FAILS
from amqp_broker.server.server import LINGER, SHUTDOWN_PATIENCE, TICK
from tests.conversations.client import eventually
from tests.conversations.codec import HEARTBEAT
from tests.server.blocking import Inbox, drain, publish_all, ready, settle
from tests.server.moved_clock import DAY, HOUR, MINUTE, SECOND, START, MovedBroker

BEGINNING: Final = datetime.datetime.fromtimestamp(START / 1e9, datetime.UTC)
PERSISTENT: Final = 2


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[MovedBroker]:
    with MovedBroker(tmp_path / "data").running() as broker:
        yield broker


@pytest.fixture
def channel(moved: MovedBroker) -> BlockingChannel:
    return confirming(moved)


def confirming(broker: MovedBroker) -> BlockingChannel:
    """A channel whose publishes have arrived when they return."""
    channel = broker.connect().channel()
    channel.confirm_delivery()
    return channel


def declare(channel: BlockingChannel, queue: str, **arguments: Any) -> str:
    """`message_ttl=1` stands for the argument x-message-ttl."""
    given = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    channel.queue_declare(queue, durable=True, arguments=given)
    return queue


def publish(channel: BlockingChannel, queue: str, body: str = "m", **properties: Any) -> None:
    channel.basic_publish(
        "", queue, body.encode(), pika.BasicProperties(delivery_mode=PERSISTENT, **properties)
    )


def exists(broker: MovedBroker, queue: str) -> bool:
    channel = broker.connect().channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as error:
        assert error.reply_code == 404
        return False
    finally:
        channel.connection.close()
    return True


def deaths(channel: BlockingChannel, queue: str) -> list[tuple[str, datetime.timedelta]]:
    """In which queues the next message of this one died, the last first, and how long after the beginning."""
    method, properties, _ = channel.basic_get(queue, auto_ack=True)
    assert method is not None, f"{queue} is empty"
    return [
        (death["queue"], death["time"].replace(tzinfo=datetime.UTC) - BEGINNING)
        for death in properties.headers["x-death"]
    ]


# -- messages expire


def test_a_message_with_a_ttl_of_days_dies_to_the_second(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    declare(channel, "dead")
    declare(channel, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
    publish(channel, "q", expiration=str(milliseconds(3 * DAY)))
    moved.advance(3 * DAY - SECOND)
    assert (ready(channel, "q"), ready(channel, "dead")) == (1, 0)
    moved.advance(SECOND)
    assert (ready(channel, "q"), ready(channel, "dead")) == (0, 1)
    assert deaths(channel, "dead") == [("q", datetime.timedelta(days=3))]


def test_one_move_takes_a_message_through_queues_that_hold_it_for_a_day_each(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    declare(channel, "end")
    for queue, following in (("c", "end"), ("b", "c"), ("a", "b")):
        declare(
            channel,
            queue,
            message_ttl=milliseconds(DAY),
            dead_letter_exchange="",
            dead_letter_routing_key=following,
        )
    publish(channel, "a")
    moved.advance(10 * DAY)
    assert dict(deaths(channel, "end")) == {
        "a": datetime.timedelta(days=1),
        "b": datetime.timedelta(days=2),
        "c": datetime.timedelta(days=3),
    }


def test_messages_of_a_queue_with_a_ttl_leave_it_one_by_one(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    declare(channel, "q", message_ttl=milliseconds(7 * DAY))
    for day in range(7):
        publish(channel, "q", f"of day {day}")
        moved.advance(DAY)
    assert [ready(channel, "q"), *(left_a_day_later(moved, channel) for _ in range(6))] == [
        6,
        5,
        4,
        3,
        2,
        1,
        0,
    ]


def left_a_day_later(broker: MovedBroker, channel: BlockingChannel) -> int:
    broker.advance(DAY)
    return ready(channel, "q")


def test_the_sleep_of_the_machine_counts(moved: MovedBroker, channel: BlockingChannel) -> None:
    declare(channel, "q", message_ttl=milliseconds(DAY))
    publish(channel, "q")
    moved.clock.sleep_machine(DAY)
    moved.advance(TICK)
    assert ready(channel, "q") == 0


# -- queues expire


def test_a_queue_that_nobody_uses_is_deleted(moved: MovedBroker, channel: BlockingChannel) -> None:
    declare(channel, "q", expires=milliseconds(2 * DAY))
    moved.advance(2 * DAY + SECOND)
    assert not exists(moved, "q")


def test_each_use_of_a_queue_gives_it_its_whole_time_again(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    declare(channel, "q", expires=milliseconds(2 * DAY))
    moved.advance(DAY + HOUR)
    declare(channel, "q", expires=milliseconds(2 * DAY))
    moved.advance(DAY + HOUR)
    assert drain(channel, "q") == []
    moved.advance(DAY + HOUR)
    # Asking whether it is there is a use as well.
    assert exists(moved, "q")
    moved.advance(2 * DAY + SECOND)
    assert not exists(moved, "q")


def test_a_queue_with_a_consumer_stays_until_that_is_gone_for_so_long(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    inbox = Inbox(channel, declare(channel, "q", expires=milliseconds(HOUR)))
    moved.advance(30 * DAY)
    channel.basic_cancel(inbox.tag)
    moved.advance(HOUR - SECOND)
    assert exists(moved, "q")
    moved.advance(HOUR + SECOND)
    assert not exists(moved, "q")


# -- messages come later


def test_delays_of_days_end_in_the_order_of_their_times(moved: MovedBroker, channel: BlockingChannel) -> None:
    channel.exchange_declare("later", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    channel.queue_bind(declare(channel, "q"), "later")
    for days in (20, 3, 11):
        delay = pika.BasicProperties(headers={"x-delay": milliseconds(days * DAY)})
        channel.basic_publish("later", "", b"after %d days" % days, delay)
    moved.advance(3 * DAY - SECOND)
    assert drain(channel, "q") == []
    moved.advance(SECOND)
    assert drain(channel, "q") == [b"after 3 days"]
    moved.advance(30 * DAY)
    assert drain(channel, "q") == [b"after 11 days", b"after 20 days"]


def test_what_was_rejected_waits_longer_each_time(moved: MovedBroker, channel: BlockingChannel) -> None:
    declare(channel, "q", delayed_retry_min=milliseconds(6 * HOUR), delayed_retry_multiplier=2)
    publish(channel, "q")
    for hours in (6, 12, 24, 48):
        method, _, _ = channel.basic_get("q")
        channel.basic_nack(method.delivery_tag)
        assert ready(channel, "q") == 0
        moved.advance(hours * HOUR - SECOND)
        assert ready(channel, "q") == 0
        moved.advance(SECOND)
        assert ready(channel, "q") == 1


# -- deliveries that are not settled


def test_a_lease_of_a_day_runs_out_and_somebody_else_gets_the_message(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    declare(channel, "q", consumer_timeout=milliseconds(DAY))
    publish(channel, "q", "job")
    hangs = confirming(moved)
    assert hangs.basic_get("q")[2] == b"job"
    moved.advance(DAY - SECOND)
    assert ready(channel, "q") == 0
    moved.advance(SECOND)
    method, _, body = channel.basic_get("q", auto_ack=True)
    assert (body, method.redelivered) == (b"job", True)


def test_a_consumer_has_a_whole_lease_for_what_it_was_given_after_days(
    moved: MovedBroker, channel: BlockingChannel
) -> None:
    inbox = Inbox(channel, declare(channel, "q", consumer_timeout=milliseconds(HOUR)))
    settle(channel, "q")
    moved.advance(5 * DAY)
    publish(channel, "q", "job")
    inbox.wait_for(1)
    moved.advance(HOUR - SECOND)
    channel.basic_ack(inbox.tags[0])
    settle(channel, "q")
    moved.advance(DAY)
    settle(channel, "q")
    assert inbox.bodies == [b"job"]


def test_a_channel_that_does_not_acknowledge_for_days_is_closed(tmp_path: Path) -> None:
    with MovedBroker(tmp_path / "data", consumer_timeout=2 * DAY).running() as moved:
        channel, other = moved.connect().channel(), confirming(moved)
        declare(other, "q")
        publish(other, "q", "job")
        assert channel.basic_get("q")[2] == b"job"
        moved.advance(2 * DAY - SECOND)
        assert ready(other, "q") == 0
        moved.advance(HOUR)
        with pytest.raises(
            ChannelClosedByBroker, match="delivery acknowledgement on channel 1 timed out"
        ) as end:
            channel.queue_declare("q", passive=True)
        assert end.value.reply_code == 406
        assert drain(other, "q") == [b"job"]


# -- peers


def test_a_silent_client_is_cut_off_after_two_heartbeats_and_one_that_talks_is_not(
    moved: MovedBroker,
) -> None:
    silent, living = moved.dial(heartbeat=60), moved.dial(heartbeat=60)
    moved.advance(MINUTE)
    living.send_frame(HEARTBEAT, 0, b"")
    moved.has_heard(living)
    moved.advance(MINUTE - 1)
    silent.receive_heartbeat(1)
    assert sessions(moved) == 2
    moved.advance(1 + TICK)
    assert sessions(moved) == 1
    living.is_alive()


def sessions(broker: MovedBroker) -> int:
    """How many connections have not ended."""
    return broker.look(lambda server: sum(not client.connection.finished for client in server.clients))


def test_a_client_that_beats_lives_for_days(moved: MovedBroker) -> None:
    client = moved.dial(heartbeat=3600)
    for _ in range(2 * 24):
        moved.advance(HOUR)
        client.send_frame(HEARTBEAT, 0, b"")
        moved.has_heard(client)
    client.is_alive()


def test_the_broker_beats_twice_in_each_interval(moved: MovedBroker) -> None:
    client = moved.dial(heartbeat=60)
    for _ in range(6):
        moved.advance(MINUTE / 2 + TICK)
        client.receive_heartbeat(1)
        client.send_frame(HEARTBEAT, 0, b"")
        moved.has_heard(client)


def test_a_client_that_slept_with_the_machine_is_not_missed(moved: MovedBroker) -> None:
    client = moved.dial(heartbeat=60)
    moved.clock.sleep_machine(8 * HOUR)
    moved.advance(MINUTE)
    client.is_alive()


def test_who_does_not_log_in_is_cut_off_after_ten_seconds(moved: MovedBroker) -> None:
    client = moved.dial_silently()
    eventually(lambda: sessions(moved), 1)
    moved.advance(10 * SECOND - TICK)
    assert sessions(moved) == 1
    moved.advance(2 * TICK)
    client.is_closed()


def test_who_does_not_take_what_is_left_for_it_is_cut_off_all_the_same(moved: MovedBroker) -> None:
    other, client = moved.dial().channel(), moved.dial(heartbeat=60)
    queue = other.declare("q")
    # More than the buffers between two sockets hold.
    other.publish(bytes(32 << 20), routing_key=queue)
    other.counts_become(queue, 1, 0)
    client.channel().send("basic.get", queue=queue, no_ack=True)
    other.counts_become(queue, 0, 0)
    moved.advance(2 * MINUTE + TICK)
    assert (sessions(moved), moved.look(lambda server: len(server.clients))) == (1, 2)
    moved.advance(LINGER)
    assert moved.look(lambda server: len(server.clients)) == 2
    moved.advance(2 * TICK)
    assert moved.look(lambda server: len(server.clients)) == 1


def test_the_end_of_the_broker_waits_a_little_for_a_client_that_does_not_answer(moved: MovedBroker) -> None:
    client = moved.dial()
    moved.look(lambda server: server.stop())
    client.expect("connection.close", reply_code=320)
    moved.advance(SHUTDOWN_PATIENCE - SECOND)
    assert moved.look(lambda server: len(server.clients)) == 1
    moved.advance(SECOND)
    client.is_closed()


def test_connections_are_called_accepted_again_when_nobody_was_refused_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with MovedBroker(tmp_path / "data", connection_max=1).running() as moved:
        moved.dial()
        moved.dial_silently().is_closed()
        moved.advance(CALM - SECOND)
        assert "accepted again" not in caplog.text
        moved.advance(SECOND + TICK)
        assert "connections are accepted again; 1 were refused" in caplog.text


# -- the disk


def test_a_batch_that_the_store_refused_is_tried_again_after_a_second(moved: MovedBroker) -> None:
    channel = moved.dial().channel()
    channel.declare("q", durable=True)
    channel.call("confirm.select")
    away = moved.directory.with_name("away")
    moved.directory.rename(away)
    channel.publish("m", routing_key="q", delivery_mode=PERSISTENT)
    eventually(lambda: failing(moved), STORE_FAILS)
    away.rename(moved.directory)
    moved.advance(RETRY - 0.001)
    assert failing(moved) == STORE_FAILS
    moved.advance(0.001)
    channel.expect("basic.ack", delivery_tag=1)
    assert failing(moved) is None


def failing(broker: MovedBroker) -> str | None:
    return broker.look(lambda server: server._commits.failing)


def test_alarms_are_looked_at_twice_a_second(moved: MovedBroker) -> None:
    publisher = moved.dial()
    channel = publisher.channel()
    away = moved.directory.with_name("away")
    moved.directory.rename(away)
    moved.advance(TICK)
    channel.publish("m")
    publisher.expect("connection.blocked", reason="the data directory is missing")
    away.rename(moved.directory)
    moved.advance(TICK)
    publisher.expect("connection.unblocked")


# -- the wall clock

STEPS: Final = [6 * HOUR, -6 * HOUR, 400 * DAY, -400 * DAY]


@pytest.mark.parametrize("by", STEPS)
def test_a_wall_clock_that_is_set_makes_nothing_noticeably_earlier_or_later(
    moved: MovedBroker, channel: BlockingChannel, by: float
) -> None:
    declare(channel, "dying", message_ttl=milliseconds(10 * HOUR))
    declare(channel, "leased", consumer_timeout=milliseconds(10 * HOUR))
    declare(channel, "unused", expires=milliseconds(10 * HOUR))
    channel.exchange_declare("later", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    channel.queue_bind(declare(channel, "delayed"), "later")
    publish_all(channel, "dying", ["m"])
    publish_all(channel, "leased", ["m"])
    delay = pika.BasicProperties(headers={"x-delay": milliseconds(10 * HOUR)})
    channel.basic_publish("later", "", b"m", delay)
    confirming(moved).basic_get("leased")

    moved.clock.set_wall(by)
    moved.advance(9.5 * HOUR)
    assert [ready(channel, queue) for queue in ("dying", "leased", "delayed")] == [1, 0, 0]
    assert moved.look(lambda server: "unused" in server.broker.vhosts["/"].queues)
    moved.advance(HOUR)
    assert [ready(channel, queue) for queue in ("dying", "leased", "delayed")] == [0, 1, 1]
    assert not exists(moved, "unused")


def test_the_log_tells_once_that_the_wall_clock_was_set(
    moved: MovedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    moved.advance(MINUTE)
    moved.clock.set_wall(-3 * HOUR)
    moved.advance(DAY)
    (line,) = [record for record in caplog.records if "wall clock" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith(
        "the wall clock was set back by 10800.0 s: the broker's time is 10800.0 s ahead"
    )


def test_after_a_restart_times_count_by_the_wall_clock(tmp_path: Path) -> None:
    broker = MovedBroker(tmp_path / "data")
    with broker.running() as moved:
        channel = confirming(moved)
        for days in (1, 3):
            publish(channel, declare(channel, f"for {days} days", message_ttl=milliseconds(days * DAY)))
        channel.connection.close()
        # The broker follows by an hour or so, what it has stored not at all.
        moved.clock.set_wall(DAY)
        moved.advance(HOUR)
        assert ready(confirming(moved), "for 1 days") == 1
    with MovedBroker(tmp_path / "data", broker.clock).running() as moved:
        channel = confirming(moved)
        assert [ready(channel, f"for {days} days") for days in (1, 3)] == [0, 1]
        moved.advance(2 * DAY - 2 * HOUR)
        assert ready(channel, "for 3 days") == 1
        moved.advance(HOUR + MINUTE)
        assert ready(channel, "for 3 days") == 0

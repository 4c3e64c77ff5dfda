"""One client's socket, with the socket left out: when it is not read, when it is again, and what that costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import anyio
import pytest

from tests.conversations.client import Channel
from tests.server.wire import Line, Service

MIB = 1 << 20
MESSAGES = 24


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data")
    yield service
    anyio.run(service.close)


@pytest.fixture
def other(service: Service) -> Channel:
    """Somebody who reads what he gets."""
    return service.dial().open().channel()


@pytest.fixture
def line(service: Service) -> Line:
    return service.dial()


@pytest.fixture
def channel(line: Line) -> Channel:
    return line.open().channel()


def fill(channel: Channel, queue: str, count: int = MESSAGES) -> None:
    """A queue with messages of 1 MiB that begin with their numbers."""
    channel.declare(queue)
    publish_large(channel, queue, count)


def publish_large(channel: Channel, queue: str, count: int = MESSAGES) -> None:
    for number in range(count):
        channel.publish(b"%08d" % number + bytes(MIB - 8), routing_key=queue)


def ask(channel: Channel, queue: str, count: int) -> Iterator[int]:
    """Ask for a message, as often as that, and read no answer."""
    for number in range(count):
        channel.send("basic.get", queue=queue, no_ack=True)
        yield number


def ask_until_unread(line: Line, channel: Channel, queue: str) -> int:
    """Ask for messages and read no answer, until the broker reads no question; returns how many it has read."""
    for number in ask(channel, queue, MESSAGES):
        if not line.transport.reading:
            return number + 1
    raise AssertionError("the broker reads on")


def silence(line: Line) -> None:
    """The last word of this client is an hour old."""
    line.connection.last_received = monotonic() - 3600


def reads(line: Line) -> bool:
    """Whether the broker reads from this client."""
    return line.transport.reading


def is_missed(line: Line) -> bool:
    """Whether the next tick ends it."""
    line.connection.tick(monotonic())
    return line.connection.finished


# -- replies that nobody reads


def test_who_does_not_read_its_replies_is_not_read(line: Line, channel: Channel, other: Channel) -> None:
    fill(other, "q")
    for _ in ask(channel, "q", MESSAGES):
        continue
    assert line.unread
    assert other.counts("q")[0] > MESSAGES // 2


def test_what_is_held_for_a_client_that_does_not_read_has_a_limit(
    service: Service, line: Line, channel: Channel, other: Channel
) -> None:
    fill(other, "q")
    one_turn = MIB + 1024
    bound = 2 * service.config.limits.output_high_watermark + one_turn
    held = [(line.connection.output_size, len(line.transport.unsent)) for _ in ask(channel, "q", MESSAGES)]
    assert max(output for output, _ in held) <= bound
    assert max(unsent for _, unsent in held) <= bound


def test_all_is_answered_in_order_once_the_client_reads(line: Line, channel: Channel, other: Channel) -> None:
    fill(other, "q")
    for _ in ask(channel, "q", MESSAGES):
        continue
    channel.send("basic.get", queue="q", no_ack=True)
    answers = [channel.expect("basic.get-ok") for _ in range(MESSAGES)]
    assert [int(answer.body[:8]) for answer in answers] == list(range(MESSAGES))
    channel.expect("basic.get-empty")
    assert not line.unread


def test_others_go_on_while_a_client_is_not_read(line: Line, channel: Channel, other: Channel) -> None:
    fill(other, "q")
    ask_until_unread(line, channel, "q")
    assert other.get("q") is not None
    other.publish("m", routing_key=other.declare("r"))
    assert other.drain("r") == ["m"]


def test_a_client_that_reads_a_little_is_read_until_too_much_waits_again(
    line: Line, channel: Channel, other: Channel
) -> None:
    fill(other, "q")
    asked = ask_until_unread(line, channel, "q")
    channel.expect("basic.get-ok")
    assert reads(line)
    assert ask_until_unread(line, channel, "q") <= asked
    assert line.connection.output_size > 0


# -- deliveries that nobody reads


def test_who_does_not_read_on_is_read_for_what_it_acknowledges(
    line: Line, channel: Channel, other: Channel
) -> None:
    # As a client does whose reading waits for those who work on what it has read.
    other.declare("q")
    channel.consume("q")
    publish_large(other, "q")
    assert line.connection.saturated
    queue = line.connection.vhost.queues["q"]
    delivered = queue.unacked
    assert 0 < delivered < MESSAGES
    for delivery_tag in range(1, delivered + 1):
        assert reads(line)
        channel.send("basic.ack", delivery_tag=delivery_tag)
    assert queue.unacked == 0
    assert queue.ready_count() == MESSAGES - delivered


def test_what_it_asks_for_besides_has_a_limit(line: Line, channel: Channel, other: Channel) -> None:
    other.declare("q")
    channel.consume("q")
    publish_large(other, "q")
    fill(other, "r")
    assert line.connection.saturated
    assert ask_until_unread(line, channel, "r") <= 3


# -- heartbeats of those who are not read


def test_a_client_that_is_not_read_is_not_missed(line: Line, channel: Channel, other: Channel) -> None:
    fill(other, "q")
    ask_until_unread(line, channel, "q")
    silence(line)
    assert not is_missed(line)


def test_a_client_that_is_read_again_has_time_to_be_heard(
    line: Line, channel: Channel, other: Channel
) -> None:
    fill(other, "q")
    asked = ask_until_unread(line, channel, "q")
    silence(line)
    for _ in range(asked):
        channel.expect("basic.get-ok")
    assert reads(line)
    assert not is_missed(line)
    silence(line)
    assert is_missed(line)


def test_a_publisher_is_not_missed_during_an_alarm_nor_right_after_it(
    service: Service, line: Line, channel: Channel
) -> None:
    service.raise_alarm()
    channel.publish("m")
    assert not reads(line)
    silence(line)
    assert not is_missed(line)
    service.clear_alarm()
    assert reads(line)
    assert not is_missed(line)
    silence(line)
    assert is_missed(line)


# -- alarms


def test_an_alarm_holds_back_who_publishes_and_nobody_else(
    service: Service, line: Line, channel: Channel, other: Channel
) -> None:
    queue = other.declare("q")
    service.raise_alarm()
    for body in ("1", "2", "3"):
        channel.publish(body, routing_key=queue)
    assert line.unread
    assert other.drain(queue) == []
    service.clear_alarm()
    channel.client.expect("connection.blocked", reason="low on disk")
    channel.client.expect("connection.unblocked")
    assert other.drain(queue) == ["1", "2", "3"]


@pytest.mark.parametrize("size", [0, 10, MIB])
def test_an_alarm_holds_back_the_first_message_of_all_also_of_who_published_before(
    service: Service, line: Line, channel: Channel, other: Channel, size: int
) -> None:
    queue = other.declare("q")
    channel.call("confirm.select")
    for _ in range(3):
        channel.publish(bytes(size), routing_key=queue)
    assert channel.outcomes(3) == ["ack"] * 3
    newcomer = service.dial()
    fresh = newcomer.open().channel()
    for again in range(2):
        service.raise_alarm()
        channel.publish(bytes(size), routing_key=queue)
        fresh.publish(bytes(size), routing_key=queue)
        assert other.counts(queue) == (3 + 2 * again, 0)
        assert line.connection.paused
        assert newcomer.connection.paused
        service.clear_alarm()
        for each in (line, newcomer):
            each.send(b"")
        assert other.counts(queue) == (5 + 2 * again, 0)
        for client in (channel.client, fresh.client):
            client.expect("connection.blocked")
            client.expect("connection.unblocked")
        assert channel.outcomes(1, 4 + again) == ["ack"]


def test_what_is_no_publish_is_done_before_it_during_an_alarm(
    service: Service, channel: Channel, other: Channel
) -> None:
    queue = other.declare("q")
    service.raise_alarm()
    assert channel.declare("another") == "another"
    channel.publish("m", routing_key=queue)
    channel.send("queue.declare", queue="later")
    assert "later" not in service.broker.vhosts["/"].queues
    service.clear_alarm()
    channel.client.expect("connection.blocked")
    channel.client.expect("connection.unblocked")
    channel.expect("queue.declare-ok")


def test_the_end_of_an_alarm_is_no_reason_to_read_from_who_does_not_read(
    service: Service, line: Line, channel: Channel, other: Channel
) -> None:
    fill(other, "q")
    service.raise_alarm()
    asked = ask_until_unread(line, channel, "q")
    service.clear_alarm()
    assert not reads(line)
    for _ in range(asked):
        channel.expect("basic.get-ok")
    assert reads(line)


def test_a_client_that_reads_stays_held_back_by_the_alarm(
    service: Service, line: Line, channel: Channel, other: Channel
) -> None:
    fill(other, "q")
    asked = ask_until_unread(line, channel, "q")
    service.raise_alarm()
    channel.publish("m")
    for _ in range(asked):
        channel.expect("basic.get-ok")
    # Its publish, which had to wait, is what the alarm holds it back for.
    channel.client.expect("connection.blocked")
    assert not reads(line)
    service.clear_alarm()
    channel.client.expect("connection.unblocked")
    assert reads(line)


def test_a_peer_on_this_machine_is_not_paced_where_that_can_be_chosen(line: Line) -> None:
    chosen = [value for _, _, value in line.transport.socket.options]
    assert chosen == ([b"reno"] if sys.platform == "linux" else [])

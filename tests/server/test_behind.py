"""Turns that are too short for what came: who is read meanwhile, who waits for whom, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import anyio
import pytest

from amqp_broker.server.behind import Behind
from amqp_broker.server.client import RECEIVE, STRANGERS
from tests.conversations.client import PROTOCOL_HEADER, Channel
from tests.conversations.codec import METHOD, Frame, encode_method
from tests.server.wire import Line, Service

FLOW = Frame(METHOD, 1, encode_method("channel.flow", {"active": True})).encoded()
FLOWS = 500


class Looks:
    """The event loop between two looks at its sockets: what is to be called after the next one."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def later(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def next(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()

    def all(self) -> int:
        """Go on until nothing is left; how many looks that took."""
        count = 0
        while self.due:
            self.next()
            count += 1
        return count


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def service(tmp_path: Path, looks: Looks) -> Iterator[Service]:
    """A broker whose turns are over as soon as it looks at its clock."""
    service = Service(tmp_path / "data")
    service.behind = Behind(looks.later)
    service.session_settings.turn_time = 0.0
    yield service
    anyio.run(service.close)


def opened(service: Service) -> tuple[Line, Channel]:
    line = service.dial()
    return line, line.open().channel()


def answers(line: Line) -> int:
    """How many flow-oks the client has got, all others read before."""
    return line.transport.take().count(encode_method("channel.flow-ok", {"active": True}))


def test_what_is_too_much_for_a_turn_is_done_in_several(service: Service, looks: Looks) -> None:
    line, _ = opened(service)
    line.send(FLOW * FLOWS)
    first = answers(line)
    assert 0 < first < FLOWS
    assert looks.all() > 10
    assert first + answers(line) == FLOWS


def test_who_is_behind_is_not_read_until_it_has_caught_up(service: Service, looks: Looks) -> None:
    line, _ = opened(service)
    line.send(FLOW * FLOWS)
    assert not line.transport.reading
    line.send(FLOW)
    assert line.unread
    looks.all()
    assert line.transport.reading
    line.send(b"")
    assert answers(line) == FLOWS + 1


def test_others_have_their_turns_between_two_of_its(service: Service, looks: Looks) -> None:
    line, _ = opened(service)
    _, channel = opened(service)
    line.send(FLOW * FLOWS)
    queue = channel.declare("q")
    for number in range(10):
        assert looks.due, "it has caught up already"
        channel.publish(f"{number}", routing_key=queue)
        message = channel.get(queue)
        assert message is not None
        assert message.body == b"%d" % number
        looks.next()


def test_of_those_who_are_behind_one_has_a_turn_at_a_time(service: Service, looks: Looks) -> None:
    lines = [opened(service)[0] for _ in range(5)]
    for line in lines:
        line.send(FLOW * FLOWS)
        answers(line)
    for _ in range(3):
        for at in range(len(lines)):
            looks.next()
            assert [other for other, line in enumerate(lines) if answers(line)] == [at]
    looks.all()


def test_who_waits_for_its_next_turn_is_not_missed(service: Service, looks: Looks) -> None:
    line = service.dial()
    line.open().channel()
    connection = line.connection
    connection.heartbeat = 600
    line.send(FLOW * FLOWS)
    connection.last_received = monotonic() - 3600
    connection.tick(monotonic())
    assert not connection.finished
    looks.all()
    connection.tick(monotonic())
    assert not connection.finished
    connection.last_received = monotonic() - 3600
    connection.tick(monotonic())
    assert connection.close_reason == "missed heartbeats from client, timeout: 600s"


def test_who_leaves_while_it_is_behind_is_forgotten(service: Service, looks: Looks) -> None:
    line, _ = opened(service)
    line.send(FLOW * FLOWS)
    line.close()
    assert looks.all() <= 1
    assert line.client not in service.clients


def test_an_error_in_what_was_left_ends_the_connection(service: Service, looks: Looks) -> None:
    line, _ = opened(service)
    line.send(FLOW * FLOWS + b"\x09\x00\x00\x00\x00\x00\x00\xce" + FLOW)
    looks.all()
    assert b"FRAME_ERROR" in line.transport.take()


def test_an_alarm_stops_who_publishes_also_in_the_middle_of_what_it_sent(
    service: Service, looks: Looks
) -> None:
    line, channel = opened(service)
    queue = channel.declare("q")
    looks.all()
    publish = Frame(METHOD, 1, encode_method("basic.publish", {"routing_key": queue})).encoded()
    message = publish + Frame(2, 1, b"\0\x3c\0\0" + bytes(8) + b"\0\0").encoded()
    service.raise_alarm()
    line.send(message * FLOWS)
    held = service.broker.vhosts["/"].queues[queue].ready_count()
    assert held < FLOWS
    assert looks.all() <= 1
    assert service.broker.vhosts["/"].queues[queue].ready_count() == held
    service.clear_alarm()
    looks.all()
    assert service.broker.vhosts["/"].queues[queue].ready_count() == FLOWS


def test_a_full_read_is_followed_by_a_look_at_the_others(service: Service, looks: Looks) -> None:
    service.session_settings.turn_time = float("inf")
    line, _ = opened(service)
    beat = b"\x08\x00\x00\x00\x00\x00\x00\xce"
    line.send(beat * (RECEIVE // len(beat)) + FLOW)
    assert (line.transport.reading, line.unread) == (False, True)
    looks.all()
    assert line.transport.reading
    line.send(b"")
    assert answers(line) == 1


def test_little_is_read_at_once_from_who_is_not_let_in(service: Service, looks: Looks) -> None:
    line = service.dial()
    line.send(PROTOCOL_HEADER + b"\x08\x00\x00\x00\x00\x00\x00\xce" * 100_000)
    assert not line.transport.reading
    while line.unread:
        assert len(line.connection.reader.rest) < STRANGERS
        assert looks.all() > 0
        line.send(b"")
    assert not line.connection.finished

"""Heartbeats: the broker's own, and what becomes of a client that has none."""

from __future__ import annotations

import time

from .client import DEADLINE, Client
from .codec import HEARTBEAT
from .conftest import Connect
from .pace import Pace, in_pace

# A client that is not heard for two seconds is ended: what takes longer from step to step says nothing.
TOO_LONG = 1.5


def test_the_broker_sends_heartbeats_when_it_has_nothing_else_to_send(connect: Connect) -> None:
    def attempt(pace: Pace) -> None:
        client = connect(heartbeat=1)
        for _ in range(2):
            client.receive_heartbeat(DEADLINE)
            pace.step()

    in_pace(attempt, TOO_LONG)


def test_a_client_that_sends_heartbeats_is_kept_and_one_that_does_not_is_cut_off(connect: Connect) -> None:
    def attempt(pace: Pace) -> None:
        since, beats = time.monotonic(), 0
        silent, living = connect(heartbeat=1), connect(heartbeat=1)
        while not ended(silent):
            beats += 1
            living.send_frame(HEARTBEAT, 0, b"")
            pace.step()
            assert not ended(living)
        # the broker has sent some itself by then
        assert beats >= 2
        lasted = time.monotonic() - since
        # two intervals without a word are enough, and one is not
        assert 1.0 < lasted < 15.0
        living.is_alive()

    in_pace(attempt, TOO_LONG)


def test_any_frame_is_as_good_as_a_heartbeat(connect: Connect) -> None:
    def attempt(pace: Pace) -> None:
        client, silent = connect(heartbeat=1), connect(heartbeat=1)
        while not ended(silent):
            client.is_alive()
            pace.step()
            client.receive_heartbeat(DEADLINE)
        client.is_alive()

    in_pace(attempt, TOO_LONG)


def test_without_an_interval_there_are_no_heartbeats(connect: Connect, client: Client) -> None:
    def attempt(pace: Pace) -> None:
        without, beating = connect(heartbeat=0), connect(heartbeat=1)
        for _ in range(3):
            beating.receive_heartbeat(DEADLINE)
            beating.send_frame(HEARTBEAT, 0, b"")
            pace.step()
        without.send(3, "channel.open")
        assert without.receive_frame_name(DEADLINE) == "channel.open-ok"

    in_pace(attempt, TOO_LONG)
    assert client.tune["heartbeat"] == 60


def ended(client: Client) -> bool:
    """Whether the connection is over; takes until the next thing that comes on it."""
    return client.receive_frame_name(DEADLINE) is None

"""Input that is kept unhandled for a while: how much of it, and what is said of too much."""

from __future__ import annotations

import pytest

from amqp_broker.errors import HardError
from amqp_broker.wire.reader import FrameReader
from tests.conversations.codec import HEARTBEAT, Frame
from tests.wire.recorder import Recorder, octet_by_octet

MOST = 100
BEATS = Frame(HEARTBEAT, 0, b"").encoded() * 20


def holding() -> FrameReader:
    reader = FrameReader(Recorder(), 4096, 4096)
    reader.hold(MOST)
    return reader


@pytest.mark.parametrize("size", [1, 7, 99, 160])
def test_too_much_of_it_is_answered_alike_whatever_pieces_it_comes_in(size: int) -> None:
    reader = holding()
    with pytest.raises(HardError) as refused:
        for at in range(0, len(BEATS), size):
            reader.feed(BEATS[at : at + size])
    assert refused.value.text == "FRAME_ERROR - type 8, all octets = <<>>: {not_heard_yet,100}"
    assert reader.rest == b""


def test_as_much_as_there_is_room_for_is_handled_afterwards() -> None:
    reader = holding()
    for octet in octet_by_octet(BEATS[:MOST]):
        reader.feed(octet)
    assert reader.rest == BEATS[:MOST]
    reader.hold(0)
    reader.feed(b"")
    assert reader.rest == BEATS[: MOST % 8]

"""Long body frames with something wrong: what is kept of them while they come, and what is said at their end."""

from __future__ import annotations

import pytest

from amqp_broker.errors import HardError
from amqp_broker.wire.reader import STREAMED_FRAME, FrameReader
from tests.conversations.codec import BODY, HEADER, METHOD, Frame, encode_header, encode_method
from tests.wire.recorder import Recorder

PUBLISH = Frame(METHOD, 1, encode_method("basic.publish", {"routing_key": "q"})).encoded()
HEADER_OF_5 = Frame(HEADER, 1, encode_header(5, {})).encoded()
LONG = Frame(BODY, 1, bytes(STREAMED_FRAME + 1)).encoded()
PLACES = (7, 8, 100, STREAMED_FRAME, len(LONG) - 2, len(LONG) - 1)


def answer(pieces: list[bytes]) -> str:
    reader = FrameReader(Recorder(), 131072, 1 << 27)
    with pytest.raises(HardError) as raised:
        for piece in pieces:
            reader.feed(piece)
    return raised.value.text


def test_nothing_is_kept_of_a_body_that_is_longer_than_its_header_says() -> None:
    reader = FrameReader(Recorder(), 131072, 1 << 27)
    reader.feed(PUBLISH + HEADER_OF_5 + LONG[:-2])
    assert reader.contents[1].chunks == []
    assert not reader.contents[1].loose
    assert reader.rest == b""


@pytest.mark.parametrize("header", [HEADER_OF_5, Frame(HEADER, 1, encode_header(50_000, {})).encoded()])
@pytest.mark.parametrize("place", PLACES)
def test_a_long_body_frame_that_ends_wrongly_is_answered_alike_wherever_it_is_split(
    header: bytes, place: int
) -> None:
    wrong = LONG[:-1] + b"\xcd"
    start = PUBLISH + header
    whole = answer([start + wrong])
    assert whole == "FRAME_ERROR - type 3, all octets = <<>>: {invalid_frame_end_marker,205}"
    assert answer([start + wrong[:place], wrong[place:]]) == whole


@pytest.mark.parametrize("place", PLACES)
def test_a_long_body_frame_that_is_too_long_is_answered_alike_wherever_it_is_split(place: int) -> None:
    start = PUBLISH + HEADER_OF_5
    whole = answer([start + LONG])
    assert whole == "FRAME_ERROR - body is longer than the 5 octets its header announced"
    assert answer([start + LONG[:place], LONG[place:]]) == whole

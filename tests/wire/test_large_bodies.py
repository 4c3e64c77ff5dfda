"""Large bodies received where they stay: a handler hears the same as by the ordinary way, and nothing is copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.errors import HardError
from amqp_broker.wire.methods import FRAME_OVERHEAD
from amqp_broker.wire.reader import LARGE_BODY, FrameReader, Publish
from tests.conversations.codec import BODY, Frame
from tests.wire.recorder import Call, Conversation, Recorder, calls_for

FRAME_MAX = 131072
LARGEST_PAYLOAD = FRAME_MAX - FRAME_OVERHEAD


def pattern(size: int) -> bytes:
    return bytes(range(251)) * (size // 251 + 1)


def frames_of(body: bytes, payload: int = LARGEST_PAYLOAD) -> list[bytes]:
    return [body[at : at + payload] for at in range(0, len(body), payload)]


def uploads() -> Conversation:
    """Large and small messages of one publisher, on two channels, with frames of several sizes."""
    said = Conversation()
    body = pattern(LARGE_BODY + 200_000)[: LARGE_BODY + 200_000]
    said.message(1, "a", *frames_of(body)).message(1, "a", b"small").heartbeat()
    said.message(1, "a", *frames_of(body, 100_000)).method(1, "basic.ack", delivery_tag=7)
    said.message(2, "b", *frames_of(body, 5000)).message(1, "a", *frames_of(body[:-1]))
    said.publish(1, "a").publish(2, "b").header(1, len(body)).header(2, len(body))
    for frame in frames_of(body):
        said.body(1, frame).body(2, frame)
    return said.arrives(1, "a", body).arrives(2, "b", body).message(1, "a", b"last")


UPLOADS = uploads()


def as_a_server_does(reader: FrameReader, octets: bytes, sizes: list[int]) -> None:
    """Feed the octets as sockets give them, at most `sizes` at a time, large bodies as views of their own."""
    at = turn = 0
    while at < len(octets):
        due = reader.body_due()
        size = sizes[turn % len(sizes)]
        turn += 1
        if due:
            piece = octets[at : at + min(due, size)]
            reader.feed_body(memoryview(bytearray(piece)))
        else:
            piece = octets[at : at + size]
            reader.feed(piece)
        at += len(piece)


def heard(octets: bytes, sizes: list[int]) -> list[Call]:
    recorder = Recorder()
    as_a_server_does(FrameReader(recorder, FRAME_MAX, 1 << 27), octets, sizes)
    return recorder.calls


def test_the_plain_way_hears_what_was_said() -> None:
    assert calls_for([UPLOADS.octets], FRAME_MAX) == UPLOADS.calls


@pytest.mark.parametrize("size", [4096, 65536, 131072, 262144, 1 << 20, 1 << 24])
def test_large_bodies_are_heard_as_they_were_said(size: int) -> None:
    assert heard(UPLOADS.octets, [size]) == UPLOADS.calls


@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 20_000))
def test_large_bodies_in_any_pieces_are_heard_as_they_were_said(sizes: list[int]) -> None:
    assert heard(UPLOADS.octets, sizes) == UPLOADS.calls


def test_what_is_due_is_the_rest_of_the_message_and_no_octet_of_the_next() -> None:
    said = Conversation().message(1, "a", *frames_of(pattern(400_000)[:400_000]))
    reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
    for at in (300, 131_073, 140_000, 262_500, 399_999):
        reader.stop()
        reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
        reader.feed(said.octets[:at])
        if reader.body_due():
            assert at + reader.body_due() == len(said.octets), at


def test_nothing_is_due_of_a_body_that_is_not_large_nor_between_messages() -> None:
    small = Conversation().message(1, "a", *frames_of(b"x" * LARGE_BODY))
    reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
    reader.feed(small.octets[:300])
    assert reader.body_due() == 0
    reader.feed(small.octets[300:])
    assert reader.body_due() == 0


class Keeper(Recorder):
    """Keeps the pieces of each body as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Piece] = []

    def message_received(
        self, publish: Publish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
    ) -> None:
        self.pieces = chunks or [body]


def test_a_large_body_is_passed_on_as_views_of_where_it_was_received() -> None:
    body = pattern(1 << 20)[: 1 << 20]
    octets = Conversation().message(1, "a", *frames_of(body)).octets
    keeper = Keeper()
    reader = FrameReader(keeper, FRAME_MAX, 1 << 27)
    reader.feed(octets[:4096])
    block = bytearray(octets[4096:])
    reader.feed_body(memoryview(block))
    views = [piece for piece in keeper.pieces if isinstance(piece, memoryview) and piece.obj is block]
    assert sum(map(len, views)) > len(body) - 2 * 65536
    assert b"".join(keeper.pieces) == body


def test_a_wrong_end_octet_in_a_large_body_ends_the_connection() -> None:
    said = Conversation().message(1, "a", *frames_of(pattern(400_000)[:400_000]))
    octets = bytearray(said.octets)
    octets[said.boundaries[2] - 1] = 0xCD
    reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
    reader.feed(bytes(octets[:4096]))
    with pytest.raises(HardError, match="invalid_frame_end_marker,205"):
        reader.feed_body(memoryview(octets)[4096:])
    assert reader.stopped


def test_a_large_body_longer_than_announced_is_refused_and_what_follows_is_heard() -> None:
    said = Conversation().publish(1, "a").header(1, LARGE_BODY + 1)
    beginning = len(said.octets)
    for _ in range(3):
        said.body(1, b"x" * LARGEST_PAYLOAD)
    said.method(1, "basic.ack", delivery_tag=7)
    recorder = Recorder()
    reader = FrameReader(recorder, FRAME_MAX, 1 << 27)
    reader.feed(said.octets[:beginning])
    with pytest.raises(HardError, match="longer than"):
        reader.feed_body(memoryview(said.octets[beginning:]))
    reader.drop_contents()
    reader.feed(b"")
    assert recorder.calls[-1][0] == "method"


def test_a_frame_larger_than_agreed_in_a_large_body_ends_the_connection() -> None:
    said = Conversation().publish(1, "a").header(1, 1 << 20)
    reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
    reader.feed(said.octets)
    frame = Frame(BODY, 1, bytes(FRAME_MAX + 1)).encoded()
    with pytest.raises(HardError, match="frame_too_large"):
        reader.feed_body(memoryview(frame))


def test_what_is_due_is_forgotten_with_the_message() -> None:
    said = Conversation().publish(1, "a").header(1, 1 << 20)
    reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
    reader.feed(said.octets)
    assert reader.body_due() > 1 << 20
    reader.drop_contents()
    assert reader.body_due() == 0


def test_nothing_is_due_of_a_large_body_whose_last_frame_is_too_long() -> None:
    said = Conversation().publish(1, "a").header(1, LARGE_BODY + 10)
    octets = said.octets + Frame(BODY, 1, bytes(LARGEST_PAYLOAD)).encoded() * 3
    reader = FrameReader(Recorder(), FRAME_MAX, 1 << 27)
    at = len(said.octets)
    reader.feed(said.octets)
    with pytest.raises(HardError, match="longer than"):
        while at < len(octets):
            size = min(reader.body_due() or 9000, 9000)
            assert size > 0
            piece = octets[at : at + size]
            at += size
            if reader.body_due():
                reader.feed_body(memoryview(piece))
            else:
                reader.feed(piece)


@pytest.mark.parametrize("frame_max", [4096, 8192, 16384])
def test_small_frames_are_read_as_ever(frame_max: int) -> None:
    said = Conversation().publish(1, "a").header(1, 1 << 20)
    reader = FrameReader(Recorder(), frame_max, 1 << 27)
    reader.feed(said.octets)
    assert (reader.large, reader.large_before) == (None, False)


def test_of_a_message_that_is_too_large_nothing_is_due() -> None:
    said = Conversation().publish(1, "a").header(1, 1 << 20)
    reader = FrameReader(Recorder(), FRAME_MAX, 1000)
    reader.feed(said.octets)
    assert (reader.large, reader.large_before, reader.body_due()) == (None, False, 0)

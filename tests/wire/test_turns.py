"""Turns of the frame reader: they end when their time is used up, and nothing is lost or said twice by that."""

from __future__ import annotations

import pytest

from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.wire.assembly import GATHERED
from amqp_broker.wire.reader import FrameReader, Publish
from amqp_broker.wire.turns import STEPS
from tests.conversations.codec import METHOD, Frame, encode_method
from tests.wire.recorder import Conversation, Recorder

FRAME_MAX = 131072
LONGEST = 1 << 27
FLOW = Frame(METHOD, 1, encode_method("channel.flow", {"active": True})).encoded()


class Hours:
    """A clock on which a second goes by whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def turns(octets: bytes, seconds: float, recorder: Recorder) -> int:
    """Have a reader take its time for octets that came in one piece; how many turns that took."""
    clock = Hours()
    reader = FrameReader(recorder, FRAME_MAX, LONGEST, clock)
    count = 0
    while octets or reader.unhandled:
        reader.begin_turn(clock.now + seconds)
        reader.feed(octets)
        octets = b""
        count += 1
    return count


def sundry() -> Conversation:
    said = Conversation()
    for number in range(200):
        said.method(1, "basic.qos", prefetch_count=number).message(2, "a", b"one frame")
        said.message(1, f"{number}", b"in ", b"three ", b"frames").heartbeat()
    return said


@pytest.mark.parametrize("seconds", [0.0, 1.5, 3.5, 1000.0])
def test_however_long_turns_are_the_same_is_heard(seconds: float) -> None:
    said, recorder = sundry(), Recorder()
    count = turns(said.octets, seconds, recorder)
    assert recorder.calls == said.calls
    assert (count > 1) == (seconds < 1000)


def test_each_turn_gets_something_done_even_if_there_is_no_time() -> None:
    recorder = Recorder()
    clock = Hours()
    reader = FrameReader(recorder, FRAME_MAX, LONGEST, clock)
    reader.feed(FLOW * 1000)
    while reader.unhandled:
        before = len(recorder.calls)
        reader.feed(b"")
        assert len(recorder.calls) > before
    assert len(recorder.calls) == 1000


def test_the_clock_is_looked_at_seldom_for_cheap_frames_and_often_for_dear_ones() -> None:
    cheap, dear = Conversation(), Conversation()
    for _ in range(1000):
        cheap.message(1, "a", b"x")
        dear.method(1, "channel.flow", active=True)
    looks = []
    for said in (cheap, dear):
        clock = Hours()
        reader = FrameReader(Recorder(), FRAME_MAX, LONGEST, clock)
        reader.begin_turn(float("inf"))
        reader.feed(said.octets)
        looks.append(clock.now)
    assert 1000 // STEPS / 2 <= looks[0] <= 1000 // STEPS + 3
    assert looks[1] > 4 * looks[0]


def test_what_comes_while_something_is_unhandled_comes_after_it() -> None:
    said, more, recorder = sundry(), Conversation().method(1, "basic.qos", prefetch_count=9999), Recorder()
    clock = Hours()
    reader = FrameReader(recorder, FRAME_MAX, LONGEST, clock)
    reader.feed(said.octets)
    assert reader.unhandled
    reader.begin_turn(float("inf"))
    reader.feed(more.octets)
    assert recorder.calls == said.calls + more.calls


def test_a_reader_that_has_stopped_has_nothing_unhandled() -> None:
    reader = FrameReader(Recorder(), FRAME_MAX, LONGEST, Hours())
    reader.feed(FLOW * 1000)
    assert reader.unhandled
    reader.stop()
    assert not reader.unhandled


class Keeper(Recorder):
    """Keeps the pieces that bodies come in."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Piece] = []

    def message_received(
        self, publish: Publish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
    ) -> None:
        self.pieces += [body] if chunks is None else chunks


def body_in_frames(data: bytes, size: int) -> bytes:
    said = Conversation().publish(1, "a").header(1, len(data))
    for at in range(0, len(data), size):
        said.body(1, data[at : at + size])
    return said.octets


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_body_in_tiny_frames_is_kept_in_large_pieces(size: int) -> None:
    data = bytes(range(256)) * 20
    octets = body_in_frames(data, size)
    keeper = Keeper()
    reader = FrameReader(keeper, FRAME_MAX, LONGEST)
    for _ in range(40):
        reader.feed(octets)
    assert len(keeper.pieces) == 40
    assert set(keeper.pieces) == {data}


def test_a_long_body_in_tiny_frames_is_kept_in_few_pieces_before_it_is_complete() -> None:
    said = Conversation().publish(1, "a").header(1, 10 * GATHERED)
    frames = Conversation()
    for _ in range(1000):
        frames.body(1, b"x")
    reader = FrameReader(Recorder(), FRAME_MAX, LONGEST)
    reader.feed(said.octets)
    for _ in range(200):
        reader.feed(frames.octets)
    content = reader.contents[1]
    assert sum(map(len, content.chunks)) + len(content.loose or b"") == 200_000
    assert len(content.chunks) == 200_000 // GATHERED


def test_a_long_frame_that_comes_octet_by_octet_is_kept_in_few_pieces() -> None:
    data = bytes(range(256)) * 256
    octets = Conversation().publish(1, "a").header(1, len(data)).body(1, data).octets
    keeper = Keeper()
    reader = FrameReader(keeper, FRAME_MAX, LONGEST)
    for octet in octets:
        reader.feed(bytes([octet]))
    assert b"".join(keeper.pieces) == data
    assert len(keeper.pieces) <= 3


def test_tiny_and_large_frames_of_one_body_stay_in_order() -> None:
    data = bytes(range(256)) * 400
    said = Conversation().publish(1, "a").header(1, len(data))
    at, sizes = 0, [1, 5000, 3, 4, 90_000, 2, 4095, 1]
    for size in sizes:
        said.body(1, data[at : at + size])
        at += size
    said.body(1, data[at:])
    keeper = Keeper()
    FrameReader(keeper, FRAME_MAX, LONGEST).feed(said.octets)
    assert b"".join(keeper.pieces) == data


def test_empty_body_frames_leave_nothing_behind() -> None:
    said = Conversation().publish(1, "a").header(1, 1)
    empty = Conversation()
    for _ in range(1000):
        empty.body(1, b"")
    keeper = Keeper()
    reader = FrameReader(keeper, FRAME_MAX, LONGEST)
    reader.feed(said.octets + empty.octets)
    assert not reader.contents[1].chunks
    assert not reader.contents[1].loose
    reader.feed(Conversation().body(1, b"x").octets)
    assert keeper.pieces == [b"x"]

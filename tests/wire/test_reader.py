"""The frame reader: whatever way octets are split, its handler hears the same, and nothing it keeps grows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.errors import HardError
from amqp_broker.wire.reader import (
    LONGEST_HEADER_KNOWN,
    MOST_HEADERS_KNOWN,
    MOST_PUBLISHES_KNOWN,
    STREAMED_FRAME,
    FrameReader,
)
from tests.conversations.codec import BODY, HEADER, HEARTBEAT, METHOD, Frame, encode_header, encode_method
from tests.wire.recorder import Call, Conversation, Recorder, calls_for, octet_by_octet

PUBLISH = Frame(METHOD, 1, encode_method("basic.publish", {"exchange": "", "routing_key": "q"})).encoded()
HEADER_OF_3 = Frame(HEADER, 1, encode_header(3, {})).encoded()
QOS = Frame(METHOD, 1, encode_method("basic.qos", {})).encoded()


def everyday() -> Conversation:
    """All that a client says on two channels, content of every shape among it."""
    said = Conversation()
    said.method(1, "channel.open").heartbeat()
    for _ in range(2):
        said.message(1, "a", b"one frame")
        said.message(1, "b", b"in ", b"three ", b"frames")
        said.message(1, "a")
        said.message(1, "c", b"", b"late")
    said.message(1, "a", b"another!!", delivery_mode=2, headers={"k": 1})
    return said.method(1, "basic.ack", delivery_tag=7).message(2, "a", b"one frame").heartbeat()


def interleaved() -> Conversation:
    """Two channels in the middle of their content at once, a third one and channel 0 speaking in between."""
    said = Conversation()
    for _ in range(2):
        said.publish(1, "a").publish(2, "b").header(2, 4)
        said.method(3, "basic.qos", prefetch_count=1).header(1, 6).body(2, b"xx").body(1, b"abc")
        said.method(0, "connection.update-secret").heartbeat()
        said.body(2, b"yy").arrives(2, "b", b"xxyy").body(1, b"def").arrives(1, "a", b"abcdef")
    return said


CONVERSATIONS = {"everyday": everyday(), "interleaved": interleaved()}


@pytest.fixture(params=CONVERSATIONS)
def conversation(request: pytest.FixtureRequest) -> Conversation:
    return CONVERSATIONS[request.param]


def test_a_conversation_in_one_piece_is_heard_as_it_was_said(conversation: Conversation) -> None:
    assert calls_for([conversation.octets]) == conversation.calls


def test_a_conversation_octet_by_octet_is_heard_as_it_was_said(conversation: Conversation) -> None:
    assert calls_for(octet_by_octet(conversation.octets)) == conversation.calls


def test_a_conversation_split_anywhere_is_heard_as_it_was_said(conversation: Conversation) -> None:
    octets = conversation.octets
    for at in range(1, len(octets)):
        assert calls_for([octets[:at], octets[at:]]) == conversation.calls, f"split at {at}"


def test_a_conversation_in_frames_is_heard_as_it_was_said(conversation: Conversation) -> None:
    starts = [0, *conversation.boundaries]
    frames = [conversation.octets[a:b] for a, b in zip(starts, conversation.boundaries, strict=False)]
    assert calls_for(frames) == conversation.calls


@given(st.data())
def test_a_conversation_in_any_pieces_is_heard_as_it_was_said(data: st.DataObject) -> None:
    said = Conversation()
    frames = st.lists(st.binary(min_size=1, max_size=40), max_size=3)
    for channel_id, key, bodies in data.draw(
        st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", "ä"]), frames), max_size=8)
    ):
        said.message(channel_id, key, *bodies)
        said.method(channel_id, "basic.nack", delivery_tag=len(bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said.octets)), max_size=12)))
    pieces = [said.octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(said.octets)], strict=True)]
    assert calls_for(pieces) == said.calls


# -- body frames so long that they are passed on as they come

LONG = bytes(range(256)) * (STREAMED_FRAME // 256) + b"a little more"


def long_bodies() -> Conversation:
    said = Conversation()
    said.message(1, "long", LONG).message(1, "short", b"short")
    said.message(1, "long", LONG, LONG[:-1], b"tail").message(2, "long", LONG)
    return said


def cuts_around_frames(said: Conversation) -> list[int]:
    """Every octet near where a frame begins or ends: heads, first octets, last octets, end octets."""
    near = {edge + by for edge in [0, *said.boundaries] for by in range(-12, 13)}
    return sorted(at for at in near if 0 < at < len(said.octets))


def test_long_body_frames_arrive_whole() -> None:
    said = long_bodies()
    assert calls_for([said.octets]) == said.calls


def test_long_body_frames_split_once_near_their_ends_arrive_whole() -> None:
    said = long_bodies()
    for at in cuts_around_frames(said):
        assert calls_for([said.octets[:at], said.octets[at:]]) == said.calls, f"split at {at}"


def test_long_body_frames_whose_ends_come_octet_by_octet_arrive_whole() -> None:
    said = long_bodies()
    cuts = cuts_around_frames(said)
    pieces = [said.octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(said.octets)], strict=True)]
    assert calls_for(pieces) == said.calls


@given(st.lists(st.integers(1, 70000), max_size=8))
def test_long_body_frames_in_any_pieces_arrive_whole(cuts: list[int]) -> None:
    said = long_bodies()
    edges = sorted({0, len(said.octets), *(at for at in cuts if at < len(said.octets))})
    pieces = [said.octets[a:b] for a, b in itertools.pairwise(edges)]
    assert calls_for(pieces) == said.calls


def test_a_long_body_frame_is_not_kept_while_it_comes() -> None:
    reader = FrameReader(Recorder(), 1 << 20, 1 << 27)
    body = b"x" * 500_000
    octets = (
        PUBLISH + Frame(HEADER, 1, encode_header(len(body), {})).encoded() + Frame(BODY, 1, body).encoded()
    )
    for at in range(0, len(octets) - 1, 10_000):
        reader.feed(octets[at : at + 10_000])
        assert len(reader.rest) <= STREAMED_FRAME


def test_another_channel_speaks_after_a_long_body_frame_of_an_unfinished_message() -> None:
    said = Conversation()
    said.publish(1, "a").header(1, len(LONG) + 3).body(1, LONG).method(2, "basic.qos").body(1, b"end")
    said.arrives(1, "a", LONG + b"end")
    for at in cuts_around_frames(said):
        assert calls_for([said.octets[:at], said.octets[at:]]) == said.calls, f"split at {at}"


# -- what breaks the framing


def frame(kind: int, payload: bytes, *, channel_id: int = 1, end: bytes = b"\xce") -> bytes:
    return Frame(kind, channel_id, payload).encoded()[:-1] + end


DUE = "UNEXPECTED_FRAME - expected content"
NOT_A_HEADER = f"{DUE} header for class 60, got non content header frame instead"
NOT_A_BODY = f"{DUE} body, got non content body frame instead"
NOT_A_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"

ERRORS = {
    "a frame that is too large": (
        b"\x01\x00\x01\x00\x00\x10\x01",
        "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4097,4088}",
    ),
    "a body frame that is too large": (
        PUBLISH + HEADER_OF_3 + b"\x03\x00\x01\xff\xff\xff\xff",
        "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4294967295,4088}",
    ),
    "a short frame with a bad end": (
        frame(METHOD, b"\0\x3c\0\x0a", end=b"\0"),
        "FRAME_ERROR - type 1, all octets = <<0,60,0,10>>: {invalid_frame_end_marker,0}",
    ),
    "a frame of sixteen octets with a bad end": (
        frame(BODY, b"abcdefghijklmnop", end=b"x"),
        'FRAME_ERROR - type 3, all octets = <<"abcdefghijklmnop">>: {invalid_frame_end_marker,120}',
    ),
    "a longer frame with a bad end": (
        frame(BODY, b"abcdefghijklmnopq", end=b"\xff"),
        'FRAME_ERROR - type 3, first 16 octets = <<"abcdefghijklmnop">>: {invalid_frame_end_marker,255}',
    ),
    "an unknown frame type": (frame(5, b""), "FRAME_ERROR - type 5, all octets = <<>>: unknown_frame"),
    "a method frame without room for a method": (
        frame(METHOD, b"\0\x0a\0"),
        "FRAME_ERROR - type 1, all octets = <<0,10,0>>: unknown_frame",
    ),
    "a content header too short to have a body size": (
        PUBLISH + frame(HEADER, b"\0\x3c\0\0"),
        "FRAME_ERROR - type 2, all octets = <<0,60,0,0>>: unknown_frame",
    ),
    "a heartbeat with a payload": (
        frame(HEARTBEAT, b"boom", channel_id=0),
        'FRAME_ERROR - type 8, all octets = <<"boom">>: unknown_frame',
    ),
    "a heartbeat on a channel": (frame(HEARTBEAT, b""), "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
    "a content header without a publish": (HEADER_OF_3, NOT_A_METHOD),
    "a body without a publish": (frame(BODY, b"abc"), NOT_A_METHOD),
    "a method where a content header is due": (PUBLISH + QOS, NOT_A_HEADER),
    "a publish where a content header is due": (PUBLISH + PUBLISH, NOT_A_HEADER),
    "a body where a content header is due": (PUBLISH + frame(BODY, b"abc"), NOT_A_HEADER),
    "a method where a body is due": (PUBLISH + HEADER_OF_3 + QOS, NOT_A_BODY),
    "a publish in the middle of a body": (
        PUBLISH + HEADER_OF_3 + frame(BODY, b"ab") + PUBLISH,
        NOT_A_BODY,
    ),
    "a second content header": (PUBLISH + HEADER_OF_3 + HEADER_OF_3, NOT_A_BODY),
    "a publish seen before where a content header is due": (
        PUBLISH + HEADER_OF_3 + frame(BODY, b"abc") + PUBLISH + PUBLISH,
        NOT_A_HEADER,
    ),
    "a content header of another class": (
        PUBLISH + frame(HEADER, encode_header(3, {}, class_id=50)),
        f"{DUE} header for class 60, got one for class 50 instead",
    ),
    "a content header that is cut short": (
        PUBLISH + frame(HEADER, encode_header(3, b"\x80\x00\x05ab")),
        "INTERNAL_ERROR",
    ),
    "a body longer than announced": (
        PUBLISH + HEADER_OF_3 + frame(BODY, b"abcd"),
        "FRAME_ERROR - body is longer than the 3 octets its header announced",
    ),
    "a known publish with a body longer than announced": (
        (PUBLISH + HEADER_OF_3 + frame(BODY, b"abc")) + (PUBLISH + HEADER_OF_3 + frame(BODY, b"abcd")),
        "FRAME_ERROR - body is longer than the 3 octets its header announced",
    ),
    "a known publish with a bad end after its body": (
        (PUBLISH + HEADER_OF_3 + frame(BODY, b"abc"))
        + (PUBLISH + HEADER_OF_3 + frame(BODY, b"abc", end=b"!")),
        'FRAME_ERROR - type 3, all octets = <<"abc">>: {invalid_frame_end_marker,33}',
    ),
    "a known publish with a bad end itself": (
        (PUBLISH + HEADER_OF_3 + frame(BODY, b"abc")) + PUBLISH[:-1] + b"\0",
        "FRAME_ERROR - type 1, all octets = <<0,60,0,40,0,0,0,1,113,0>>: {invalid_frame_end_marker,0}",
    ),
}


@pytest.fixture(params=ERRORS)
def broken(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    return ERRORS[request.param]


def error_of(pieces: list[bytes]) -> HardError:
    with pytest.raises(HardError) as caught:
        calls_for(pieces, frame_max=4096)
    return caught.value


def test_broken_framing_is_refused_with_its_text(broken: tuple[bytes, str]) -> None:
    octets, text = broken
    assert error_of([octets]).text == text


def test_broken_framing_octet_by_octet_is_refused_with_the_same_text(broken: tuple[bytes, str]) -> None:
    octets, text = broken
    assert error_of(octet_by_octet(octets)).text == text


def test_broken_framing_split_anywhere_is_refused_with_the_same_text(broken: tuple[bytes, str]) -> None:
    octets, text = broken
    for at in range(1, len(octets)):
        assert error_of([octets[:at], octets[at:]]).text == text, f"split at {at}"


def test_missing_content_is_the_fault_of_the_publish() -> None:
    error = error_of([PUBLISH + QOS])
    assert (error.class_id, error.method_id) == (60, 40)


def test_a_long_body_frame_with_a_bad_end_is_refused_wherever_it_is_split() -> None:
    header = Frame(HEADER, 1, encode_header(len(LONG), {})).encoded()
    octets = PUBLISH + header + frame(BODY, LONG, end=b"\0")
    for at in [1, len(PUBLISH + header) + 7, *range(len(octets) - 12, len(octets))]:
        with pytest.raises(HardError) as caught:
            calls_for([octets[:at], octets[at:]])
        assert caught.value.text.startswith("FRAME_ERROR - type 3, ")
        assert caught.value.text.endswith(": {invalid_frame_end_marker,0}")


def test_a_long_body_frame_longer_than_announced_is_refused() -> None:
    header = Frame(HEADER, 1, encode_header(len(LONG) - 1, {})).encoded()
    octets = PUBLISH + header + frame(BODY, LONG)
    for at in [len(PUBLISH + header) + 7, len(octets) - 2, len(octets) - 1]:
        with pytest.raises(HardError, match="longer than"):
            calls_for([octets[:at], octets[at:]])


def test_a_frame_that_is_too_large_is_refused_before_its_payload_comes() -> None:
    reader = FrameReader(Recorder(), 4096, 1 << 27)
    reader.feed(b"\x01\x00\x00\x00\x00\x10\x00")
    with pytest.raises(HardError, match="frame_too_large"):
        FrameReader(Recorder(), 4096, 1 << 27).feed(b"\x01\x00\x00\x00\x00\x10\x01")


# -- messages that are too large, content nobody wants


def limited(*pieces: bytes) -> list[Call]:
    recorder = Recorder()
    reader = FrameReader(recorder, 4096, 3)
    for piece in pieces:
        reader.feed(piece)
    return [call for call in recorder.calls if call[0] != "publish"]


def message(body: bytes) -> bytes:
    return PUBLISH + Frame(HEADER, 1, encode_header(len(body), {})).encoded() + frame(BODY, body)


def test_a_message_of_the_largest_size_is_taken() -> None:
    assert [call[-1] for call in limited(message(b"abc"))] == [b"abc"]


def test_a_message_that_is_too_large_is_reported_and_dropped_and_the_next_one_taken() -> None:
    octets = message(b"abcd") + message(b"abc") + message(b"abcd")
    expected = [("too large", 1, 4), b"abc", ("too large", 1, 4)]
    for pieces in ([octets], octet_by_octet(octets)):
        calls = limited(*pieces)
        assert [call if call[0] == "too large" else call[-1] for call in calls] == expected


def test_who_hears_that_a_message_is_too_large_may_stop_in_the_middle_of_it() -> None:
    unfinished = PUBLISH + Frame(HEADER, 1, encode_header(4, {})).encoded() + frame(BODY, b"ab")
    for following in (QOS, message(b"abc")):
        calls = limited(unfinished + following)
        assert next(call[0] for call in calls) == "too large"
        assert len(calls) == 2


def test_content_of_a_refused_publish_is_dropped_while_the_connection_closes() -> None:
    recorder = Recorder()
    recorder.closing = True
    FrameReader(recorder, 4096, 100).feed(message(b"abc") + QOS)
    assert [call[0] for call in recorder.calls] == ["publish", "method"]


def test_nothing_is_heard_after_stop() -> None:
    recorder = Recorder()
    reader = FrameReader(recorder, 4096, 100)
    reader.feed(QOS + PUBLISH[:5])
    reader.stop()
    reader.feed(PUBLISH[5:] + QOS)
    assert [call[0] for call in recorder.calls] == ["method"]


class Stopping(Recorder):
    """Wants to hear of one method only."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: FrameReader | None = None

    def method_received(self, channel_id: int, payload: bytes) -> None:
        super().method_received(channel_id, payload)
        assert self.reader is not None
        self.reader.stop()


def test_a_handler_may_stop_its_reader_in_the_middle_of_a_piece() -> None:
    recorder = Stopping()
    recorder.reader = FrameReader(recorder, 4096, 100)
    recorder.reader.feed(QOS + QOS + b"\xff" * 20)
    assert len(recorder.calls) == 1


# -- what it remembers


def test_the_handler_is_asked_about_a_publish_once() -> None:
    recorder = Recorder()
    FrameReader(recorder, 4096, 100).feed(message(b"abc") * 5)
    assert [call[0] for call in recorder.calls] == ["publish"] + ["message"] * 5


def test_the_handler_is_asked_again_after_publishes_were_forgotten() -> None:
    recorder = Recorder()
    reader = FrameReader(recorder, 4096, 100)
    reader.feed(message(b"abc"))
    reader.forget_publishes()
    reader.feed(message(b"abc"))
    assert [call[0] for call in recorder.calls] == ["publish", "message"] * 2


def test_publishes_that_differ_in_a_flag_only_are_not_confused() -> None:
    plain = encode_method("basic.publish", {"routing_key": "q"})
    mandatory = encode_method("basic.publish", {"routing_key": "q", "mandatory": True})
    recorder = Recorder()
    content = Frame(HEADER, 1, encode_header(0, {})).encoded()
    reader = FrameReader(recorder, 4096, 100)
    for payload in (plain, mandatory, plain, mandatory):
        reader.feed(Frame(METHOD, 1, payload).encoded() + content)
    assert [call[2] for call in recorder.calls if call[0] == "publish"] == [plain, mandatory]


def test_publishers_that_never_repeat_themselves_do_not_fill_the_memory() -> None:
    said = Conversation()
    for number in range(2 * MOST_PUBLISHES_KNOWN + 10):
        said.message(1, f"key {number}", b"%d" % number, message_id=str(number))
    recorder = Recorder()
    reader = FrameReader(recorder, 4096, 1 << 20)
    for start, end in zip([0, *said.boundaries], said.boundaries, strict=False):
        reader.feed(said.octets[start:end])
        assert len(reader.publishes) <= MOST_PUBLISHES_KNOWN
        assert len(reader.headers) <= MOST_HEADERS_KNOWN
    assert recorder.calls == said.calls


def test_long_headers_are_not_remembered() -> None:
    said = Conversation()
    said.message(1, "a", b"body", headers={"long": "x" * LONGEST_HEADER_KNOWN})
    reader = FrameReader(Recorder(), 4096, 1 << 20)
    reader.feed(said.octets)
    assert not reader.headers

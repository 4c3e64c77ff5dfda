"""Bodies on their way out: cut to the receiver's frame_max, whatever pieces they came in."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.wire.content import body_frames

FRAME_MAX = st.integers(9, 40) | st.just(4096)


def frames_in(octets: bytes, channel_id: int) -> list[bytes]:
    """The payloads of body frames that stand one after another."""
    payloads, at = [], 0
    while at < len(octets):
        kind, channel, size = struct.unpack_from(">BHI", octets, at)
        assert (kind, channel) == (3, channel_id)
        assert octets[at + 7 + size] == 0xCE
        payloads.append(octets[at + 7 : at + 7 + size])
        at += 8 + size
    return payloads


@given(st.lists(st.binary(max_size=60), max_size=6), FRAME_MAX, st.integers(1, 0xFFFF))
def test_frames_hold_the_body_and_none_is_larger_than_agreed(
    chunks: list[bytes], frame_max: int, channel_id: int
) -> None:
    body = b"".join(chunks)
    pieces = body_frames(channel_id, tuple(chunks), len(body), frame_max)
    payloads = frames_in(b"".join(pieces), channel_id)
    assert b"".join(payloads) == body
    assert all(0 < len(payload) <= frame_max - 8 for payload in payloads)
    assert all(len(payload) == frame_max - 8 for payload in payloads[:-1])


def test_a_piece_that_fits_is_not_copied() -> None:
    body = b"x" * 4088
    assert any(piece is body for piece in body_frames(1, (body,), len(body), 4096))


def test_pieces_share_a_frame() -> None:
    assert frames_in(b"".join(body_frames(1, (b"ab", b"cd", b"e"), 5, 12)), 1) == [b"abcd", b"e"]


def test_a_body_of_exactly_one_frame_and_of_one_octet_more() -> None:
    assert [len(p) for p in frames_in(b"".join(body_frames(1, (bytes(4088),), 4088, 4096)), 1)] == [4088]
    assert [len(p) for p in frames_in(b"".join(body_frames(1, (bytes(4089),), 4089, 4096)), 1)] == [4088, 1]

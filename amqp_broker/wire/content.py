"""Content frames: header and body, split to what the receiver agreed to take."""

from __future__ import annotations

from amqp_broker.content.body import Piece, cut
from amqp_broker.wire.methods import FRAME_BODY, FRAME_END_OCTET, FRAME_HEAD, FRAME_OVERHEAD


def body_frames(channel_id: int, chunks: tuple[Piece, ...], body_size: int, frame_max: int) -> list[Piece]:
    """Body frames of at most frame_max octets each, as pieces to be sent one after another.

    chunks: the body's pieces in order, body_size octets together. A piece that fits is passed on, not copied.
    """
    left = body_size
    pieces: list[Piece] = []
    room = 0
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            if room == 0:
                if pieces:
                    pieces.append(FRAME_END_OCTET)
                room = min(left, frame_max - FRAME_OVERHEAD)
                left -= room
                pieces.append(FRAME_HEAD(FRAME_BODY, channel_id, room))
            end = min(at + room, len(chunk))
            pieces.append(cut(chunk, at, end))
            room -= end - at
            at = end
    if pieces:
        pieces.append(FRAME_END_OCTET)
    return pieces

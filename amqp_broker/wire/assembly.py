"""What of a message has come so far, and in how many pieces it is kept.

A body may come in frames of one octet, or a long frame octet by octet: pieces that are not worth keeping each by itself
are gathered, so that a body takes about the memory of its octets, however it was cut. What a frame is, and whether it
is due, is the reader's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.errors import HardError, unexpected_frame

if TYPE_CHECKING:
    from amqp_broker.wire.reader import Publish

CLASS_BASIC: Final = 60
METHOD_PUBLISH: Final = 40

# A piece shorter than this is gathered with its neighbours, until they are as long as the other number.
SMALL: Final = 4096
GATHERED: Final = 65536


class Content:
    """A publish whose content is not complete. header is None until the content header came.

    refused: too large; what still comes of it is dropped. remaining: octets that are due. chunks: the body so far, but
    for the last small pieces, which are in `loose`.
    """

    __slots__ = ("chunks", "header", "loose", "publish", "refused", "remaining")

    def __init__(self, publish: Publish) -> None:
        self.publish: Publish = publish
        self.header: ContentHeader | None = None
        self.remaining: int = 0
        self.refused: bool = False
        self.chunks: list[Piece] = []
        self.loose: bytearray | None = None

    def take(self, piece: Piece, *, last: bool) -> None:
        """One more piece of the body. last: nothing of the body is due after it."""
        if self.refused or self.remaining < 0 or not len(piece):
            return
        loose = self.loose
        if loose is None:
            if last or len(piece) >= SMALL:
                self.chunks.append(piece)
            else:
                self.loose = bytearray(piece)
        elif len(piece) >= SMALL:
            self.chunks.append(bytes(loose))
            self.chunks.append(piece)
            self.loose = None
        else:
            loose.extend(piece)
            if last or len(loose) >= GATHERED:
                self.chunks.append(bytes(loose))
                self.loose = None

    def due(self) -> HardError:
        """What is wrong with any other frame now."""
        due = (
            f"header for class {CLASS_BASIC}, got non content header"
            if self.header is None
            else "body, got non content body"
        )
        return at_publish(f"expected content {due} frame instead")


class KnownStart:
    """What comes before the body of a message: a publish frame, a header frame and the head of a body frame."""

    __slots__ = ("body_size", "header", "octets", "publish", "size")

    def __init__(self, octets: bytes, publish: Publish, header: ContentHeader) -> None:
        self.octets: bytes = octets
        self.size: int = len(octets)
        self.publish: Publish = publish
        self.header: ContentHeader = header
        self.body_size: int = header.body_size


def at_publish(explanation: str) -> HardError:
    error = unexpected_frame(explanation)
    error.class_id, error.method_id = CLASS_BASIC, METHOD_PUBLISH
    return error

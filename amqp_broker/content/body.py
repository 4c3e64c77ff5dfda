"""The body of a message as it is passed along: pieces of what was received, copied only where that is cheaper."""

from __future__ import annotations

from typing import Final, TypeAlias

Piece: TypeAlias = bytes | memoryview

# A view keeps all that was received with it in memory, so only what makes up a good part of that is worth one.
WORTH_A_VIEW: Final = 65536


def cut(data: Piece, start: int, end: int) -> Piece:
    """data[start:end], as a view if it is long."""
    if end - start == len(data):
        return data
    if end - start < WORTH_A_VIEW:
        return bytes(data[start:end])
    return memoryview(data)[start:end]


def kept(data: Piece, start: int, end: int) -> Piece:
    """The same for a piece that may wait for long: no view that would keep much else in memory meanwhile.

    What is a view already lies where only this body does.
    """
    if isinstance(data, bytes) and 2 * (end - start) < len(data):
        return data[start:end]
    return cut(data, start, end)

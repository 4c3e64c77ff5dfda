"""Where large bodies are received: blocks of memory in which a body stays until the last queue lets it go.

A body that fits no turn would be copied out of the shared receive buffer, at the price of half of what passing it
on costs. Instead it is received into blocks, and the messages keep views of those. A block is used again once no
view of it is left, so a stream of large messages costs no new memory. How many octets a client may still send
of a body is the reader's knowledge, not this module's.
"""

from __future__ import annotations

from collections import deque
from typing import Final

# Measured with transient_1m: a message of 1 MiB in one read is 10% faster than in four.
SIZE: Final = 1048576
# For less than this too much of a block would be wasted, and copying is cheap.
LEAST_DUE: Final = SIZE // 2
LEAST_ROOM: Final = 16384

MOST_KEPT: Final = 128
MOST_ASKED: Final = 4

# Seconds between two looks for blocks that are kept for nothing.
IDLE: Final = 15.0


class Blocks:
    """The blocks that may be used again."""

    def __init__(self) -> None:
        self._kept: deque[bytearray] = deque()
        self._next_look = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    def take(self) -> bytearray:
        """A block that nothing refers to."""
        for _ in range(min(MOST_ASKED, len(self._kept))):
            block = self._kept.popleft()
            self._kept.append(block)
            if _unused(block):
                return block
        block = bytearray(SIZE)
        self._kept.append(block)
        if len(self._kept) > MOST_KEPT:
            self._kept.popleft()
        return block

    def give_up_idle(self, now: float) -> None:
        """Let half of the blocks go that nothing refers to, every `IDLE` seconds; called about once a second."""
        if now < self._next_look:
            return
        self._next_look = now + IDLE
        self._give_up((sum(map(_unused, self._kept)) + 1) // 2)

    def give_up_all(self) -> None:
        """Let all blocks go that nothing refers to: memory is short."""
        self._give_up(len(self._kept))

    def _give_up(self, going: int) -> None:
        kept: deque[bytearray] = deque()
        for block in self._kept:
            if going and _unused(block):
                going -= 1
            else:
                kept.append(block)
        self._kept = kept


def _unused(block: bytearray) -> bool:
    """Whether no view of the block is left: a bytearray refuses to be resized while there is one."""
    try:
        block.pop()
    except BufferError:
        return False
    block.append(0)
    return True


class BodyBuffer:
    """Where one client's large body goes: the block being filled, then the next."""

    __slots__ = ("_block", "_blocks", "_filled")

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._block: memoryview | None = None
        self._filled = 0

    def room(self, due: int) -> memoryview | None:
        """Room for at most `due` octets; None if that is too little to be worth a block."""
        if self._block is None or SIZE - self._filled < LEAST_ROOM:
            self._block = None
            if due < LEAST_DUE:
                return None
            self._block = memoryview(self._blocks.take())
            self._filled = 0
        return self._block[self._filled : self._filled + due]

    def filled(self, room: memoryview, nbytes: int) -> memoryview:
        """The octets that were received into `room`."""
        self._filled += nbytes
        return room[:nbytes]

    def end(self) -> None:
        """The body is complete: what is left of its block is not used."""
        self._block = None

"""Holds many conversations at once with one broker.

Most of a conversation is waiting for replies, and RabbitMQ leaves some sockets open for seconds before it closes
them; side by side they take little more than the longest of them.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterable
from typing import Final

from .normal import Row
from .player import Player, Target
from .script import Conversation

AT_ONCE: Final = 40
LONGEST_SECONDS: Final = 120.0

Answers = dict[str, list[list[Row]]]


async def hold(
    target: Target, conversations: Iterable[Conversation], told: Callable[[str], None] = lambda _: None
) -> Answers:
    """What the broker says to each conversation, by its name."""
    answers: Answers = {}
    waiting = iter(list(conversations))
    numbers, run = itertools.count(), secrets.randbelow(100)

    async def one_after_another() -> None:
        for conversation in waiting:
            # of one length, as text and as numbers, so that long reply texts are cut at the same place
            player = Player(target, conversation, f"{run:02}{next(numbers):04}.")
            try:
                answers[conversation.name] = await asyncio.wait_for(player.play(), LONGEST_SECONDS)
            except TimeoutError:
                answers[conversation.name] = [[["0.0", "took too long", []]]]
            told(conversation.name)

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return answers


def held(
    target: Target, conversations: Iterable[Conversation], told: Callable[[str], None] = lambda _: None
) -> Answers:
    return asyncio.run(hold(target, conversations, told))

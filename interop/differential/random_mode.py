"""Random conversations with both brokers, and the shortest one that still shows each difference.

Each seed is a conversation. One in which the brokers part is held again, to leave out what RabbitMQ itself answers
now this way and now that; then steps are taken out of it for as long as the difference stays.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from pathlib import Path
from typing import Final

from . import comparing
from .brokers import rabbitmq, this_broker
from .grammar import made_up
from .player import Target
from .running import Answers, hold
from .script import Conversation

AGAIN: Final = 2


def run(seed: int, count: int, path: Path | None) -> int:
    """Hold `count` conversations from `seed` on; 1 if the brokers part in one of them, else 0."""
    with rabbitmq() as oracle, this_broker() as here:
        differing = asyncio.run(_differing(oracle, here, [made_up(seed + at) for at in range(count)]))
    for text in differing:
        print(text, end="\n\n")
    print(f"{count} random conversations from seed {seed} on: the brokers part in {len(differing)}")
    if path is not None:
        result = {
            "name": "differential-random",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "seed": seed,
            "conversations": count,
            "differing": differing,
        }
        path.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if differing else 0


async def _differing(oracle: Target, here: Target, conversations: list[Conversation]) -> list[str]:
    theirs, ours = await asyncio.gather(hold(oracle, conversations), hold(here, conversations))
    texts: list[str] = []
    for conversation in conversations:
        if theirs[conversation.name] == ours[conversation.name]:
            continue
        if not await _part(oracle, here, conversation):
            print(f"{conversation.name}: not the same each time, left out")
            continue
        shortest = await _shrunk(oracle, here, conversation)
        texts.append(await _told(oracle, here, shortest))
    return texts


async def _answers(target: Target, conversation: Conversation) -> list[list[list[object]]]:
    answers: Answers = await hold(target, [conversation])
    return answers[conversation.name]


async def _part(oracle: Target, here: Target, conversation: Conversation) -> bool:
    """Whether the brokers part, and each says the same every time."""
    theirs, ours = await _answers(oracle, conversation), await _answers(here, conversation)
    if theirs == ours:
        return False
    for _ in range(AGAIN):
        if await _answers(oracle, conversation) != theirs:
            return False
    return True


async def _shrunk(oracle: Target, here: Target, conversation: Conversation) -> Conversation:
    """Fewer steps, of which none can be taken out without losing the difference."""
    size = max(1, len(conversation.steps) // 2)
    while True:
        at, shorter = 0, False
        while at < len(conversation.steps):
            candidate = Conversation(conversation.name)
            candidate.steps[:] = conversation.steps[:at] + conversation.steps[at + size :]
            if candidate.steps and await _part(oracle, here, candidate):
                conversation, shorter = candidate, True
            else:
                at += size
        if size == 1 and not shorter:
            return conversation
        size = max(1, size // 2)


async def _told(oracle: Target, here: Target, conversation: Conversation) -> str:
    theirs, ours = await _answers(oracle, conversation), await _answers(here, conversation)
    return f"{conversation}\n{comparing.shown(conversation, theirs, ours)}"

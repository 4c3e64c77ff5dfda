"""Puts two brokers' answers side by side, and says where they part.

A difference is new, or known: a conversation that known.py names, in which RabbitMQ said what is recorded and
this broker said exactly what stands in recordings/here.json. A known difference that is none any more is told
as well, as the list must not grow old.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from .known import known_for
from .normal import Row
from .running import Answers
from .script import Conversation

AROUND: Final = 2

AGREE: Final = "agree"
KNOWN: Final = "known"
DIFFER: Final = "differ"
NO_LONGER: Final = "no longer differs"
OTHERWISE: Final = "differs otherwise"
UNRECORDED: Final = "not recorded"
FINE: Final = (AGREE, KNOWN)


class Verdict(NamedTuple):
    """What came of one conversation; `why` names the known difference, or shows the new one."""

    conversation: str
    outcome: str
    why: str


def judge(
    conversation: Conversation,
    rabbitmq: list[list[Row]] | None,
    here: list[list[Row]],
    recorded_here: list[list[Row]] | None,
) -> Verdict:
    name, known = conversation.name, known_for(conversation.name)
    if rabbitmq is None:
        return Verdict(name, UNRECORDED, "nobody has asked a RabbitMQ yet: --record does")
    if rabbitmq == here:
        if known is not None:
            return Verdict(name, NO_LONGER, f"listed as {known.name!r}")
        return Verdict(name, AGREE, "")
    if known is None:
        return Verdict(name, DIFFER, shown(conversation, rabbitmq, here))
    if here != recorded_here:
        return Verdict(name, OTHERWISE, shown(conversation, recorded_here or [], here, "recorded here"))
    return Verdict(name, KNOWN, known.name)


def judge_all(
    conversations: Sequence[Conversation], rabbitmq: Answers, here: Answers, recorded_here: Answers
) -> list[Verdict]:
    return [
        judge(one, rabbitmq.get(one.name), here[one.name], recorded_here.get(one.name))
        for one in conversations
    ]


def shown(
    conversation: Conversation, theirs: list[list[Row]], ours: list[list[Row]], their_name: str = "rabbitmq"
) -> str:
    """The first step at which the two part, with what was said a little before."""
    steps = conversation.steps
    first = next(
        (at for at in range(len(steps)) if at >= len(theirs) or at >= len(ours) or theirs[at] != ours[at]),
        len(steps) - 1,
    )
    lines = [f"{conversation.name}, step {first + 1} of {len(steps)}"]
    lines += [f"    {step}" for step in steps[max(0, first - AROUND) : first]]
    lines.append(f"  > {steps[first]}")
    for name, answers in ((their_name, theirs), ("here", ours)):
        rows = answers[first] if first < len(answers) else ["(nothing recorded)"]
        lines += [f"    {name:>13}: {json.dumps(row)}" for row in rows or ["(nothing)"]]
    return "\n".join(lines)

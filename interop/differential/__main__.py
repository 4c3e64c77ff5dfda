"""`python -m interop.differential [NAME...]`: hold the conversations and say where the brokers part."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import Final

from interop.rabbitmq import RabbitMQUnavailable

from . import comparing, documenting, random_mode, recorded
from .brokers import rabbitmq, this_broker
from .groups import all_conversations
from .known import known_for
from .link import version_of
from .player import Target
from .running import Answers, held
from .script import Conversation

UNAVAILABLE: Final = 69  # there is no RabbitMQ on this machine


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m interop.differential",
        description="Hold the same conversations with this broker and a RabbitMQ, and compare all that comes back.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="a group, or a conversation; * for any text")
    parser.add_argument(
        "--against",
        metavar="WHOM",
        default="rabbitmq",
        help="rabbitmq: one that is started now (default); recordings: what it once said; "
        "PORT: a broker on 127.0.0.1 that runs with definitions.json, asked in place of this one",
    )
    parser.add_argument("--record", action="store_true", help="write what RabbitMQ says to recordings/")
    parser.add_argument(
        "--seed", metavar="N", type=int, help="hold random conversations, beginning with this seed"
    )
    parser.add_argument(
        "--count", metavar="N", type=int, default=100, help="how many random ones (default 100)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result there as well")
    parser.add_argument(
        "--list", action="store_true", help="say which conversations there are, and do nothing"
    )
    parser.add_argument("--show", action="store_true", help="print the steps and answers of what is held")
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help="write the table of known differences to docs/compatibility.md",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, leave)
    chosen = choose(all_conversations(), arguments.names)
    if arguments.write_docs:
        documenting.write()
        return 0
    if arguments.list:
        print("\n".join(conversation.name for conversation in chosen))
        return 0
    if not chosen:
        parser.error("no conversation has such a name")
    try:
        if arguments.seed is not None:
            return random_mode.run(arguments.seed, arguments.count, arguments.json)
        return compare(chosen, arguments)
    except RabbitMQUnavailable as error:
        print(f"{error}\nwithout one: --against recordings", file=sys.stderr)
        return UNAVAILABLE


def leave(number: int, _frame: FrameType | None) -> None:
    """The brokers that were started end with us."""
    raise SystemExit(128 + number)


def choose(conversations: Sequence[Conversation], names: Sequence[str]) -> list[Conversation]:
    def wanted(name: str) -> bool:
        return any(fnmatchcase(name, pattern) or recorded.group_of(name) == pattern for pattern in names)

    return [one for one in conversations if not names or wanted(one.name)]


def compare(chosen: list[Conversation], arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    whom: str = arguments.against
    recorded_here = recorded.read(recorded.HERE)[1]
    with contextlib.ExitStack() as stack:
        if whom == "rabbitmq" or arguments.record:
            oracle = stack.enter_context(rabbitmq())
            said_by, said = asyncio.run(version_of(oracle.port)), held(oracle, chosen)
        else:
            said_by, said = "the recordings", recorded.read_all(one.name for one in chosen)
        target = (
            Target(f"port {whom}", int(whom), patient=True)
            if whom.isdigit()
            else stack.enter_context(this_broker())
        )
        here = held(target, chosen)
    if arguments.record:
        recorded_here = record(said_by, said, here, recorded_here)
    verdicts = comparing.judge_all(chosen, said, here, recorded_here)
    if arguments.show:
        for one in chosen:
            print_answers(one, said.get(one.name, []))
    return report(verdicts, said_by, time.monotonic() - began, arguments.json)


def record(said_by: str, said: Answers, here: Answers, recorded_here: Answers) -> Answers:
    """Write down what both said. Groups that were not held whole keep the rest of their recordings."""
    existing = {one.name for one in all_conversations()}
    for group, answers in recorded.by_group(said).items():
        kept = {name: old for name, old in recorded.read(group)[1].items() if name in existing}
        recorded.write(group, said_by, kept | answers)
    kept = {name: old for name, old in recorded_here.items() if name in existing and known_for(name)}
    fresh = {name: said for name, said in here.items() if known_for(name)}
    recorded.write(recorded.HERE, "this broker", kept | fresh)
    return kept | fresh


def print_answers(conversation: Conversation, answers: list[list[list[object]]]) -> None:
    print(conversation.name)
    for step, rows in zip(conversation.steps, answers, strict=False):
        print(f"  {step}")
        for row in rows:
            print(f"      {json.dumps(row)}")


def report(verdicts: list[comparing.Verdict], said_by: str, seconds: float, path: Path | None) -> int:
    counts = Counter(verdict.outcome for verdict in verdicts)
    bad = [verdict for verdict in verdicts if verdict.outcome not in comparing.FINE]
    for verdict in bad:
        print(f"{verdict.outcome}: {verdict.conversation}\n{verdict.why}\n")
    print(
        f"{len(verdicts)} conversations, compared with {said_by}, in {seconds:.1f} s: "
        + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    )
    if path is not None:
        result = {
            "name": "differential",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "compared_with": said_by,
            "conversations": len(verdicts),
            "outcomes": dict(sorted(counts.items())),
            "differing": [verdict._asdict() for verdict in bad],
        }
        path.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

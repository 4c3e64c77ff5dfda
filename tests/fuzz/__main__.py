"""Say what no client should to the broker: `python -m tests.fuzz --seed N --duration SECONDS --layer pure|socket|all`.

`pure` drives the decoders alone, and whole brokers in this process without sockets (tests/fuzz/stories.py); `socket`
a living broker (tests/fuzz/sockets.py). It stops at the first failure, makes it as short as it can, writes it to a
file, and says how to repeat it. Otherwise it ends with a table of what was tried.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.conversations.client import REPLY_NAMES
from tests.fuzz.decoders import BY_KIND, Decoding, Undecoded, fewest
from tests.fuzz.house import Story
from tests.fuzz.sockets import Battle, Lost
from tests.fuzz.stories import Failed, Teller, shortest, told_again, what_failed
from tests.server.broker_process import BrokerFailed

LAYERS = ("pure", "socket", "all")
# Stories between two batches of inputs for the decoders, which are so much quicker.
STORIES = 8
BATCHES_IN_ROUND = 40
# Seconds between two lines that say how far it is.
TELL_AFTER = 60.0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    made.add_argument("--seed", type=int, help="repeats a pure run; of one over sockets all but the timing")
    made.add_argument("--duration", type=float, default=60.0, help="seconds after which nothing new is begun")
    made.add_argument("--layer", choices=LAYERS, default="pure", help="all: half of the time for each")
    made.add_argument("--inputs", type=int, help="no more inputs than about this many")
    made.add_argument("--first", type=int, default=0, help="the number of the first story or batch")
    made.add_argument("--stories", type=int, help="no more stories or batches than this")
    made.add_argument("--replay", type=Path, help="repeat what is in a file that a failure was written to")
    made.add_argument(
        "--output", type=Path, default=Path("fuzz-failure.json"), help="where to write a failure"
    )
    return made


class Report:
    """What was tried, by layer."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rows: list[tuple[str, str]] = []

    def add(
        self, layer: str, kinds: Counter[str], errors: Counter[int], seconds: float, more: dict[str, int]
    ) -> None:
        total = kinds.total()
        self.rows.append((f"**{layer}**: inputs", f"{total:,}"))
        self.rows.append(("inputs a second", f"{total / max(seconds, 0.001):,.0f}"))
        self.rows += [(kind, f"{count:,}") for kind, count in kinds.most_common()]
        self.rows += [(what, f"{count:,}") for what, count in more.items()]
        self.rows += [
            (f"answered {code} {REPLY_NAMES[code]}", f"{count:,}") for code, count in sorted(errors.items())
        ]

    def table(self) -> str:
        lines = [
            f"| seed {self.seed} | |",
            "|---|---:|",
            *(f"| {what} | {count} |" for what, count in self.rows),
        ]
        return "\n".join(lines)


class Run:
    """One run of the command, which stops when it has been long enough or tried enough."""

    def __init__(self, asked: argparse.Namespace, seed: int) -> None:
        self.asked = asked
        self._told = time.monotonic()
        self.seed = seed
        self.report = Report(seed)

    def pure(self, seconds: float) -> None:
        """Raises Failed, Undecoded."""
        asked = self.asked
        teller, decoding = Teller(self.seed), Decoding(self.seed)
        began, number = time.monotonic(), asked.first
        while self._goes_on(
            number, time.monotonic() - began < seconds, teller.kinds.total() + decoding.kinds.total()
        ):
            teller.story(number)
            if number % STORIES == 0:
                decoding.batch(number)
            number += 1
        taken = time.monotonic() - began
        more = {
            "stories": teller.stories,
            "connections": teller.connections,
            "told again with other splits": teller.told_again,
            "octets": teller.octets,
        }
        self.report.add("sessions and decoders", teller.kinds + decoding.kinds, teller.errors, taken, more)

    def sockets(self, seconds: float) -> None:
        """Raises Lost, BrokerFailed."""
        asked = self.asked
        directory = Path(tempfile.mkdtemp(prefix="fuzz-"))
        battle = Battle(directory, self.seed)
        began, number = time.monotonic(), asked.first
        try:
            while self._goes_on(number, time.monotonic() - began < seconds, battle.kinds.total()):
                battle.begin(number // BATCHES_IN_ROUND)
                while self._goes_on(number, time.monotonic() - began < seconds, battle.kinds.total()):
                    battle.batch(number)
                    number += 1
                    if number % BATCHES_IN_ROUND == 0:
                        break
                battle.end()
        finally:
            battle.close()
        shutil.rmtree(directory)
        more = {
            "batches": battle.batches,
            "rounds": battle.rounds,
            "connections": battle.connections,
            "octets": battle.octets,
            "slowest answer to the neighbour, ms": round(battle.slowest * 1000),
            "most memory, MiB": battle.most_memory >> 20,
        }
        self.report.add("sockets", battle.kinds, battle.errors, time.monotonic() - began, more)

    def _goes_on(self, number: int, in_time: bool, inputs: int) -> bool:
        asked = self.asked
        if time.monotonic() - self._told > TELL_AFTER:
            self._told = time.monotonic()
            print(f"{inputs:,} inputs, at number {number}", flush=True)
        if asked.stories is not None:
            return bool(number < asked.first + asked.stories)
        return in_time and (asked.inputs is None or inputs < asked.inputs)


def replay(path: Path) -> None:
    """Raises what the broker, or a decoder, did wrong."""
    found = json.loads(path.read_text())
    if "decoder" in found:
        BY_KIND[found["decoder"]].attempt(bytes.fromhex(found["octets"]))
    else:
        told_again(Story.from_json(found))


def write_story(story: Story, output: Path) -> str:
    output.write_text(json.dumps(story.to_json()))
    steps = [f"{step.do} {step.peer or ''} {step.number or ''} {step.octets!r}"[:300] for step in story.steps]
    return "\n".join(["", *steps, "", f"again: python -m tests.fuzz --replay {output}"])


def explain(error: Exception, output: Path) -> str:
    """What failed, and how to see it again."""
    if isinstance(error, Failed):
        return error.details + write_story(shortest(error), output)
    if isinstance(error, Undecoded):
        octets = fewest(error)
        output.write_text(json.dumps({"decoder": error.kind, "octets": octets.hex()}))
        return f"{error.details}\n{error}\n{octets!r}\nagain: python -m tests.fuzz --replay {output}"
    if isinstance(error, Lost) and error.story.steps:
        try:
            told_again(error.story)
        except Exception as other:
            failed = Failed(what_failed(other), str(error), error.story)
            return f"{error}\nwithout sockets: {failed}" + write_story(shortest(failed), output)
        return f"{error}\nwithout sockets the same octets do no harm" + write_story(error.story, output)
    return str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing was found."""
    asked = parser().parse_args(arguments)
    if asked.replay is not None:
        replay(asked.replay)
        print("no failure")
        return 0
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed
    run = Run(asked, seed)
    share = asked.duration / 2 if asked.layer == "all" else asked.duration
    print(f"seed {seed}", flush=True)
    try:
        if asked.layer != "socket":
            run.pure(share)
        if asked.layer != "pure":
            run.sockets(share)
    except (Failed, Undecoded, Lost, BrokerFailed) as error:
        print(f"{explain(error, asked.output)}\nseed {seed}", file=sys.stderr)
        return 1
    print(run.report.table())
    print("bugs: 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())

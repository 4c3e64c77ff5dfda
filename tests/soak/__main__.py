"""Kill a broker under load again and again: `python -m tests.soak --seed N --duration SECONDS`.

Each round puts load on a broker, ends it by kill -9 of the broker, of its store process or of both, or asks it to end,
starts it again and compares what is there with what was promised (tests/soak/rounds.py). It stops at the first broken
promise, says how to try it again, and leaves the data where they are.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.server.broker_process import BrokerFailed
from tests.soak.rounds import KILLS, Broken, Soak


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    made.add_argument("--seed", type=int, help="repeats the choices of a run, not its timing")
    made.add_argument("--duration", type=float, default=60.0, help="seconds after which no round is begun")
    made.add_argument("--rounds", type=int, help="no more rounds than this")
    made.add_argument("--first", type=int, default=0, help="the number of the first round")
    made.add_argument("--kill", choices=KILLS, help="the same in every round; chosen for each without it")
    made.add_argument("--data-dir", type=Path, help="in which a directory for the data is made")
    return made


async def play(soak: Soak, first: int, rounds: int | None, duration: float) -> None:
    number, end = first, time.monotonic() + duration
    while number == first or (time.monotonic() < end and (rounds is None or number < first + rounds)):
        began = time.monotonic()
        plan = await soak.play(number)
        print(f"{plan}: held, {time.monotonic() - began:.1f} s", flush=True)
        number += 1


def table(soak: Soak) -> str:
    rows = [f"| {what} | {count:,} |" for what, count in sorted(soak.totals.items())]
    return "\n".join(["| | |", "|---|---|", *rows, f"| slowest start, s | {soak.slowest_start:.2f} |"])


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every promise was kept."""
    asked = parser().parse_args(arguments)
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed
    # What the clients' library says of connections that are lost is of no use here.
    logging.disable(logging.ERROR)
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=asked.data_dir))
    soak = Soak(directory, seed, asked.kill)
    try:
        asyncio.run(play(soak, asked.first, asked.rounds, asked.duration))
    except (Broken, BrokerFailed) as error:
        print(f"{error}\nthe data are in {directory}", file=sys.stderr)
        return 1
    finally:
        soak.close()
        logging.disable(logging.NOTSET)
    print(f"\n{table(soak)}")
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

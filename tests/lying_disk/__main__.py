"""Cut the power of a recorded run at every point: `python -m tests.lying_disk --seed N --duration SECONDS`.

A broker is recorded from its first start on, with all that it asks of its files and all that its clients are promised;
then the disk is put together as it may be after a power cut, at one point after the other and in several ways at each,
and opened. The first promises that are broken end the run with status 1.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lying_disk.load import record
from tests.lying_disk.recording import RecordedBroker, read_trace
from tests.lying_disk.replay import Replay
from tests.memory_disk import fast_directory


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.lying_disk", description=__doc__.partition("\n")[0])
    made.add_argument("--seed", type=int, help="repeats the choices of a run, not its timing")
    made.add_argument("--rounds", type=int, default=12, help="how long the run is that is recorded")
    made.add_argument("--points", type=int, help="look at so many points, by chance, instead of all")
    made.add_argument("--first", type=int, default=0, help="the number of the first point")
    made.add_argument("--many", type=int, default=4, help="choices by chance of what is lost, at each point")
    made.add_argument("--duration", type=float, default=600.0, help="seconds after which no point is begun")
    made.add_argument(
        "--served", type=int, default=500, help="start a broker on every so many images, 0 for none"
    )
    made.add_argument("--trace", type=Path, help="a trace that was kept, instead of recording one")
    made.add_argument("--data-dir", type=Path, help="in which a directory for the recorded run is made")
    return made


def chosen(points: list[int], count: int | None, first: int, seed: int) -> list[int]:
    later = [point for point in points if point >= first]
    return later if count is None else random.Random(seed).sample(later, min(count, len(later)))


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every promise was kept."""
    asked = parser().parse_args(arguments)
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed
    made: Path | None = None
    trace = asked.trace
    if trace is None:
        made = Path(tempfile.mkdtemp(prefix="lying-disk-", dir=asked.data_dir))
        broker = RecordedBroker(made)
        record(broker, seed, asked.rounds)
        trace = broker.trace
    with fast_directory() as images:
        replay = Replay(read_trace(trace), images, seed, many=asked.many, served=asked.served)
        points = chosen(replay.points(), asked.points, asked.first, seed)
        began = time.monotonic()
        replay.play(set(points), deadline=began + asked.duration)
        elapsed = time.monotonic() - began
    replay.totals["points chosen"] = len(points)
    rows = [f"| {what} | {count:,} |" for what, count in sorted(replay.totals.items())]
    print(
        "\n".join(
            ["| | |", "|---|---|", *rows, f"| seconds of replay | {elapsed:.0f} |", f"| seed | {seed} |"]
        )
    )
    if replay.failures:
        print("\n".join(map(str, replay.failures)), file=sys.stderr)
        again = f"--trace {trace} --seed {seed} --many {asked.many} --first {replay.failures[0].point}"
        print(f"to try it again: python -m tests.lying_disk {again}", file=sys.stderr)
        return 1
    if made is not None:
        shutil.rmtree(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure deep backlogs: `python -m tests.backlogs [SCENARIO ...]`.

Each scenario gets a broker of its own, the installed `amqp-broker`, on an empty data directory; what is measured is
printed as a row of a Markdown table. Messages are counted and their order is looked at, so a row is also a test. It
judges no figure: what they should be stands in docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.backlogs.bench import Bench
from tests.backlogs.figures import head
from tests.backlogs.scenarios import SCENARIOS, Backlog
from tests.server.broker_process import BrokerFailed


def parser() -> argparse.ArgumentParser:
    names = ", ".join(SCENARIOS)
    made = argparse.ArgumentParser(prog="python -m tests.backlogs", description=__doc__.partition("\n")[0])
    made.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"all of them, or some of: {names}")
    made.add_argument(
        "--scale", type=float, default=1.0, help="of the numbers of messages and of the memory for them"
    )
    made.add_argument("--keep-going", action="store_true", help="go on after a scenario that failed")
    made.add_argument(
        "--data-dir", type=Path, help="in which directories for the data are made, and removed again"
    )
    return made


def run(scenario: Backlog, scale: float, parent: Path | None) -> str | None:
    """The row of a scenario; nothing if it failed, which is told on standard error."""
    with tempfile.TemporaryDirectory(prefix="backlogs-", dir=parent) as directory:
        bench = Bench(Path(directory), scale)
        try:
            with bench:
                return scenario.measure(bench, scale).row()
        except (AssertionError, BrokerFailed, OSError) as error:
            print(f"{scenario.name}: {error!r}\n{bench.broker.stderr()}", file=sys.stderr)
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all messages of all scenarios went the way they should."""
    asked = parser().parse_args(arguments)
    unknown = [name for name in asked.scenarios if name not in SCENARIOS]
    if unknown:
        parser().error(f"no scenario {unknown[0]!r}; there are {', '.join(SCENARIOS)}")
    print(head(), flush=True)
    failed = 0
    for name in asked.scenarios or SCENARIOS:
        row = run(SCENARIOS[name], asked.scale, asked.data_dir)
        if row is not None:
            print(row, flush=True)
            continue
        failed += 1
        if not asked.keep_going:
            break
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

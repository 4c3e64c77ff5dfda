"""Flood a broker and watch another connection: `python -m tests.floods [--seconds N] [--only NAME]`.

Each flood has a broker of its own, the installed `amqp-broker`, on an empty data directory, and comes from a process
of its own. What the other connection's messages took, and what became of the broker's memory and descriptors, is
printed as a row of a Markdown table. It judges no figure: what they should be stands in docs/security.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.floods.floods import FLOODS
from tests.floods.measure import head, measure


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.floods", description=__doc__.partition("\n")[0])
    made.add_argument("--seconds", type=float, default=5.0, help="how long each flood goes on (5)")
    made.add_argument("--scale", type=float, default=1.0, help="of what is prepared for a flood")
    made.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join(FLOODS)}")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the broker and the other connection came through all floods."""
    asked = parser().parse_args(arguments)
    names: list[str] = asked.only or ["nothing", *FLOODS]
    unknown = [name for name in names if name not in FLOODS and name != "nothing"]
    if unknown:
        parser().error(f"no flood {unknown[0]!r}; there are {', '.join(FLOODS)}")
    failed = 0
    for number, name in enumerate(names):
        with tempfile.TemporaryDirectory(prefix="floods-") as directory:
            result = measure(Path(directory) / "data", name, asked.seconds, asked.scale)
        if not number:
            print(head(result.build), flush=True)
        print(result.row(), flush=True)
        if result.trouble:
            print(f"{name}: {result.trouble}", file=sys.stderr)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

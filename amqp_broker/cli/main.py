"""Where the command `amqp-broker` starts.

A broker lives long and is started by people who wait for it, so `serve` with well-formed flags, and
`--version`, are run without loading the command-line library: with pydantic below it, that would add some
150 ms to the start of a broker that is up in 250, and 12 MiB to the 30 that it keeps. Everything else (help,
mistakes, the other commands) goes to `cli.app`, which declares the same commands in full; this module knows
of them only what `SERVE_FLAGS` says.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from amqp_broker.cli.descriptors import occupy_standard

SERVE_FLAGS: Final = ("--config", "--bind", "--port", "--data-dir", "--log-level")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. `arguments` are those after the program's name."""
    occupy_standard()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        from amqp_broker.build_info import version_line

        print(version_line())
        return 0
    flags = plain_serve_flags(given)
    if flags is not None:
        from amqp_broker.cli.serve import run_serve

        return run_serve(flags)
    from amqp_broker.cli.app import run_app

    return run_app(given)


def plain_serve_flags(arguments: Sequence[str]) -> dict[str, str | None] | None:
    """The flags by name of a plain `serve`, each given at most once; None if it is anything else."""
    if not arguments or arguments[0] != "serve":
        return None
    flags: dict[str, str | None] = {}
    rest = iter(arguments[1:])
    for argument in rest:
        flag, separator, value = argument.partition("=")
        if not separator:
            value = next(rest, "--")
        if flag not in SERVE_FLAGS or flag in flags or value.startswith("-"):
            return None
        flags[flag] = value
    return flags

"""`amqp-broker convert-config`: a rabbitmq.conf as TOML, with what has no effect as comments."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

from amqp_broker.cli.serve import fail
from amqp_broker.config import Config
from amqp_broker.config.load import is_rabbitmq_conf, load_file
from amqp_broker.config.options import options


def run_convert(file: str) -> int:
    """Print it. 0 if the file can be used; else 1, after a line on standard error for each problem."""
    if not is_rabbitmq_conf(Path(file)):
        return fail(f"{file}: expected a file in RabbitMQ's format, whose name ends in .conf")
    notes: list[str] = []
    config, problems = load_file(file, notes)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    sys.stdout.write("".join(f"{line}\n" for line in toml_lines(config, file, notes)))
    return 0


def toml_lines(config: Config, file: str, notes: Sequence[str] = ()) -> Iterator[str]:
    """A file that loads to this configuration, with the options that are not as by default.

    file: what it was made from, as a comment. notes: what was passed over, as comments.
    """
    yield f"# Made from {file} by amqp-broker convert-config. What is not here is as by default."
    section = ""
    for path, option in options().items():
        value = reduce(getattr, path.split("."), config)
        if value == option.default:
            continue
        table, _, name = path.rpartition(".")
        if table != section:
            section = table
            yield ""
            yield f"[{section}]"
        yield f"{name} = {option.kind.toml(value)}"
    if notes:
        yield ""
        yield "# What has no effect, or less than with RabbitMQ:"
        yield from (f"# {note}" for note in notes)

"""`amqp-broker check-config`: says everything that is wrong with a configuration file, without starting
anything.

If its values are right, what they name on this machine is looked at: certificates, keys and addresses.
"""

from __future__ import annotations

import sys

from amqp_broker.config import ConfigError
from amqp_broker.config.load import load_file


def run_check(file: str, *, values_only: bool = False) -> int:
    """0 if the file can be used; else 1, after a line on standard error for each problem.

    What has no effect in a rabbitmq.conf is printed, too, and does no harm; nor does what may change by itself.
    values_only: this is not the machine that the file is for.
    """
    notes: list[str] = []
    config, problems = load_file(file, notes)
    if not problems and not values_only:
        from amqp_broker.server.preflight import Preflight

        preflight = Preflight(config)
        problems = [_in(file, problem) for problem in preflight.problems]
        notes += [str(_in(file, note)) for note in preflight.notes]
    for problem in problems:
        print(problem, file=sys.stderr)
    for note in notes:
        print(note)
    if not problems:
        print(f"{file}: ok")
    return 1 if problems else 0


def _in(file: str, found: ConfigError) -> ConfigError:
    return ConfigError(file, found.problem, key=found.key, value=found.value)

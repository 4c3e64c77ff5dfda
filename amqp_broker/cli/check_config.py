"""`amqp-broker check-config`: says everything that is wrong with a configuration file, without starting
anything.
"""

from __future__ import annotations

import sys

from amqp_broker.config.load import check_file


def run_check(file: str) -> int:
    """0 if the file can be used; else 1, after a line on standard error for each problem.

    What has no effect in a rabbitmq.conf is printed, too, and does no harm.
    """
    notes: list[str] = []
    problems = check_file(file, notes)
    for problem in problems:
        print(problem, file=sys.stderr)
    for note in notes:
        print(note)
    if not problems:
        print(f"{file}: ok")
    return 1 if problems else 0

"""Brings the tables of arguments in pages of the documentation up to date.

python -m amqp_broker.definitions --write FILE...    for example docs/queues.md docs/policies.md
python -m amqp_broker.definitions --check FILE...    exit status 1 if one of them is stale
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amqp_broker.definitions.tables import with_tables


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2 or arguments[0] not in ("--write", "--check"):
        print(__doc__, file=sys.stderr)
        return 2
    status = 0
    for name in arguments[1:]:
        path = Path(name)
        text = path.read_text("utf-8")
        if arguments[0] == "--write":
            path.write_text(with_tables(text), "utf-8")
        elif with_tables(text) != text:
            print(f"{name}: stale; run python -m amqp_broker.definitions --write {name}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

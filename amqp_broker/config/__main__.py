"""Brings conf/broker.toml, docs/configuration.md and docs/rabbitmq-conf.md up to date with what is declared.

python -m amqp_broker.config --write FILE...    the file's name says which of them it is
python -m amqp_broker.config --check FILE...    exit status 1 if one of them is stale
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from amqp_broker.config.rabbitmq_conf_page import rabbitmq_conf_page
from amqp_broker.config.render import configuration_file, configuration_page

RENDERERS = {
    "broker.toml": configuration_file,
    "configuration.md": configuration_page,
    "rabbitmq-conf.md": rabbitmq_conf_page,
}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2 or arguments[0] not in ("--write", "--check"):
        print(__doc__, file=sys.stderr)
        return 2
    status = 0
    for name in arguments[1:]:
        path = Path(name)
        if path.name not in RENDERERS:
            print(f"{name}: expected a file called {' or '.join(RENDERERS)}", file=sys.stderr)
            return 2
        text = RENDERERS[path.name]()
        if arguments[0] == "--write":
            path.write_text(text, "utf-8")
        elif not path.is_file() or path.read_text("utf-8") != text:
            print(f"{name}: stale; run python -m amqp_broker.config --write {name}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

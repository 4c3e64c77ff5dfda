"""`python -m amqp_broker` is the command `amqp-broker`."""

from __future__ import annotations

import sys

from amqp_broker.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

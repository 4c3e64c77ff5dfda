"""`amqp-broker serve`: reads the configuration, runs the broker, and turns expected failures into one line.

A configuration, a data directory or an address that cannot be used is the operator's to put right and says so
without a traceback; anything else is a defect and keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from amqp_broker.config import Config, ConfigError, load_config

INTERRUPTED = 130


def run_serve(flags: Mapping[str, str | None]) -> int:
    """Serve until told to stop; returns the exit status. Flags that were not given are missing or None."""
    overrides = {flag: value for flag, value in flags.items() if flag != "--config"}
    notes: list[str] = []
    try:
        config = load_config(flags.get("--config"), flags=overrides, notes=notes)
    except ConfigError as error:
        return fail(str(error))
    return serve(config, notes)


def serve(config: Config, notes: Sequence[str] = ()) -> int:
    """Serve with this configuration until told to stop; returns the exit status. notes: lines for the log."""
    from amqp_broker.definitions import InvalidDefinitions
    from amqp_broker.server.main import run
    from amqp_broker.store.errors import StoreError

    try:
        return run(config, notes)
    except InvalidDefinitions as error:
        return max(fail(f"{config.data.load_definitions}: {problem}") for problem in error.problems)
    except (ConfigError, StoreError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(describe(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def describe(error: OSError) -> str:
    """What the system refused, with the file it refused it for if it names one."""
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def fail(message: str) -> int:
    """One line on standard error, whatever line breaks the message has; returns the exit status."""
    print("amqp-broker: error: " + " ".join(message.split("\n")), file=sys.stderr)
    return 1

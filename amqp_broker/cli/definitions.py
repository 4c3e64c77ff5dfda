"""`amqp-broker definitions export|import|check`: RabbitMQ's definitions files and the broker that does not run.

A running broker has its data directory to itself; it loads the file that its configuration names at its start and
again on SIGHUP.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from pathlib import Path

from amqp_broker.cli.serve import describe, fail
from amqp_broker.config import Config, ConfigError, load_config
from amqp_broker.definitions import InvalidDefinitions, Problem

STANDARD: str = "-"


def run_check(file: str, flags: Mapping[str, str | None], vhost: str | None) -> int:
    """0 if the file could be loaded into a new broker; else 1, after a line for each problem."""
    from amqp_broker.server.definitions import check_text

    try:
        config = _config(flags)
        problems, warnings = check_text(config, _input(file), vhost or config.auth.default_vhost)
    except (ConfigError, OSError) as error:
        return _failed(error)
    _warn(file, warnings)
    for problem in problems:
        print(f"{file}: {problem}", file=sys.stderr)
    if not problems:
        print(f"{file}: ok")
    return 1 if problems else 0


def run_export(file: str, flags: Mapping[str, str | None]) -> int:
    from amqp_broker.server.definitions import export_stopped
    from amqp_broker.store.errors import StoreError

    try:
        config = _config(flags)
        if not config.data.directory.is_dir():
            return fail(f"{config.data.directory}: no such data directory")
        text = export_stopped(config)
        if file == STANDARD:
            sys.stdout.write(text)
        else:
            Path(file).write_text(text, "utf-8")
    except (ConfigError, StoreError, OSError) as error:
        return _failed(error)
    return 0


def run_import(file: str, flags: Mapping[str, str | None], vhost: str | None) -> int:
    from amqp_broker.server.definitions import import_stopped
    from amqp_broker.store.errors import StoreError

    try:
        config = _config(flags)
        loaded = import_stopped(config, _input(file), vhost or config.auth.default_vhost)
    except InvalidDefinitions as error:
        return max(fail(f"{file}: {problem}") for problem in error.problems)
    except (ConfigError, StoreError, OSError) as error:
        return _failed(error)
    _warn(file, loaded.warnings)
    print(f"{file}: {loaded}")
    return 0


def _config(flags: Mapping[str, str | None]) -> Config:
    return load_config(flags.get("--config"), flags={"--data-dir": flags.get("--data-dir")})


def _input(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == STANDARD else Path(file).read_bytes()


def _warn(file: str, warnings: list[Problem]) -> None:
    for warning in warnings:
        print(f"{file}: warning: {warning}", file=sys.stderr)


def _failed(error: Exception) -> int:
    if isinstance(error, OSError):
        return fail(describe(error))
    if getattr(error, "code", 0) == errno.EWOULDBLOCK:
        return fail(f"{error}; a running broker loads the file of data.load_definitions again on SIGHUP")
    return fail(str(error))

"""`amqp-broker definitions export|import|check`: RabbitMQ's definitions files, to a broker and from it.

Like other commands, they ask a running broker, and read and change the data directory of one that does not run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from amqp_broker.cli.administer import Broker
from amqp_broker.cli.serve import describe, fail
from amqp_broker.config import Config, ConfigError, load_config

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
    text = Broker(flags.get("--config"), flags.get("--data-dir")).ask("definitions.export")["text"]
    if file == STANDARD:
        sys.stdout.write(text)
        return 0
    try:
        _write_private(file, text)
    except OSError as error:
        return _failed(error)
    return 0


def run_import(file: str, flags: Mapping[str, str | None], vhost: str | None) -> int:
    """Into the broker that runs; else into the data directory, which is made if it is not there."""
    broker = Broker(flags.get("--config"), flags.get("--data-dir"), make=True)
    try:
        text = _input(file).decode()
    except UnicodeDecodeError as error:
        return fail(f"{file}: $: not JSON: {error}")
    except OSError as error:
        return _failed(error)
    done = broker.ask("definitions.load", text=text, vhost=broker.vhost(vhost))
    for problem in done["problems"]:
        fail(f"{file}: {problem}")
    _warn(file, done["warnings"])
    if done["problems"]:
        return 1
    print(f"{file}: {done['loaded']}")
    return 0


def _config(flags: Mapping[str, str | None]) -> Config:
    return load_config(flags.get("--config"), flags={"--data-dir": flags.get("--data-dir")})


def _input(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == STANDARD else Path(file).read_bytes()


def _write_private(file: str, text: str) -> None:
    """It holds the hashes of passwords. A file that is there already keeps its mode."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as output:
        output.write(text)


def _warn(file: str, warnings: Iterable[object]) -> None:
    for warning in warnings:
        print(f"{file}: warning: {warning}", file=sys.stderr)


def _failed(error: ConfigError | OSError) -> int:
    return fail(describe(error) if isinstance(error, OSError) else str(error))

"""`amqp-broker backup`, `restore` and `verify`: a data directory copied, put back, and looked through.

All three work on files alone: no broker is asked, and backup and verify do not mind one that is running.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping

from amqp_broker.cli.serve import describe, fail
from amqp_broker.config import Config, ConfigError, load_config
from amqp_broker.store.errors import StoreError
from amqp_broker.store.verify import Report

SOUND, DAMAGED, UNREADABLE = 0, 1, 2


def run_backup(destination: str, flags: Mapping[str, str | None]) -> int:
    from amqp_broker.store.backup import back_up

    try:
        data = _config(flags).data
        done = back_up(str(data.directory), destination, data.map_size)
    except (ConfigError, StoreError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(describe(error))
    log = f", {done.batches} batches of them in the log" if done.batches else ""
    print(f"{destination}: {done.octets} octets{log}, copied from {data.directory}")
    return 0


def run_restore(backup: str, flags: Mapping[str, str | None], *, force: bool) -> int:
    from amqp_broker.server.verify import verify
    from amqp_broker.store.restore import restore

    try:
        data = _config(flags).data
        report = verify(backup)
        _tell(report)
        if report.damaged:
            return fail(f"{backup}: the backup is damaged; nothing was changed")
        done = restore(backup, str(data.directory), force=force)
    except (ConfigError, StoreError) as error:
        hint = "; --force sets aside what is there" if getattr(error, "code", 0) == errno.ENOTEMPTY else ""
        return fail(f"{error}{hint}")
    except OSError as error:
        return fail(describe(error))
    if done.set_aside:
        print(f"{data.directory}: what was there is in {done.set_aside}")
    print(f"{data.directory}: restored from {backup}: {_summary(report)}")
    return 0


def run_verify(path: str) -> int:
    """0 for a sound data directory, 1 for a damaged one, 2 for one that cannot be read."""
    from amqp_broker.server.verify import verify

    try:
        report = verify(path)
    except StoreError as error:
        fail(str(error))
        return UNREADABLE
    except OSError as error:
        fail(describe(error))
        return UNREADABLE
    _tell(report)
    print(f"{path}: {_summary(report)}")
    return DAMAGED if report.damaged else SOUND


def _config(flags: Mapping[str, str | None]) -> Config:
    return load_config(flags.get("--config"), flags={"--data-dir": flags.get("--data-dir")})


def _tell(report: Report) -> None:
    """A line for everything that was found."""
    for finding in report.damage:
        print(f"{report.path}: {finding}", file=sys.stderr)
    for warning in report.warnings:
        print(f"{report.path}: warning: {warning}", file=sys.stderr)
    if report.untold:
        print(f"{report.path}: and {report.untold} more", file=sys.stderr)


def _summary(report: Report) -> str:
    found = (
        f"{report.queues} queues, {report.messages} messages of {report.octets} octets "
        f"({report.shared} bodies shared), {report.definitions} definitions"
    )
    if report.pending:
        found += f", {report.pending} batches in the log that are not counted"
    if not report.pages:
        found += "; the pages of the file were not checked"
    return found + ("; damaged" if report.damaged else "; sound")

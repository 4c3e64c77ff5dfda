"""Has a client's program play scenarios against one broker, and reads what it says of each.

The program gets the names as arguments and prints one JSON line for each, in order. One that says nothing for too
long, or ends early, has failed in the scenario that was due; it is started again for those that are left.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interop.runner.brokers import Authority, Broker
from interop.runner.clients import Program
from interop.runner.control import Control

OUTCOMES: Final = ("ok", "failed", "cannot")
SECONDS: Final = 120.0


@dataclass
class Result:
    scenario: str
    outcome: str
    detail: str


def environment(broker: Broker, authority: Authority, control: Control) -> dict[str, str]:
    kept = {
        key: text
        for key, text in os.environ.items()
        if not key.startswith("AMQP_") and key not in ("PYTHONSAFEPATH", "VIRTUAL_ENV")
    }
    return kept | {
        "AMQP_HOST": "127.0.0.1",
        "AMQP_PORT": str(broker.port),
        "AMQP_TLS_PORT": str(broker.tls_port),
        "AMQP_CA": str(authority.ca),
        "AMQP_OTHER_CA": str(authority.other_ca),
        "AMQP_CONTROL": str(control.port),
        "AMQP_PREFIX": f"interop-{secrets.token_hex(4)}",
    }


def play(program: Program, names: list[str], broker: Broker, authority: Authority) -> Iterator[Result]:
    """The result of each scenario as it comes."""
    control = Control(broker)
    try:
        left = list(names)
        while left:
            variables = environment(broker, authority, control) | program.environment
            for result in _one_process(program, list(left), variables):
                if result.outcome == "failed":
                    control.end_alarm()
                left.remove(result.scenario)
                yield result
    finally:
        control.close()


def _one_process(program: Program, names: list[str], variables: dict[str, str]) -> Iterator[Result]:
    """What one process says of these scenarios, until it has said all, or failed in one."""
    # What programs and their libraries leave in the place for temporary files goes when they have ended.
    left = tempfile.TemporaryDirectory(prefix="interop-", ignore_cleanup_errors=True)
    with left as place, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*program.command, *names],
            cwd=program.folder,
            env=variables | {"TMPDIR": place},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        try:
            for name in names:
                result = _next_result(lines, name)
                if result is None:
                    errors.seek(0)
                    said = errors.read().decode(errors="replace").strip()[-600:]
                    why = f"it said nothing for {SECONDS:.0f} s" if process.poll() is None else "it ended"
                    yield Result(name, "failed", f"{why}; {said}" if said else why)
                    return
                yield result
        finally:
            _end(process)
            reader.join(5)


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _next_result(lines: queue.Queue[str | None], name: str) -> Result | None:
    while True:
        try:
            line = lines.get(timeout=SECONDS)
        except queue.Empty:
            return None
        if line is None:
            return None
        try:
            said = json.loads(line)
            found = Result(said["scenario"], said["outcome"], str(said.get("detail", "")))
        except (ValueError, KeyError, TypeError):
            continue  # libraries print, too
        if found.scenario == name and found.outcome in OUTCOMES:
            return found


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for the program a little, and end it and what it left running."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    if process.poll() is None:
        process.kill()
    for pid in _session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _session(leader: int) -> list[int]:
    """The processes of the session that a program leads, itself left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != leader and os.getsid(pid) == leader:
                found.append(pid)
    return found

"""What the Python programs share: where the broker is, the control line, and the JSON line for each scenario.

It knows no client library. A scenario is a function that returns a word of detail or None, and raises when something
is not as it should be; `Cannot` says that the client has no way to express it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

HOST = os.environ["AMQP_HOST"]
PORT = int(os.environ["AMQP_PORT"])
TLS_PORT = int(os.environ["AMQP_TLS_PORT"])
CA = os.environ["AMQP_CA"]
OTHER_CA = os.environ["AMQP_OTHER_CA"]
PREFIX = os.environ["AMQP_PREFIX"]
URL = f"amqp://guest:guest@{HOST}:{PORT}/"
LARGE = bytes(range(256)) * 32768  # 8 MiB
PATIENCE = 30.0

Scenario = Callable[[], "Awaitable[str | None] | str | None"]


class Cannot(Exception):
    """The client has no way to express the scenario; the message says what is missing."""


def same(actual: object, expected: object, what: str = "") -> None:
    """Raise AssertionError unless both are equal."""
    if actual != expected:
        raise AssertionError(f"{what + ': ' if what else ''}{actual!r:.300} instead of {expected!r:.300}")


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def control(*words: object) -> str:
    """Ask the runner for something from outside; what it says behind `ok`."""
    with socket.create_connection(("127.0.0.1", int(os.environ["AMQP_CONTROL"])), timeout=110) as line:
        line.sendall((" ".join(map(str, words)) + "\n").encode())
        answer = line.makefile().readline().strip()
    kind, _, rest = answer.partition(" ")
    if kind != "ok":
        raise AssertionError(f"{' '.join(map(str, words))}: {answer}")
    return rest


async def ask(*words: object) -> str:
    """`control`, while the event loop goes on."""
    return await asyncio.to_thread(control, *words)


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What `condition` returns once it is true; asked again and again, with a little rest between."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)
    return found


async def eventually(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE) -> Any:
    """`until` for a coroutine function."""
    deadline = time.monotonic() + seconds
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.02)
    return found


def main(scenarios: Mapping[str, Scenario]) -> None:
    """Play the scenarios that the command line names, all without any, and print what came of each."""
    for name in sys.argv[1:] or scenarios:
        outcome, detail = _play(scenarios.get(name))
        print(json.dumps({"scenario": name, "outcome": outcome, "detail": detail}), flush=True)


def _play(scenario: Scenario | None) -> tuple[str, str]:
    if scenario is None:
        return "failed", "the program does not know this scenario"
    try:
        detail = scenario()
        if inspect.isawaitable(detail):
            detail = asyncio.run(_awaited(detail))
    except Cannot as reason:
        return "cannot", str(reason)
    except Exception as error:
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {error}"[:400]
    return "ok", detail or ""


async def _awaited(scenario: Awaitable[str | None]) -> str | None:
    return await asyncio.wait_for(scenario, 110)

"""The process that floods: `python -m tests.floods.flooder PORT SCALE`, told on its input what to do.

A line `NAME SECONDS` has it prepare a flood, say `ready`, go on for that long once it has read another line, and say
how much it sent. A flood whose connection the broker closes ends early, which is no failure.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable

from tests.floods.floods import FLOODS
from tests.floods.peer import PATIENCE, Peer


def wait_calm(port: int) -> None:
    """Until the queues of the flood before are gone: the broker may not have come to its end yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with Peer(port) as peer:
                for queue in ("flood", "q0"):
                    peer.call("queue.declare", queue=queue, exclusive=True)
                    peer.call("queue.delete", queue=queue)
                return
        except AssertionError:
            assert time.monotonic() < deadline, "the flood before has not ended"
            time.sleep(0.01)


def run(
    port: int, name: str, seconds: float, scale: float, wait_told: Callable[[], object]
) -> tuple[int, int]:
    """Octets sent and received."""
    wait_calm(port)
    with Peer(port) as peer:
        steps = FLOODS[name](peer, scale)
        next(steps)
        print("ready", flush=True)
        wait_told()
        peer.deadline = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            for _ in steps:
                if peer.over:
                    break
        return peer.sent, peer.received


def main() -> None:
    # What measures is to come first: the broker shall be busy, not the machine.
    os.nice(5)
    port, scale = int(sys.argv[1]), float(sys.argv[2])
    for line in sys.stdin:
        name, seconds = line.split()
        sent, received = run(port, name, float(seconds), scale, sys.stdin.readline)
        print(f"{sent} {received}", flush=True)


if __name__ == "__main__":
    main()

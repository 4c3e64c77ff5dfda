"""The writer process: `python -m amqp_broker.store.child SOCKET LOCK PATH MAP_SIZE DURABILITY LOGGED`.

Started by `process.ProcessCarrier` with two inherited descriptors: its end of a socket pair, and the locked
store.lock, which it keeps for as long as it lives. It serves until the broker closes its end, also when the
broker was killed, and takes no notice of signals: the broker decides when to stop. It loads
little, to start soon.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from functools import partial
from typing import Final

from amqp_broker.store.environment import log_path, open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.logged import LoggedWriter
from amqp_broker.store.loop import refuse, serve
from amqp_broker.store.writer import Writer

STDERR: Final = 2
# Seconds for which one thread may keep the other from running.
SWITCH_INTERVAL: Final = 0.0005
# Objects that are made before those among them are looked for that refer to each other. Batches are made of many and
# have none; an error that is kept for later may.
COLLECT_AFTER: Final = 200_000


def main(arguments: list[str]) -> int:
    """Serve until the broker is gone; the process's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    descriptor = int(arguments[0])
    # The log is not to wait for what LMDB is given beside it.
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    path = arguments[2]
    try:
        reopen = partial(open_environment, path, map_size=int(arguments[3]), durability=arguments[4])
        writer = LoggedWriter(
            Writer(reopen(), path, reopen=reopen),
            log_path(path),
            logged=arguments[5] == "logged",
            complain=complain,
        )
    except StoreError as error:
        refuse(descriptor, error)
        return 1
    serve(descriptor, writer, complain)
    writer.close()
    return 0


def complain(text: str) -> None:
    """Say what nobody waits for: the broker has it logged."""
    # One that was killed does not listen any more.
    with contextlib.suppress(OSError):
        os.write(STDERR, f"{text}\n".encode(errors="replace"))


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # There is nothing left to tear down that the kernel does not do faster.
    os._exit(status)

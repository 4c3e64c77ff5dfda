"""The writer as a process of its own, so that committing takes neither the broker's core nor its interpreter
lock.

The child inherits the lock of the store and one end of a socket pair. It outlives a broker that is killed for
as long as it takes to finish what it was sent. What it says on standard error is logged like all else.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Final

import anyio.to_thread

import amqp_broker
from amqp_broker.store.carrier import Carrier

if TYPE_CHECKING:
    from amqp_broker.store.open import DataDirectory

_log = logging.getLogger(__name__)

# Seconds for which the lines of a writer that has ended are waited for.
LAST_WORDS: Final = 1.0


class ProcessCarrier(Carrier):
    """Carries batches to a child process; pid is None before `spawn`."""

    def __init__(self, directory: DataDirectory) -> None:
        super().__init__(directory.path)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def spawn(self) -> None:
        directory = self._directory
        lock = directory.store_lock()
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)  # noqa: FBT003
            arguments = [str(theirs.fileno()), str(lock), directory.path]
            arguments += [str(directory.map_size), directory.durability]
            arguments.append("logged" if directory.logged else "direct")
            self._process = subprocess.Popen(  # noqa: S603  this interpreter and this package
                # -P: what lies in the working directory is none of its modules.
                [sys.executable, "-P", "-m", "amqp_broker.store.child", *arguments],
                stdin=subprocess.DEVNULL,
                # Whoever reads the broker's output to its end must not wait for an orphaned writer.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(), lock),
                env=_environment(),
                # Out of the terminal's reach: an interrupt is for the broker.
                process_group=0,
            )
        assert self._process.stderr is not None
        self._listener = threading.Thread(
            target=_log_lines, args=(self._process.stderr,), name="store lines", daemon=True
        )
        self._listener.start()
        directory.give_store_lock()
        self._socket = ours

    async def _ended(self) -> None:
        if self._process is not None and self._listener is not None:
            await anyio.to_thread.run_sync(self._process.wait)
            # It has what the writer said; whoever else holds the other end is not waited for.
            await anyio.to_thread.run_sync(self._listener.join, LAST_WORDS)


def _log_lines(said: IO[bytes]) -> None:
    with said:
        for line in said:
            _log.warning("the store's writer: %s", line.decode(errors="replace").rstrip())


def _environment() -> dict[str, str]:
    """Ours, with the package found where we found it, whatever the working directory is."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(amqp_broker.__file__)))
    search = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{search}" if search else home}

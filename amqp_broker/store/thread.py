"""The writer as a thread of this process: for an embedded broker and for tests.

It speaks the same protocol over the same kind of socket as the writer process; only the place differs. The
thread owns every write transaction of the environment, which it shares with this process's reader.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING

import anyio.to_thread

from amqp_broker.store.carrier import Carrier
from amqp_broker.store.environment import log_path
from amqp_broker.store.errors import StoreError
from amqp_broker.store.logged import LoggedWriter
from amqp_broker.store.loop import refuse, serve
from amqp_broker.store.writer import Writer

if TYPE_CHECKING:
    from amqp_broker.store.open import DataDirectory

_log = logging.getLogger(__name__)


class ThreadCarrier(Carrier):
    """Carries batches to a thread; the directory must have been opened as embedded."""

    def __init__(self, directory: DataDirectory) -> None:
        super().__init__(directory.path)
        self._directory = directory
        self._thread: threading.Thread | None = None

    def spawn(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003
        self._socket = ours
        self._thread = threading.Thread(target=self._run, args=(theirs,), name="store writer", daemon=True)
        self._thread.start()

    def _run(self, connection: socket.socket) -> None:
        directory = self._directory
        with connection:
            try:
                writer = LoggedWriter(
                    Writer(directory.environment, directory.path, directory.resizing),
                    log_path(directory.path),
                    logged=directory.logged,
                    complain=_log.warning,
                )
            except StoreError as error:
                refuse(connection.fileno(), error)
            else:
                try:
                    serve(connection.fileno(), writer, _log.warning)
                finally:
                    writer.close()

    async def _ended(self) -> None:
        if self._thread is not None:
            await anyio.to_thread.run_sync(self._thread.join)

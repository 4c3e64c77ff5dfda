"""The end of a turn: wake the writers of connections, and have what the turn changed made durable.

`Commits.finish_turn` is called by whoever ran a turn, before it waits again. `Commits.run` is the committer: it
takes all that gathered since the last commit, has it written in one transaction, and lets the waiters speak. While
it waits for the disk the next batch gathers by itself. A batch that nobody waits for may wait a moment for company.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from amqp_broker.session.settings import Turn
from amqp_broker.store.errors import StoreDied, StoreError

if TYPE_CHECKING:
    from amqp_broker.server.client import Client
    from amqp_broker.session.connection import Connection
    from amqp_broker.store.batch import Batch
    from amqp_broker.store.journal import JournalStore

_log = logging.getLogger(__name__)

LAZY: Final = 0.005
RETRY: Final = 1.0
STORE_FAILS: Final = "the store cannot write"


class Committing(Protocol):
    """What the committer needs of a carrier: see `store.carrier.Carrier`."""

    async def commit(self, batch: Batch) -> None: ...


class Commits:
    """uncommitted_max: octets that may wait for the disk before `crowded` is true and publishers pause."""

    def __init__(self, store: JournalStore, carrier: Committing, turn: Turn, uncommitted_max: int) -> None:
        self.store = store
        self.turn = turn
        self.clients: dict[Connection, Client] = {}
        self.uncommitted_max = uncommitted_max
        self.failing: str | None = None
        self._carrier = carrier
        self._work = anyio.Event()
        self._room = anyio.Event()
        self._idle = True
        self._closing = False

    @property
    def crowded(self) -> bool:
        return self.store.pending_bytes > self.uncommitted_max

    def finish_turn(self) -> None:
        """Next steps: `Client.write` for each connection with output, `Commits.run` for the batch."""
        for connection in self.turn.settle():
            client = self.clients.get(connection)
            if client is not None:
                client.wake()
        if self._idle and (self.store.urgent or not self.store.empty):
            self._work.set()

    async def wait_room(self) -> None:
        """Wait until fewer octets wait for the disk."""
        while self.crowded:
            await self._room.wait()

    async def run(self) -> None:
        """Commit until `close`. Raises StoreDied if the writer is gone."""
        while not (self._closing and self.store.empty):
            await self._wait_work()
            batch = self.store.seal(self._closing)
            if batch is None:
                continue
            if batch.payload:
                await self._commit(batch)
            self.store.committed(batch.number)
            if not self.crowded:
                self._room.set()
                self._room = anyio.Event()
            self.finish_turn()
        last = self.store.seal(closing=True)
        if last is not None:
            await self._commit(last)
            self.store.committed(last.number)

    def close(self) -> None:
        """Commit what is there, then end `run`."""
        self._closing = True
        self._work.set()

    async def _wait_work(self) -> None:
        """Until somebody waits for the current batch, or it is a moment old, or the broker closes."""
        self._idle = True
        if self.store.empty and not self._closing:
            await self._next_turn()
        if not self._hurried():
            with anyio.move_on_after(LAZY):
                while not self._hurried():
                    await self._next_turn()
        self._idle = False

    async def _next_turn(self) -> None:
        self._work = anyio.Event()
        await self._work.wait()

    def _hurried(self) -> bool:
        return self._closing or self.store.urgent

    async def _commit(self, batch: Batch) -> None:
        """Write a batch, trying again for as long as the disk refuses: nothing is confirmed meanwhile."""
        while True:
            try:
                await self._carrier.commit(batch)
            except StoreDied:
                raise
            except StoreError as error:
                if self.failing is None:
                    _log.error("%s; publishers are blocked, trying again every %g s", error, RETRY)
                self.failing = STORE_FAILS
                if self._closing:
                    raise
                await anyio.sleep(RETRY)
            else:
                if self.failing is not None:
                    _log.warning("the store can write again")
                self.failing = None
                return

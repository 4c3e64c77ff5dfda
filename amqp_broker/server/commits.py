"""The end of a turn: write the connections' output, and have what the turn changed made durable.

`Commits.finish_turn` is called by whoever ran a turn, before the event loop goes on. `Commits.run` is the committer:
it takes all that gathered since the last commit, has it written in one transaction, and lets the waiters speak. While
it waits for the disk the next batch gathers by itself. A batch that nobody waits for may wait a moment for company.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import anyio

from amqp_broker.session.settings import Turn
from amqp_broker.store.errors import StoreDied, StoreError

if TYPE_CHECKING:
    from amqp_broker.server.client import Client
    from amqp_broker.session.connection import Connection
    from amqp_broker.store.batch import Batch, BatchStore
    from amqp_broker.store.carrier import Carrier

_log = logging.getLogger(__name__)

LAZY: Final = 0.005
RETRY: Final = 1.0
STORE_FAILS: Final = "the store cannot write"


class Commits:
    """clients: by their connection. held_back: clients that are not read from until there is room and no alarm.

    failing: why nothing can be committed now, else None.
    """

    def __init__(self, store: BatchStore, carrier: Carrier, turn: Turn, uncommitted_max: int) -> None:
        self.store = store
        self.turn = turn
        self.clients: dict[Connection, Client] = {}
        self.held_back: list[Client] = []
        self.failing: str | None = None
        self._uncommitted_max = uncommitted_max
        self._carrier = carrier
        self._work = asyncio.Event()
        self._idle = True
        self._closing = False
        self._turn_follows = False

    @property
    def crowded(self) -> bool:
        """Whether so much waits for the disk that publishers must pause."""
        return self.store.pending_bytes > self._uncommitted_max

    def finish_turn(self) -> None:
        """Next steps: `Client.flush` for each connection with output, `Commits.run` for the batch."""
        for connection in self.turn.settle():
            client = self.clients.get(connection)
            if client is not None:
                client.flush()
        if self._idle and not self.store.empty:
            self._work.set()
        if self.turn.dirty and not self._turn_follows:
            # Room that was made by writing was filled at once; the others come first.
            self._turn_follows = True
            asyncio.get_running_loop().call_soon(self._follow)

    def _follow(self) -> None:
        self._turn_follows = False
        self.finish_turn()

    def release_held_back(self) -> None:
        """Read again from those for whom neither an alarm nor the disk is a reason not to."""
        if self.crowded or not self.held_back:
            return
        waiting = self.held_back
        self.held_back = []
        for client in waiting:
            if client.connection.paused and not client.connection.finished:
                self.held_back.append(client)
            else:
                client.go_on()

    async def run(self) -> None:
        """Commit until `close`. Raises StoreDied if the writer is gone."""
        while not (self._closing and self.store.empty):
            await self._wait_work()
            await self._commit_next(closing=False)
        await self._commit_next(closing=True)

    def close(self) -> None:
        """Commit what is there, then end `run`."""
        self._closing = True
        self._work.set()

    async def _commit_next(self, *, closing: bool) -> None:
        batch = self.store.seal(closing)
        if batch is None:
            return
        if batch.payload:
            await self._commit(batch)
        self.store.committed(batch.number)
        self.finish_turn()
        self.release_held_back()

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
        self._work.clear()
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

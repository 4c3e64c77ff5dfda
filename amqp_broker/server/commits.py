"""The end of a turn: write the connections' output, and have what the turn changed made durable.

`Commits.finish_turn` is called by whoever ran a turn, before the event loop goes on. If no commit is under way it
sends all that gathered since the last one to the writer; the answer comes back as a callback, which lets the
waiters speak and sends what gathered meanwhile. There is no timer on that way: the wait for the disk is what makes
batches. Only a batch that nobody waits for is held for a moment, for company.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import anyio

from amqp_broker.broker.memory import Memory
from amqp_broker.server.clock import Cancellable, ServerClock
from amqp_broker.server.timer import Timer
from amqp_broker.session.settings import Turn
from amqp_broker.store.errors import StoreDied, StoreError

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.config import Limits
    from amqp_broker.server.client import Client
    from amqp_broker.session.connection import Connection
    from amqp_broker.store.batch import Batch, BatchStore
    from amqp_broker.store.carrier import Carrier

_log = logging.getLogger(__name__)

LAZY: Final = 0.005
RETRY: Final = 1.0
# Octets from and to clients after which it is worth looking at what is in memory.
MOVED: Final = 8 << 20
STORE_FAILS: Final = "the store cannot write"


class Commits:
    """clients: by their connection. timer: the time, and what falls due. memory: what messages take of it.
    moved: octets in and out since memory was looked at.
    held_back: clients that are not read from until there is room and no alarm.

    failing: why nothing can be committed now, else None. ending: no turn is finished any more.
    """

    def __init__(
        self,
        store: BatchStore,
        carrier: Carrier,
        turn: Turn,
        broker: Broker,
        limits: Limits,
        clock: ServerClock,
    ) -> None:
        self.store = store
        self.turn = turn
        self.timer = Timer(broker.timetable, clock, self.finish_turn)
        self.memory = Memory(broker, limits.messages_in_memory)
        self.moved = 0
        self.clients: dict[Connection, Client] = {}
        self.held_back: list[Client] = []
        self.failing: str | None = None
        self.ending = False
        self._uncommitted_max = limits.uncommitted_max
        self._carrier = carrier
        self._call_later = clock.call_later
        self._under_way: Batch | None = None
        self._lazily: Cancellable | None = None
        self._unsent = anyio.Event()
        self._error: StoreError | None = None
        self._closing = False
        self._seal_again: Cancellable | None = None
        self._ended = asyncio.Event()
        self._deserted = asyncio.Event()
        self._turn_follows = False

    @property
    def crowded(self) -> bool:
        """Whether so much waits for the disk that those who add to it must pause."""
        return self.store.pending_bytes > self._uncommitted_max

    def finish_turn(self) -> None:
        """Next steps: `Client.flush` for each connection with output, `_commit` for the batch."""
        if self.ending:
            return
        try:
            self._finish_turn()
        except StoreError as error:
            self.give_up(error)

    def give_up(self, error: StoreError) -> None:
        """The store does not give back what a turn needs: end the broker, and let nothing of the turn leave it.

        Half of it is in the current batch and in the output, of which neither is written: a start finds the turns
        before it whole, and nothing of this one.
        """
        self.ending = True
        self._end(error)

    def _finish_turn(self) -> None:
        for connection in self.turn.settle():
            client = self.clients.get(connection)
            if client is not None:
                client.flush()
        if self.turn.behind:
            self._let_fall_behind()
        if self._under_way is None and not self.store.empty:
            if self.store.urgent or self._closing:
                self._commit()
            elif self._lazily is None and self._seal_again is None:
                self._lazily = self._call_later(LAZY, self._commit)
        self.timer.follow()
        if self.moved > MOVED:
            self.moved = 0
            self.memory.relieve()
        if self.turn.dirty:
            # Room that was made by writing was filled at once; the others come first.
            self._follow_soon()

    def _let_fall_behind(self) -> None:
        behind = self.turn.behind
        self.turn.behind = []
        for connection in behind:
            client = self.clients.get(connection)
            if client is not None:
                client.fall_behind()
                self.release(connection)

    def release_held_back(self) -> None:
        """Read again from those for whom neither an alarm nor the disk is a reason not to."""
        if not self.held_back:
            return
        crowded = self.crowded
        waiting = self.held_back
        self.held_back = []
        for client in waiting:
            if _must_wait(client, crowded):
                self.held_back.append(client)
            else:
                client.go_on()

    def release(self, connection: Connection) -> None:
        """The same for one whose question was answered: as many may be, the others are not looked at each time."""
        client = self.clients.get(connection)
        if client is not None and client.held_back and not _must_wait(client, self.crowded):
            self.held_back.remove(client)
            client.go_on()

    def forget(self, connection: Connection) -> None:
        """A connection is closed and needs no more turns."""
        del self.clients[connection]
        if not self.clients:
            self._deserted.set()

    async def wait_no_clients(self) -> None:
        while self.clients:
            self._deserted.clear()
            await self._deserted.wait()

    async def run(self) -> None:
        """Keep commits going until `close` has had the last one made. Raises StoreDied, or StoreError at the end."""
        loop = asyncio.get_running_loop()
        answers = self._carrier.fileno()
        loop.add_reader(answers, self._answered)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_large)
                await self._ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            loop.remove_reader(answers)
            self.ending = True
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Commit what is there, then end `run`."""
        self._closing = True
        if self._under_way is None:
            self._commit()

    def _follow_soon(self) -> None:
        if not self._turn_follows:
            self._turn_follows = True
            asyncio.get_running_loop().call_soon(self._follow)

    def _follow(self) -> None:
        self._turn_follows = False
        self.timer.begin_turn()
        self.finish_turn()

    def _commit(self) -> None:
        """Send the current batch to the writer. Next step: `_answered`."""
        if self._lazily is not None:
            self._lazily.cancel()
            self._lazily = None
        if self._under_way is not None or self.ending:
            return
        try:
            batch = self.store.seal(closing=self._closing)
        except StoreError as error:
            self._cannot_seal(error)
            return
        if batch is None or not batch.payload:
            self._note_success()
        if batch is None:
            if self._closing:
                self._ended.set()
        elif not batch.payload:
            # All of it came and went within the batch: there is nothing to wait for.
            self.store.committed(batch.number)
            self._follow_soon()
            self.release_held_back()
            if self._closing:
                self._commit()
        else:
            self._under_way = batch
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        try:
            if not self._carrier.send_nowait(batch):
                self._unsent.set()
        except StoreDied as error:
            self._end(error)

    async def _send_large(self) -> None:
        """Send the batches that the socket does not take at once."""
        while True:
            await self._unsent.wait()
            self._unsent = anyio.Event()
            batch = self._under_way
            if batch is not None:
                try:
                    await self._carrier.send(batch)
                except StoreDied as error:
                    self._end(error)

    def _answered(self) -> None:
        """The writer has answered: let the waiters of the batch speak, and send the next one."""
        try:
            answers = self._carrier.answers_nowait()
        except StoreDied as error:
            self._end(error)
            return
        for answer in answers:
            batch = self._under_way
            if batch is None or batch.number != answer[0]:
                continue
            try:
                self._carrier.outcome(batch, answer)
            except StoreError as error:
                self._failed(batch, error)
                continue
            self._note_success()
            self._under_way = None
            self.timer.begin_turn()
            self.store.committed(batch.number)
            self.finish_turn()
            self.release_held_back()
            if self._closing and self._under_way is None:
                self._commit()

    def _failed(self, batch: Batch, error: StoreError) -> None:
        """The disk refuses: try the same batch again until it does not. Nothing is confirmed meanwhile."""
        if self._closing:
            self._end(error)
            return
        self._note_failure(error)
        self._call_later(RETRY, self._send, batch)

    def _cannot_seal(self, error: StoreError) -> None:
        """There is no memory to put a batch together: it goes on gathering until there is."""
        if self._closing:
            self._end(error)
            return
        self._note_failure(error)
        if self._seal_again is None:
            self._seal_again = self._call_later(RETRY, self._try_to_seal)

    def _try_to_seal(self) -> None:
        self._seal_again = None
        self._commit()

    def _note_failure(self, error: StoreError) -> None:
        if self.failing is None:
            _log.error(
                "%s; publishers are blocked, %d octets wait, trying again every %g s",
                error,
                self.store.pending_bytes,
                RETRY,
            )
        self.failing = STORE_FAILS

    def _note_success(self) -> None:
        if self.failing is not None:
            _log.warning("the store can write again; %d octets wait for it", self.store.pending_bytes)
            self.failing = None

    def _end(self, error: StoreError) -> None:
        if self._error is None:
            self._error = error
        self._ended.set()


def _must_wait(client: Client, crowded: bool) -> bool:
    """Whether there is a reason not to read from it. crowded: too much waits for the disk."""
    connection = client.connection
    blocked = connection.paused or client.backed_up or client.is_judged or (crowded and client.adding)
    return blocked and not connection.finished

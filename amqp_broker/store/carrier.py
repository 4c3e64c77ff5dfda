"""How batches get from the event loop to a writer and how its answers come back.

A `Carrier` holds the broker's end of a socket pair; where the writer runs is a subclass's business. Several
batches may be under way: they are sent, applied and answered in the order in which `commit` was called.
This module does not know what is in a payload.
"""

from __future__ import annotations

import contextlib
import marshal
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.loop import ANSWER, OK, READY, REQUEST

if TYPE_CHECKING:
    from amqp_broker.store.batch import Batch

# number, status, body: see `loop`.
Answer: TypeAlias = tuple[int, int, bytes]

# The socket's buffer takes a request of this size at once when it is empty.
SMALL: Final = 65536
_RECEIVE: Final = 65536


class Carrier(ABC):
    """Has batches committed. `start` first, `close` last; several may wait in `commit` at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._sending = anyio.Lock(fast_acquire=True)
        self._receiving = anyio.Lock(fast_acquire=True)

    @abstractmethod
    def spawn(self) -> None:
        """Set the writer going without waiting for it, so that other work can go on; once only."""

    @abstractmethod
    async def _ended(self) -> None:
        """Wait until the writer has finished, its socket being closed."""

    async def start(self) -> None:
        """Wait until the writer is ready, spawning it if need be. Raises StoreError if it cannot start."""
        if self._socket is None:
            self.spawn()
        await self._answer(READY)

    async def commit(self, batch: Batch) -> None:
        """Have a batch written; it is durable on return, and `batch.released` tells what it released.

        Raises StoreError if it was not written, in which case it has to be committed again before any later batch
        can be; StoreDied if the writer is gone. When cancelled, whether it was written is unknown.
        """
        await self.send(batch)
        async with self._receiving:
            batch.released = await self._answer(batch.number)

    # The same in two halves, for an event loop that is told when the socket can be read.

    def fileno(self) -> int:
        """The socket that answers come from."""
        return self._connection().fileno()

    def send_nowait(self, batch: Batch) -> bool:
        """Send a batch whole without waiting; False, with nothing sent, if that may not be possible.

        Raises StoreDied.
        """
        size = REQUEST.size + len(batch.payload)
        if size > SMALL or self._sending.statistics().locked:
            return False
        connection = self._connection()
        try:
            sent = connection.sendmsg([REQUEST.pack(batch.number, len(batch.payload)), batch.payload])
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._died() from error
        if sent < size:
            raise self._died()
        return True

    async def send(self, batch: Batch) -> None:
        """Send a batch, waiting for room as needed. Raises StoreDied."""
        payload = batch.payload
        async with self._sending:
            await self._send(REQUEST.pack(batch.number, len(payload)), payload)

    def answers_nowait(self) -> list[Answer]:
        """The answers that have come. Raises StoreDied if there are none because the writer is gone."""
        self._receive()
        answers: list[Answer] = []
        while (answer := self._cut_answer()) is not None:
            answers.append(answer)
        return answers

    def outcome(self, batch: Batch, answer: Answer) -> None:
        """Note the answer to a batch in it. Raises StoreError if it was not written."""
        _, status, body = answer
        if status != OK:
            cause, code = marshal.loads(body)  # noqa: S302  from our own writer
            raise StoreError(self._path, cause, code)
        if body:
            batch.released = marshal.loads(body)  # noqa: S302  from our own writer

    async def close(self) -> None:
        """Let the writer finish what it was sent, and wait for its end. Harmless if there is none."""
        if self._socket is None:
            return
        with anyio.CancelScope(shield=True):
            # Closing only our direction lets the writer answer until it is done.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            await self._ended()
        self._socket.close()
        self._socket = None

    async def _send(self, header: bytes, payload: bytes) -> None:
        connection = self._connection()
        try:
            sent = connection.sendmsg([header, payload])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise self._died() from error
        if sent < len(header) + len(payload):
            # Half a request would garble the stream, so from here on it is sent to the end.
            with anyio.CancelScope(shield=True):
                await self._send_rest(connection, header, payload, sent)

    async def _send_rest(self, connection: socket.socket, header: bytes, payload: bytes, sent: int) -> None:
        unsent = memoryview(header)[sent:]
        rest = memoryview(payload)[max(0, sent - len(header)) :]
        while unsent or rest:
            await anyio.wait_writable(connection)
            try:
                count = connection.sendmsg([unsent, rest])
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._died() from error
            rest = rest[max(0, count - len(unsent)) :]
            unsent = unsent[count:]

    async def _answer(self, number: int) -> list[int]:
        """Wait for the answer to a request, passing over those to requests that nobody waits for any more."""
        released: list[int] = []
        while True:
            answered, status, body = await self._next_answer()
            if status == OK and body:
                released += marshal.loads(body)  # noqa: S302  from our own writer
            if answered == number:
                if status != OK:
                    cause, code = marshal.loads(body)  # noqa: S302  from our own writer
                    raise StoreError(self._path, cause, code)
                return released

    async def _next_answer(self) -> Answer:
        while True:
            answer = self._cut_answer()
            if answer is not None:
                return answer
            await anyio.wait_readable(self._connection())
            self._receive()

    def _cut_answer(self) -> Answer | None:
        received = self._received
        if len(received) < ANSWER.size:
            return None
        number, status, size = ANSWER.unpack_from(received)
        end = ANSWER.size + size
        if len(received) < end:
            return None
        body = bytes(received[ANSWER.size : end])
        del received[:end]
        return number, status, body

    def _receive(self) -> None:
        """Take what has come. Raises StoreDied at the end of the stream."""
        try:
            data = self._connection().recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._died() from error
        if not data:
            raise self._died()
        self._received += data

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise self._died()
        return self._socket

    def _died(self) -> StoreDied:
        return StoreDied(self._path, "the store's writer has stopped; nothing can be made durable any more")

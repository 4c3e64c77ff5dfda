"""The writer's loop: takes batches from a socket, applies them, answers each with its number.

A request is REQUEST (batch number u64, payload size u64) and the payload; an answer is ANSWER (batch number
u64, status u32, size u32) and a marshalled list of released store ids, or (cause, code) of a failure. Batches
that arrived while the last transaction was being committed share the next one. After a failure only the batch
that failed is taken, so that batches become durable in their order. The loop ends when the other side closes
its end.
"""

from __future__ import annotations

import marshal
import os
import select
import struct
from collections.abc import Callable
from typing import Final, TypeAlias

from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.logged import LoggedWriter

REQUEST: Final[struct.Struct] = struct.Struct("<QQ")
ANSWER: Final[struct.Struct] = struct.Struct("<QII")
OK: Final = 0
FAILED: Final = 1
READY: Final = 0

# A pause of the broker, in milliseconds, that is long enough for LMDB to follow the log.
PAUSE: Final = 50
# Milliseconds after which LMDB is given again what it failed to take.
RETRY: Final = 1000

Request: TypeAlias = tuple[int, bytes | memoryview]

_BUFFER: Final = 256 << 10
_MARSHAL_VERSION: Final = 2


class Inbox:
    """Cuts the byte stream of a blocking socket into requests."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = 0
        self._end = 0

    def receive(self) -> list[Request]:
        """Wait for a request; it and those that came with it; [] when the other side has closed."""
        requests: list[Request] = []
        while not requests:
            if not self._fill():
                return []
            while (request := self._next()) is not None:
                requests.append(request)
        return requests

    def _next(self) -> Request | None:
        available = self._end - self._start
        if available < REQUEST.size:
            return None
        number, size = REQUEST.unpack_from(self._buffer, self._start)
        at = self._start + REQUEST.size
        if REQUEST.size + size > len(self._buffer):
            return self._next_large(number, size)
        if available < REQUEST.size + size:
            return None
        self._start = at + size
        return number, bytes(self._buffer[at : at + size])

    def _next_large(self, number: int, size: int) -> Request | None:
        payload = memoryview(bytearray(size))
        held = self._end - self._start - REQUEST.size
        payload[:held] = self._buffer[self._start + REQUEST.size : self._end]
        self._start = self._end = 0
        while held < size:
            count = _read(self._descriptor, payload[held:])
            if not count:
                return None
            held += count
        return number, payload

    def _fill(self) -> bool:
        """Read what there is, at least one byte; False at the end of the stream."""
        held = self._end - self._start
        if self._start:
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start = 0
        count = _read(self._descriptor, self._buffer[held:])
        self._end = held + count
        return count > 0


def _read(descriptor: int, buffer: memoryview) -> int:
    try:
        return os.readv(descriptor, [buffer])
    except ConnectionResetError:
        # The other side went without reading our last answers.
        return 0


def serve(descriptor: int, writer: LoggedWriter, complain: Callable[[str], None]) -> None:
    """Serve one client on a connected, blocking stream socket until it closes. complain: told why it ended early."""
    _answer(descriptor, [ANSWER.pack(READY, OK, 0)])
    inbox = Inbox(descriptor)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    failed = 0
    released: list[int] = []
    writer.start()
    try:
        while True:
            if not failed:
                _use_pause(writer, poll)
            requests = inbox.receive()
            if not requests:
                break
            failed = _apply(descriptor, writer, requests, failed, released)
        writer.follow()
    except StoreError as error:
        complain(str(error))
    except MemoryError:
        # In the middle of anything. The broker stops, and a start takes over what the log has.
        complain("no memory left to write the store with")


def _use_pause(writer: LoggedWriter, poll: select.poll) -> None:
    """Have LMDB follow the log while nothing is asked for, and see what becomes of it."""
    while writer.unsettled and not poll.poll(PAUSE):
        if not writer.follow_soon() and poll.poll(RETRY):
            return


def refuse(descriptor: int, error: StoreError) -> None:
    """Say instead of serving that it cannot be done."""
    failure = _failure(error.cause, error.code)
    _answer(descriptor, [ANSWER.pack(READY, FAILED, len(failure)) + failure])


def _apply(
    descriptor: int, writer: LoggedWriter, requests: list[Request], failed: int, released: list[int]
) -> int:
    """Apply and answer requests; `failed` is the batch that has to come first, 0 if any may.

    released: store ids to be told with the next answer; emptied when they are.
    """
    if failed and requests[0][0] != failed:
        refusal = _failure(f"batch {failed} has not been written yet", 0)
        _answer(descriptor, [ANSWER.pack(number, FAILED, len(refusal)) + refusal for number, _ in requests])
        return failed
    try:
        released += writer.apply([payload for _, payload in requests])
    except StoreDied:
        raise
    except StoreError as error:
        failure = _failure(error.cause, error.code)
        _answer(descriptor, [ANSWER.pack(number, FAILED, len(failure)) + failure for number, _ in requests])
        return requests[0][0]
    answers = [ANSWER.pack(number, OK, 0) for number, _ in requests]
    if released:
        body = marshal.dumps(released, _MARSHAL_VERSION)
        released.clear()
        answers[-1] = ANSWER.pack(requests[-1][0], OK, len(body)) + body
    _answer(descriptor, answers)
    return 0


def _failure(cause: str, code: int) -> bytes:
    return marshal.dumps((cause, code), _MARSHAL_VERSION)


def _answer(descriptor: int, answers: list[bytes]) -> None:
    unsent = memoryview(b"".join(answers))
    while unsent:
        try:
            unsent = unsent[os.write(descriptor, unsent) :]
        except (BrokenPipeError, ConnectionResetError):
            # Nobody is left to be told; what was sent before is still to be applied.
            return

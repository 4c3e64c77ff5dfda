"""The writer's loop: takes batches from a socket, applies them, answers each with its number.

A request is REQUEST (batch number u64, payload size u64) and the payload; an answer is ANSWER (batch number
u64, status u32, size u32) and a marshalled list of released store ids, or (cause, code) of a failure. Batches
that arrived while the last transaction was being committed share the next one. After a failure only the batch
that failed is taken, so that batches become durable in their order. The loop ends when the other side closes
its end.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import struct
import sys
from typing import Any, Final

from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.writer import Writer

REQUEST: Final = struct.Struct("<QQ")
ANSWER: Final = struct.Struct("<QII")
OK: Final = 0
FAILED: Final = 1
READY: Final = 0

_BUFFER: Final = 256 << 10
_MARSHAL_VERSION: Final = 2


class Inbox:
    """Cuts the byte stream of a blocking socket into requests."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = 0
        self._end = 0

    def receive(self) -> list[tuple[int, list[Any]]]:
        """Wait for a request; it and those that came with it, decoded; [] when the other side has closed."""
        requests: list[tuple[int, list[Any]]] = []
        while not requests:
            if not self._fill():
                return []
            while (request := self._next()) is not None:
                requests.append(request)
        return requests

    def _next(self) -> tuple[int, list[Any]] | None:
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
        return number, marshal.loads(self._buffer[at : at + size])

    def _next_large(self, number: int, size: int) -> tuple[int, list[Any]] | None:
        payload = memoryview(bytearray(size))
        held = self._end - self._start - REQUEST.size
        payload[:held] = self._buffer[self._start + REQUEST.size : self._end]
        self._start = self._end = 0
        while held < size:
            count = _read(self._descriptor, payload[held:])
            if not count:
                return None
            held += count
        return number, marshal.loads(payload)

    def _fill(self) -> bool:
        """Read what there is, at least one byte; False at the end of the stream."""
        held = self._end - self._start
        if self._start:
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start = 0
        count = _read(self._descriptor, self._buffer[held:])
        self._end = held + count
        return count > 0


def _complain(error: StoreError) -> None:
    # Nobody waits for an answer here, and where the disk is full, so may be the log.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{error}\n")


def _read(descriptor: int, buffer: memoryview) -> int:
    try:
        return os.readv(descriptor, [buffer])
    except ConnectionResetError:
        # The other side went without reading our last answers.
        return 0


def serve(descriptor: int, writer: Writer) -> None:
    """Serve one client on a connected, blocking stream socket until it closes."""
    _answer(descriptor, [ANSWER.pack(READY, OK, 0)])
    inbox = Inbox(descriptor)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    failed = 0
    while True:
        while writer.untidy and not poll.poll(0):
            try:
                writer.tidy()
            except StoreError as error:
                _complain(error)
        requests = inbox.receive()
        if not requests:
            return
        try:
            failed = _apply(descriptor, writer, requests, failed)
        except StoreDied as error:
            _complain(error)
            return


def refuse(descriptor: int, error: StoreError) -> None:
    """Say instead of serving that it cannot be done."""
    failure = _failure(error.cause, error.code)
    _answer(descriptor, [ANSWER.pack(READY, FAILED, len(failure)) + failure])


def _apply(descriptor: int, writer: Writer, requests: list[tuple[int, list[Any]]], failed: int) -> int:
    """Apply and answer requests; `failed` is the batch that has to come first, 0 if any may."""
    if failed and requests[0][0] != failed:
        refusal = _failure(f"batch {failed} has not been written yet", 0)
        _answer(descriptor, [ANSWER.pack(number, FAILED, len(refusal)) + refusal for number, _ in requests])
        return failed
    try:
        released = writer.apply([sections for _, sections in requests])
    except StoreDied:
        raise
    except StoreError as error:
        failure = _failure(error.cause, error.code)
        _answer(descriptor, [ANSWER.pack(number, FAILED, len(failure)) + failure for number, _ in requests])
        return requests[0][0]
    answers = [ANSWER.pack(number, OK, 0) for number, _ in requests]
    if released:
        body = marshal.dumps(released, _MARSHAL_VERSION)
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

"""LMDB following the log, in a thread beside whoever writes that.

One step at a time, in one transaction or, where many rows go, in several. While there is no step to make, rows that are
left to remove are removed. The `Writer` is used by nobody else.
"""

from __future__ import annotations

import contextlib
import marshal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from amqp_broker.store.changes import removed_rows
from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.writer import Writer

Payload: TypeAlias = bytes | memoryview

# How many rows one transaction removes, roughly: their pages are resident until it ends.
PORTION: Final = 8192


class Step:
    """Batches that LMDB is to have; number: of the last of them. whole: all of them at once, or none.

    ended: it was tried. payloads: those that LMDB still lacks, then. released, error: what came of it; see
    `Writer.apply`.
    """

    __slots__ = ("ended", "error", "number", "payloads", "released", "whole")

    def __init__(self, payloads: list[Payload], number: int, *, whole: bool = False) -> None:
        self.payloads = payloads
        self.number = number
        self.whole = whole
        self.ended = threading.Event()
        self.released: list[int] = []
        self.error: BaseException | None = None


class Follower:
    """complain: told of what goes wrong while nobody waits for it, once until it goes well again.

    died: why nothing can be written any more, None while something can.
    """

    def __init__(self, writer: Writer, complain: Callable[[str], None]) -> None:
        self._writer: Final = writer
        self._complain = complain
        self._complained = False
        self._work: SimpleQueue[Step | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.died: BaseException | None = None

    def start(self) -> None:
        """Work beside the caller from now on; before, it is done when it is given."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="store follower", daemon=True)
            self._thread.start()

    def give(self, step: Step) -> None:
        """Have a step made. The one before must have ended."""
        if self._thread is None:
            self._make(step)
        else:
            self._work.put(step)

    def stop(self) -> None:
        """Make what was given, and no more."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            if self.died is None and self._writer.untidy and self._work.empty():
                self._tidy()
                continue
            step = self._work.get()
            if step is None:
                return
            self._make(step)

    def _make(self, step: Step) -> None:
        try:
            if self.died is not None:
                raise self.died
            self._apply(step)
            self._note_success()
        except StoreError as error:
            step.error = error
            self._note(error)
        except BaseException as error:
            # Whoever gave the step raises it.
            step.error = self.died = error
        finally:
            step.ended.set()

    def _apply(self, step: Step) -> None:
        batches = [marshal.loads(payload) for payload in step.payloads]  # noqa: S302  of our own log
        while batches:
            count = len(batches) if step.whole else _portion(batches)
            step.released += self._writer.apply(batches[:count], step.number - len(batches) + count)
            del batches[:count], step.payloads[:count]

    def _tidy(self) -> None:
        try:
            self._writer.tidy()
            self._note_success()
        except StoreError as error:
            self._note(error)
        except BaseException as error:
            self.died = error

    def _note_success(self) -> None:
        if self._complained:
            self._complained = False
            self._say("the store can be written again")

    def _note(self, error: StoreError) -> None:
        if isinstance(error, StoreDied):
            self.died = error
        elif self._thread is not None and not self._complained:
            self._complained = True
            self._say(str(error))

    def _say(self, text: str) -> None:
        # Whoever cannot be told is no reason to stop.
        with contextlib.suppress(Exception):
            self._complain(text)


def _portion(batches: list[list[Any]]) -> int:
    """How many of them are enough for one transaction."""
    rows = 0
    for at, sections in enumerate(batches):
        rows += removed_rows(sections)
        if rows >= PORTION:
            return at + 1
    return len(batches)

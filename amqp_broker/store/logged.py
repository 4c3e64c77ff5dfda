"""A writer behind the log: a batch is durable when the log has it, and LMDB follows in larger steps.

A step is made when the client pauses or when enough has gathered, beside the log, which goes on in its other half
meanwhile. Each notes in LMDB how far it went, in the same transaction, so a start applies exactly the batches that LMDB
lacks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Final

from amqp_broker.store.errors import StoreError
from amqp_broker.store.follower import Follower, Payload, Step
from amqp_broker.store.log import Log
from amqp_broker.store.log_copy import LOG_SIZE, RECORD, gap
from amqp_broker.store.place import Place
from amqp_broker.store.writer import Writer

# What gathers before LMDB follows without waiting for a pause: this part of the log, or so many batches, of which a
# small one may remove many rows.
_STEP: Final = 4
_MANY: Final = 2048
# A larger batch is not worth writing twice: it goes to LMDB at once, with all that came before it.
_LARGEST: Final = 16


def _say_nothing(_: str) -> None:
    return


class LoggedWriter:
    """A `Writer` behind a log. Made, it has brought LMDB up to what the log holds.

    logged: False applies each batch to LMDB at once (durability "process" has no use for a log), but still takes
    over what a log holds. complain: told what goes wrong beside. Raises StoreError if the log cannot be used, or does
    not go with what LMDB has.
    """

    def __init__(
        self,
        writer: Writer,
        path: str,
        *,
        logged: bool = True,
        log_size: int = LOG_SIZE,
        complain: Callable[[str], None] = _say_nothing,
    ) -> None:
        self._writer = writer
        self._logged = logged
        # What the current half of the log holds.
        self._pending: list[Payload] = []
        self._pending_size = 0
        # The step that was given last, until LMDB has it: what the other half holds.
        self._given: Step | None = None
        # Store ids that nobody was told about yet.
        self._released: list[int] = []
        self._number = writer.log_number()
        self._follower = Follower(writer, complain)
        self._log = Log(path, log_size) if logged or os.path.exists(path) else None
        if self._log is not None:
            try:
                self._catch_up(self._log)
                if logged:
                    # What LMDB has may be there without ever having been synced: see "process" in `environment`.
                    writer.sync()
                    self._log.prepare()
            except BaseException:
                self._log.close()
                raise
        self._places = [writer.place]
        if logged:
            self._places.append(Place(path))

    @property
    def unsettled(self) -> bool:
        """LMDB lacks something, or nobody has looked yet whether it does."""
        return bool(self._pending) or self._given is not None

    def start(self) -> None:
        """Have LMDB follow beside from now on, and tidy up."""
        self._follower.start()

    def apply(self, payloads: list[Payload]) -> list[int]:
        """Make batches durable together, in order; returns the store ids that lost a reference meanwhile.

        Raises StoreError if they are not, and StoreDied; see `Writer.apply`.
        """
        self._check()
        size = sum(map(len, payloads)) + len(payloads) * RECORD.size
        log = self._log
        if log is None or not self._logged or size > log.size // _LARGEST:
            self._follow_with(payloads)
        else:
            if size > log.room:
                self._make_room(log)
            log.append([(self._number + 1 + at, payload) for at, payload in enumerate(payloads)])
            self._number += len(payloads)
            self._pending += payloads
            self._pending_size += size
            much = self._pending_size > log.size // _STEP or len(self._pending) >= _MANY
            if much and self._settled():
                self._give(log)
        return self._take_released()

    def follow_soon(self) -> bool:
        """Have LMDB brought up to the log beside, or wait for the step that is under way.

        False if that failed: it is tried again now, and is not to be tried again and again.
        """
        self._check()
        if self._settled():
            if self._log is not None and self._pending:
                self._give(self._log)
            return True
        given = self._given
        if given is None or given.error is None:
            return True
        self._given = Step(given.payloads, given.number)
        self._follower.give(self._given)
        return False

    def follow(self) -> list[int]:
        """Bring LMDB up to the log; returns released store ids. Raises StoreError, StoreDied."""
        self._follow_with([])
        return self._take_released()

    def close(self) -> None:
        self._follower.stop()
        if self._log is not None:
            self._log.close()

    def _check(self) -> None:
        if self._follower.died is not None:
            raise self._follower.died
        for place in self._places:
            place.check()

    def _take_released(self) -> list[int]:
        self._settled()
        released = self._released
        self._released = []
        return released

    def _settled(self) -> bool:
        """Take note of a step that has been made; whether LMDB has all that it was given."""
        given = self._given
        if given is None:
            return True
        if not given.ended.is_set():
            return False
        self._released += given.released
        given.released = []
        if given.error is None:
            self._given = None
        return given.error is None

    def _give(self, log: Log) -> None:
        """Have LMDB take over the current half; the other one must be free."""
        self._given = Step(self._pending, self._number)
        self._pending = []
        self._pending_size = 0
        log.switch()
        self._follower.give(self._given)

    def _make_room(self, log: Log) -> None:
        """Wait until there is a half to write to. Raises StoreError, StoreDied."""
        if self._given is not None:
            self._given.ended.wait()
        if self._settled():
            self._give(log)
        else:
            self._follow_with([])

    def _follow_with(self, payloads: list[Payload]) -> None:
        """Apply what LMDB lacks and then `payloads`, these in one transaction, and wait for it.

        Raises StoreError if it fails: of `payloads` nothing is done then.
        """
        lacking = self._pending
        if self._given is not None:
            self._given.ended.wait()
            if not self._settled():
                lacking = self._given.payloads + lacking
        if lacking:
            # If it fails, what is left of both halves of the log counts as given, and is tried again as a whole.
            self._given = Step(lacking, self._number)
            self._pending = []
            self._pending_size = 0
            self._finish(self._given)
            if self._log is not None:
                self._log.rewind()
        if payloads:
            step = Step(list(payloads), self._number + len(payloads), whole=True)
            self._finish(step)
            self._number = step.number

    def _finish(self, step: Step) -> None:
        """Have a step made, and wait for it. Raises what it failed with."""
        self._follower.give(step)
        step.ended.wait()
        self._settled()
        if step.error is not None:
            raise step.error
        self._released += step.released

    def _catch_up(self, log: Log) -> None:
        """Have LMDB apply what it lacks. Raises StoreError if that cannot be, or does not begin where LMDB ends."""
        stored = self._number
        for number, payload in log.read(stored):
            if number != self._number + 1:
                raise StoreError(log.path, gap(stored, self._number, number))
            self._pending.append(payload)
            self._number = number
        try:
            self._follow_with([])
        except (EOFError, LookupError, TypeError, ValueError, struct.error) as error:
            cause = f"batches {stored + 1} to {self._number} of the log make no sense: {error!r}"
            raise StoreError(log.path, cause) from error
        # References are counted when this is done.
        self._released = []
        self._writer.begin_telling()

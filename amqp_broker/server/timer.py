"""What time it is in a turn, and the timer for what falls due next.

A turn has one time, that of its beginning. Everything below is told what time it is.
"""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.broker.timetable import Timetable
from amqp_broker.server.broker_time import BrokerTime
from amqp_broker.server.clock import Cancellable, ServerClock
from amqp_broker.store.errors import StoreError


class Timer:
    """finish_turn: called after what fell due was done.

    begin_turn: sets the time of the turn; returns the monotonic time in seconds, for deadlines of sessions.
    """

    def __init__(self, timetable: Timetable, clock: ServerClock, finish_turn: Callable[[], None]) -> None:
        self._timetable = timetable
        self._now = timetable.clock
        self._time = BrokerTime(clock, timetable.clock)
        # Not one call more than it takes: it is made for each piece that comes from a client.
        self.begin_turn = self._time.begin_turn
        self._call_later = clock.call_later
        self._finish_turn = finish_turn
        self._handle: Cancellable | None = None
        self._set_for = 0
        # It runs as soon as the event loop comes to it.
        self._soon = False

    def follow(self) -> None:
        """See to it that what falls due next is done in time; called at the end of a turn."""
        due = self._timetable.next_due
        is_due = 0 < due <= self._now.milliseconds
        if self._soon and is_due:
            # Set again at the end of each turn, it would never run while turns follow each other.
            return
        # The machine's sleep, or following the wall clock, may have made it due before the timer thinks so.
        if due == self._set_for and not is_due:
            return
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._set_for = due
        self._soon = is_due
        if due:
            self._handle = self._call_later(max(0.0, self._time.seconds_until(due)), self._run)

    def _run(self) -> None:
        self._handle = None
        self._set_for = 0
        self._soon = False
        self.begin_turn()
        try:
            self._timetable.run_due()
        except StoreError:
            # Nothing of this turn may leave the broker.
            raise
        except BaseException:
            self._finish_turn()
            raise
        self._finish_turn()

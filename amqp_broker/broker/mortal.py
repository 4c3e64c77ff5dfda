"""What leaves a queue before its time, from the head: what is over time, and what is over a limit.

At most AT_ONCE entries of either kind go in one operation, so that no burst of deaths makes everybody else wait; the
rest goes in turns of the queue's own. Entries that are over time reach nobody meanwhile: the queue is overdue then,
and its consumers wait although something is ready. What becomes of the dead is `queue`'s business.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from amqp_broker.broker.backlog import Backlog
from amqp_broker.broker.features import NO_LIMIT, QueueFeatures
from amqp_broker.broker.host import EXPIRED, MAXLEN, QueueHost
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Store
from amqp_broker.broker.timetable import Clock

AT_ONCE: Final = 1000
# Deliveries in one operation, if several consumers have room for that many. Then it is somebody else's turn.
MOST_DELIVERED: Final = 20_000
# A time that has always come, even if the clock is set back.
NOW: Final = 1


class Mortal(Backlog):
    """host: the virtual host, None outside one. ttl: of all messages, milliseconds. timed: some entries expire.

    overdue: the rest of what has expired, or of what consumers have room for, waits for a turn of its own; until then
    nothing is given to consumers, nor put before what is ready. guarded: publishing has more to look at than who waits.
    """

    __slots__ = ("clock", "features", "guarded", "host", "overdue", "timed", "ttl")

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.host: QueueHost | None = None
        self.clock: Clock = Clock()
        self.features: QueueFeatures = QueueFeatures()
        self.guarded: bool = False
        self.ttl: int = NO_LIMIT
        self.timed: bool = False
        self.overdue: bool = False

    def _expiry(self, message: Message) -> int:
        """When a message that is published now expires: the earlier of what it and the queue say."""
        self.timed = True
        ttl = self.ttl
        expiration = message.header.expiration
        if expiration is not None:
            own = int(expiration)
            ttl = own if ttl < 0 else min(ttl, own)
        return self.clock.milliseconds + ttl

    def _trim(self) -> None:
        """Drop from the head what is over a limit."""
        features = self.features
        dropped: list[QueueEntry] = []
        while features.over_limit(self.ready_count(), self.ready_bytes) and self.available():
            if len(dropped) >= AT_ONCE and self.host is not None:
                self.watch(NOW)
                break
            dropped.append(self.take())
        if dropped:
            if self.timed:
                self._watch_head()
            self.drop(dropped, MAXLEN)

    def _drop_expired(self) -> None:
        """Drop the entries at the head whose time is up."""
        if self.overdue:
            return
        expired: list[QueueEntry] = []
        while self._head_is_expired():
            if len(expired) >= AT_ONCE and self._postpone():
                break
            expired.append(self.take())
        if expired:
            self.drop(expired, EXPIRED)

    def _head_is_expired(self) -> bool:
        """Brings the next run back to memory if need be."""
        return self.available() and 0 < self.head().expiry <= self.clock.milliseconds

    def _postpone(self) -> bool:
        """That is enough for this turn. False if the queue has no other, as it is not in a virtual host."""
        if self.host is None:
            return False
        self.overdue = True
        # What is published now is not to overtake what is alive behind the expired.
        self.guarded = True
        self.watch(NOW)
        return True

    @abstractmethod
    def drop(self, entries: list[QueueEntry], reason: str) -> None:
        """These were taken out. Called last in an operation, since dead letters may have further effects."""

    def watch(self, due: int) -> None:
        """Be woken at that time, 0 for none."""
        if due and self.host is not None:
            self.host.timetable.wake(self, due)

    def _watch_head(self) -> None:
        """Be woken when the head expires: what expires behind it waits until it is the head, as in RabbitMQ."""
        if self.host is not None and self.available():
            due = self.head().expiry
            if due:
                self.host.timetable.wake(self, due)

"""Settling more deliveries than a turn has time for: what one method, or the end of a channel, does to a million.

A portion is done at once, and where time is up the rest becomes a chore of the broker's. Meanwhile nothing more is
heard of the connection, so its frames keep their order, and what ends it only adds to its chore: what was begun is
settled as it was meant, then what is left goes back. Messages that come back are all there before anybody gets one of
them, and the consumers that had them go on after that; what is acknowledged or dead is dealt with as its turn comes.

A commit of a transaction is one batch of the store, and so is done in one go however much it settles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from amqp_broker.broker.chores import Chore
from amqp_broker.broker.comeback import Comeback
from amqp_broker.broker.message import QueueEntry
from amqp_broker.session.transaction import REJECTED, REQUEUED, HeldSettlement, Transaction
from amqp_broker.wire.turns import MOST_KEPT

if TYPE_CHECKING:
    from amqp_broker.broker.consumer import Consumer
    from amqp_broker.broker.queue import Queue
    from amqp_broker.session.channel import Channel
    from amqp_broker.session.connection import Connection
    from amqp_broker.session.consumer import ChannelConsumer

# A dead letter takes as long as many acknowledgements, and may have many destinations.
LETTERS: Final = 20
# Where there are so many times more tags than deliveries, the deliveries are looked through for theirs.
SPARSE: Final = 16


class Task(ABC):
    """Something that is done to many deliveries, portion by portion."""

    __slots__ = ()

    @abstractmethod
    def go_on(self, portion: int) -> bool:
        """Do something to so many deliveries, or fewer; whether nothing is left to do."""

    @abstractmethod
    def give_up(self) -> None:
        """It failed, and is not called again: what was on its way back to a queue is there, as far as it has come."""


class Settling(Chore):
    """What is left to settle on a connection, in order. holds: the connection is not heard until it is done."""

    __slots__ = ("connection", "holds", "tasks")

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection = connection
        self.holds: bool = False
        self.tasks: list[Task] = []

    def begin(self, task: Task) -> None:
        """Do as much of it as there is time for in this turn, if nothing is left from earlier."""
        connection = self.connection
        reader = connection.reader
        if not self.tasks:
            # It is as much as many frames.
            reader.steps = 0
            if connection.settings.clock() < reader.until and self._begin(task, reader.until):
                return
            connection.broker.chores.add(self)
        self.tasks.append(task)
        if not connection.finished and not reader.held:
            self.holds = True
            reader.hold(MOST_KEPT)

    def go_on(self) -> bool:
        settings = self.connection.settings
        until = settings.clock() + settings.turn_time
        try:
            while self.tasks and self._work(self.tasks[0], until):
                self.tasks.pop(0)
        except Exception:
            failed = self.tasks.pop(0)
            if self.tasks:
                self.connection.broker.chores.add(self)
            self.connection.crashed()
            failed.give_up()
            raise
        if self.tasks:
            return False
        self._let_go_on()
        return True

    def let_go(self) -> None:
        """The connection is being closed: its close-ok is to be heard."""
        if self.holds:
            self.holds = False
            self.connection.reader.hold(0)

    def _begin(self, task: Task, until: float) -> bool:
        try:
            return self._work(task, until)
        except Exception:
            task.give_up()
            raise

    def _work(self, task: Task, until: float) -> bool:
        """Whether it is done, and not only time up."""
        settings = self.connection.settings
        while not task.go_on(settings.portion):
            if settings.clock() >= until:
                return False
        return True

    def _let_go_on(self) -> None:
        """The connection is heard again."""
        connection = self.connection
        if not self.holds or connection.finished:
            return
        self.holds = False
        connection.reader.hold(0)
        connection.reader.unhandled = len(connection.reader.rest) > 0
        connection.turn.behind.append(connection)


class Tags:
    """Delivery tags up to `last`, among them all that are outstanding, in order."""

    __slots__ = ("_all", "_next")

    def __init__(self, channel: Channel, last: int) -> None:
        unacked = channel.unacked
        first = channel.first_unacked
        self._all: Sequence[int] = range(first, last + 1)
        if last - first > SPARSE * len(unacked):
            self._all = sorted([tag for tag in unacked if tag <= last])
        self._next: int = 0

    def left(self) -> bool:
        return self._next < len(self._all)

    def take(self, most: int) -> Sequence[int]:
        """The next ones, that many at most."""
        at = self._next
        self._next = at + most
        return self._all[at : at + most]


class Comebacks:
    """What goes back to several queues at once. failed, recovered: as for `Queue.requeue`."""

    __slots__ = ("_by_queue", "_failed", "_recovered")

    def __init__(self, failed: bool = False, recovered: bool = False) -> None:
        self._failed: bool = failed
        self._recovered: bool = recovered
        self._by_queue: dict[Queue, Comeback] = {}

    def add(self, entries: list[QueueEntry]) -> None:
        """In the order of their tags."""
        for queue, returned in by_queue(entries).items():
            comeback = self._by_queue.get(queue)
            if comeback is None:
                comeback = self._by_queue[queue] = Comeback(queue, self._failed, self._recovered)
            comeback.add(returned)

    def left(self) -> bool:
        return len(self._by_queue) > 0

    def finish_one(self) -> None:
        """One queue has them again."""
        for queue in self._by_queue:
            self._by_queue.pop(queue).finish()
            return

    def finish(self) -> None:
        while self._by_queue:
            self.finish_one()


def by_queue(entries: list[QueueEntry]) -> dict[Queue, list[QueueEntry]]:
    """Each queue's entries, in the order they have."""
    found: dict[Queue, list[QueueEntry]] = {}
    queue: Queue | None = None
    own: list[QueueEntry] = []
    for entry in entries:
        if entry.queue is not queue:
            queue = entry.queue
            own = found.setdefault(queue, [])
        own.append(entry)
    return found


class Settlement(Task):
    """Deliveries of an open channel are settled, up to the tag `last`. how: ACKED, REQUEUED or REJECTED.

    recovered: the client wants them again. released: how many each consumer has fewer.
    """

    __slots__ = ("channel", "comebacks", "how", "is_released", "last", "released", "tags", "transaction")

    def __init__(self, channel: Channel, last: int, how: int, recovered: bool = False) -> None:
        self.channel: Channel = channel
        self.how: int = how
        self.tags: Tags = Tags(channel, last)
        self.transaction: Transaction | None = None if recovered else channel.transaction
        self.comebacks: Comebacks = Comebacks(failed=True, recovered=recovered)
        self.released: dict[Consumer, int] = {}
        self.is_released: bool = False
        self.last: int = last

    def go_on(self, portion: int) -> bool:
        if self.tags.left():
            if self.transaction is not None:
                self._hold(self.transaction, self.tags.take(portion))
            elif self.how == REJECTED:
                self._settle(self.tags.take(min(portion, LETTERS)))
            else:
                self._settle(self.tags.take(portion))
        elif not self.is_released:
            self.channel.first_unacked = self.last + 1
            self._release()
        if self.comebacks.left() and self.is_released:
            self.comebacks.finish_one()
        if self.tags.left() or not self.is_released or self.comebacks.left():
            return False
        self._unblock()
        return True

    def give_up(self) -> None:
        """What is still outstanding is the end of the channel's business."""
        self.comebacks.finish()

    def _hold(self, transaction: Transaction, tags: Sequence[int]) -> None:
        """Settled until the transaction commits."""
        unacked = self.channel.unacked
        for tag in tags:
            entry = unacked.pop(tag, None)
            if entry is not None:
                transaction.settlements.append(HeldSettlement(tag, entry, self.how))

    def _settle(self, tags: Sequence[int]) -> None:
        entries: list[QueueEntry] = []
        unacked = self.channel.unacked
        consumer: Consumer | None = None
        released = 0
        for tag in tags:
            entry = unacked.pop(tag, None)
            if entry is None:
                continue
            entries.append(entry)
            if entry.consumer is not consumer:
                self._count(consumer, released)
                consumer = entry.consumer
                released = 0
            released += 1
        self._count(consumer, released)
        if self.how == REQUEUED:
            self.comebacks.add(entries)
        elif self.how == REJECTED:
            for entry in entries:
                entry.queue.reject(entry)
        else:
            for entry in entries:
                entry.queue.settle(entry)

    def _count(self, consumer: Consumer | None, released: int) -> None:
        if consumer is not None:
            self.released[consumer] = self.released.get(consumer, 0) + released

    def _release(self) -> None:
        """The consumers have room now; who was blocked for want of it stands in line for what comes back."""
        self.is_released = True
        for consumer, count in self.released.items():
            cast("ChannelConsumer", consumer).unacked -= count
            self.channel.prefetched -= count
        if self.how == REQUEUED and self.transaction is None:
            self.channel.line_up(list(self.released))

    def _unblock(self) -> None:
        """All is there again before the consumers that gave it back ask for more."""
        consumers = list(self.released)
        if self.how == REQUEUED:
            for consumer in consumers:
                consumer.queue.pump()
        if self.transaction is None:
            self.channel.unblock(consumers)


class Ending(Task):
    """A channel was closed: what it had unacknowledged goes back, and then its consumers are gone for good."""

    __slots__ = ("channel", "comebacks", "consumers", "settled", "tags")

    def __init__(self, channel: Channel, consumers: list[ChannelConsumer]) -> None:
        self.channel: Channel = channel
        self.consumers: list[ChannelConsumer] = consumers
        self.comebacks: Comebacks = Comebacks()
        # What is settled before this begins, or by a transaction, is known when it begins.
        self.tags: Tags | None = None
        self.settled: list[HeldSettlement] = []

    def go_on(self, portion: int) -> bool:
        tags = self.tags
        if tags is None:
            self.tags = Tags(self.channel, self.channel.delivery_tag)
            self.settled = self.channel.take_settled()
            self.settled.reverse()
        elif tags.left():
            unacked = self.channel.unacked
            entries = [unacked.pop(tag, None) for tag in tags.take(portion)]
            self.comebacks.add([entry for entry in entries if entry is not None])
        elif self.settled:
            # From the end, so that no others are moved; that is where the first ones are.
            settled = self.settled[-portion:]
            del self.settled[-portion:]
            settled.reverse()
            self.comebacks.add([settlement.entry for settlement in settled])
        elif self.comebacks.left():
            self.comebacks.finish_one()
        else:
            self.channel.gone(self.consumers)
            return True
        return False

    def give_up(self) -> None:
        self.comebacks.finish()
        self.channel.gone(self.consumers)


def end_channels(settling: Settling, channels: list[Channel], consumers: list[list[ChannelConsumer]]) -> None:
    """All channels of a connection were closed. consumers: those that each had."""
    settings = settling.connection.settings
    outstanding = 0
    for channel in channels:
        outstanding += channel.outstanding_count()
    many = len(settling.tasks) > 0 or outstanding > settings.portion
    reader = settling.connection.reader
    # The connection may have ended in a turn of nobody's.
    reader.until = max(reader.until, settings.clock() + settings.turn_time)
    failed: Exception | None = None
    for channel, stopped in zip(channels, consumers, strict=True):
        try:
            if many:
                settling.begin(Ending(channel, stopped))
            else:
                channel.give_back(stopped)
        except Exception as error:
            # The other channels' deliveries go back all the same.
            failed = error
    if failed is not None:
        raise failed

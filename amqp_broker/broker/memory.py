"""How much of what is queued stays in memory: a share for the whole broker, looked at now and then.

Whoever runs turns calls `relieve` after so many octets went in or out; nothing here is asked for each message. What is
delivered and not acknowledged gives up its messages where the store has them, then the queues that hold the most have
their later messages leave.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.chores import Chore
from amqp_broker.broker.delays import DelayQueue
from amqp_broker.broker.message import NOT_STORED, QueueEntry
from amqp_broker.broker.outstanding import take_message_away
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.runs import RUN_LENGTH

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker

# Leave memory in one go.
RUNS_AT_ONCE: Final = 100
# What a message takes besides its body, in octets: entry, message, the body's own object, places in lists. Measured:
# 190 while it waits, where messages share their header.
ENTRY: Final = 250
# The same of one that an exchange holds until it is due, which has a message of its own and stands in a heap.
HELD: Final = 400
# What an unacknowledged delivery takes without its message.
OUTSTANDING: Final = 220
# What one takes besides its body that has its message.
DELIVERED: Final = 380
# Below this share of the limit, in percent, nothing more has to leave.
ENOUGH: Final = 75
# Outstanding deliveries of a channel that take fewer octets than this are not looked at.
FEW: Final = 64 << 10
# How many of them are asked for the size of their bodies.
SAMPLE: Final = 32


class Memory(Chore):
    """limit: octets that messages may take in memory, 0 for any number."""

    __slots__ = ("_broker", "_going", "_in_line", "_looked", "_queues", "_taken", "_whole_runs", "limit")

    def __init__(self, broker: Broker, limit: int) -> None:
        self._broker: Broker = broker
        self.limit: int = limit
        # By channel, up to which delivery tag its deliveries were looked at.
        self._looked: dict[object, int] = {}
        # What was begun and takes longer than a turn: the octets that are taken, roughly, the queues that held
        # something, and those of them whose turn is still to come, the last one first, with what they weighed.
        self._taken: int = 0
        self._queues: list[Queue] = []
        self._going: list[tuple[int, Queue]] = []
        self._whole_runs: bool = False
        self._in_line: bool = False

    def relieve(self) -> None:
        """Have messages leave memory if they take more than the limit.

        Of what is ready, the largest queues' first: each keeps a run at its head, and what makes no whole run; if
        that is not enough, it keeps nothing. What takes longer than a turn goes on as a chore. What is under way is
        begun anew: other queues may be the largest by now.
        """
        if not self.limit:
            return
        queues = self._holding()
        channels = self._channels()
        weights = [(weight(queue), queue) for queue in queues]
        taken = sum([each[0] for each in weights]) + sum([channel.octets for channel in channels])
        if taken <= self.limit:
            self._begin(taken, [], [])
            return
        taken -= self._take_outstanding(channels)
        self._take_waiting(queues)
        # Lighter ones have no whole run.
        self._begin(taken, queues, [each for each in weights if each[0] >= RUN_LENGTH * ENTRY])
        if not self._have_leave() and not self._in_line:
            self._in_line = True
            self._broker.chores.add(self)

    def go_on(self) -> bool:
        self._in_line = False
        if self._have_leave():
            return True
        self._in_line = True
        return False

    def _begin(self, taken: int, queues: list[Queue], going: list[tuple[int, Queue]]) -> None:
        going.sort(key=itemgetter(0))
        self._taken = taken
        self._queues = queues
        self._going = going
        self._whole_runs = True

    def _have_leave(self) -> bool:
        """A portion of it; whether nothing more has to leave, or can."""
        most = RUNS_AT_ONCE
        while most > 0 and self._taken * 100 > self.limit * ENOUGH:
            if not self._going:
                if not self._whole_runs:
                    break
                self._whole_runs = False
                self._going = [(weight(queue), queue) for queue in self._queues]
                self._going.sort(key=itemgetter(0))
                continue
            before, queue = self._going.pop()
            now = weight(queue)
            if now != before:
                # It was consumed from, purged or deleted meanwhile, or published to.
                self._taken += now - before
                if now:
                    self._going.append((now, queue))
                continue
            keep = RUN_LENGTH if self._whole_runs else 0
            most -= queue.page_out(keep, self._whole_runs, most)
            now = weight(queue)
            self._taken += now - before
            if most <= 0:
                # It may have more.
                self._going.append((now, queue))
        if most <= 0:
            return False
        self._queues = []
        self._going = []
        return True

    def _holding(self) -> list[Queue]:
        """Those that hold something."""
        queues: list[Queue] = []
        for vhost in self._broker.vhosts.values():
            for queue in vhost.queues.values():
                if queue.ready_bytes or queue.ready_count() or len(queue.retries):
                    queues.append(queue)
            for exchange in vhost.exchanges.values():
                if exchange.holds is not None:
                    queues.append(exchange.holds)
        return queues

    def _channels(self) -> list[Outstanding]:
        """The channels whose outstanding deliveries count; what was looked at of others is forgotten."""
        found: list[Outstanding] = []
        for vhost in self._broker.vhosts.values():
            for channel, entries in vhost.unsettled.items():
                if entries:
                    outstanding = Outstanding(channel, entries, self._looked.get(channel, 0))
                    if outstanding.octets > FEW:
                        found.append(outstanding)
        self._looked = {outstanding.channel: outstanding.looked for outstanding in found}
        return found

    def _take_outstanding(self, channels: list[Outstanding]) -> int:
        """Have outstanding deliveries give up their messages; how many octets that saves, roughly."""
        readable = self._broker.store.readable()
        saved = 0
        for outstanding in channels:
            saved += outstanding.take_away(readable)
            self._looked[outstanding.channel] = outstanding.looked
        return saved

    def _take_waiting(self, queues: list[Queue]) -> None:
        """The same for what waits for its next try."""
        readable = self._broker.store.readable()
        for queue in queues:
            for entry in queue.retries.entries():
                take_message_away(entry, readable)


class Outstanding:
    """The deliveries of a channel by tag, and the tag up to which they were looked at.

    octets: what they take in memory, roughly.
    """

    __slots__ = ("_size", "channel", "entries", "looked", "octets")

    def __init__(self, channel: object, entries: dict[int, QueueEntry], looked: int) -> None:
        self.channel: object = channel
        self.entries: dict[int, QueueEntry] = entries
        self.looked: int = looked
        last = next(reversed(entries))
        with_message = min(len(entries), max(0, last - looked))
        sizes = [entry.message.header.body_size for entry in islice(reversed(entries.values()), SAMPLE)]
        self._size: int = DELIVERED - OUTSTANDING + sum(sizes) // len(sizes)
        self.octets: int = OUTSTANDING * len(entries) + self._size * with_message

    def take_away(self, readable: int) -> int:
        """Have them give up their messages as far as the store has them; how many octets that saves, roughly."""
        entries = self.entries
        last = next(reversed(entries))
        saved = 0
        # Tags have gaps where deliveries were settled.
        tags = range(self.looked + 1, last + 1) if last - self.looked <= 2 * len(entries) else list(entries)
        for tag in tags:
            entry = entries.get(tag) if tag > self.looked else None
            if entry is not None:
                if take_message_away(entry, readable):
                    saved += self._size
                elif entry.batch != NOT_STORED and entry.batch > readable:
                    # The store will have it in a moment.
                    return saved
            self.looked = max(self.looked, tag)
        return saved


def weight(queue: Queue) -> int:
    """Octets that what is ready in a queue takes in memory, roughly."""
    entry = HELD if isinstance(queue, DelayQueue) else ENTRY
    return queue.resident_octets() + entry * (queue.ready_count() - queue.away_count() + len(queue.retries))

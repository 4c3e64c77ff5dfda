"""Deliveries on their way back to their queue, more of them than a turn has time for.

They are handed in a portion at a time and are in the queue again all at once, at the end: until then they count as
unacknowledged, and the queue goes on with what else it has. So the order in which its consumers get messages is that
of a return in one go. Those that do not come back, since that would be once too often or they wait for their next try,
are dealt with as they are handed in.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.lane import Lane
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.outstanding import bring_back_messages
from amqp_broker.broker.ports import LEVEL_SHIFT
from amqp_broker.broker.redelivery import returning
from amqp_broker.broker.runs import RUN_LENGTH

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

_BY_SEQ: Final = attrgetter("seq")


class Comeback:
    """failed, recovered: as for `Queue.requeue`. count: entries that come back, in lanes, with `octets` of bodies."""

    __slots__ = ("_gathering", "_last", "count", "failed", "lanes", "octets", "queue", "recovered")

    def __init__(self, queue: Queue, failed: bool = False, recovered: bool = False) -> None:
        self.queue: Queue = queue
        self.failed: bool = failed
        self.recovered: bool = recovered
        self.count: int = 0
        self.octets: int = 0
        self.lanes: list[Lane] = []
        # Of each priority, the lane that is appended to, and the seq of the last one there.
        self._gathering: dict[int, Lane] = {}
        self._last: dict[int, int] = {}
        queue.comebacks.append(self)

    def add(self, entries: list[QueueEntry]) -> None:
        """The next ones, in the order of their delivery tags. The list is empty then, as that of `Queue.requeue`."""
        queue = self.queue
        handed_in = len(entries)
        if queue.deleted:
            queue.unacked -= handed_in
            entries.clear()
            return
        returned = returning(queue, entries, self.failed, self.recovered)
        queue.unacked -= handed_in - len(returned)
        if not returned:
            return
        if queue.absent is not None:
            bring_back_messages(queue, returned)
        if queue.comes_back_last(self.failed):
            # Each portion behind what has been published by now: nobody can tell that from several returns.
            queue.unacked -= len(returned)
            queue.put_back(returned, self.failed)
            queue.was_put_back()
            return
        self.count += len(returned)
        if queue.is_quorum:
            self._gather(0, returned)
        else:
            self._gather_by_seq(returned)
        if queue.absent is not None:
            for lane in self._gathering.values():
                lane.page_out(queue, RUN_LENGTH, whole_runs=True)

    def finish(self) -> None:
        """All were handed in: they are ready now, and go out again."""
        queue = self.queue
        queue.comebacks.remove(self)
        queue.unacked -= self.count
        if self.count and not queue.deleted:
            for lane in self.lanes:
                queue.put_back_lane(lane)
            queue.ready_bytes += self.octets
            queue.was_put_back()

    def entries(self) -> list[QueueEntry]:
        """Those that are in memory."""
        return [entry for lane in self.lanes for entry in lane.resident()]

    def clear(self) -> None:
        """The queue was deleted."""
        for lane in self.lanes:
            lane.clear(self.queue)

    def _gather(self, level: int, entries: list[QueueEntry]) -> None:
        lane = self._gathering.get(level)
        if lane is None:
            lane = self._new_lane(level)
        octets = 0
        for entry in entries:
            octets += entry.message.header.body_size
            lane.append(entry)
        self.octets += octets

    def _gather_by_seq(self, entries: list[QueueEntry]) -> None:
        """A lane rises, and has entries of one priority."""
        if not rises(entries):
            entries.sort(key=_BY_SEQ)
        at = 0
        while at < len(entries):
            first_seq = entries[at].seq
            level = first_seq >> LEVEL_SHIFT
            end = at + 1
            while end < len(entries) and entries[end].seq >> LEVEL_SHIFT == level:
                end += 1
            if self._last.get(level, 0) > first_seq:
                self._new_lane(level)
            self._last[level] = entries[end - 1].seq
            self._gather(level, entries[at:end])
            at = end

    def _new_lane(self, level: int) -> Lane:
        lane = self._gathering[level] = Lane()
        self.lanes.append(lane)
        return lane


def rises(entries: list[QueueEntry]) -> bool:
    """Whether they are in seq order already, as they nearly always are: to sort many takes memory."""
    last = -1
    for entry in entries:
        if entry.seq < last:
            return False
        last = entry.seq
    return True

"""A queue with message priorities (x-max-priority): strict order by priority, publish order within one.

Each priority has a lane of its own, and a bit mask of those that have an entry finds the highest by one operation,
however many levels there are and however empty they stand. The top octet of a seq tells the priority, the highest
first, so that the store holds each lane apart and a restart finds them without reading a message.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.lane import Lane
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import LEVEL_SHIFT, Store, StoredLane
from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import Field

_PLACE: Final = (1 << LEVEL_SHIFT) - 1


class PriorityQueue(Queue):
    """levels: a lane for each priority; occupied: those that have an entry, as a bit mask."""

    __slots__ = (
        "_count",
        "_handed_out",
        "_place",
        "levels",
        "max_priority",
        "occupied",
    )

    def __init__(
        self, name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store
    ) -> None:
        super().__init__(name, vhost_name, durable, arguments, store)
        field = arguments["x-max-priority"]
        assert isinstance(field.value, int)
        self.max_priority: int = field.value
        self.levels: list[Lane] = [Lane() for _ in range(self.max_priority + 1)]
        self.occupied: int = 0
        self._count: int = 0
        self._place: int = 0
        self._handed_out: list[int] = [0] * len(self.levels)
        # Each delivery is looked at by `_mark_delivered`, which knows the level.
        self.watermark = -1

    def publish(self, message: Message) -> int:
        self._place += 1
        level = min(message.header.priority, self.max_priority)
        self.next_seq = (self.max_priority - level) << LEVEL_SHIFT | self._place
        return super().publish(message)

    def append(self, entry: QueueEntry) -> None:
        self.ready_bytes += entry.message.header.body_size
        level = self._level(entry.seq)
        self.levels[level].append(entry)
        self.occupied |= 1 << level
        self._count += 1

    def put_back(self, entries: list[QueueEntry], failed: bool = False) -> None:
        self._count += len(entries)
        by_level: dict[int, list[QueueEntry]] = {}
        for entry in entries:
            self.ready_bytes += entry.message.header.body_size
            by_level.setdefault(self._level(entry.seq), []).append(entry)
        for level, returned in by_level.items():
            self.levels[level].put_back(self, returned)
            self.occupied |= 1 << level

    def put_back_lane(self, lane: Lane) -> None:
        """All of them are of one priority."""
        level = self._level(lane.first_seq())
        self._count += len(lane)
        self.levels[level].add_returned(lane)
        self.occupied |= 1 << level

    def available(self) -> bool:
        while self.occupied:
            highest = self.occupied.bit_length() - 1
            lane = self.levels[highest]
            if (lane.returned and lane.find_first(self)) or lane.ready or lane.refill(self):
                return True
            self.occupied &= ~(1 << highest)
        return False

    def head(self) -> QueueEntry:
        lane = self.levels[self.occupied.bit_length() - 1]
        return lane.first() if lane.returned else lane.ready[0]

    def take(self) -> QueueEntry:
        highest = self.occupied.bit_length() - 1
        lane = self.levels[highest]
        entry = lane.take_first() if lane.returned else lane.ready.popleft()
        if not lane.ready and not lane.away_count and not lane.returned:
            self.occupied &= ~(1 << highest)
        self._count -= 1
        self.ready_bytes -= entry.message.header.body_size
        return entry

    def lanes(self) -> list[Lane]:
        return [
            self.levels[level] for level in range(self.max_priority, -1, -1) if self.occupied >> level & 1
        ]

    def clear(self) -> None:
        super().clear()
        self.occupied = 0
        self._count = 0

    def drop_away(self) -> None:
        self._count -= self.away_count()
        super().drop_away()

    def lost(self, count: int, octets: int) -> None:
        super().lost(count, octets)
        self._count -= count

    def ready_count(self) -> int:
        return self._count

    def lane_recovered(self, stored: StoredLane, watermark: int) -> None:
        level = self._level(stored.first_seq or stored.level << LEVEL_SHIFT)
        self.levels[level].recovered(stored)
        self._handed_out[level] = watermark
        self._place = max(self._place, stored.last_seq & _PLACE)
        self._count += stored.count
        if stored.count:
            self.occupied |= 1 << level

    def handed_out(self, seq: int) -> bool:
        return seq <= self._handed_out[self._level(seq)]

    def _mark_delivered(self, entry: QueueEntry) -> None:
        if entry.batch >= 0 and not self.handed_out(entry.seq):
            self._handed_out[self._level(entry.seq)] = entry.seq
            self.store.mark_delivered(self.store_id, entry.seq)

    def _level(self, seq: int) -> int:
        return self.max_priority - (seq >> LEVEL_SHIFT)

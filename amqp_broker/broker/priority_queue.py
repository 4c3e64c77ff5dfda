"""A queue with priorities (`x-max-priority`): the highest that has an entry goes first, in publish order within one.

Only the order of what is ready differs from `queue.Queue`; consumers, settling and limits are the same. A level costs
an empty deque, and the highest one with an entry is found by one look at a bit mask, however many levels there are.
"""

from __future__ import annotations

from collections import deque

from amqp_broker.broker.backlog import BY_SEQ
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.ports import Store
from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import Field


class PriorityQueue(Queue):
    """levels: entries by priority; occupied: the levels that have one, as a bit mask."""

    __slots__ = ("_count", "levels", "max_priority", "occupied")

    def __init__(
        self, name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store
    ) -> None:
        super().__init__(name, vhost_name, durable, arguments, store)
        field = arguments["x-max-priority"]
        assert isinstance(field.value, int)
        self.max_priority: int = field.value
        self.levels: list[deque[QueueEntry]] = [deque() for _ in range(self.max_priority + 1)]
        self.occupied: int = 0
        self._count: int = 0

    def append(self, entry: QueueEntry) -> None:
        if self._on_disk:
            self._load()
        self.ready_bytes += entry.message.header.body_size
        self._add(entry)

    def put_back(self, entries: list[QueueEntry], failed: bool = False) -> None:
        if self._on_disk:
            self._load()
        by_level: dict[int, list[QueueEntry]] = {}
        for entry in entries:
            self.ready_bytes += entry.message.header.body_size
            self._noted(entry)
            by_level.setdefault(self._level(entry), []).append(entry)
        for number, returned in by_level.items():
            level = self.levels[number]
            last = returned[len(returned) - 1].seq
            while level and level[0].seq < last:
                returned.append(level.popleft())
            returned.sort(key=BY_SEQ)
            returned.reverse()
            level.extendleft(returned)

    def available(self) -> bool:
        if self._on_disk:
            self._load()
        return self._count > 0

    def head(self) -> QueueEntry:
        return self.levels[self.occupied.bit_length() - 1][0]

    def take(self) -> QueueEntry:
        highest = self.occupied.bit_length() - 1
        level = self.levels[highest]
        entry = level.popleft()
        if not level:
            self.occupied &= ~(1 << highest)
        self._count -= 1
        self.ready_bytes -= entry.message.header.body_size
        return entry

    def resident(self) -> list[QueueEntry]:
        return [entry for level in self.levels for entry in level]

    def clear(self) -> None:
        super().clear()
        for level in self.levels:
            level.clear()
        self.occupied = 0
        self._count = 0

    def ready_count(self) -> int:
        return self._count + self._on_disk

    def _add(self, entry: QueueEntry) -> None:
        self.levels[self._level(entry)].append(entry)
        self._noted(entry)

    def _noted(self, entry: QueueEntry) -> None:
        self.occupied |= 1 << self._level(entry)
        self._count += 1

    def _level(self, entry: QueueEntry) -> int:
        return min(entry.message.header.priority, self.max_priority)

    def _load(self) -> None:
        """Bring back all that the store holds, for the first to go may be the last stored."""
        while self._on_disk and self._read_back():
            while self.ready:
                self._add(self.ready.popleft())
        self._on_disk = 0

"""When a delivery that was not acknowledged comes back: after a lease ran out, or after a delay.

`Leases` knows which deliveries are outstanding for how long; `Retries` holds what was returned and waits for its next
try. Both keep the books: the queue asks them when its time is up, and does what follows for what comes back.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import attrgetter
from random import randrange
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.consumer import Holder
from amqp_broker.broker.features import NO_LIMIT, RETRY_ALL, RETRY_FAILED, RETRY_RETURNED, QueueFeatures
from amqp_broker.broker.host import DELIVERY_LIMIT
from amqp_broker.broker.message import QueueEntry

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

_BY_SEQ: Final = attrgetter("seq")


class Leases:
    """Deliveries that are outstanding, by seq: until when each may be kept, by whom, and its delivery tag."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[int, tuple[int, QueueEntry, Holder, int]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, entry: QueueEntry, until: int, holder: Holder, delivery_tag: int) -> None:
        self._until[entry.seq] = (until, entry, holder, delivery_tag)

    def clear(self) -> None:
        self._until.clear()

    def settled(self, entry: QueueEntry) -> None:
        self._until.pop(entry.seq, None)

    def next_due(self) -> int:
        """When the oldest lease runs out, 0 if there is none. A lease that was made shorter waits for its turn."""
        for until, _, _, _ in self._until.values():
            return until
        return 0

    def take_back(self, now: int, renewed: int) -> tuple[list[QueueEntry], list[Holder]]:
        """End the leases that have run out. Returns what that took from its holders, in seq order, and the holders.

        What a transaction has settled that is not committed stays with its holder, until `renewed`: it may be
        outstanding again after a rollback.
        """
        overdue: list[tuple[int, QueueEntry, Holder, int]] = []
        for lease in self._until.values():
            if lease[0] > now:
                break
            overdue.append(lease)
        lapsed: list[QueueEntry] = []
        holders: dict[Holder, None] = {}
        for _, entry, holder, delivery_tag in overdue:
            del self._until[entry.seq]
            if holder.take_back(entry, delivery_tag):
                lapsed.append(entry)
                holders[holder] = None
            else:
                self.add(entry, renewed, holder, delivery_tag)
        lapsed.sort(key=_BY_SEQ)
        return lapsed, list(holders)


class Retries:
    """Entries that were returned and wait, by the time of their next try."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, QueueEntry]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, entry: QueueEntry, due: int) -> None:
        heappush(self._waiting, (due, entry.seq, entry))

    def next_due(self) -> int:
        """0 if nothing waits."""
        return self._waiting[0][0] if self._waiting else 0

    def due(self, now: int) -> list[QueueEntry]:
        """Take out what may be tried again."""
        found: list[QueueEntry] = []
        while self._waiting and self._waiting[0][0] <= now:
            found.append(heappop(self._waiting)[2])
        return found

    def entries(self) -> list[QueueEntry]:
        return [entry for _, _, entry in self._waiting]

    def clear(self) -> None:
        self._waiting.clear()


def returning(queue: Queue, entries: list[QueueEntry], failed: bool, recovered: bool) -> list[QueueEntry]:
    """Note that deliveries come back; those that do so now. The others become dead letters, or wait.

    Otherwise as for `Queue.requeue`, to which this is the first half: what it returns has to be put back.
    """
    features = queue.features
    limit = features.delivery_limit
    leased = len(queue.leases) > 0
    exhausted: list[QueueEntry] = []
    returned: list[QueueEntry] = []
    for entry in entries:
        entry.consumer = None
        entry.deliveries += 1
        if leased:
            queue.leases.settled(entry)
        if queue.counts_deliveries and entry.batch >= 0:
            queue.store.count_deliveries(queue.store_id, entry)
        if limit != NO_LIMIT and entry.deliveries > limit:
            exhausted.append(entry)
        elif not features.retry_type or not _delayed(queue, entry, failed and not recovered):
            returned.append(entry)
    entries.clear()
    if exhausted:
        queue.drop(exhausted, DELIVERY_LIMIT)
    return returned


def _delayed(queue: Queue, entry: QueueEntry, failed: bool) -> bool:
    """Have an entry that came back wait for its next try, if it is to; whether it does."""
    delay = retry_delay(queue.features, failed, entry.deliveries)
    if not delay or queue.host is None:
        return False
    due = queue.clock.milliseconds + delay
    queue.retries.add(entry, due)
    queue.watch(due)
    return True


def end_leases(queue: Queue, now: int) -> None:
    """Leases ran out: their holders lose these deliveries, the queue has them again, and the holders go on."""
    lapsed, holders = queue.leases.take_back(now, now + queue.features.lease)
    if lapsed:
        queue.requeue(lapsed)
        for holder in holders:
            holder.resume()


def retry_delay(features: QueueFeatures, failed: bool, deliveries: int) -> int:
    """Milliseconds until an entry that has come back `deliveries` times is tried again; 0 for at once.

    failed: the consumer said so (nack, reject); otherwise it went away, took too long, or asked for all that it had
    once more (basic.recover).
    """
    kind = features.retry_type
    if kind != RETRY_ALL and kind != (RETRY_FAILED if failed else RETRY_RETURNED):
        return 0
    most = features.retry_max
    delay = float(features.retry_min)
    if features.retry_multiplier:
        # More doublings than this are above any limit, and would overflow.
        delay *= float(features.retry_multiplier) ** min(deliveries - 1, 64)
    else:
        delay *= deliveries
    whole = int(min(delay, float(most)) if most else delay)
    spread = whole * features.retry_jitter // 100
    if spread:
        whole += randrange(2 * spread + 1) - spread  # noqa: S311  it spreads retries and hides nothing
    return min(whole, most) if most else whole

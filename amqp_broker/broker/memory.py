"""How much of what is queued stays in memory: a share for the whole broker, looked at now and then.

Whoever runs turns calls `relieve` after so many octets went in or out; nothing here is asked for each message. What is
delivered and not acknowledged gives up its messages where the store has them, then the queues that hold the most have
their later messages leave.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import NOT_STORED, QueueEntry
from amqp_broker.broker.outstanding import take_message_away
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.runs import RUN_LENGTH

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker

# What a ready message takes besides its body, in octets: entry, message, the body's own object, places in lists.
ENTRY: Final = 450
# What an unacknowledged delivery takes without its message.
OUTSTANDING: Final = 220
# Below this share of the limit, in percent, nothing more has to leave.
ENOUGH: Final = 75
# Fewer outstanding deliveries of a channel than this are not looked at.
FEW: Final = 256


class Memory:
    """limit: octets that messages may take in memory, 0 for any number."""

    __slots__ = ("_broker", "_looked", "limit")

    def __init__(self, broker: Broker, limit: int) -> None:
        self._broker: Broker = broker
        self.limit: int = limit
        # By channel, up to which delivery tag its deliveries were looked at.
        self._looked: dict[object, int] = {}

    def relieve(self) -> None:
        """Have messages leave memory if they take more than the limit.

        Of what is ready, the largest queues' first: each keeps a run at its head, and what makes no whole run; if
        that is not enough, it keeps nothing.
        """
        if not self.limit:
            return
        queues = self._queues()
        taken = sum([weight(queue) for queue in queues]) + self._outstanding()
        if taken <= self.limit:
            return
        taken -= self._take_outstanding()
        for keep, whole_runs in ((RUN_LENGTH, True), (0, False)):
            heaviest = [(weight(queue), queue) for queue in queues]
            heaviest.sort(key=itemgetter(0), reverse=True)
            for before, queue in heaviest:
                if taken * 100 <= self.limit * ENOUGH:
                    return
                queue.page_out(keep, whole_runs)
                taken += weight(queue) - before

    def _queues(self) -> list[Queue]:
        """Those that hold something."""
        queues: list[Queue] = []
        for vhost in self._broker.vhosts.values():
            for queue in vhost.queues.values():
                if queue.ready_bytes or queue.ready_count():
                    queues.append(queue)
            for exchange in vhost.exchanges.values():
                if exchange.holds is not None:
                    queues.append(exchange.holds)
        return queues

    def _channels(self) -> dict[object, dict[int, QueueEntry]]:
        """The channels with many outstanding deliveries; what was looked at of others is forgotten."""
        found: dict[object, dict[int, QueueEntry]] = {}
        for vhost in self._broker.vhosts.values():
            for channel, entries in vhost.unsettled.items():
                if len(entries) > FEW:
                    found[channel] = entries
        self._looked = {channel: tag for channel, tag in self._looked.items() if channel in found}
        return found

    def _outstanding(self) -> int:
        """Octets that outstanding deliveries take, roughly."""
        taken = 0
        for channel, entries in self._channels().items():
            last = next(reversed(entries))
            with_message = min(len(entries), max(0, last - self._looked.get(channel, 0)))
            taken += OUTSTANDING * len(entries) + (ENTRY - OUTSTANDING) * with_message
        return taken

    def _take_outstanding(self) -> int:
        """Have outstanding deliveries give up their messages; how many octets that saves, roughly."""
        readable = self._broker.store.readable()
        saved = 0
        for channel, entries in self._channels().items():
            tag = max(self._looked.get(channel, 0), next(iter(entries)) - 1)
            last = next(reversed(entries))
            while tag < last:
                entry = entries.get(tag + 1)
                if entry is not None:
                    if take_message_away(entry, readable):
                        saved += ENTRY - OUTSTANDING
                    elif entry.batch != NOT_STORED and entry.batch > readable:
                        # The store will have it in a moment.
                        break
                tag += 1
            self._looked[channel] = tag
        return saved


def weight(queue: Queue) -> int:
    """Octets that what is ready in a queue takes in memory, roughly."""
    return queue.resident_octets() + ENTRY * (queue.ready_count() - queue.away_count())

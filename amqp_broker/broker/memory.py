"""How much of what is ready stays in memory: a share for the whole broker, looked at now and then.

Whoever runs turns calls `relieve` after so many octets were received; nothing here is asked for each message. The
queues that hold the most have their later messages leave first. What is delivered and not acknowledged stays.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.queue import Queue
from amqp_broker.broker.runs import RUN_LENGTH

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker

# What a ready message takes besides its body, in octets: entry, message, the body's own object, places in lists.
ENTRY: Final = 450
# Below this share of the limit, in percent, nothing more has to leave.
ENOUGH: Final = 75


class Memory:
    """limit: octets that ready messages may take in memory, 0 for any number."""

    __slots__ = ("_broker", "limit")

    def __init__(self, broker: Broker, limit: int) -> None:
        self._broker: Broker = broker
        self.limit: int = limit

    def relieve(self) -> None:
        """Have ready messages leave memory if they take more than the limit, the largest queues' first.

        First each keeps a run at its head, and what makes no whole run; if that is not enough, it keeps nothing.
        """
        if not self.limit:
            return
        queues = self._queues()
        taken = sum([weight(queue) for queue in queues])
        if taken <= self.limit:
            return
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


def weight(queue: Queue) -> int:
    """Octets that what is ready in a queue takes in memory, roughly."""
    return queue.resident_octets() + ENTRY * (queue.ready_count() - queue.away_count())

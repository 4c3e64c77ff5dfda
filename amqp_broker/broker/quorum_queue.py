"""A queue of type quorum, as a cluster of one node has it.

It is a durable queue that keeps every message, whatever its delivery mode, counts how often each was returned, and
has an order of its own for what comes back. Publishing, delivering and settling are those of `queue.Queue`. The
functions beside the class are the requests that RabbitMQ refuses for such queues; whoever carries out a request asks
them first.
"""

from __future__ import annotations

from collections import deque

from amqp_broker.broker.arguments import queue_type
from amqp_broker.broker.features import NO_LIMIT
from amqp_broker.broker.lane import Lane
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Store
from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import Field
from amqp_broker.errors import RESOURCE_LOCKED, SoftError, not_implemented, precondition_failed, queue_in


class QuorumQueue(Queue):
    """returns: what came back and goes before everything that was not delivered yet, in the order it came back;
    later_returns: what came back after that, in further lanes.

    A message that its consumer refuses while there is no delivery limit goes to the end instead. It gets a new seq
    there, so that the store has it in that place, too, and with its count.
    """

    __slots__ = ("later_returns", "returns")

    def __init__(
        self, name: str, vhost_name: str, durable: bool, arguments: dict[str, Field], store: Store
    ) -> None:
        super().__init__(name, vhost_name, durable, arguments, store)
        self.returns: Lane = Lane()
        self.later_returns: deque[Lane] = deque()

    def publish(self, message: Message) -> int:
        if not message.persistent:
            # A message of its own: other queues that this one reaches keep it no longer than they should.
            message = Message(message.address, message.header, message.body, message.chunks)
            message.persistent = True
        return super().publish(message)

    def put_back(self, entries: list[QueueEntry], failed: bool = False) -> None:
        if self.comes_back_last(failed):
            for entry in entries:
                self.append(self._moved(entry))
            return
        for entry in entries:
            self.ready_bytes += entry.message.header.body_size
        returns = self.later_returns[len(self.later_returns) - 1] if self.later_returns else self.returns
        for entry in entries:
            returns.append(entry)

    def put_back_lane(self, lane: Lane) -> None:
        self.later_returns.append(lane)

    def comes_back_last(self, failed: bool) -> bool:
        return failed and self.features.delivery_limit == NO_LIMIT

    def _moved(self, entry: QueueEntry) -> QueueEntry:
        """The entry at a new place, behind all others."""
        moved = QueueEntry(entry.message, self, self.next_seq)
        self.next_seq += 1
        moved.deliveries = entry.deliveries
        moved.expiry = entry.expiry
        if entry.batch >= 0:
            self.store.delete(self.store_id, entry)
            self.store.put(self.store_id, moved)
        return moved

    def available(self) -> bool:
        while True:
            returns = self.returns
            if returns.ready or (returns.away_count > 0 and returns.refill(self)):
                return True
            if not self.later_returns:
                return super().available()
            self.returns = self.later_returns.popleft()

    def head(self) -> QueueEntry:
        return self.returns.ready[0] if self.returns.ready else super().head()

    def take(self) -> QueueEntry:
        if not self.returns.ready:
            return super().take()
        entry = self.returns.ready.popleft()
        self.ready_bytes -= entry.message.header.body_size
        return entry

    def lanes(self) -> list[Lane]:
        return [self.returns, *self.later_returns, self.lane]

    def clear(self) -> None:
        super().clear()
        self.later_returns.clear()

    def ready_count(self) -> int:
        count = len(self.returns) + super().ready_count()
        for lane in self.later_returns:
            count += len(lane)
        return count


def check_server_named(arguments: dict[str, Field]) -> None:
    """Raises SoftError 406 if a queue with these arguments needs a name from the client."""
    if queue_type(arguments) == "quorum":
        raise precondition_failed("Cannot declare a server-named queue for type rabbit_quorum_queue")


def check_get(queue: Queue) -> None:
    """Raises SoftError 405 for a quorum queue with a single active consumer."""
    if queue.is_quorum and queue.single_active:
        raise SoftError(
            RESOURCE_LOCKED,
            f"cannot obtain access to locked {queue_in(queue.name, queue.vhost_name)}. basic.get operations are "
            "not supported by quorum queues with single active consumer",
        )


def check_shared_prefetch(queue: Queue) -> None:
    """Raises HardError 540 for a quorum queue: its consumers share no prefetch with others on their channel."""
    if queue.is_quorum:
        raise not_implemented(f"{queue_in(queue.name, queue.vhost_name)} does not support global qos")


def check_conditional_delete(queue: Queue, if_unused: bool, if_empty: bool) -> None:
    """Raises HardError 540 for a quorum queue that is to be deleted under a condition."""
    if queue.is_quorum and (if_unused or if_empty):
        flag = "if-unused" if if_unused else "if-empty"
        raise not_implemented(
            f"cannot delete {queue_in(queue.name, queue.vhost_name)}. queue.delete operations with {flag} flag set "
            "are not supported by quorum queues"
        )

"""What an exchange that deduplicates needs: the `Gate` that knows the values and takes duplicates, and `Admission`.

Both are queues to whoever publishes, so that a duplicate counts as routed and its confirm waits for the disk like that
of the message it repeats. Whether a message is new is found out when it is routed and again when it is published, since
transactions hold messages in between; and only then is its value remembered, in the batch of the message. A message
that a queue refuses is forgotten, for its publisher will send it again. An `Admission` stands for the queues alone, so
one does for all messages that take the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.deduplication import Cache, value_of
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import REFUSED, TAKEN, Queue

if TYPE_CHECKING:
    from amqp_broker.broker.features import Deduplication
    from amqp_broker.broker.host import QueueHost
    from amqp_broker.broker.ports import Store
    from amqp_broker.content.header import ContentHeader

# How many ways through a gate are remembered.
MOST_ADMISSIONS: Final = 64


class Gate(Queue):
    """name: that of the exchange. cache: the values. A message that is published here is a duplicate."""

    __slots__ = ("_admissions", "_generation", "_header", "_value", "cache")

    def __init__(
        self, name: str, vhost_name: str, durable: bool, terms: Deduplication, store_id: int, store: Store
    ) -> None:
        super().__init__(name, vhost_name, durable, {}, store)
        # That of a transient exchange has an id as well: what is stored is its queues' business.
        self.store_id = store_id
        self.cache: Cache = Cache(self, terms, store_id if durable else 0, own_ttl=True)
        # The last header that was looked at, and its value.
        self._header: ContentHeader | None = None
        self._value: bytes | None = None
        # By the queues they stand for, as long as the topology stays what it was.
        self._admissions: dict[tuple[Queue, ...], Admission] = {}
        self._generation: int = 0

    def join(self, host: QueueHost) -> None:
        super().join(host)
        self.cache.recall(self.headers(), self.clock.milliseconds)

    def publish(self, message: Message) -> int:
        return TAKEN

    def tells_apart(self, message: Message) -> bool:
        """Whether a message has what others are compared with."""
        return self._value_of(message.header) is not None

    def knows(self, message: Message) -> bool:
        value = self._value_of(message.header)
        return value is not None and self.cache.knows(value, self.clock.milliseconds)

    def admit(self, message: Message, kept: bool) -> bool:
        """Whether the message is new; its value is known from now on. kept: it survives a restart."""
        header = message.header
        value = self._value_of(header)
        return value is None or self.cache.admit(value, header, self.clock.milliseconds, kept)

    def admission(self, queues: list[Queue]) -> Admission:
        """To these queues, which lie behind the gate."""
        assert self.host is not None
        generation = self.host.generation
        if generation != self._generation:
            self._admissions.clear()
            self._generation = generation
        way = tuple(queues)
        admission = self._admissions.get(way)
        if admission is None:
            if len(self._admissions) >= MOST_ADMISSIONS:
                self._admissions.clear()
            admission = Admission(self, queues)
            self._admissions[way] = admission
        return admission

    def _value_of(self, header: ContentHeader) -> bytes | None:
        """Asked for at each step of a message's way; the name it is found by stays the same."""
        if header is not self._header:
            self._value = value_of(header, self.cache.name)
            self._header = header
        return self._value

    def time_is_up(self, now: int) -> None:
        self.cache.time_is_up(now)

    def delete(self) -> None:
        super().delete()
        # A transaction that was routed through here may still be committed.
        self.cache.store_id = 0
        self.cache.clear()
        self._admissions.clear()


class Admission(Queue):
    """Takes messages that were new when they came to a gate. queues: those behind it, which get what still is."""

    __slots__ = ("gate", "queues")

    def __init__(self, gate: Gate, queues: list[Queue]) -> None:
        super().__init__(gate.name, gate.vhost_name, gate.durable, {}, gate.store)
        self.gate: Gate = gate
        self.queues: list[Queue] = queues
        for queue in queues:
            if queue.store_id:
                self.store_id = queue.store_id
                self.is_quorum = self.is_quorum or queue.is_quorum

    def publish(self, message: Message) -> int:
        queues = [queue for queue in self.queues if not queue.deleted]
        if not queues or not self.gate.admit(message, message.persistent or self.is_quorum):
            return TAKEN
        outcome = TAKEN
        for queue in queues:
            if queue.publish(message) == REFUSED:
                outcome = REFUSED
        if outcome == REFUSED:
            self.gate.cache.forget(message.header)
        return outcome

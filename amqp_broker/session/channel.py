"""A channel: its state, and the dispatch of its methods to their handlers.

The handlers stand beside this file by noun: `publishing` (publish, return, confirm, tx), `delivery` (qos,
consume, cancel, get, ack, nack, reject, recover) and `topology` (exchange, queue). A reply that promises durability
is held, with all that follows it on this channel, until the batch it depends on is committed.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import Rights, User
from amqp_broker.broker.consumer import Consumer
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.ports import CommitWaiter, Store
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.errors import command_invalid, not_found, precondition_failed
from amqp_broker.session import delivery, publishing, topology
from amqp_broker.session.channel_zero import replies_released
from amqp_broker.session.consumer import ChannelConsumer
from amqp_broker.session.handshake import RUNNING
from amqp_broker.session.judged import Undecided, ask_about_method
from amqp_broker.session.settling import Ending
from amqp_broker.session.transaction import HeldSettlement, Transaction
from amqp_broker.wire.methods import FRAME_HEAD, decode_method, method_frame
from amqp_broker.wire.reader import Publish

if TYPE_CHECKING:
    from amqp_broker.session.connection import Connection

ACCESS_REQUEST: Final = 0x001E000A
ACCESS_REQUEST_OK: Final = b"\x00\x1e\x00\x0b\x00\x01"
# Deliveries that were taken back and may still be settled without an error.
MOST_LAPSED: Final = 10_000
BASIC_ACK: Final = b"\x00\x3c\x00\x50"
BASIC_NACK: Final = b"\x00\x3c\x00\x78"


class KnownPublish(Publish):
    """A publish and what was found out for it: see `publishing.publish`.

    generation: of the virtual host when all this was found out. varies: `queues` has to be found for each message.
    durable: which messages its queues keep, see `publishing`.
    plain_header: the last header in which `properties` found nothing to change.
    guarded: the user may use only some routing keys with the exchange, this one among them.
    """

    __slots__ = ("channel", "durable", "generation", "guarded", "plain_header", "queues", "varies")

    def __init__(self, channel: Channel, payload: bytes) -> None:
        super().__init__(channel.channel_id, payload)
        self.channel: Channel = channel
        self.generation: int = 0
        self.guarded: bool = False
        self.varies: bool = False
        self.queues: list[Queue] = []
        self.durable: int = 0
        self.plain_header: ContentHeader | None = None


class Channel(CommitWaiter):
    """open: neither closed nor failed. out: where its frames go, the connection's output or, while held, a segment.

    delivery_tag: of the last delivery. unacked: by delivery tag, in the order of the tags but for what a
    rollback put back. first_unacked: no tag below it is outstanding. prefetched: outstanding deliveries to consumers.
    default_prefetch: for consumers to come; prefetch: shared by all consumers; 0 for no limit.
    confirm_seq: number of the last publish in confirm mode, confirmed: of the last one confirmed.
    unconfirmed: [batch, last number] for each store batch that publishes wait for. refused: the numbers of those
    that a queue did not take, to be nacked when it is their turn.
    tags_seen: the last delivery tag at some times, for the acknowledgement timeout.
    reply_queue: where direct replies to this channel go, if it asked for them.
    served_last: the consumer whose delivery used up what all share, the prefetch or the room in the output.
    suspended: it was the prefetch, and nobody has asked for more since.
    deleting: the queue that this channel's client is deleting at the moment.
    last_queue: name of the queue declared last, which an empty name stands for.
    """

    __slots__ = (
        "channel_id",
        "confirm_due",
        "confirm_mode",
        "confirm_seq",
        "confirmed",
        "connection",
        "consumers",
        "default_prefetch",
        "deleting",
        "delivery_tag",
        "first_unacked",
        "held",
        "lapsed",
        "last_queue",
        "open",
        "out",
        "prefetch",
        "prefetched",
        "refused",
        "reply_queue",
        "rights",
        "served_last",
        "store",
        "suspended",
        "tags_seen",
        "transaction",
        "unacked",
        "unconfirmed",
        "user",
        "vhost",
    )

    def __init__(self, connection: Connection, channel_id: int, vhost: VirtualHost, user: User) -> None:
        self.connection: Connection = connection
        self.channel_id: int = channel_id
        self.vhost: VirtualHost = vhost
        self.user: User = user
        self.rights: Rights = connection.rights or user
        user.channels += 1
        self.store: Store = vhost.store
        self.open: bool = True
        self.out: list[Piece] = connection.output
        self.held: deque[tuple[int, list[Piece]]] = deque()
        self.consumers: dict[str, ChannelConsumer] = {}
        self.served_last: ChannelConsumer | None = None
        self.delivery_tag: int = 0
        self.unacked: dict[int, QueueEntry] = {}
        vhost.unsettled[self] = self.unacked
        self.first_unacked: int = 1
        self.lapsed: OrderedDict[int, None] = OrderedDict()
        self.prefetched: int = 0
        self.tags_seen: deque[tuple[float, int]] = deque()
        self.prefetch: int = 0
        self.default_prefetch: int = 0
        self.confirm_mode: bool = False
        self.confirm_seq: int = 0
        self.confirmed: int = 0
        self.confirm_due: int = 0
        self.refused: deque[int] = deque()
        self.unconfirmed: deque[list[int]] = deque()
        self.transaction: Transaction | None = None
        self.last_queue: str = ""
        self.reply_queue: Queue | None = None
        self.deleting: Queue | None = None
        self.suspended: bool = False

    # -- methods

    def ack(self, delivery_tag: int, multiple: bool) -> None:
        delivery.acknowledge(self, delivery_tag, multiple)

    def handle(self, index: int, payload: bytes) -> None:
        """Decode a method and run its handler.

        Raises AmqpError: the handler's, 540 or 501 from decoding, 503 for a method that clients must not send.
        """
        if index == ACCESS_REQUEST:
            self.send_payload(ACCESS_REQUEST_OK)
            return
        method = decode_method(payload)
        handler = _HANDLERS.get(index)
        if handler is None:
            raise command_invalid("unimplemented method")
        try:
            handler(self, method)
        except Undecided as undecided:
            ask_about_method(undecided.claim, self, payload)

    # -- replies

    def send(self, frame: bytes) -> None:
        self.out.append(frame)
        self._count(len(frame))
        self.connection.mark_dirty()

    def send_piece(self, piece: Piece) -> None:
        """Part of a frame, between others of the same content."""
        self.out.append(piece)
        self._count(len(piece))

    def _count(self, size: int) -> None:
        self.connection.output_size += size
        if self.held:
            self.connection.held_size += size

    def send_payload(self, payload: bytes) -> None:
        """A method frame with this payload."""
        self.send(FRAME_HEAD(1, self.channel_id, len(payload)) + payload + b"\xce")

    def reply(self, method: Method) -> None:
        self.send(method_frame(self.channel_id, method))

    def reply_when_durable(self, method: Method) -> None:
        """Hold this reply, and all later output of the channel, until what was changed so far is durable."""
        batch = self.store.wait(self)
        if not self.held or self.held[len(self.held) - 1][0] != batch:
            self.out = []
            self.held.append((batch, self.out))
        self.reply(method)

    def committed(self, batch: int) -> None:
        """A batch this channel waited for is durable: let the replies that depend on it go, and the confirms."""
        output = self.connection.output
        while self.held and self.held[0][0] <= batch:
            self._release(self.held.popleft()[1])
        if not self.held:
            self.out = output
        unconfirmed = self.unconfirmed
        due = 0
        while unconfirmed and unconfirmed[0][0] <= batch:
            due = unconfirmed.popleft()[1]
        if due:
            self._confirm_up_to(due)
        if not self.held and self.connection.awaited:
            replies_released(self.connection, self)

    def _release(self, pieces: list[Piece]) -> None:
        """What was held back goes out, unless the connection's close has gone before it."""
        connection = self.connection
        size = sum(map(len, pieces))
        held = connection.held_size - size
        connection.held_size = held if held > 0 else 0
        if connection.phase == RUNNING or connection.awaited:
            connection.output.extend(pieces)
            connection.mark_dirty()
        else:
            connection.output_size -= size

    def send_confirms(self) -> None:
        """End of the turn: confirm the publishes that wait for nothing."""
        due = self.confirm_due
        self.confirm_due = 0
        if due and not self.unconfirmed:
            self._confirm_up_to(due)

    def _confirm_up_to(self, seq: int) -> None:
        if not self.open:
            return
        while self.refused and self.refused[0] <= seq:
            refused = self.refused.popleft()
            self._ack_up_to(refused - 1)
            self.confirmed = refused
            # The requeue bit means nothing to a publisher, but RabbitMQ sets it.
            self.send_payload(BASIC_NACK + refused.to_bytes(8, "big") + b"\x02")
        self._ack_up_to(seq)

    def _ack_up_to(self, seq: int) -> None:
        """Ack every publish up to seq that is neither acked nor nacked yet."""
        if seq > self.confirmed:
            multiple = b"\x01" if seq - self.confirmed > 1 else b"\x00"
            self.confirmed = seq
            self.send_payload(BASIC_ACK + seq.to_bytes(8, "big") + multiple)

    # -- names

    def queue_name(self, name: str) -> str:
        """The name, or for an empty one that of the queue declared last. Raises SoftError 404 if there is none."""
        if name:
            return name
        if not self.last_queue:
            raise not_found("no previously declared queue")
        return self.last_queue

    def queue(self, name: str) -> Queue:
        """Raises SoftError 404, 405."""
        return self.vhost.queue(self.queue_name(name), self.connection)

    # -- flow

    def block_consumers(self) -> None:
        for consumer in self.consumers.values():
            consumer.blocked = True

    def unblock_consumers(self) -> None:
        """The connection has room again, or the shared prefetch has: who used it up last is the last to be asked.

        All are in line again before any is served, so that consumers of one queue take turns.
        """
        self.suspended = False
        consumers = list(self.consumers.values())
        served = self.served_last
        first = consumers.index(served) + 1 if served in consumers else 0
        ready = [consumer for consumer in consumers[first:] + consumers[:first] if consumer.unblock_quietly()]
        for consumer in ready:
            if not consumer.blocked:
                consumer.queue.pump()

    def release_one(self, consumer: ChannelConsumer) -> None:
        """One delivery of this consumer was settled: it, or whoever waited for the shared prefetch, may go on."""
        consumer.unacked -= 1
        self.prefetched -= 1
        if not self.suspended:
            self._unblock_own(consumer)
        if self.prefetch:
            self.unblock_consumers()

    def _unblock_own(self, consumer: ChannelConsumer) -> None:
        if consumer.blocked and (consumer.full or not self.prefetch):
            consumer.unblock()

    def release_quietly(self, consumers: list[Consumer]) -> None:
        """Deliveries were settled, one for each time a consumer is listed. Nobody goes on before `unblock`."""
        for consumer in consumers:
            cast(ChannelConsumer, consumer).unacked -= 1
        self.prefetched -= len(consumers)

    def line_up(self, consumers: list[Consumer]) -> None:
        """Who waited for room of its own stands in line for what is about to be requeued. `unblock` is to follow."""
        if not self.prefetch:
            for consumer in _by_name(consumers):
                cast(ChannelConsumer, consumer).unblock_quietly()

    def unblock(self, consumers: list[Consumer]) -> None:
        """In RabbitMQ's order: who waited for room of its own, by the names of queue and consumer; then the others.

        Where a delivery has used up the shared prefetch, it is what all have waited for.
        """
        if not self.suspended:
            for consumer in _by_name(consumers):
                self._unblock_own(cast(ChannelConsumer, consumer))
        if self.prefetch:
            self.unblock_consumers()

    def check_acknowledged(self, now: float) -> None:
        """Raises SoftError 406 if a delivery is unacknowledged for longer than the timeout; called about once a minute.

        What was delivered when is known from the tags seen at earlier calls, so a delivery costs nothing.
        """
        timeout = self.connection.settings.consumer_timeout
        seen = self.tags_seen
        if not timeout or not self.unacked:
            seen.clear()
            return
        while len(seen) > 1 and seen[1][0] <= now - timeout:
            seen.popleft()
        if seen and seen[0][0] <= now - timeout and self._has_unacked(seen[0][1]):
            raise precondition_failed(
                f"delivery acknowledgement on channel {self.channel_id} timed out. Timeout value used: "
                f"{int(timeout * 1000)} ms. This timeout value can be configured, see consumers doc guide to learn more"
            )
        seen.append((now, self.delivery_tag))

    def _has_unacked(self, tag: int) -> bool:
        """Whether a delivery up to this one is outstanding. All are looked through only if their tags do not tell."""
        if self.first_unacked <= tag:
            self.first_unacked = min(self.unacked)
        return self.first_unacked <= tag

    def lapse(self, entry: QueueEntry, delivery_tag: int) -> bool:
        """The queue takes a delivery back, if it is outstanding; whether it was.

        The client may settle it all the same, to no effect. Its consumer goes on when it is told to `resume`.
        """
        if self.unacked.get(delivery_tag) is not entry:
            return False
        del self.unacked[delivery_tag]
        if len(self.lapsed) >= MOST_LAPSED:
            self.lapsed.popitem(last=False)
        self.lapsed[delivery_tag] = None
        if entry.consumer is not None:
            self.release_quietly([entry.consumer])
        return True

    def has_lapsed(self, delivery_tag: int) -> bool:
        """Whether this delivery was taken back; asked when it is settled."""
        if delivery_tag not in self.lapsed:
            return False
        del self.lapsed[delivery_tag]
        return True

    # -- the end

    def fail(self) -> None:
        """An error closes the channel: give back what it held. It stays known until the client's close-ok."""
        self.close()

    def close(self) -> None:
        """Cancel the consumers and requeue what is unacknowledged. A second call does nothing."""
        if self.open:
            consumers = self.stop_consumers()
            settling = self.connection.settling
            if settling.tasks or self.outstanding_count() > self.connection.settings.portion:
                settling.begin(Ending(self, consumers))
            else:
                self.give_back(consumers)

    def stop_consumers(self) -> list[ChannelConsumer]:
        """First half of `close`: nothing is delivered to this channel any more; returns its consumers."""
        self.open = False
        self.user.channels -= 1
        self.unconfirmed.clear()
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.blocked = True
        for consumer in consumers:
            consumer.queue.remove_consumer(consumer)
        return consumers

    def give_back(self, consumers: list[ChannelConsumer]) -> None:
        """Second half, for what is not much: requeue what is unacknowledged. `settling.Ending` does so for much."""
        entries = list(self.unacked.values())
        entries.extend([settlement.entry for settlement in self.take_settled()])
        self.unacked.clear()
        try:
            delivery.requeue(entries)
        finally:
            self.gone(consumers)

    def outstanding_count(self) -> int:
        """Of deliveries, also those that a transaction has settled."""
        return len(self.unacked) + (0 if self.transaction is None else len(self.transaction.settlements))

    def take_settled(self) -> list[HeldSettlement]:
        """What a transaction that will not be committed has settled."""
        transaction = self.transaction
        self.transaction = None
        return [] if transaction is None else transaction.settlements

    def gone(self, consumers: list[ChannelConsumer]) -> None:
        """What was unacknowledged is back: others take the places of consumers, or auto-delete queues go with them."""
        self.vhost.unsettled.pop(self, None)
        # Emptied one by one it is as large as ever, and the channel may be known for a while.
        self.unacked.clear()
        for consumer in consumers:
            consumer.queue.next_active()
            self.vhost.consumer_gone(consumer.queue)


def _by_name(consumers: list[Consumer]) -> list[Consumer]:
    """Each of them once, by the names of queue and consumer."""
    distinct = list(dict.fromkeys(consumers))
    if len(distinct) > 1:
        distinct.sort(key=_name_order)
    return distinct


def _name_order(consumer: Consumer) -> tuple[str, str]:
    own = cast(ChannelConsumer, consumer)
    return own.queue.name, own.tag


_HANDLERS: Final[dict[int, Callable[[Channel, Method], None]]] = {
    commands.Channel.Flow.index: delivery.flow,
    commands.Exchange.Declare.index: topology.exchange_declare,
    commands.Exchange.Delete.index: topology.exchange_delete,
    commands.Exchange.Bind.index: topology.exchange_bind,
    commands.Exchange.Unbind.index: topology.exchange_unbind,
    commands.Queue.Declare.index: topology.queue_declare,
    commands.Queue.Bind.index: topology.queue_bind,
    commands.Queue.Unbind.index: topology.queue_unbind,
    commands.Queue.Purge.index: topology.queue_purge,
    commands.Queue.Delete.index: topology.queue_delete,
    commands.Basic.Qos.index: delivery.qos,
    commands.Basic.Consume.index: delivery.consume,
    commands.Basic.Cancel.index: delivery.cancel,
    commands.Basic.Get.index: delivery.get,
    commands.Basic.Ack.index: delivery.ack,
    commands.Basic.Nack.index: delivery.nack,
    commands.Basic.Reject.index: delivery.reject,
    commands.Basic.Recover.index: delivery.recover,
    commands.Basic.RecoverAsync.index: delivery.recover_async,
    commands.Confirm.Select.index: publishing.confirm_select,
    commands.Tx.Select.index: publishing.tx_select,
    commands.Tx.Commit.index: publishing.tx_commit,
    commands.Tx.Rollback.index: publishing.tx_rollback,
}

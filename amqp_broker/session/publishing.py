"""basic.publish and what follows from it: routing, returns, publisher confirms and transactions.

`publish` is the step between the frame reader and `Queue.publish`. What it found out about a publish frame
(exchange, permission, queues) it keeps in the `KnownPublish` and uses again while the virtual host's generation
stands.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import TOPIC, WRITE
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import TAKEN, Queue
from amqp_broker.broker.vhost import NO_KEYS
from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.errors import (
    NO_ROUTE,
    SoftError,
    access_refused,
    exchange_in,
    not_implemented,
    precondition_failed,
)
from amqp_broker.session.delivery import requeue
from amqp_broker.session.properties import checked, concerns, further_keys, visible
from amqp_broker.session.transaction import ACKED, REQUEUED, HeldPublish, Transaction
from amqp_broker.wire.content import body_frames
from amqp_broker.wire.methods import FRAME_HEADER, payload_frame

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel, KnownPublish

# Which of the messages that are published to some queues wait for the disk.
NONE_KEPT: Final = 0
SOME_KEPT: Final = 1
ALL_KEPT: Final = 2
# What counts as how much of a turn, see `FrameReader.steps`: finding a route anew, and more queues than these few.
ROUTE_STEPS: Final = 8
FEW: Final = 8
_BY_TAG: Final = attrgetter("delivery_tag")


def publish(  # noqa: C901, PLR0912, PLR0915  the hot path stands in one place
    channel: Channel, known: KnownPublish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
) -> None:
    """Route a message and give it to its queues, or hold it in the transaction. Next step: `Queue.publish`.

    Raises SoftError 403, 404, 406; HardError 540 for `immediate`.
    """
    if known.generation != channel.vhost.generation:
        _resolve(channel, known, header)
    keys = NO_KEYS
    queues = known.queues
    durable = known.durable
    if header is known.plain_header:
        pass
    elif not concerns(channel, header):
        known.plain_header = header
    else:
        received = header
        header = checked(channel, received)
        keys = further_keys(header)
        if header is received and not keys:
            known.plain_header = received
    message = Message(known.address, header, body, () if chunks is None else tuple(chunks))
    if known.varies or keys:
        vhost = channel.vhost
        if known.guarded:
            for key in keys:
                channel.rights.check_topic(WRITE, key, known.exchange, vhost.name)
        queues = vhost.route(vhost.exchange(known.exchange), known.routing_key, header, keys, message)
        durable = _durability(queues)
        channel.connection.reader.steps -= ROUTE_STEPS + len(keys)
    if channel.confirm_mode:
        channel.confirm_seq += 1
    elif channel.transaction is not None:
        channel.transaction.publishes.append(HeldPublish(known, message, queues))
        return
    if len(queues) > FEW:
        channel.connection.reader.steps -= len(queues)
    refused = False
    if len(queues) > 1:
        refused = _publish_to_several(channel, queues, message)
    elif queues:
        refused = queues[0].publish(message) != TAKEN
    elif known.mandatory:
        return_message(channel, message)
    if channel.confirm_mode:
        if refused:
            channel.refused.append(channel.confirm_seq)
        _note_unconfirmed(channel, durable == ALL_KEPT or (durable == SOME_KEPT and message.persistent))


def _publish_to_several(channel: Channel, queues: list[Queue], message: Message) -> bool:
    """Whether one of them refused it. Letters go on also when it was too much for one of the queues."""
    refused = False
    channel.vhost.letters.hold()
    try:
        for queue in queues:
            if queue.publish(message):
                refused = True
    finally:
        channel.vhost.letters.send()
    return refused


def _resolve(channel: Channel, known: KnownPublish, header: ContentHeader) -> None:
    """Find the queues of a publish, after all that may be wrong with it."""
    if known.immediate:
        raise not_implemented("immediate=true")
    vhost = channel.vhost
    channel.rights.check_exchange(WRITE, known.exchange, vhost.name)
    exchange = vhost.exchange(known.exchange)
    if exchange.internal:
        raise access_refused(f"cannot publish to internal {exchange_in(known.exchange, vhost.name)}")
    known.guarded = exchange.kind == TOPIC and channel.rights.has_topics(known.exchange, vhost.name)
    if known.guarded:
        channel.rights.check_topic(WRITE, known.routing_key, known.exchange, vhost.name)
    # What the user may say of others may be what has changed.
    known.plain_header = None
    known.varies = vhost.route_varies(exchange)
    known.queues = [] if known.varies else vhost.route(exchange, known.routing_key, header)
    known.durable = _durability(known.queues)
    known.generation = vhost.generation
    channel.connection.reader.steps -= ROUTE_STEPS


def _durability(queues: list[Queue]) -> int:
    """Whether one of the queues keeps persistent messages, or all."""
    durability = NONE_KEPT
    for queue in queues:
        if queue.store_id:
            durability = max(durability, ALL_KEPT if queue.is_quorum else SOME_KEPT)
    return durability


def return_message(channel: Channel, message: Message) -> None:
    """basic.return of a mandatory message that no queue took."""
    returned = b"\x00\x3c\x00\x32" + NO_ROUTE.to_bytes(2, "big") + b"\x08NO_ROUTE" + message.address
    channel.send_payload(returned)
    channel.send(payload_frame(FRAME_HEADER, channel.channel_id, visible(message.header).payload))
    frame_max = channel.connection.frame_max
    for piece in body_frames(channel.channel_id, message.pieces(), message.header.body_size, frame_max):
        channel.send_piece(piece)


# -- publisher confirms


def confirm_select(channel: Channel, method: Method) -> None:
    if channel.transaction is not None:
        raise precondition_failed("cannot switch from tx to confirm mode")
    channel.confirm_mode = True
    assert isinstance(method, commands.Confirm.Select)
    if not method.nowait:
        channel.reply(commands.Confirm.SelectOk())


def _note_unconfirmed(channel: Channel, durable: bool) -> None:
    """Have the last publish confirmed: with the batch that makes it durable, else at the end of the turn.

    A publish that waits for nothing, behind some that do, is confirmed with them: confirms go out in order.
    """
    unconfirmed = channel.unconfirmed
    if durable:
        batch = channel.store.batch
        if not unconfirmed or unconfirmed[len(unconfirmed) - 1][0] != batch:
            batch = channel.store.wait(channel)
            unconfirmed.append([batch, channel.confirm_seq])
            return
    if unconfirmed:
        unconfirmed[len(unconfirmed) - 1][1] = channel.confirm_seq
        return
    if not channel.confirm_due:
        channel.connection.turn.confirming.append(channel)
    channel.confirm_due = channel.confirm_seq


# -- transactions


def tx_select(channel: Channel, method: Method) -> None:
    if channel.confirm_mode:
        raise precondition_failed("cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction()
    channel.reply(commands.Tx.SelectOk())


def tx_commit(channel: Channel, method: Method) -> None:
    """Apply what was held, in one turn and so in one batch, and answer when that batch is durable.

    What is settled goes first: a requeued message keeps its place ahead of what this transaction publishes. Raises
    SoftError 406 if a queue refused something; the rest is done all the same, as in RabbitMQ.
    """
    transaction = _transaction(channel)
    channel.transaction = Transaction()
    requeued = []
    rejected = []
    touched = []
    for settlement in transaction.settlements:
        entry = settlement.entry
        consumer = entry.consumer
        if consumer is not None:
            touched.append(consumer)
        if settlement.how == ACKED:
            entry.queue.settle(entry)
        elif settlement.how == REQUEUED:
            requeued.append(entry)
        else:
            rejected.append(entry)
    for entry in rejected:
        entry.queue.reject(entry)
    # What goes back to a queue is there again before the consumers that gave it back ask for more.
    channel.release_quietly(touched)
    if requeued:
        requeue(requeued, failed=True)
    channel.unblock(touched)
    channel.vhost.letters.hold()
    try:
        refused = _publish_held(channel, transaction)
    finally:
        channel.vhost.letters.send()
    if refused:
        raise precondition_failed("partial tx completion")
    channel.reply_when_durable(commands.Tx.CommitOk())


def _publish_held(channel: Channel, transaction: Transaction) -> bool:
    """Whether a queue refused something."""
    refused = False
    for held in transaction.publishes:
        for routed in held.queues:
            # Messages are routed to names: a queue declared in the place of one deleted since then takes its message.
            queue = channel.vhost.queues.get(routed.name, routed) if routed.deleted else routed
            if not queue.deleted and queue.publish(held.message):
                refused = True
        if not held.queues and held.known.mandatory:
            return_message(channel, held.message)
    return refused


def tx_rollback(channel: Channel, method: Method) -> None:
    """Forget the publishes; what was settled is unacknowledged again, neither requeued nor redelivered."""
    transaction = _transaction(channel)
    channel.transaction = Transaction()
    for settlement in sorted(transaction.settlements, key=_BY_TAG):
        channel.unacked[settlement.delivery_tag] = settlement.entry
        channel.first_unacked = min(channel.first_unacked, settlement.delivery_tag)
    channel.reply(commands.Tx.RollbackOk())


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise _not_transactional()
    return channel.transaction


def _not_transactional() -> SoftError:
    return precondition_failed("channel is not transactional")

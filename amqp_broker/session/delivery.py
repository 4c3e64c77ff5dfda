"""From queues to clients and back: qos, consume, cancel, get, and the settling of deliveries.

A delivery is settled by its tag: `acknowledge` is the hot one. Prefetch is enforced in `ChannelConsumer` and
released here: a settled delivery makes room, and a consumer with room again asks its queue for more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import READ
from amqp_broker.broker.arguments import check_consumer_arguments, queue_type
from amqp_broker.broker.backlog import BY_SEQ
from amqp_broker.broker.comeback import rises
from amqp_broker.broker.consumer import Consumer
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.quorum_queue import check_get, check_shared_prefetch
from amqp_broker.content.table import Field
from amqp_broker.errors import access_refused, not_allowed, not_implemented, precondition_failed, queue_in
from amqp_broker.session.consumer import ChannelConsumer, Getter
from amqp_broker.session.names import generated_id, generated_tag
from amqp_broker.session.properties import REPLY_QUEUE, counted, visible
from amqp_broker.session.settling import Settlement, by_queue
from amqp_broker.session.transaction import ACKED, REJECTED, REQUEUED, HeldSettlement
from amqp_broker.wire.content import body_frames
from amqp_broker.wire.methods import FRAME_HEADER, payload_frame

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel


# -- prefetch


def qos(channel: Channel, method: Method) -> None:
    """prefetch_count for the channel's consumers together (global) or for each one to come, as in RabbitMQ 3.x."""
    assert isinstance(method, commands.Basic.Qos)
    count = method.prefetch_count
    if method.prefetch_size:
        raise not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
    if method.global_:
        channel.prefetch = count
        channel.reply(commands.Basic.QosOk())
        if count and channel.prefetched >= count:
            channel.block_consumers()
        else:
            channel.unblock_consumers()
        return
    channel.default_prefetch = count
    channel.reply(commands.Basic.QosOk())


def flow(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Channel.Flow)
    if not method.active:
        raise not_implemented("active=false")
    ok = commands.Channel.FlowOk()
    ok.active = True
    channel.reply(ok)


# -- consumers


def consume(channel: Channel, method: Method) -> None:
    """Register a consumer. Its deliveries start after its consume-ok.

    Raises SoftError 403, 404, 405, 406; HardError 530 for a consumer tag in use on the channel, 540 for a quorum queue
    if the channel's consumers share a prefetch.
    """
    assert isinstance(method, commands.Basic.Consume)
    name = channel.queue_name(method.queue)
    tag = method.consumer_tag
    arguments = cast("dict[str, Field]", method.arguments)
    if tag in channel.consumers:
        raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
    if name == REPLY_QUEUE:
        queue = _reply_queue(channel, bool(method.no_ack))
    else:
        channel.rights.check_queue(READ, name, channel.vhost.name)
        queue = channel.vhost.queue(name, channel.connection)
    check_consumer_arguments(queue_in(queue.name, queue.vhost_name), queue_type(queue.arguments), arguments)
    exclusive = bool(method.exclusive)
    _check_exclusive(queue, exclusive)
    if channel.prefetch:
        check_shared_prefetch(queue)
    settings = channel.connection.settings
    if settings.consumer_max and len(channel.consumers) >= settings.consumer_max:
        raise not_allowed(f"reached maximum ({settings.consumer_max}) of consumers per channel")
    if name == REPLY_QUEUE:
        # Not before it is sure that a consumer comes, with which it goes.
        channel.vhost.add_queue(queue)
        channel.reply_queue = queue
    consumer = ChannelConsumer(
        channel, tag or generated_tag(), queue, bool(method.no_ack), exclusive, arguments
    )
    channel.consumers[consumer.tag] = consumer
    queue.add_consumer(consumer)
    if not method.nowait:
        ok = commands.Basic.ConsumeOk()
        ok.consumer_tag = consumer.tag
        channel.reply(ok)
    queue.activate(consumer)


def _check_exclusive(queue: Queue, exclusive: bool) -> None:
    if queue.line.exclusive is not None or (exclusive and (queue.consumers or queue.single_active)):
        raise access_refused(f"{queue_in(queue.name, queue.vhost_name)} in exclusive use")


def _reply_queue(channel: Channel, no_ack: bool) -> Queue:
    """Direct reply-to: a queue of the channel's own, gone with its consumer, whose name is the address for replies.

    It is not in the virtual host yet.
    """
    if not no_ack:
        raise precondition_failed("reply consumer cannot acknowledge")
    if channel.reply_queue is not None and not channel.reply_queue.deleted:
        raise precondition_failed("reply consumer already set")
    vhost = channel.vhost
    queue = Queue(f"{REPLY_QUEUE}.{generated_id()}", vhost.name, False, {}, channel.store)  # noqa: FBT003
    queue.auto_delete = True
    return queue


def cancel(channel: Channel, method: Method) -> None:
    """Stop a consumer; what it has unacknowledged stays so. An unknown tag is no error."""
    assert isinstance(method, commands.Basic.Cancel)
    consumer = channel.consumers.pop(cast(str, method.consumer_tag), None)
    if consumer is not None:
        consumer.blocked = True
        consumer.queue.remove_consumer(consumer)
        consumer.queue.next_active()
    if not method.nowait:
        ok = commands.Basic.CancelOk()
        ok.consumer_tag = method.consumer_tag
        channel.reply(ok)
    if consumer is not None:
        channel.vhost.consumer_gone(consumer.queue)


def withdraw(consumer: ChannelConsumer) -> None:
    """Cancel a consumer whose user may not read the queue any more. What it has unacknowledged stays so."""
    queue, channel = consumer.queue, consumer.channel
    if channel.consumers.get(consumer.tag) is not consumer:
        return
    queue.remove_consumer(consumer)
    queue.next_active()
    consumer.cancelled()
    channel.vhost.consumer_gone(queue)


def get(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Basic.Get)
    name = channel.queue_name(method.queue)
    channel.rights.check_queue(READ, name, channel.vhost.name)
    queue = channel.vhost.queue(name, channel.connection)
    check_get(queue)
    entry = queue.get()
    if entry is None:
        channel.reply(commands.Basic.GetEmpty())
        return
    channel.delivery_tag += 1
    # A quorum queue tells the count to basic.get also when it is 0.
    message = counted(entry) if entry.deliveries or queue.is_quorum else entry.message
    channel.send_payload(
        b"\x00\x3c\x00\x47"
        + channel.delivery_tag.to_bytes(8, "big")
        + (b"\x01" if entry.deliveries else b"\x00")
        + message.address
        + queue.ready_count().to_bytes(4, "big")
    )
    channel.send(payload_frame(FRAME_HEADER, channel.channel_id, visible(message.header).payload))
    frame_max = channel.connection.frame_max
    for piece in body_frames(channel.channel_id, message.pieces(), message.header.body_size, frame_max):
        channel.send_piece(piece)
    if method.no_ack:
        queue.settle(entry)
    else:
        channel.unacked[channel.delivery_tag] = entry
        if queue.features.lease:
            queue.lease(entry, Getter(channel), channel.delivery_tag)


# -- settling


def acknowledge(channel: Channel, delivery_tag: int, multiple: bool) -> None:
    """Settle one outstanding delivery, or all up to it (0: all). Raises SoftError 406 for a tag not outstanding."""
    # Many clients acknowledge each message as all up to it, which is then that one alone.
    if (multiple and delivery_tag != channel.first_unacked) or channel.transaction is not None:
        settle(channel, delivery_tag, multiple, ACKED)
        return
    entry = channel.unacked.pop(delivery_tag, None)
    if entry is None:
        if channel.has_lapsed(delivery_tag):
            return
        raise precondition_failed(f"unknown delivery tag {delivery_tag}")
    if delivery_tag == channel.first_unacked:
        channel.first_unacked = delivery_tag + 1
    entry.queue.settle(entry)
    consumer = entry.consumer
    if consumer is not None:
        channel.release_one(cast(ChannelConsumer, consumer))


def ack(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Basic.Ack)
    acknowledge(channel, method.delivery_tag, bool(method.multiple))


def nack(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Basic.Nack)
    how = REQUEUED if method.requeue else REJECTED
    settle(channel, method.delivery_tag, bool(method.multiple), how)


def reject(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Basic.Reject)
    settle(
        channel, cast(int, method.delivery_tag), multiple=False, how=REQUEUED if method.requeue else REJECTED
    )


def settle(channel: Channel, delivery_tag: int, multiple: bool, how: int) -> None:
    """Settle deliveries now, or hold them settled until the transaction commits. Many may take several turns."""
    if multiple and _are_many(channel, delivery_tag):
        check_outstanding(channel, delivery_tag)
        settling = channel.connection.settling
        settling.begin(Settlement(channel, delivery_tag or channel.delivery_tag, how))
        return
    tags = outstanding(channel, delivery_tag, multiple)
    transaction = channel.transaction
    if transaction is not None:
        for tag in tags:
            transaction.settlements.append(HeldSettlement(tag, channel.unacked.pop(tag), how))
        return
    # Of consecutive deliveries of one consumer it is listed once.
    consumers: list[Consumer] = []
    previous: Consumer | None = None
    released = 0
    entries: list[QueueEntry] = []
    unacked = channel.unacked
    for tag in tags:
        entry = unacked.pop(tag)
        consumer = entry.consumer
        if consumer is not None:
            cast(ChannelConsumer, consumer).unacked -= 1
            released += 1
            if consumer is not previous:
                consumers.append(consumer)
                previous = consumer
        if how == REQUEUED:
            entries.append(entry)
        elif how == REJECTED:
            entry.queue.reject(entry)
        else:
            entry.queue.settle(entry)
    channel.prefetched -= released
    # What goes back to a queue is there again before the consumers that gave it back ask for more.
    if entries:
        _give_back(channel, entries, consumers, recovered=False)
    channel.unblock(consumers)


def _give_back(
    channel: Channel, entries: list[QueueEntry], consumers: list[Consumer], *, recovered: bool
) -> None:
    """All who have room now take turns in what is requeued, and in what else is ready where nothing was."""
    channel.line_up(consumers)
    requeue(entries, failed=True, recovered=recovered)
    for consumer in dict.fromkeys(consumers):
        consumer.queue.pump()


def _are_many(channel: Channel, delivery_tag: int) -> bool:
    """Whether there may be more deliveries up to a tag (0: all) than are settled in one go."""
    most = len(channel.unacked)
    if delivery_tag:
        most = min(most, delivery_tag - channel.first_unacked + 1)
    return most > channel.connection.settings.portion


def check_outstanding(channel: Channel, delivery_tag: int) -> None:
    """Raises SoftError 406 unless the tag of a multiple acknowledgement is outstanding, or 0."""
    if delivery_tag and delivery_tag not in channel.unacked and not channel.has_lapsed(delivery_tag):
        raise precondition_failed(f"unknown delivery tag {delivery_tag}")


def outstanding(channel: Channel, delivery_tag: int, multiple: bool) -> list[int]:
    """The tags that a settlement means, in order; all outstanding ones if it is of several and 0.

    Raises SoftError 406 unless the tag itself is outstanding (rabbit_channel collects acks the same way).
    """
    unacked = channel.unacked
    if not multiple:
        if delivery_tag not in unacked:
            if channel.has_lapsed(delivery_tag):
                return []
            raise precondition_failed(f"unknown delivery tag {delivery_tag}")
        return [delivery_tag]
    if delivery_tag == 0:
        channel.first_unacked = channel.delivery_tag + 1
        return sorted(unacked)
    check_outstanding(channel, delivery_tag)
    if delivery_tag - channel.first_unacked > len(unacked):
        tags = sorted([tag for tag in unacked if tag <= delivery_tag])
    else:
        tags = [tag for tag in range(channel.first_unacked, delivery_tag + 1) if tag in unacked]
    channel.first_unacked = delivery_tag + 1
    return tags


def requeue(entries: list[QueueEntry], failed: bool = False, recovered: bool = False) -> None:
    """Give entries back to their queues, each queue's in one go and in order. The rest as for `Queue.requeue`.

    entries: in the order of their tags. A quorum queue has no other order for what comes back. The list is empty then,
    as that of `Queue.requeue`.
    """
    found = by_queue(entries)
    entries.clear()
    for queue, returned in found.items():
        if not queue.is_quorum and not rises(returned):
            returned.sort(key=BY_SEQ)
        queue.requeue(returned, failed, recovered)


def recover(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Basic.Recover)
    if not method.requeue:
        raise not_implemented("requeue=false")
    channel.reply(commands.Basic.RecoverOk())
    _recover(channel)


def recover_async(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Basic.RecoverAsync)
    if not method.requeue:
        raise not_implemented("requeue=false")
    _recover(channel)


def _recover(channel: Channel) -> None:
    """Requeue all that is unacknowledged; what a transaction settled is not, and redelivery comes after the reply."""
    if not channel.unacked:
        return
    if _are_many(channel, 0):
        channel.connection.settling.begin(Settlement(channel, channel.delivery_tag, REQUEUED, recovered=True))
        return
    entries = [channel.unacked.pop(tag) for tag in outstanding(channel, 0, multiple=True)]
    consumers = [entry.consumer for entry in entries if entry.consumer is not None]
    channel.release_quietly(consumers)
    _give_back(channel, entries, consumers, recovered=True)
    channel.unblock(consumers)

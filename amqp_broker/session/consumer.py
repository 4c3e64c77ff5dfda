"""A consumer on a channel: turns a queue's message into the frames of basic.deliver.

The step after `Queue.publish` or `Queue.pump`; the next one is `Client.flush`, which writes what stands in
the connection's output. Everything between the delivery tag and the body is the same for messages of the same
address and header, so it is put together once and appended as it is.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from pamqp import commands

from amqp_broker.broker.access import READ
from amqp_broker.broker.consumer import Consumer, Holder
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field
from amqp_broker.session.properties import counted, visible
from amqp_broker.wire.content import body_frames
from amqp_broker.wire.methods import (
    FRAME_BODY,
    FRAME_END_OCTET,
    FRAME_HEAD,
    FRAME_HEADER,
    FRAME_METHOD,
    FRAME_OVERHEAD,
    shortstr,
)

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel

BASIC_DELIVER: Final = b"\x00\x3c\x00\x3c"
_TAG: Final = Struct(">Q").pack


class Getter(Holder):
    """Has what basic.get took from a queue. It never waits for room, so nothing makes it go on."""

    __slots__ = ("channel",)

    def __init__(self, channel: Channel) -> None:
        self.channel: Channel = channel

    def take_back(self, entry: QueueEntry, delivery_tag: int) -> bool:
        return self.channel.lapse(entry, delivery_tag)

    def resume(self) -> None:
        return


class ChannelConsumer(Consumer):
    """prefetch: how many deliveries may be outstanding, 0 for any number; unacked: how many are.

    full: it is blocked because as many are outstanding as may be.
    """

    __slots__ = (
        "_address",
        "_after_tag",
        "_before_tag",
        "_header",
        "_in_one_frame",
        "_redelivered",
        "_size",
        "channel",
        "full",
        "prefetch",
        "tag_octets",
        "unacked",
    )

    def __init__(
        self,
        channel: Channel,
        tag: str,
        queue: Queue,
        no_ack: bool,
        exclusive: bool,
        arguments: dict[str, Field],
    ) -> None:
        super().__init__(tag, queue, no_ack, exclusive, arguments)
        self.channel: Channel = channel
        self.tag_octets: bytes = shortstr(tag)
        self.prefetch: int = 0 if no_ack else channel.default_prefetch
        self.unacked: int = 0
        self._address: bytes = b""
        self._header: ContentHeader | None = None
        self._redelivered: bool = False
        self._before_tag: bytes = b""
        self._after_tag: bytes = b""
        self._size: int = 0
        self._in_one_frame: bool = False
        self.full: bool = False
        self.blocked = self._must_wait()

    def deliver(self, entry: QueueEntry) -> None:
        channel = self.channel
        entry.consumer = self
        self.unacked += 1
        channel.prefetched += 1
        if entry.deliveries:
            self.hand_over_again(entry)
        else:
            self.hand_over(entry.message, False)  # noqa: FBT003  a keyword costs a dictionary
        channel.unacked[channel.delivery_tag] = entry
        if self.unacked == self.prefetch:
            self.blocked = True
            self.full = True
        if channel.prefetch and channel.prefetched >= channel.prefetch:
            channel.served_last = self
            channel.suspended = True
            channel.block_consumers()

    def hand_over_again(self, entry: QueueEntry) -> None:
        self.hand_over(counted(entry), redelivered=True)

    def hand_over(self, message: Message, redelivered: bool) -> None:
        """Next step: `Client.flush`, at the end of the turn."""
        if (
            message.header is not self._header
            or message.address != self._address
            or redelivered is not self._redelivered
        ):
            self._prepare(message, redelivered)
        channel = self.channel
        delivery_tag = channel.delivery_tag + 1
        channel.delivery_tag = delivery_tag
        if not self._in_one_frame:
            out = channel.out
            out.extend((self._before_tag, _TAG(delivery_tag), self._after_tag))
            frame_max = channel.connection.frame_max
            out.extend(body_frames(channel.channel_id, message.pieces(), message.header.body_size, frame_max))
        elif message.body:
            channel.out.extend(
                (self._before_tag, _TAG(delivery_tag), self._after_tag, message.body, FRAME_END_OCTET)
            )
        else:
            out = channel.out
            out.extend((self._before_tag, _TAG(delivery_tag), self._after_tag))
            if message.chunks:
                out.extend(message.chunks)
                out.append(FRAME_END_OCTET)
        connection = channel.connection
        size = connection.output_size + self._size
        connection.output_size = size
        if channel.held:
            connection.held_size += self._size
        if not connection.dirty:
            connection.mark_dirty()
        if size > connection.high_water and not connection.saturated:
            channel.served_last = self
            connection.saturate(channel)

    def may_read(self, vhost: str) -> bool:
        """Whether the user may read the queue, as it is now. vhost: the name of the queue's."""
        return self.channel.rights.may_use_queue(READ, self.queue.name, vhost)

    def last_tag(self) -> int:
        return self.channel.delivery_tag

    def take_back(self, entry: QueueEntry, delivery_tag: int) -> bool:
        return self.channel.lapse(entry, delivery_tag)

    def resume(self) -> None:
        self.channel.unblock([self])

    def cancelled(self) -> None:
        """The queue was deleted, or gave the consumer up."""
        self.channel.consumers.pop(self.tag, None)
        if self.channel.deleting is not self.queue:
            self.tell_cancelled()

    def tell_cancelled(self) -> None:
        """Tell the client, if it wants to be told."""
        channel = self.channel
        if channel.open and channel.connection.capable("consumer_cancel_notify"):
            cancel = commands.Basic.Cancel()
            cancel.consumer_tag = self.tag
            cancel.nowait = True
            channel.reply(cancel)

    def unblock(self) -> None:
        """Something that blocked it is gone; start again if nothing else does."""
        if self.unblock_quietly():
            self.queue.pump()

    def unblock_quietly(self) -> bool:
        """As `unblock`, but nothing is delivered yet; whether it may start again."""
        if not self.blocked or self.channel.consumers.get(self.tag) is not self or self._must_wait():
            return False
        self.blocked = False
        self.full = False
        self.queue.join_line(self)
        return True

    def _must_wait(self) -> bool:
        channel = self.channel
        if channel.connection.saturated:
            return True
        # A shared prefetch that is reached holds for all consumers, as in RabbitMQ, also for those without acks.
        if channel.prefetch and channel.prefetched >= channel.prefetch:
            return True
        return self.prefetch > 0 and self.unacked >= self.prefetch

    def _prepare(self, message: Message, redelivered: bool) -> None:
        channel_id = self.channel.channel_id
        address, header = message.address, visible(message.header).payload
        body_size = message.header.body_size
        self._address, self._header, self._redelivered = address, message.header, redelivered
        start = BASIC_DELIVER + self.tag_octets
        self._before_tag = FRAME_HEAD(FRAME_METHOD, channel_id, len(start) + 9 + len(address)) + start
        after = (b"\x01" if redelivered else b"\x00") + address + FRAME_END_OCTET
        after += FRAME_HEAD(FRAME_HEADER, channel_id, len(header)) + header + FRAME_END_OCTET
        self._in_one_frame = body_size <= self.channel.connection.frame_max - FRAME_OVERHEAD
        self._size = len(self._before_tag) + 8 + len(after) + body_size
        if self._in_one_frame and body_size:
            after += FRAME_HEAD(FRAME_BODY, channel_id, body_size)
            self._size += FRAME_OVERHEAD
        elif body_size:
            room = self.channel.connection.frame_max - FRAME_OVERHEAD
            self._size += (body_size + room - 1) // room * FRAME_OVERHEAD
        self._after_tag = after

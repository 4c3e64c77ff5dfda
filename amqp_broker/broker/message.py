"""What a queue holds.

A `Message` is one published message, shared by every queue it was routed to; a `QueueEntry` is its place
in one queue. Both keep the bytes that came over the wire (address, content header, body) and decode
nothing: the header is read on demand by `content.header`. Neither knows how it is stored or sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.content.body import Piece

if TYPE_CHECKING:
    from amqp_broker.broker.consumer import Consumer
    from amqp_broker.broker.queue import Queue
    from amqp_broker.content.header import ContentHeader

NOT_STORED: Final = -1
RECOVERED: Final = 0


class Message:
    """One published message.

    address: exchange and routing key as two short strings, in the encoding of basic.publish and basic.deliver.
    header: the content header; its `payload` is what was received.
    body: the whole body if it came in one frame (or is empty), else b"".
    chunks: the body as the pieces that were received, in order, if it came in several; else empty.
    persistent: delivery mode 2.
    store_id, stored_refs: set by the store for a body that several durable queues share (0: not shared).
    """

    __slots__ = ("address", "body", "chunks", "header", "persistent", "store_id", "stored_refs")

    def __init__(
        self, address: bytes, header: ContentHeader, body: bytes, chunks: tuple[Piece, ...] = ()
    ) -> None:
        self.address: bytes = address
        self.header: ContentHeader = header
        self.body: bytes = body
        self.chunks: tuple[Piece, ...] = chunks
        self.persistent: bool = header.delivery_mode == 2
        self.store_id: int = 0
        self.stored_refs: int = 0

    def pieces(self) -> tuple[Piece, ...]:
        """The body in one piece or several, none if it is empty."""
        if self.chunks:
            return self.chunks
        return (self.body,) if self.body else ()

    def exchange_octets(self) -> bytes:
        """The name of the exchange it was published to, in octets."""
        return self.address[1 : 1 + self.address[0]]

    def key_octets(self) -> bytes:
        """Its routing key, in octets."""
        return self.address[2 + self.address[0] :]


class QueueEntry:
    """A message's place in one queue.

    seq: position, rising in publish order, never reused in a queue; a requeued entry keeps it.
    batch: the store batch that holds it, RECOVERED if it was read back from the store, NOT_STORED if the
    store does not have it.
    deliveries: how often it was handed out and came back; redelivered is `deliveries > 0`.
    expiry: milliseconds since the epoch after which it is expired; 0 for never.
    consumer: who holds it unacknowledged; None for basic.get.
    """

    __slots__ = ("batch", "consumer", "deliveries", "expiry", "message", "queue", "seq")

    def __init__(self, message: Message, queue: Queue, seq: int) -> None:
        self.message: Message = message
        self.queue: Queue = queue
        self.seq: int = seq
        self.batch: int = NOT_STORED
        self.deliveries: int = 0
        self.expiry: int = 0
        self.consumer: Consumer | None = None

"""The hot bytes of the load generator: bursts of publishes and acknowledgements out, deliveries and
confirms in.

Outgoing frames are encoded once and joined: a burst is one copy of prepared pieces around a time stamp.
Incoming bytes are scanned in place: a delivery usually repeats the one before it in everything but its tag
and its stamp, so two comparisons and a stride pass over it; whatever differs takes the plain way, frame by
frame, and teaches the scan its new shape. Bodies are never kept. The module opens no socket and reads no
clock, and compiles with mypyc.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from amqp_broker.perf.latency import Histogram

FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE
FRAME_HEAD_SIZE: Final = 7
FRAME_OVERHEAD: Final = 8

# a body that can be timed starts with the marker, then the sending time in ns
MARKER: Final = b"perf"
MARKER_SIZE: Final = 4
STAMP_SIZE: Final = 8
STAMPED_SIZE: Final = MARKER_SIZE + STAMP_SIZE

BASIC_RETURN: Final = 60 << 16 | 50
BASIC_DELIVER: Final = 60 << 16 | 60
BASIC_ACK: Final = 60 << 16 | 80
BASIC_NACK: Final = 60 << 16 | 120

NO_CONTENT: Final = 0
DELIVERY: Final = 1
RETURN: Final = 2

MULTIPLE_BIT: Final = 1

pack_u64: Final = Struct(">Q").pack
pack_frame_head: Final = Struct(">BHI").pack


class BrokenStream(Exception):
    """The broker sent bytes that are not AMQP 0-9-1, or content where none belongs."""


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return pack_frame_head(kind, channel, len(payload)) + payload + b"\xce"


def content_frames(channel: int, header: bytes, body: bytes, frame_max: int) -> bytes:
    """A content header frame and as many body frames as the body needs; `frame_max` counts the overhead."""
    most = frame_max - FRAME_OVERHEAD
    pieces = [frame(FRAME_HEADER, channel, header)]
    for start in range(0, len(body), most):
        pieces.append(frame(FRAME_BODY, channel, body[start : start + most]))
    return b"".join(pieces)


class PublishBurst:
    """Encoded publishes of one message: the same exchange, key, header and size, stamped when sent."""

    __slots__ = ("_after", "_before", "_between", "message_size", "stamped")

    def __init__(self, channel: int, publish: bytes, header: bytes, size: int, frame_max: int) -> None:
        """`publish` and `header` are payloads of frames; the header announces a body of `size` bytes."""
        method = frame(FRAME_METHOD, channel, publish)
        body = (
            (MARKER + bytes(STAMP_SIZE) + b"x" * (size - STAMPED_SIZE))
            if size >= STAMPED_SIZE
            else b"x" * size
        )
        whole = method + content_frames(channel, header, body, frame_max)
        stamp_at = len(method) + len(header) + FRAME_OVERHEAD + FRAME_HEAD_SIZE + MARKER_SIZE
        self.stamped: bool = size >= STAMPED_SIZE
        self.message_size: int = len(whole)
        self._before: bytes = whole[:stamp_at] if self.stamped else whole
        self._after: bytes = whole[stamp_at + STAMP_SIZE :] if self.stamped else b""
        self._between: bytes = self._after + self._before

    def encode(self, messages: int, now: int) -> bytes:
        """The bytes of `messages` >= 1 publishes, all stamped with `now` in ns."""
        if not self.stamped:
            return self._before * messages
        return pack_u64(now).join([self._before] + [self._between] * (messages - 1) + [self._after])


class AckBurst:
    """Encoded basic.ack frames of one channel."""

    __slots__ = ("_after", "_before", "_between")

    def __init__(self, channel: int, multiple: bool) -> None:
        self._before: bytes = pack_frame_head(FRAME_METHOD, channel, 13) + BASIC_ACK.to_bytes(4, "big")
        self._after: bytes = (b"\x01" if multiple else b"\x00") + b"\xce"
        self._between: bytes = self._after + self._before

    def encode(self, first: int, last: int, step: int) -> bytes:
        """One ack for each delivery tag first, first + step, ... up to `last`; first <= last."""
        return self._before + self._between.join(map(pack_u64, range(first, last + 1, step))) + self._after


class ConfirmWindow:
    """The publishes of a channel that await their confirm: how many may follow, and how long each has waited.

    A full window opens again when half of it is confirmed, so that a producer and a broker who wait for each
    other do not settle into exchanging single messages.
    """

    __slots__ = ("_full", "_latency", "_lowest", "_sent_at", "confirmed", "nacked", "next_tag", "size")

    def __init__(self, size: int, latency: Histogram) -> None:
        self.size: int = size
        self.confirmed: int = 0
        self.nacked: int = 0
        self.next_tag: int = 1
        self._lowest: int = 1
        self._full: bool = False
        self._sent_at: dict[int, int] = {}
        self._latency: Histogram = latency

    def unconfirmed(self) -> int:
        return len(self._sent_at)

    def oldest(self) -> int:
        """When the message that has waited longest was sent, in ns; 0 if none waits."""
        for sent in self._sent_at.values():
            return sent
        return 0

    def room(self) -> int:
        """How many messages may be published now."""
        waiting = len(self._sent_at)
        if self._full:
            if waiting > self.size // 2:
                return 0
            self._full = False
        return self.size - waiting

    def published(self, messages: int, now: int) -> None:
        self._sent_at.update(dict.fromkeys(range(self.next_tag, self.next_tag + messages), now))
        self.next_tag += messages
        self._full = len(self._sent_at) >= self.size

    def settle(self, delivery_tag: int, multiple: bool, positive: bool, now: int) -> None:
        """Take an ack or nack of the broker; tags that do not wait raise BrokenStream, unless `multiple`."""
        sent_at = self._sent_at
        settled = 0
        if not multiple:
            sent = sent_at.pop(delivery_tag, -1)
            if sent < 0:
                raise BrokenStream(f"confirm of delivery tag {delivery_tag}, which is not waiting")
            self._latency.record(now - sent)
            settled = 1
        else:
            last = delivery_tag if delivery_tag else self.next_tag - 1
            if last >= self.next_tag:
                raise BrokenStream(f"confirm up to delivery tag {delivery_tag}, which was not published")
            run, run_sent = 0, 0
            for tag in range(self._lowest, last + 1):
                sent = sent_at.pop(tag, -1)
                if sent < 0:
                    continue
                if sent != run_sent and run:
                    self._latency.record(now - run_sent, run)
                    settled, run = settled + run, 0
                run_sent = sent
                run += 1
            if run:
                self._latency.record(now - run_sent, run)
                settled += run
            if last >= self._lowest:
                self._lowest = last + 1
        if positive:
            self.confirmed += settled
        else:
            self.nacked += settled


class ChannelInbox:
    """What arrived on one channel, and the shape that its next delivery will probably have.

    `deliveries` and `returned` count whole messages; `delivery_tag` is that of the last whole delivery.
    """

    __slots__ = (
        "active_feed",
        "body_left",
        "body_size",
        "confirms",
        "content",
        "deliveries",
        "delivery_tag",
        "head",
        "length",
        "middle",
        "middle_at",
        "number",
        "pending_tag",
        "returned",
        "stamp",
        "stamp_at",
        "start",
        "start_feed",
        "tag_at",
    )

    def __init__(self, number: int, confirms: ConfirmWindow | None) -> None:
        self.number: int = number
        self.confirms: ConfirmWindow | None = confirms
        self.deliveries: int = 0
        self.delivery_tag: int = 0
        self.returned: int = 0
        self.active_feed: int = 0
        # the content being received
        self.content: int = NO_CONTENT
        self.pending_tag: int = 0
        self.body_size: int = -1
        self.body_left: int = 0
        self.stamp: bytes = b""
        # where its method frame starts, in the bytes of which call of `feed`
        self.start: int = 0
        self.start_feed: int = 0
        # the shape: `head`, 8 bytes of tag, `middle`, 8 bytes of stamp if `stamp_at`, anything up to `length`
        self.head: bytes = b""
        self.middle: bytes = b""
        self.tag_at: int = 0
        self.middle_at: int = 0
        self.stamp_at: int = 0
        self.length: int = 0


class FrameScanner:
    """Counts what a connection receives.

    `methods` collects (channel, payload) of the methods it does not count, in order, until the caller clears
    it; `active` lists the inboxes that the last call of `feed` had something for.
    """

    __slots__ = (
        "_feed",
        "_inboxes",
        "_latency",
        "_run",
        "_run_stamp",
        "_skip",
        "_skip_inbox",
        "_tail",
        "active",
        "frame_max",
        "methods",
    )

    def __init__(self, latency: Histogram, frame_max: int) -> None:
        """`latency` takes that of each stamped delivery; a frame above `frame_max` bytes is an error."""
        self.frame_max: int = frame_max
        self.methods: list[tuple[int, bytes]] = []
        self.active: list[ChannelInbox] = []
        self._latency: Histogram = latency
        self._inboxes: dict[int, ChannelInbox] = {}
        self._feed: int = 0
        self._tail: bytes = b""
        # what is left of a body frame that arrives in pieces, with its end octet
        self._skip: int = 0
        self._skip_inbox: ChannelInbox | None = None
        # messages in a row with the same stamp, not yet in the histogram
        self._run: int = 0
        self._run_stamp: bytes = b""

    def open(self, channel: int, confirms: ConfirmWindow | None = None) -> ChannelInbox:
        """Expect frames on this channel, from now on with fresh counts."""
        inbox = ChannelInbox(channel, confirms)
        self._inboxes[channel] = inbox
        return inbox

    def feed(self, data: bytes, now: int) -> None:
        """Scan the next bytes of the connection, received at `now` in ns. Raises BrokenStream."""
        self._feed += 1
        self.active.clear()
        if self._skip:
            if len(data) < self._skip:
                self._skip -= len(data)
                return
            position = self._finish_body(data, now)
        else:
            position = 0
            if self._tail:
                data = self._tail + data
                self._tail = b""
        position = self._scan(data, position, now)
        if position < len(data):
            self._tail = data[position:]
        self._record_run(now)

    def _scan(self, data: bytes, position: int, now: int) -> int:
        """Take every whole frame from `position` on; returns where the first incomplete one starts."""
        end = len(data)
        while end - position >= FRAME_HEAD_SIZE:
            kind = data[position]
            channel = data[position + 1] << 8 | data[position + 2]
            inbox = self._inboxes.get(channel)
            if inbox is None:
                raise BrokenStream(f"frame on channel {channel}, which is not open")
            if inbox.active_feed != self._feed:
                self._activate(inbox)
            if kind == FRAME_METHOD and inbox.length:
                after = self._repeat(inbox, data, position, now)
                if after != position:
                    position = after
                    continue
            size = int.from_bytes(data[position + 3 : position + 7], "big")
            if size > self.frame_max - FRAME_OVERHEAD:
                raise BrokenStream(f"frame of {size + FRAME_OVERHEAD} bytes; {self.frame_max} were agreed")
            if kind == FRAME_BODY:
                after = self._body(inbox, data, position, now)
                if after == position:
                    break
                position = after
                continue
            after = position + size + FRAME_OVERHEAD
            if after > end:
                break
            if data[after - 1] != FRAME_END:
                raise BrokenStream(f"frame end octet is {data[after - 1]:#04x}")
            self._whole_frame(inbox, kind, data, position, now)
            position = after
        return position

    def _activate(self, inbox: ChannelInbox) -> None:
        inbox.active_feed = self._feed
        self.active.append(inbox)

    def _repeat(self, inbox: ChannelInbox, data: bytes, position: int, now: int) -> int:
        """Take all deliveries from `position` on that have the expected shape; returns where they end."""
        head, middle, length = inbox.head, inbox.middle, inbox.length
        middle_at, stamp_at = inbox.middle_at, inbox.stamp_at
        first, last_start = position, len(data) - length
        if inbox.content != NO_CONTENT:
            return position
        while (
            position <= last_start
            and data.startswith(head, position)
            and data.startswith(middle, position + middle_at)
            and data[position + length - 1] == FRAME_END
        ):
            if stamp_at:
                stamp = data[position + stamp_at : position + stamp_at + STAMP_SIZE]
                if stamp != self._run_stamp:
                    self._record_run(now)
                    self._run_stamp = stamp
                self._run += 1
            position += length
        if position != first:
            inbox.deliveries += (position - first) // length
            tag_at = position - length + inbox.tag_at
            inbox.delivery_tag = int.from_bytes(data[tag_at : tag_at + 8], "big")
        return position

    def _record_run(self, now: int) -> None:
        if self._run:
            self._latency.record(now - int.from_bytes(self._run_stamp, "big"), self._run)
            self._run = 0

    def _whole_frame(self, inbox: ChannelInbox, kind: int, data: bytes, position: int, now: int) -> None:
        if kind == FRAME_METHOD:
            self._method(inbox, data, position, now)
        elif kind == FRAME_HEADER:
            if inbox.content == NO_CONTENT or inbox.body_size >= 0:
                raise BrokenStream(f"content header on channel {inbox.number} without its method")
            payload = position + FRAME_HEAD_SIZE
            inbox.body_size = int.from_bytes(data[payload + 4 : payload + 12], "big")
            inbox.body_left = inbox.body_size
            if inbox.body_size == 0:
                size = int.from_bytes(data[position + 3 : position + 7], "big")
                after = position + size + FRAME_OVERHEAD
                self._learn(inbox, data, after, after)
                self._message_complete(inbox, now)
        elif kind != FRAME_HEARTBEAT:
            raise BrokenStream(f"frame of unknown type {kind}")

    def _method(self, inbox: ChannelInbox, data: bytes, position: int, now: int) -> None:
        payload = position + FRAME_HEAD_SIZE
        method = int.from_bytes(data[payload : payload + 4], "big")
        if inbox.content != NO_CONTENT:
            raise BrokenStream(
                f"method {method >> 16}.{method & 0xFFFF} amid the content of channel {inbox.number}"
            )
        if method == BASIC_DELIVER:
            tag_at = payload + 5 + data[payload + 4]
            inbox.content = DELIVERY
            inbox.pending_tag = int.from_bytes(data[tag_at : tag_at + 8], "big")
            inbox.start, inbox.start_feed = position, self._feed
        elif method in (BASIC_ACK, BASIC_NACK) and inbox.confirms is not None:
            tag = int.from_bytes(data[payload + 4 : payload + 12], "big")
            multiple = data[payload + 12] & MULTIPLE_BIT != 0
            inbox.confirms.settle(tag, multiple, method == BASIC_ACK, now)
        elif method == BASIC_RETURN:
            inbox.content = RETURN
        else:
            size = int.from_bytes(data[position + 3 : position + 7], "big")
            self.methods.append((inbox.number, data[payload : payload + size]))

    def _body(self, inbox: ChannelInbox, data: bytes, position: int, now: int) -> int:
        """Take as much of a body frame as there is; returns `position` if the stamp is not there yet."""
        size = int.from_bytes(data[position + 3 : position + 7], "big")
        payload = position + FRAME_HEAD_SIZE
        available = len(data) - payload
        if inbox.content == NO_CONTENT or inbox.body_size < 0:
            raise BrokenStream(f"content body on channel {inbox.number} without its header")
        if size > inbox.body_left:
            raise BrokenStream(f"body of channel {inbox.number} is longer than its header says")
        if inbox.body_left == inbox.body_size:
            if available < min(size, STAMPED_SIZE):
                return position
            inbox.stamp = b""
            if size >= STAMPED_SIZE and data.startswith(MARKER, payload):
                inbox.stamp = data[payload + MARKER_SIZE : payload + STAMPED_SIZE]
        inbox.body_left -= size
        if available <= size:
            self._skip = size + 1 - available
            self._skip_inbox = inbox
            return len(data)
        if data[payload + size] != FRAME_END:
            raise BrokenStream(f"frame end octet is {data[payload + size]:#04x}")
        if inbox.body_left == 0:
            if size == inbox.body_size:
                # where the marker would stand is compared either way: others' messages may lie among ours
                known = payload + MARKER_SIZE if size >= STAMPED_SIZE else payload
                self._learn(inbox, data, known, payload + size + 1)
            self._message_complete(inbox, now)
        return payload + size + 1

    def _finish_body(self, data: bytes, now: int) -> int:
        """Pass the rest of the body frame that began in earlier bytes; returns the first byte after it."""
        after = self._skip
        inbox = self._skip_inbox
        if data[after - 1] != FRAME_END:
            raise BrokenStream(f"frame end octet is {data[after - 1]:#04x}")
        self._skip = 0
        self._skip_inbox = None
        if inbox is not None and inbox.body_left == 0:
            self._activate(inbox)
            self._message_complete(inbox, now)
        return after

    def _learn(self, inbox: ChannelInbox, data: bytes, known: int, after: int) -> None:
        """Expect the next delivery to look like this one, which ends at `after`, up to `known` exactly."""
        start = inbox.start
        if inbox.content != DELIVERY or inbox.start_feed != self._feed:
            return
        tag = start + FRAME_HEAD_SIZE + 5 + data[start + FRAME_HEAD_SIZE + 4]
        inbox.head = data[start:tag]
        inbox.middle = data[tag + 8 : known]
        inbox.tag_at = tag - start
        inbox.middle_at = tag + 8 - start
        inbox.stamp_at = known - start if inbox.stamp else 0
        inbox.length = after - start

    def _message_complete(self, inbox: ChannelInbox, now: int) -> None:
        if inbox.content == DELIVERY:
            inbox.deliveries += 1
            inbox.delivery_tag = inbox.pending_tag
            if inbox.stamp:
                if inbox.stamp != self._run_stamp:
                    self._record_run(now)
                    self._run_stamp = inbox.stamp
                self._run += 1
        else:
            inbox.returned += 1
        inbox.content = NO_CONTENT
        inbox.body_size = -1
        inbox.stamp = b""

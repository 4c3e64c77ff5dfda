"""From received octets to whole methods and whole messages.

`FrameReader.feed` takes what a socket gave, split anywhere, checks each frame (size, type, end octet), puts a
publish together with its content, and calls its `FrameHandler`. It keeps incomplete input and nothing else;
it does not know what a method means, nor that a socket exists.

This is the file that may be clever, for transient_noack of the comparison benchmark: publishers repeat
themselves, so the octets of a whole basic.publish frame, and of a content header, are looked up before they are
parsed. tests/wire/test_reader.py holds it against the plain way, one octet at a time.

It is also where a connection's turn ends when it has taken long enough, however few octets that were: see `unhandled`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from amqp_broker.content.body import Piece, kept
from amqp_broker.content.header import ContentHeader, HeaderError, parse_header
from amqp_broker.errors import HardError, frame_error, internal_error, unexpected_frame
from amqp_broker.wire.assembly import CLASS_BASIC, Content, KnownStart, at_publish
from amqp_broker.wire.methods import (
    FRAME_BODY,
    FRAME_END,
    FRAME_HEAD_SIZE,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_OVERHEAD,
    snippet,
)
from amqp_broker.wire.turns import METHOD_STEPS, STEPS, TABLE_STEP, before_all_time

BASIC_PUBLISH: Final = b"\x00\x3c\x00\x28"

# Each is dropped whole when full: a publisher that never repeats itself pays for an insertion, no more.
MOST_PUBLISHES_KNOWN: Final = 1024
MOST_HEADERS_KNOWN: Final = 256
LONGEST_HEADER_KNOWN: Final = 512

# A body frame longer than this is passed on as it comes, not gathered first: gathering would copy it again.
STREAMED_FRAME: Final = 16384

# A body longer than this is worth being received where it will stay: see `FrameReader.body_due`.
LARGE_BODY: Final = 262144

# Of a client that has not logged in yet, octets.
MOST_HELD: Final = 32768


class Publish:
    """What one basic.publish frame says, the same for every message sent with the same octets.

    address: exchange and routing key as short strings, as basic.deliver wants them.
    frame: the octets of the frame, but for its end octet.
    """

    __slots__ = (
        "address",
        "body_start",
        "channel_id",
        "exchange",
        "frame",
        "header_start",
        "immediate",
        "mandatory",
        "routing_key",
    )

    def __init__(self, channel_id: int, payload: bytes) -> None:
        """Parse a method frame's payload; IndexError, ValueError if it is malformed."""
        self.channel_id: int = channel_id
        key_at = 7 + payload[6]
        end = key_at + 1 + payload[key_at]
        if end + 1 != len(payload):
            raise IndexError(end)
        self.address: bytes = payload[6:end]
        # Unlike names elsewhere, both may be any octets: an exchange of such a name is not found.
        self.exchange: str = payload[7:key_at].decode("utf-8", "surrogateescape")
        self.routing_key: str = payload[key_at + 1 : end].decode("utf-8", "surrogateescape")
        flags = payload[end]
        self.frame: bytes = b""
        self.mandatory: bool = flags & 1 != 0
        self.immediate: bool = flags & 2 != 0
        channel_octets = channel_id.to_bytes(2, "big")
        self.header_start: bytes = bytes((FRAME_HEADER,)) + channel_octets
        self.body_start: bytes = bytes((FRAME_BODY,)) + channel_octets


@mypyc_attr(allow_interpreted_subclasses=True)
class FrameHandler(ABC):
    """Who is told what a connection's peer said. Any method may raise HardError, which ends the connection."""

    __slots__ = ()

    @abstractmethod
    def publish_received(self, channel_id: int, payload: bytes) -> Publish | None:
        """A basic.publish method, its content still to come; None to have the content dropped."""

    @abstractmethod
    def method_received(self, channel_id: int, payload: bytes) -> None:
        """Any other method. Raises HardError for one that is malformed or not expected now."""

    @abstractmethod
    def message_received(
        self, publish: Publish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
    ) -> None:
        """A publish with all its content: the body, or the pieces it came in."""

    @abstractmethod
    def message_too_large(self, publish: Publish, size: int) -> None:
        """A content header announced more than `max_message_size`; its body will be dropped."""

    @abstractmethod
    def discards(self, channel_id: int) -> bool:
        """Whether stray content is dropped unseen, because the connection is being closed."""


class FrameReader:
    """The receiving half of a connection, after the protocol header.

    frame_max: largest frame, octets; like RabbitMQ's, it is compared with the payload alone.
    max_message_size: largest body, octets.
    known_start: how the last two messages began, if they began alike. last_publish, last_header: of the last one.
    large: the content with a large body that is being received; None between such.
    large_before: the last message that began had a large body, so the next one may have one too.
    held: so many octets are kept and not handled; stopped is true, too. 0 if everything is handled.
    """

    __slots__ = (
        "clock",
        "contents",
        "frame_max",
        "handler",
        "headers",
        "held",
        "known_start",
        "large",
        "large_before",
        "last_header",
        "last_publish",
        "max_message_size",
        "publishes",
        "rest",
        "steps",
        "stopped",
        "stream_content",
        "stream_left",
        "unhandled",
        "until",
    )

    def __init__(
        self,
        handler: FrameHandler,
        frame_max: int,
        max_message_size: int,
        clock: Callable[[], float] = before_all_time,
    ) -> None:
        self.handler: FrameHandler = handler
        self.frame_max: int = frame_max
        self.max_message_size: int = max_message_size
        self.clock: Callable[[], float] = clock
        self.until: float = 0.0
        self.steps: int = STEPS
        self.unhandled: bool = False
        self.rest: bytes = b""
        self.stopped: bool = False
        self.held: int = 0
        self.contents: dict[int, Content] = {}
        self.publishes: dict[bytes, Publish] = {}
        self.headers: dict[bytes, ContentHeader] = {}
        self.stream_content: Content | None = None
        self.stream_left: int = 0
        self.large: Content | None = None
        self.large_before: bool = False
        self.known_start: KnownStart | None = None
        self.last_publish: Publish | None = None
        self.last_header: ContentHeader | None = None

    def forget_publishes(self) -> None:
        """A channel was closed: what was known of its publishes is void."""
        self.publishes.clear()
        self.known_start = None
        self.last_publish = None
        self.last_header = None

    def drop_contents(self) -> None:
        """Forget the messages that are not complete; what still comes of them is asked about with `discards`."""
        self.contents.clear()
        self.large = None

    def stop(self) -> None:
        """Ignore all that is still to come."""
        self.stopped = True
        self.held = 0
        self.unhandled = False
        self.rest = b""
        self.drop_contents()
        self.forget_publishes()
        self.headers.clear()
        self.stream_content = None
        self.stream_left = 0

    def begin_turn(self, until: float) -> None:
        """Something is done in each turn, even if its time is up before it begins."""
        self.until = until
        self.steps = STEPS

    def hold(self, most: int) -> None:
        """Keep what is still to come, up to so many octets; with 0 have the next `feed`, even of nothing, go on."""
        self.stopped = most > 0
        self.held = most

    def body_due(self) -> int:
        """How many octets still belong to the large body being received, with its frames' heads and ends.

        That many at most are good to be received into memory of their own and given to `feed_body`.
        0 if no large body is being received, or the next octets must be joined to some that are kept here.
        """
        content = self.large
        if content is None or self.rest or content.remaining < 0:
            return 0
        frame_size = self.frame_max - FRAME_OVERHEAD
        frames = (content.remaining + frame_size - 1) // frame_size
        due = content.remaining + frames * FRAME_OVERHEAD
        return due + self.stream_left + 1 if self.stream_left else due

    def feed_body(self, data: memoryview) -> None:
        """As `feed`, for octets that stay where they are: a large body is passed on as views of them.

        Raises HardError for what breaks the framing.
        """
        pos = 0
        end = len(data)
        stop = 0
        try:
            while self.large is not None and not self.rest and pos < end:
                if not self.stream_left:
                    if end - pos < FRAME_HEAD_SIZE or data[pos] != FRAME_BODY:
                        break
                    size = int.from_bytes(data[pos + 3 : pos + 7], "big")
                    if size > self.frame_max or size <= STREAMED_FRAME:
                        break
                    stop = pos + 7 + size
                    at = self._start_stream(data, pos, size)
                else:
                    stop = pos + self.stream_left
                    at = self._stream(data, pos)
                if at == pos:
                    break
                pos = at
        except HardError:
            self.rest = b"" if self.stopped else bytes(data[stop + 1 :])
            raise
        if pos < end and (self.held > 0 or not self.stopped):
            self.feed(bytes(data[pos:]))

    def feed(self, data: bytes) -> None:  # noqa: C901, PLR0912, PLR0915  the hot loop stands in one place
        """Handle every whole frame in what was kept and `data`, and keep what is left.

        Raises HardError for what breaks the framing.
        """
        if self.rest:
            data = self.rest + data
            self.rest = b""
        pos = 0
        end = len(data)
        stop = self.stream_left
        self.unhandled = False
        try:
            if stop:
                pos = self._stream(data, 0)
            while end - pos >= FRAME_HEAD_SIZE and not self.stopped:
                self.steps -= 1
                if self.steps < 0 and self._time_is_up():
                    break
                known = self.known_start
                if known is not None and data.startswith(known.octets, pos) and not self.contents:
                    start = pos + known.size
                    stop = start + known.body_size
                    if stop < end and data[stop] == FRAME_END:
                        self.handler.message_received(known.publish, known.header, data[start:stop], None)
                        pos = stop + 1
                        continue
                size = data[pos + 3] << 24 | data[pos + 4] << 16 | data[pos + 5] << 8 | data[pos + 6]
                stop = pos + 7 + size
                if size > self.frame_max:
                    raise self._lost(
                        f"{{frame_too_large,{size},{self.frame_max - FRAME_OVERHEAD}}}", data[pos], b""
                    )
                if stop >= end:
                    if data[pos] == FRAME_BODY and size > STREAMED_FRAME:
                        pos = self._start_stream(data, pos, size)
                    break
                kind = data[pos]
                if data[stop] != FRAME_END:
                    # Of a body frame that might have been passed on as it came nothing is quoted.
                    quoted = b"" if kind == FRAME_BODY and size > STREAMED_FRAME else data[pos + 7 : stop]
                    raise self._lost(f"{{invalid_frame_end_marker,{data[stop]}}}", kind, quoted)
                if kind == FRAME_METHOD:
                    publish = self.publishes.get(data[pos:stop])
                    if publish is not None:
                        pos = self._known_publish(publish, data, stop + 1, end)
                        continue
                if kind == FRAME_BODY:
                    self._body(data[pos + 1] << 8 | data[pos + 2], kept(data, pos + 7, stop))
                else:
                    self._frame(data, pos, stop)
                pos = stop + 1
        except HardError:
            # The next call goes on behind the frame that was wrong.
            self.rest = b"" if self.stopped else data[stop + 1 :]
            raise
        if pos < end and (self.held > 0 or not self.stopped):
            self.rest = data[pos:] if pos else data
            if self.held and end - pos > self.held:
                raise self._lost(f"{{not_heard_yet,{self.held}}}", data[pos], b"")

    def _time_is_up(self) -> bool:
        self.steps = STEPS
        self.unhandled = self.clock() >= self.until
        return self.unhandled

    def _lost(self, problem: str, kind: int, payload: bytes) -> HardError:
        """Where the next frame starts cannot be told any more: nothing else is read."""
        self.stop()
        return frame_error(f"type {kind}, {snippet(payload)}: {problem}")

    def _known_publish(self, publish: Publish, data: bytes, pos: int, end: int) -> int:
        """The content after a publish frame that was seen before, if all of it is here in two frames."""
        if publish.channel_id in self.contents:
            self._method_in_content(publish.channel_id)
        if end - pos >= FRAME_OVERHEAD and data[pos : pos + 3] == publish.header_start:
            size = data[pos + 3] << 24 | data[pos + 4] << 16 | data[pos + 5] << 8 | data[pos + 6]
            stop = pos + 7 + size
            if stop < end and data[stop] == FRAME_END:
                header = self.headers.get(data[pos + 7 : stop])
                if header is not None:
                    pos_body = stop + 1
                    length = header.body_size
                    if length == 0:
                        self.handler.message_received(publish, header, b"", None)
                        return pos_body
                    stop = pos_body + 7 + length
                    if (
                        stop < end
                        and data[pos_body : pos_body + 3] == publish.body_start
                        and data[pos_body + 3] << 24
                        | data[pos_body + 4] << 16
                        | data[pos_body + 5] << 8
                        | data[pos_body + 6]
                        == length
                        and length <= self.frame_max
                        and data[stop] == FRAME_END
                    ):
                        if header is self.last_header and publish is self.last_publish:
                            octets = publish.frame + data[pos - 1 : pos_body + 7]
                            self.known_start = KnownStart(octets, publish, header)
                        self.last_publish = publish
                        self.last_header = header
                        self.handler.message_received(publish, header, data[pos_body + 7 : stop], None)
                        return stop + 1
        self.contents[publish.channel_id] = Content(publish)
        return pos

    def _frame(self, data: bytes, pos: int, stop: int) -> None:
        kind = data[pos]
        channel_id = data[pos + 1] << 8 | data[pos + 2]
        payload = data[pos + 7 : stop]
        if kind == FRAME_METHOD and len(payload) >= 4:
            if channel_id in self.contents:
                self._method_in_content(channel_id)
            self.steps -= METHOD_STEPS + len(payload) // TABLE_STEP
            if payload[:4] == BASIC_PUBLISH:
                self._new_publish(channel_id, payload, data[pos:stop])
            else:
                self.handler.method_received(channel_id, payload)
        elif kind == FRAME_HEADER and len(payload) >= 12:
            self._header(channel_id, payload)
        elif kind == FRAME_HEARTBEAT and not payload:
            if channel_id:
                raise unexpected_frame(f"type {kind}, {snippet(payload)}")
        else:
            raise frame_error(f"type {kind}, {snippet(payload)}: unknown_frame")

    def _new_publish(self, channel_id: int, payload: bytes, frame: bytes) -> None:
        publish = self.handler.publish_received(channel_id, payload)
        if publish is None:
            return
        if len(self.publishes) >= MOST_PUBLISHES_KNOWN:
            self.publishes.clear()
        publish.frame = frame
        self.publishes[frame] = publish
        self.contents[channel_id] = Content(publish)

    def _header(self, channel_id: int, payload: bytes) -> None:
        content = self.contents.get(channel_id)
        if content is None or content.header is not None or payload[2] or payload[3]:
            self._content_unexpected(channel_id, FRAME_HEADER, payload)
            return
        class_id = payload[0] << 8 | payload[1]
        if class_id != CLASS_BASIC:
            raise at_publish(
                f"expected content header for class {CLASS_BASIC}, got one for class {class_id} instead"
            )
        header = self.headers.get(payload)
        if header is None:
            self.steps -= len(payload) // TABLE_STEP
            try:
                header = parse_header(payload)
            except HeaderError:
                raise internal_error("") from None
        self.large_before = False
        if header.body_size > self.max_message_size:
            content.header = header
            content.remaining = header.body_size
            content.refused = True
            self.handler.message_too_large(content.publish, header.body_size)
            return
        if len(payload) <= LONGEST_HEADER_KNOWN:
            if len(self.headers) >= MOST_HEADERS_KNOWN:
                self.headers.clear()
            self.headers[payload] = header
        if header.body_size == 0:
            del self.contents[channel_id]
            self.handler.message_received(content.publish, header, b"", None)
            return
        content.header = header
        content.remaining = header.body_size
        if header.body_size > LARGE_BODY and self.frame_max > STREAMED_FRAME:
            self.large_before = True
            self.large = content

    def _body(self, channel_id: int, payload: Piece) -> None:
        content = self.contents.get(channel_id)
        if content is None or content.header is None:
            self._content_unexpected(channel_id, FRAME_BODY, bytes(payload[:17]))
            return
        content.remaining -= len(payload)
        content.take(payload, last=content.remaining <= 0)
        if content.remaining <= 0:
            self._complete(channel_id, content)

    def _complete(self, channel_id: int, content: Content) -> None:
        header = content.header
        assert header is not None
        if content.remaining < 0:
            raise frame_error(f"body is longer than the {header.body_size} octets its header announced")
        del self.contents[channel_id]
        if content is self.large:
            self.large = None
        if content.refused:
            return
        chunk = content.chunks[0]
        if len(content.chunks) == 1 and isinstance(chunk, bytes):
            self.handler.message_received(content.publish, header, chunk, None)
        else:
            self.handler.message_received(content.publish, header, b"", content.chunks)

    def _start_stream(self, data: Piece, pos: int, size: int) -> int:
        """Take what is here of a long body frame; the rest goes the same way as it comes."""
        channel_id = data[pos + 1] << 8 | data[pos + 2]
        content = self.contents.get(channel_id)
        if content is None or content.header is None:
            return pos
        self.stream_content = content
        self.stream_left = size
        content.remaining -= size
        return self._stream(data, pos + 7)

    def _stream(self, data: Piece, pos: int) -> int:
        content = self.stream_content
        assert content is not None
        end = min(pos + self.stream_left, len(data))
        if end == len(data) and end - pos == self.stream_left:
            # Only the end octet is missing: leave the last octet, so that the two are read together.
            end -= 1
        if end > pos:
            self.stream_left -= end - pos
            content.take(kept(data, pos, end), last=not self.stream_left and content.remaining <= 0)
        if self.stream_left:
            return end
        if data[end] != FRAME_END:
            raise self._lost(f"{{invalid_frame_end_marker,{data[end]}}}", FRAME_BODY, b"")
        self.stream_content = None
        if content.remaining <= 0:
            channel_id = content.publish.channel_id
            if self.contents.get(channel_id) is content:
                self._complete(channel_id, content)
        return end + 1

    def _content_unexpected(self, channel_id: int, kind: int, payload: bytes) -> None:
        content = self.contents.get(channel_id)
        if content is None:
            if self.handler.discards(channel_id):
                return
            if channel_id == 0:
                raise unexpected_frame(f"type {kind}, {snippet(payload)}")
            raise unexpected_frame("expected method frame, got non method frame instead")
        raise content.due()

    def _method_in_content(self, channel_id: int) -> None:
        content = self.contents[channel_id]
        if not content.refused:
            raise content.due()
        # Who was told that the message is too large may stop in the middle of it.
        del self.contents[channel_id]

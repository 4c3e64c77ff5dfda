"""A connection: the handshake, channel 0, its channels, and the one place where errors become close methods.

The server gives it octets and the time (`receive`, `tick`, `sent`) and takes octets from `output`; it never
waits and never sees a socket. `phase` says where in its life it is. When `finished` is true the server sends what
is left and closes the socket.
"""

from __future__ import annotations

from typing import Final, cast

from pamqp import commands

from amqp_broker.broker.access import Rights, User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field
from amqp_broker.errors import (
    CONNECTION_FORCED,
    INTERNAL_ERROR,
    AmqpError,
    HardError,
    MalformedName,
    SoftError,
    channel_error,
    command_invalid,
    precondition_failed,
    unexpected_frame,
)
from amqp_broker.session import publishing
from amqp_broker.session.channel import Channel, KnownPublish
from amqp_broker.session.channel_zero import connection_method
from amqp_broker.session.channels import (
    CHANNEL_CLOSE,
    CHANNEL_CLOSE_OK,
    CHANNEL_OPEN,
    close_channel,
    closing_channel_method,
    open_channel,
)
from amqp_broker.session.handshake import (
    CLOSED,
    CLOSING,
    GREETING,
    OPENING,
    RUNNING,
    Question,
    close_frame,
    greet,
)
from amqp_broker.session.judged import Undecided, ask_about_publish, let_go
from amqp_broker.session.presence import ConnectionPresence
from amqp_broker.session.settings import SessionSettings, Turn
from amqp_broker.session.settling import Settling, end_channels
from amqp_broker.wire.methods import (
    FRAME_METHOD,
    FRAME_MIN_SIZE,
    HEARTBEAT,
    decode_method,
    malformed_utf8,
    method_frame,
    snippet,
)
from amqp_broker.wire.reader import BASIC_PUBLISH, FrameHandler, FrameReader, Publish

BASIC_ACK: Final = b"\x00\x3c\x00\x50"
ACK_SIZE: Final = 13

# The share of the heartbeat interval after which a silent connection is sent one: half of it, less a late tick.
BEAT_AFTER: Final = 0.4

# The largest frame before tune-ok, as RabbitMQ 4 has it: some tokens do not fit into the 4096 of the specification.
STRANGERS_FRAME: Final = 8192

# A method with more arguments than this, octets, counts as a publish where memory or disk are short.
LARGE_METHOD: Final = 4096
# By any clock.
ENDED: Final = float("-inf")

# Between two looks for deliveries that are unacknowledged for too long, seconds.
CHECK_INTERVAL: Final = 60.0


class Connection(FrameHandler):
    """name: `peer:port -> host:port`. from_loopback: whether the peer is on this machine.
    peer_names: common name and distinguished name in the certificate that the peer showed, "" without one.

    output: frames to send, in order; output_size: their octets, and
    those that channels hold back; held_size: the latter alone. dirty: listed in the turn.
    saturated: had more output than the high water mark and has not been below the low one since. most_output: with
    more than that the answers to what it sends are too many; what queues deliver does not count.
    paused: publishes while an alarm is on, so the server stops reading from it. unread: the server does not read.
    awaited: channels whose held replies go before the close-ok that the client asked for.
    close_reason: why it ended, for the log; None while it has not, or ended as the client asked.
    presence: it is open in its virtual host. ticked: when time last passed.
    question: what it waits for before it goes on, see `handshake` and `judged`. settling: what is left to settle.
    rights: what `user` may do; the user's own permissions unless somebody else is asked.
    """

    __slots__ = (
        "awaited",
        "broker",
        "capabilities",
        "channel_max",
        "channels",
        "client_properties",
        "close_reason",
        "deadline",
        "dirty",
        "finished",
        "frame_max",
        "from_loopback",
        "greeting",
        "heartbeat",
        "held_size",
        "high_water",
        "last_received",
        "last_sent",
        "most_output",
        "name",
        "next_check",
        "output",
        "output_size",
        "paused",
        "peer_names",
        "phase",
        "presence",
        "question",
        "reader",
        "rights",
        "saturated",
        "served_last",
        "settings",
        "settling",
        "ticked",
        "turn",
        "unread",
        "user",
        "vhost",
    )

    def __init__(
        self,
        broker: Broker,
        settings: SessionSettings,
        turn: Turn,
        name: str,
        from_loopback: bool,
        now: float,
    ) -> None:
        self.broker: Broker = broker
        self.settings: SessionSettings = settings
        self.high_water: int = settings.high_water
        self.turn: Turn = turn
        self.name: str = name
        self.from_loopback: bool = from_loopback
        self.peer_names: tuple[str, str] = ("", "")
        self.phase: int = GREETING
        self.greeting: bytes = b""
        self.reader: FrameReader = FrameReader(
            self, STRANGERS_FRAME, settings.max_message_size, settings.clock
        )
        self.channels: dict[int, Channel] = {}
        self.channel_max: int = settings.channel_max
        self.frame_max: int = FRAME_MIN_SIZE
        self.heartbeat: int = 0
        self.client_properties: dict[str, Field] = {}
        self.capabilities: dict[str, Field] = {}
        self.user: User | None = None
        self.vhost: VirtualHost | None = None
        self.presence: ConnectionPresence | None = None
        self.output: list[Piece] = []
        self.output_size: int = 0
        self.held_size: int = 0
        self.dirty: bool = False
        self.finished: bool = False
        self.saturated: bool = False
        self.most_output: int = 2 * settings.high_water
        self.served_last: Channel | None = None
        self.paused: bool = False
        self.unread: bool = False
        self.awaited: list[Channel] = []
        self.question: Question | None = None
        self.settling: Settling = Settling(self)
        self.rights: Rights | None = None
        self.close_reason: str | None = None
        self.deadline: float = now + settings.handshake_timeout
        self.ticked: float = now
        self.last_received: float = now
        self.last_sent: float = now
        self.next_check: float = now + CHECK_INTERVAL

    # -- called by the server

    def receive(self, data: bytes, now: float) -> None:
        """Handle what the peer sent. Next step: `FrameReader.feed`, then back here with methods and messages."""
        self.last_received = now
        if self.phase == GREETING:
            data = greet(self, data)
            if not data:
                return
        self.reader.begin_turn(now + self.settings.turn_time)
        while True:
            try:
                self.reader.feed(data)
                break
            except HardError as error:
                self.fail(error, now)
            # What follows the frame that was wrong may hold the peer's close-ok.
            data = b""
        self._received()

    def receive_body(self, data: memoryview, now: float) -> None:
        """As `receive`, for octets of a large body that stay where they are. Next step: `FrameReader.feed_body`."""
        self.last_received = now
        self.reader.begin_turn(now + self.settings.turn_time)
        try:
            self.reader.feed_body(data)
        except HardError as error:
            self.fail(error, now)
            self.receive(b"", now)
            return
        self._received()

    def _received(self) -> None:
        if self.reader.unhandled:
            self.turn.behind.append(self)
        if self.broker.alarms and not self.paused and self.reader.contents:
            # Messages that never end take memory, too.
            self.alarm_raised(self.broker.alarms[0])

    def tick(self, now: float) -> None:
        """Let time pass: deadlines, and heartbeats both ways. Called about once a second."""
        self.ticked = now
        if self.phase != RUNNING:
            if now >= self.deadline:
                self.end("handshake timeout" if self.phase < RUNNING else "no close-ok")
            return
        if now >= self.next_check:
            self.next_check = now + CHECK_INTERVAL
            self._check_acknowledged(now)
        if not self.heartbeat:
            return
        if now - self.last_received >= 2 * self.heartbeat and not (self.paused or self.unread):
            self.end(f"missed heartbeats from client, timeout: {self.heartbeat}s")
        elif now - self.last_sent >= self.heartbeat * BEAT_AFTER:
            self.send(HEARTBEAT)

    def _check_acknowledged(self, now: float) -> None:
        for channel in [channel for channel in self.channels.values() if channel.open]:
            try:
                channel.check_acknowledged(now)
            except AmqpError as error:
                self._failed(channel, error, b"\0\0\0\0")

    def sent(self, size: int, now: float) -> None:
        """The server wrote `size` octets of output to the socket."""
        self.last_sent = now
        self.output_size -= size
        if self.saturated and self.output_size <= self.settings.low_water:
            self.saturated = False
            self.most_output = 2 * self.high_water
            channels = list(self.channels.values())
            served = self.served_last
            first = channels.index(served) + 1 if served in channels else 0
            for channel in channels[first:] + channels[:first]:
                channel.unblock_consumers()

    def lost(self) -> None:
        """The socket is closed: give back what this connection held. May be called more than once."""
        self.phase = CLOSED
        self.finished = True
        self.reader.stop()
        self.close_channels()

    def shut_down(self, reason: str, now: float) -> None:
        """The broker closes this connection: 320 CONNECTION_FORCED."""
        if self.phase == RUNNING:
            text = f"broker forced connection closure with reason '{reason}'"
            self._close(HardError(CONNECTION_FORCED, text), now)
        elif self.phase < RUNNING:
            self.end(reason)

    def force_closed(self, reason: str) -> None:
        """It may not be there any more: 320 CONNECTION_FORCED with the reason alone. Called outside of `receive`."""
        if self.phase == RUNNING:
            self._close(HardError(CONNECTION_FORCED, reason), max(self.ticked, self.last_received))

    def crashed(self) -> None:
        """A defect of the broker showed on this connection: 541, and nobody else is harmed."""
        if self.phase == RUNNING:
            self.send(close_frame(HardError(INTERNAL_ERROR, "")))
        self.end("internal error")

    def alarm_begins(self) -> None:
        """Look at the next publish, and not only when all of it is there."""
        self.reader.forget_publishes()

    def alarm_raised(self, reason: str) -> None:
        """Publishers are blocked from now on: called for each connection that publishes while an alarm is on."""
        if self.phase != RUNNING:
            return
        self.paused = True
        if self.capable("connection.blocked"):
            blocked = commands.Connection.Blocked()
            blocked.reason = reason
            self.send(method_frame(0, blocked))

    def alarm_cleared(self) -> None:
        if self.paused:
            self.paused = False
            if self.phase == RUNNING and self.capable("connection.blocked"):
                self.send(method_frame(0, commands.Connection.Unblocked()))

    # -- output

    def send(self, frame: bytes) -> None:
        self.output.append(frame)
        self.output_size += len(frame)
        self.mark_dirty()

    def mark_dirty(self) -> None:
        if not self.dirty:
            self.dirty = True
            self.turn.dirty.append(self)

    def saturate(self, by: Channel) -> None:
        """Too much unsent output: no more deliveries to this connection until `sent` brings it down.

        by: whose delivery it was; the others are asked before it next time.
        """
        self.saturated = True
        self.most_output = self.output_size + self.high_water
        self.served_last = by
        for channel in self.channels.values():
            channel.block_consumers()

    def capable(self, capability: str) -> bool:
        field = self.capabilities.get(capability)
        return field is not None and field.value is True

    # -- called by the reader

    def publish_received(self, channel_id: int, payload: bytes) -> Publish | None:
        channel = self.channels.get(channel_id)
        if channel is None:
            if self.phase == CLOSING:
                return None
            self._check_running(payload)
            if channel_id == 0:
                raise self.at(BASIC_PUBLISH, channel_error("unexpected method in connection state running"))
            raise self.at(BASIC_PUBLISH, channel_error("expected 'channel.open'"))
        if self.broker.alarms and not self.paused:
            self.alarm_raised(self.broker.alarms[0])
            # What the message holds waits where it is, until the server reads from here again.
            self.reader.begin_turn(ENDED)
            self.reader.steps = 0
        try:
            return KnownPublish(channel, payload)
        except UnicodeDecodeError:
            raise malformed_utf8() from None
        except (IndexError, ValueError):
            decode_method(payload)
            raise

    def message_received(
        self, publish: Publish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
    ) -> None:
        known: KnownPublish = publish  # type: ignore[assignment]  # a cast is a call for each message
        channel = known.channel
        if not channel.open:
            return
        try:
            publishing.publish(channel, known, header, body, chunks)
        except AmqpError as error:
            self._failed(channel, error, BASIC_PUBLISH)
        except Undecided as undecided:
            ask_about_publish(undecided.claim, known, header, body, chunks)
        if self.broker.alarms and not self.paused:
            self.alarm_raised(self.broker.alarms[0])

    def message_too_large(self, publish: Publish, size: int) -> None:
        channel = cast(KnownPublish, publish).channel
        if channel.open:
            error = precondition_failed(
                f"message size {size} is larger than configured max size {self.settings.max_message_size}"
            )
            self._failed(channel, error, BASIC_PUBLISH)

    def discards(self, channel_id: int) -> bool:
        return self.phase != RUNNING

    def method_received(self, channel_id: int, payload: bytes) -> None:
        channel = self.channels.get(channel_id)
        index = payload[:4]
        if len(payload) > LARGE_METHOD and self.broker.alarms and not self.paused:
            # What it declares may take memory as messages do.
            self.alarm_raised(self.broker.alarms[0])
        if channel is not None and channel.open:
            try:
                if index == BASIC_ACK and len(payload) == ACK_SIZE:
                    channel.ack(int.from_bytes(payload[4:12], "big"), payload[12] & 1 != 0)
                elif index == CHANNEL_OPEN:
                    decode_method(payload)
                    raise channel_error("second 'channel.open' seen")
                elif index == CHANNEL_CLOSE_OK:
                    raise command_invalid("unimplemented method")
                elif index == CHANNEL_CLOSE:
                    decode_method(payload)
                    close_channel(self, channel)
                else:
                    channel.handle(int.from_bytes(index, "big"), payload)
            except AmqpError as error:
                self._failed(channel, error, index)
        elif channel_id == 0:
            connection_method(self, payload, index)
        elif channel is not None:
            closing_channel_method(self, channel, index)
        else:
            self._check_running(payload)
            self._open_channel(channel_id, payload, index)

    # -- errors

    def _failed(self, channel: Channel, error: AmqpError, index: bytes) -> None:
        """The one place where an error in a method becomes channel.close, or goes on to become connection.close."""
        self.at(index, error)
        if not isinstance(error, SoftError):
            raise error
        channel.fail()
        self.reader.forget_publishes()
        close = commands.Channel.Close()
        close.reply_code = error.code
        close.reply_text = error.text
        close.class_id = error.class_id
        close.method_id = error.method_id
        channel.send(method_frame(channel.channel_id, close))

    def at(self, index: bytes, error: AmqpError) -> AmqpError:
        """The error, with the class and method that failed."""
        if isinstance(error, MalformedName):
            return error
        error.class_id = index[0] << 8 | index[1]
        error.method_id = index[2] << 8 | index[3]
        return error

    def fail(self, error: HardError, now: float) -> None:
        if self.phase == RUNNING or self.phase == OPENING:
            self._close(error, now)
        else:
            # A peer that has not logged in is told nothing.
            self.end(error.text)

    def _close(self, error: HardError, now: float) -> None:
        self.close_reason = error.text
        self.phase = CLOSING
        self.deadline = now + self.settings.close_timeout
        let_go(self)
        self.close_channels()
        self.settling.let_go()
        self.reader.drop_contents()
        self.send(close_frame(error))

    def end(self, reason: str | None) -> None:
        """Close the socket without another word, once the output is sent."""
        self.close_reason = self.close_reason or reason
        self.phase = CLOSED
        self.finished = True
        self.reader.stop()
        self.mark_dirty()

    def close_channels(self) -> None:
        """Give back what the connection holds of its virtual host. May be called more than once."""
        # All consumers stop before anything is requeued: what one channel held is not for the others.
        closing = [channel for channel in self.channels.values() if channel.open]
        stopped = [channel.stop_consumers() for channel in closing]
        try:
            end_channels(self.settling, closing, stopped)
        finally:
            self.channels.clear()
            if self.vhost is not None:
                self.vhost.delete_exclusive(self)
                self.vhost = None
            if self.presence is not None:
                self.presence.leave()
                self.presence = None

    def _check_running(self, payload: bytes) -> None:
        if self.phase != RUNNING and self.phase != CLOSING:
            raise unexpected_frame(f"type {FRAME_METHOD}, {snippet(payload)}")

    # -- channels

    def _open_channel(self, channel_id: int, payload: bytes, index: bytes) -> None:
        if self.phase == CLOSING:
            return
        if index != CHANNEL_OPEN:
            raise self.at(index, channel_error("expected 'channel.open'"))
        decode_method(payload)
        open_channel(self, channel_id)

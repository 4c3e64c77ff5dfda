"""A connection: the handshake, channel 0, its channels, and the one place where errors become close methods.

The server gives it octets and the time (`receive`, `tick`, `sent`) and takes octets from `output`; it never
waits and never sees a socket. `phase` says where in its life it is. When `finished` is true the server sends what
is left and closes the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import User
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
    not_allowed,
    precondition_failed,
    reply_text,
    unexpected_frame,
)
from amqp_broker.session.auth import LoginRefused, MalformedResponse, login
from amqp_broker.session.channel import Channel, KnownPublish
from amqp_broker.session.settings import SessionSettings, Turn
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

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
# What opens a connection, and the version that connection.start then names.
ACCEPTED_HEADERS: Final = {
    PROTOCOL_HEADER: (0, 9),
    b"AMQP\x01\x01\x00\x09": (0, 9),
    b"AMQP\x01\x01\x08\x00": (8, 0),
    b"AMQP\x01\x01\x09\x01": (8, 0),
}

# phases
GREETING: Final = 0  # the protocol header is due
STARTING: Final = 1  # connection.start sent
TUNING: Final = 2  # connection.tune sent
OPENING: Final = 3  # tune-ok seen, connection.open is due
RUNNING: Final = 4
CLOSING: Final = 5  # connection.close sent
CLOSED: Final = 6

CHANNEL_OPEN: Final = b"\x00\x14\x00\x0a"
CHANNEL_CLOSE: Final = b"\x00\x14\x00\x28"
CHANNEL_CLOSE_OK: Final = b"\x00\x14\x00\x29"
BASIC_ACK: Final = b"\x00\x3c\x00\x50"
ACK_SIZE: Final = 13


class Connection(FrameHandler):
    """name: `peer:port -> host:port`. from_loopback: whether the peer is on this machine.

    output: frames to send, in order; output_size: their octets. dirty: listed in the turn.
    saturated: had more output than the high water mark and has not been below the low one since.
    paused: publishes while an alarm is on, so the server stops reading from it.
    close_reason: why it ended, for the log; None while it has not, or ended as the client asked.
    """

    __slots__ = (
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
        "last_received",
        "last_sent",
        "name",
        "output",
        "output_size",
        "paused",
        "phase",
        "reader",
        "saturated",
        "settings",
        "turn",
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
        self.turn: Turn = turn
        self.name: str = name
        self.from_loopback: bool = from_loopback
        self.phase: int = GREETING
        self.greeting: bytes = b""
        self.reader: FrameReader = FrameReader(self, FRAME_MIN_SIZE, settings.max_message_size)
        self.channels: dict[int, Channel] = {}
        self.channel_max: int = settings.channel_max
        self.frame_max: int = FRAME_MIN_SIZE
        self.heartbeat: int = 0
        self.client_properties: dict[str, Field] = {}
        self.capabilities: dict[str, Field] = {}
        self.user: User | None = None
        self.vhost: VirtualHost | None = None
        self.output: list[Piece] = []
        self.output_size: int = 0
        self.dirty: bool = False
        self.finished: bool = False
        self.saturated: bool = False
        self.paused: bool = False
        self.close_reason: str | None = None
        self.deadline: float = now + settings.handshake_timeout
        self.last_received: float = now
        self.last_sent: float = now

    # -- called by the server

    def receive(self, data: bytes, now: float) -> None:
        """Handle what the peer sent. Next step: `FrameReader.feed`, then back here with methods and messages."""
        self.last_received = now
        if self.phase == GREETING:
            data = self._greet(data)
            if not data:
                return
        try:
            self.reader.feed(data)
        except HardError as error:
            self._hard_error(error, now)

    def tick(self, now: float) -> None:
        """Let time pass: deadlines, and heartbeats both ways. Called about once a second."""
        if self.phase != RUNNING:
            if now >= self.deadline:
                self._end("handshake timeout" if self.phase < RUNNING else "no close-ok")
            return
        if not self.heartbeat:
            return
        if now - self.last_received >= 2 * self.heartbeat and not self.paused:
            self._end(f"missed heartbeats from client, timeout: {self.heartbeat}s")
        elif now - self.last_sent >= self.heartbeat / 2:
            self.send(HEARTBEAT)

    def sent(self, size: int, now: float) -> None:
        """The server wrote `size` octets of output to the socket."""
        self.last_sent = now
        self.output_size -= size
        if self.saturated and self.output_size <= self.settings.low_water:
            self.saturated = False
            for channel in list(self.channels.values()):
                channel.unblock_consumers()

    def lost(self) -> None:
        """The socket is closed: give back what this connection held. May be called more than once."""
        self.phase = CLOSED
        self.finished = True
        self.reader.stop()
        self._close_channels()

    def shut_down(self, reason: str, now: float) -> None:
        """The broker closes this connection: 320 CONNECTION_FORCED."""
        if self.phase == RUNNING:
            text = f"broker forced connection closure with reason '{reason}'"
            self._close(HardError(CONNECTION_FORCED, text), now)
        elif self.phase < RUNNING:
            self._end(reason)

    def crashed(self) -> None:
        """A defect of the broker showed on this connection: 541, and nobody else is harmed."""
        close = commands.Connection.Close()
        close.reply_code = INTERNAL_ERROR
        close.reply_text = reply_text(INTERNAL_ERROR, "")
        close.class_id = close.method_id = 0
        if self.phase == RUNNING:
            self.send(method_frame(0, close))
        self._end("internal error")

    def alarm_raised(self, reason: str) -> None:
        """Publishers are blocked from now on: called for each connection that publishes while an alarm is on."""
        self.paused = True
        if self.capable("connection.blocked"):
            blocked = commands.Connection.Blocked()
            blocked.reason = reason
            self.send(method_frame(0, blocked))

    def alarm_cleared(self) -> None:
        if self.paused:
            self.paused = False
            if self.capable("connection.blocked"):
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

    def saturate(self) -> None:
        """Too much unsent output: no more deliveries to this connection until `sent` brings it down."""
        self.saturated = True
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
                raise self._at(BASIC_PUBLISH, channel_error("unexpected method in connection state running"))
            raise self._at(BASIC_PUBLISH, channel_error("expected 'channel.open'"))
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
        known = cast(KnownPublish, publish)
        channel = known.channel
        if not channel.open:
            return
        try:
            channel.publish(known, header, body, chunks)
        except AmqpError as error:
            self._failed(channel, error, BASIC_PUBLISH)
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
        if channel is not None and channel.open:
            try:
                if index == BASIC_ACK and len(payload) == ACK_SIZE:
                    channel.ack(int.from_bytes(payload[4:12], "big"), payload[12] & 1 != 0)
                elif index == CHANNEL_OPEN:
                    raise channel_error("second 'channel.open' seen")
                elif index == CHANNEL_CLOSE_OK:
                    raise command_invalid("unimplemented method")
                elif index == CHANNEL_CLOSE:
                    decode_method(payload)
                    self._channel_close(channel)
                else:
                    channel.handle(int.from_bytes(index, "big"), payload)
            except AmqpError as error:
                self._failed(channel, error, index)
        elif channel_id == 0:
            self._connection_method(payload, index)
        elif channel is not None:
            self._closing_channel_method(channel, index)
        else:
            self._check_running(payload)
            self._open_channel(channel_id, payload, index)

    # -- errors

    def _failed(self, channel: Channel, error: AmqpError, index: bytes) -> None:
        """The one place where an error in a method becomes channel.close, or goes on to become connection.close."""
        self._at(index, error)
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

    def _at(self, index: bytes, error: AmqpError) -> AmqpError:
        """The error, with the class and method that failed."""
        if isinstance(error, MalformedName):
            return error
        error.class_id = index[0] << 8 | index[1]
        error.method_id = index[2] << 8 | index[3]
        return error

    def _hard_error(self, error: HardError, now: float) -> None:
        if self.phase == RUNNING or self.phase == OPENING:
            self._close(error, now)
        else:
            # A peer that has not logged in is told nothing.
            self._end(error.text)

    def _close(self, error: HardError, now: float) -> None:
        close = commands.Connection.Close()
        close.reply_code = error.code
        close.reply_text = error.text
        close.class_id = error.class_id
        close.method_id = error.method_id
        self.close_reason = error.text
        self.phase = CLOSING
        self.deadline = now + self.settings.close_timeout
        self._close_channels()
        self.reader.contents.clear()
        self.send(method_frame(0, close))

    def _end(self, reason: str | None) -> None:
        """Close the socket without another word, once the output is sent."""
        self.close_reason = self.close_reason or reason
        self.phase = CLOSED
        self.finished = True
        self.reader.stop()
        self.mark_dirty()

    def _close_channels(self) -> None:
        for channel in list(self.channels.values()):
            channel.close()
        self.channels.clear()
        if self.vhost is not None:
            self.vhost.delete_exclusive(self)
            self.vhost = None

    def _check_running(self, payload: bytes) -> None:
        if self.phase != RUNNING and self.phase != CLOSING:
            raise unexpected_frame(f"type {FRAME_METHOD}, {snippet(payload)}")

    # -- channels

    def _open_channel(self, channel_id: int, payload: bytes, index: bytes) -> None:
        if self.phase == CLOSING:
            return
        if index != CHANNEL_OPEN:
            raise self._at(index, channel_error("expected 'channel.open'"))
        decode_method(payload)
        if channel_id > self.channel_max:
            raise not_allowed(
                f"number of channels opened ({len(self.channels)}) has reached the negotiated "
                f"channel_max ({self.channel_max})"
            )
        vhost, user = self.vhost, self.user
        assert vhost is not None and user is not None
        channel = Channel(self, channel_id, vhost, user)
        self.channels[channel_id] = channel
        ok = commands.Channel.OpenOk()
        ok.channel_id = b""  # type: ignore[assignment]
        channel.send(method_frame(channel_id, ok))

    def _channel_close(self, channel: Channel) -> None:
        channel.close()
        del self.channels[channel.channel_id]
        self.reader.forget_publishes()
        channel.reply(commands.Channel.CloseOk())

    def _closing_channel_method(self, channel: Channel, index: bytes) -> None:
        """A channel that was closed by an error hears only its close-ok, or a close that crossed ours."""
        if index == CHANNEL_CLOSE_OK:
            del self.channels[channel.channel_id]
        elif index == CHANNEL_CLOSE:
            self.send(method_frame(channel.channel_id, commands.Channel.CloseOk()))

    # -- channel 0

    def _greet(self, data: bytes) -> bytes:
        """Take the protocol header; returns what came after it."""
        data = self.greeting + data
        if len(data) < len(PROTOCOL_HEADER):
            self.greeting = data
            return b""
        self.greeting = b""
        version = ACCEPTED_HEADERS.get(data[:8])
        if version is None:
            self.send(PROTOCOL_HEADER)
            self._end("unsupported protocol header")
            return b""
        start = commands.Connection.Start()
        start.version_major, start.version_minor = version
        start.server_properties = self.settings.server_properties  # type: ignore[assignment]
        start.mechanisms = " ".join(self.settings.mechanisms)
        start.locales = "en_US"
        self.phase = STARTING
        self.send(method_frame(0, start))
        return data[8:]

    def _connection_method(self, payload: bytes, index: bytes) -> None:
        """A method on channel 0: what is expected depends on the phase."""
        try:
            method = decode_method(payload)
            number = method.index
            if self.phase == CLOSING:
                self._while_closing(number)
                return
            handler = _CONNECTION_METHODS.get((self.phase, number))
            if handler is None:
                raise channel_error(f"unexpected method in connection state {_PHASE_NAMES[self.phase]}")
            handler(self, method)
        except AmqpError as error:
            raise self._at(index, HardError(error.code, error.explanation)) from None

    def _while_closing(self, number: int) -> None:
        if number == commands.Connection.CloseOk.index:
            self._end(self.close_reason)
        elif number == commands.Connection.Close.index:
            self.send(method_frame(0, commands.Connection.CloseOk()))

    def start_ok(self, method: Method) -> None:
        start_ok = cast(commands.Connection.StartOk, method)
        self.client_properties = cast("dict[str, Field]", start_ok.client_properties)
        capabilities = self.client_properties.get("capabilities")
        if capabilities is not None and isinstance(capabilities.value, dict):
            self.capabilities = capabilities.value
        mechanism = start_ok.mechanism
        try:
            if mechanism not in self.settings.mechanisms:
                raise MalformedResponse(f"authentication mechanism '{mechanism}' is not offered")
            # A long string is octets here; pamqp's annotation has it a str.
            user = login(self.broker, mechanism, cast(bytes, cast(Any, method).response))
            if user.name in self.settings.loopback_users and not self.from_loopback:
                raise LoginRefused(f"user '{user.name}' can only connect via localhost")
        except MalformedResponse as malformed:
            self._end(str(malformed))
            return
        except LoginRefused as refusal:
            self._refuse_login(mechanism, str(refusal))
            return
        self.user = user
        tune = commands.Connection.Tune()
        tune.channel_max = self.settings.channel_max
        tune.frame_max = self.settings.frame_max
        tune.heartbeat = self.settings.heartbeat
        self.phase = TUNING
        self.send(method_frame(0, tune))

    def _refuse_login(self, mechanism: str, reason: str) -> None:
        self.close_reason = reason
        if not self.capable("authentication_failure_close"):
            self._end(reason)
            return
        close = commands.Connection.Close()
        close.reply_code = 403
        close.reply_text = reply_text(
            403,
            f"Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile.",
        )
        close.class_id = close.method_id = 0
        self.phase = CLOSING
        self.send(method_frame(0, close))

    def tune_ok(self, method: Method) -> None:
        """What the client chose must lie within what was offered; 0 for no limit is refused where there is one."""
        tune_ok = cast(commands.Connection.TuneOk, method)
        channel_max, frame_max = tune_ok.channel_max, tune_ok.frame_max
        self._check_negotiated("frame_max", frame_max, FRAME_MIN_SIZE, self.settings.frame_max)
        self._check_negotiated("channel_max", channel_max, 1, self.settings.channel_max)
        self.frame_max = frame_max or 0x7FFFFFFF
        self.channel_max = channel_max or 0xFFFF
        self.heartbeat = tune_ok.heartbeat
        self.reader.frame_max = self.frame_max
        self.phase = OPENING

    def _check_negotiated(self, name: str, value: int, least: int, most: int) -> None:
        if value and value < least:
            raise not_allowed(
                f"negotiated {name} = {value} is lower than the minimum allowed value ({least})"
            )
        if most and (value == 0 or value > most):
            raise not_allowed(
                f"negotiated {name} = {value} is higher than the maximum allowed value ({most})"
            )

    def open_vhost(self, method: Method) -> None:
        name = cast(commands.Connection.Open, method).virtual_host
        user = self.user
        assert user is not None
        vhost = self.broker.vhosts.get(name)
        if vhost is None:
            raise not_allowed(f"vhost {name} not found")
        if name not in user.permissions:
            raise not_allowed(f"access to vhost '{name}' refused for user '{user.name}'")
        self.vhost = vhost
        self.phase = RUNNING
        self.send(method_frame(0, commands.Connection.OpenOk()))

    def close_asked(self, method: Method) -> None:
        self._close_channels()
        self.send(method_frame(0, commands.Connection.CloseOk()))
        self._end(None)

    def update_secret(self, method: Method) -> None:
        """Passwords do not expire, so a new secret changes nothing; the client is told that it was taken."""
        self.send(method_frame(0, commands.Connection.UpdateSecretOk()))


_PHASE_NAMES: Final = ("pre_init", "starting", "tuning", "opening", "running", "closing", "closed")

_CONNECTION_METHODS: Final[dict[tuple[int, int], Callable[[Connection, Method], None]]] = {
    (STARTING, commands.Connection.StartOk.index): Connection.start_ok,
    (TUNING, commands.Connection.TuneOk.index): Connection.tune_ok,
    (OPENING, commands.Connection.Open.index): Connection.open_vhost,
    (RUNNING, commands.Connection.Close.index): Connection.close_asked,
    (RUNNING, commands.Connection.UpdateSecret.index): Connection.update_secret,
}

"""A client that says anything and hides nothing: what the conversations talk to a broker with.

`Client` is one connection: it can send any bytes, and shows every reply as it came. `Channel` is one
channel of it, with the few sentences the tests are made of: call a method, expect a reply, expect to be
refused. Every receive has a deadline; that nothing came is shown by a round trip, never by waiting. It
never retries and never raises for a broker's error: a wrong reply is an AssertionError with both sides in
it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from .codec import (
    BODY,
    CONTENT_METHODS,
    FRAME_END,
    HEADER,
    HEARTBEAT,
    METHOD,
    METHODS,
    Frame,
    decode_header,
    decode_method,
    encode_header,
    encode_method,
)

Value = TypeVar("Value")

DEADLINE = float(os.environ.get("AMQP_TEST_DEADLINE", "30"))
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

REPLY_NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class Transport(Protocol):
    """Octets both ways."""

    def send(self, data: bytes) -> None:
        """Hand over all of `data`; a peer that is gone is noticed by the next receive."""

    def receive(self, deadline: float) -> bytes:
        """Some octets, or b"" when the peer has closed. Raises TimeoutError after `deadline` seconds."""

    def close(self) -> None:
        """Let go of the connection without a word."""


class TcpTransport:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.settimeout(DEADLINE)
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, deadline: float) -> bytes:
        self._socket.settimeout(max(deadline, 0.001))
        try:
            return self._socket.recv(262144)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._socket.close()


class Reply:
    """What came: a method with its arguments, and its content where it has one; or a heartbeat."""

    def __init__(self, channel: int, name: str, arguments: dict[str, Any]) -> None:
        self.channel = channel
        self.name = name
        self.arguments = arguments
        self.header = b""
        self.body = b""

    @property
    def properties(self) -> dict[str, Any]:
        """The content's properties, decoded; `header` holds them as they came."""
        return decode_header(self.header)[1] if self.header else {}

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def __repr__(self) -> str:
        content = f" {self.header[:80]!r} {self.body[:60]!r}" if self.header else ""
        return f"<{self.channel}: {self.name} {self.arguments}{content}>"


class Client:
    """One connection. `frame_max` is what bodies are cut to, and becomes what was negotiated."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.frame_max = 131072
        self.start: dict[str, Any] = {}
        self.tune: dict[str, Any] = {}
        self._data = bytearray()
        self._waiting: deque[Reply] = deque()
        self._open_channels = 0
        self._held_back: list[bytes] | None = None

    def handshake(
        self, *, virtual_host: str = "/", capabilities: dict[str, bool] | None = None, **tune: int
    ) -> Client:
        """Open the connection as guest; `tune` replaces what the broker offered."""
        self.log_in(capabilities=capabilities)
        answer = self.tune | tune
        self.frame_max = answer["frame_max"] or 131072
        self.send(0, "connection.tune-ok", **answer)
        self.send(0, "connection.open", virtual_host=virtual_host)
        self.expect("connection.open-ok", reserved_1="")
        return self

    def log_in(
        self,
        *,
        mechanism: str = "PLAIN",
        response: str | bytes = "\0guest\0guest",
        capabilities: dict[str, bool] | None = None,
    ) -> None:
        """The handshake as far as connection.tune."""
        self.send_bytes(PROTOCOL_HEADER)
        self.start = self.expect("connection.start").arguments
        self.send_start_ok(mechanism=mechanism, response=response, capabilities=capabilities)
        self.tune = self.expect("connection.tune").arguments

    def send_start_ok(
        self,
        *,
        mechanism: str = "PLAIN",
        response: str | bytes = "\0guest\0guest",
        capabilities: dict[str, bool] | None = None,
    ) -> None:
        announced = CAPABILITIES if capabilities is None else capabilities
        properties = {"product": "conversations", "capabilities": announced}
        self.send(
            0,
            "connection.start-ok",
            client_properties=properties,
            mechanism=mechanism,
            response=response,
            locale="en_US",
        )

    def channel(self, number: int | None = None) -> Channel:
        """An open channel; the next free number unless one is given."""
        if number is None:
            self._open_channels += 1
            number = self._open_channels
        channel = Channel(self, number)
        channel.open()
        return channel

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is sent meanwhile goes out in one piece: for what a time must not end between, as it may
        where the machine does something else between two writes.
        """
        self._held_back = held_back = []
        try:
            yield
        finally:
            self._held_back = None
        self.transport.send(b"".join(held_back))

    def send_bytes(self, data: bytes) -> None:
        if self._held_back is None:
            self.transport.send(data)
        else:
            self._held_back.append(data)

    def send_frame(self, kind: int, channel: int, payload: bytes) -> None:
        self.send_bytes(Frame(kind, channel, payload).encoded())

    def send(self, channel: int, name: str, **arguments: Any) -> None:
        self.send_frame(METHOD, channel, encode_method(name, arguments))

    def receive(self, channel: int | None = None, deadline: float = DEADLINE) -> Reply:
        """The next reply, or the next on that channel. Heartbeats on the way are dropped."""
        for reply in self._waiting:
            if channel in (None, reply.channel):
                self._waiting.remove(reply)
                return reply
        until = time.monotonic() + deadline
        while True:
            reply = self._next_reply(until)
            if reply.name == "heartbeat":
                continue
            if channel in (None, reply.channel):
                return reply
            assert reply.name != "connection.close", (
                f"waiting on channel {channel}, but the broker says {reply}"
            )
            self._waiting.append(reply)

    def receive_heartbeat(self, deadline: float) -> None:
        """The next frame, which has to be a heartbeat."""
        frame = self._next_frame(time.monotonic() + deadline)
        assert frame == Frame(HEARTBEAT, 0, b""), f"{frame} came, not a heartbeat"

    def receive_frame_name(self, deadline: float) -> str | None:
        """The name of the next frame's method, "heartbeat", or None for the end of the connection."""
        frame = self._next_frame(time.monotonic() + deadline, or_end=True)
        if frame is None:
            return None
        return "heartbeat" if frame.kind == HEARTBEAT else decode_method(frame.payload)[0]

    def expect(self, name: str, **arguments: Any) -> Reply:
        """The next reply of all, checked against the name and the arguments given."""
        return checked(self.receive(), name, arguments)

    def refuses(self, code: int, text: str, by: str = "") -> None:
        """The connection is closed with exactly this, `by` naming the failing method; afterwards the socket
        is closed.
        """
        self.says_goodbye(code, text, by)
        self.is_closed()

    def says_goodbye(self, code: int, text: str, by: str = "") -> None:
        """The same without waiting for the socket, which somebody has to ask about later."""
        reply = self.receive(0)
        assert (reply.name, reply.arguments) == ("connection.close", refusal(code, text, by)), reply
        self.send(0, "connection.close-ok")

    def ends(self, *codes: int) -> None:
        """The connection is closed for one of these reasons, in whatever words; 0 stands for no word at
        all.
        """
        frame = self._next_frame(time.monotonic() + DEADLINE, or_end=True)
        if frame is None:
            assert 0 in codes, "the broker closed the socket where a connection.close was due"
            return
        name, arguments = decode_method(frame.payload)
        assert (name, arguments["reply_code"] in codes) == ("connection.close", True), f"{name} {arguments}"
        assert arguments["reply_text"].startswith(REPLY_NAMES[arguments["reply_code"]])
        self.send(0, "connection.close-ok")
        self.is_closed()

    def is_closed(self, deadline: float = DEADLINE) -> None:
        """The broker closes the socket, and sends nothing more before it does."""
        frame = self._next_frame(time.monotonic() + deadline, or_end=True)
        assert frame is None, f"{frame} came, not the end of the connection"

    def is_alive(self) -> None:
        """The connection still works: a channel of it can be opened and closed."""
        self.send(2000, "channel.open")
        checked(self.receive(2000), "channel.open-ok", {})
        self.send(2000, "channel.close", reply_code=200)
        checked(self.receive(2000), "channel.close-ok", {})

    def close(self) -> None:
        """Leave as the protocol asks; whatever else was on its way is dropped."""
        self.send(0, "connection.close", reply_code=200, reply_text="bye")
        while self.receive(0).name != "connection.close-ok":
            continue
        self.transport.close()

    def drop(self) -> None:
        """Leave without a word."""
        self.transport.close()

    def receive_octets(self, count: int, deadline: float = DEADLINE) -> bytes:
        """The next octets as they are, for replies that are not frames; fewer only at the end of the
        connection.
        """
        until = time.monotonic() + deadline
        while len(self._data) < count and self._fill(until):
            continue
        taken = bytes(self._data[:count])
        del self._data[:count]
        return taken

    def _fill(self, until: float) -> bool:
        data = self.transport.receive(until - time.monotonic())
        self._data += data
        return bool(data)

    def _next_frame(self, until: float, or_end: bool = False) -> Frame | None:
        while True:
            if len(self._data) >= 7:
                kind, channel, size = struct.unpack_from(">BHI", self._data)
                if len(self._data) >= size + 8:
                    payload, end = bytes(self._data[7 : 7 + size]), self._data[7 + size]
                    assert end == FRAME_END, f"a frame of type {kind} ends with {end}"
                    assert size + 8 <= self.frame_max, f"a frame of {size + 8} octets passes frame_max"
                    del self._data[: size + 8]
                    return Frame(kind, channel, payload)
            try:
                more = self._fill(until)
            except TimeoutError:
                raise AssertionError("nothing came before the deadline") from None
            if not more:
                assert or_end, "the broker closed the socket where a reply was due"
                return None

    def _next_reply(self, until: float) -> Reply:
        frame = self._next_frame(until)
        assert frame is not None
        if frame.kind == HEARTBEAT:
            return Reply(frame.channel, "heartbeat", {})
        assert frame.kind == METHOD, f"{frame} came where a method was due"
        name, arguments = decode_method(frame.payload)
        reply = Reply(frame.channel, name, arguments)
        if name in CONTENT_METHODS:
            self._read_content(reply, until)
        return reply

    def _read_content(self, reply: Reply, until: float) -> None:
        frame = self._next_frame(until)
        assert frame is not None
        assert (frame.kind, frame.channel) == (HEADER, reply.channel), frame
        reply.header = frame.payload
        (size,) = struct.unpack_from(">Q", frame.payload, 4)
        pieces: list[bytes] = []
        left = size
        while left > 0:
            frame = self._next_frame(until)
            assert frame is not None
            assert (frame.kind, frame.channel) == (BODY, reply.channel), frame
            pieces.append(frame.payload)
            left -= len(frame.payload)
        reply.body = b"".join(pieces)
        assert len(reply.body) == size, f"{len(reply.body)} octets of body for {size} announced"


class Channel:
    """One channel of a connection."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number

    def open(self) -> None:
        assert self.call("channel.open") == {"reserved_1": ""}

    def send(self, name: str, **arguments: Any) -> None:
        self.client.send(self.number, name, **arguments)

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Send a method and return the arguments of its -ok, which has to be the very next reply on the
        channel.
        """
        self.send(name, **arguments)
        return self.expect(f"{name}-ok").arguments

    def receive(self) -> Reply:
        return self.client.receive(self.number)

    def expect(self, name: str, **arguments: Any) -> Reply:
        """The next reply on this channel, checked against the name and the arguments given."""
        return checked(self.receive(), name, arguments)

    def publish(
        self,
        body: str | bytes = b"",
        *,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        **properties: Any,
    ) -> None:
        """basic.publish with its content, in as many body frames as frame_max asks."""
        data = body.encode() if isinstance(body, str) else body
        method = {
            "exchange": exchange,
            "routing_key": routing_key,
            "mandatory": mandatory,
            "immediate": immediate,
        }
        frames = [
            Frame(METHOD, self.number, encode_method("basic.publish", method)),
            Frame(HEADER, self.number, encode_header(len(data), properties)),
        ]
        step = self.client.frame_max - 8
        frames += [Frame(BODY, self.number, data[at : at + step]) for at in range(0, len(data), step)]
        self.client.send_bytes(b"".join(frame.encoded() for frame in frames))

    def declare(self, queue: str, **arguments: Any) -> str:
        """A queue that has to be new and empty; its name comes back, which matters for an empty one."""
        reply = self.call("queue.declare", queue=queue, **arguments)
        assert (reply["message_count"], reply["consumer_count"]) == (0, 0), reply
        assert queue in ("", reply["queue"])
        return str(reply["queue"])

    def bind(
        self, queue: str, exchange: str, routing_key: str = "", arguments: dict[str, Any] | None = None
    ) -> None:
        self.call(
            "queue.bind", queue=queue, exchange=exchange, routing_key=routing_key, arguments=arguments or {}
        )

    def consume(self, queue: str, tag: str = "c", **arguments: Any) -> str:
        """The consumer's tag; deliveries may follow at once."""
        reply = self.call("basic.consume", queue=queue, consumer_tag=tag, **arguments)
        assert tag in ("", reply["consumer_tag"])
        return str(reply["consumer_tag"])

    def counts(self, queue: str) -> tuple[int, int]:
        """Ready messages and consumers of a queue."""
        reply = self.call("queue.declare", queue=queue, passive=True)
        return reply["message_count"], reply["consumer_count"]

    def counts_become(self, queue: str, messages: int, consumers: int) -> None:
        """The counts reach these; for what another channel or connection has caused a moment ago."""
        eventually(lambda: self.counts(queue), (messages, consumers))

    def get(self, queue: str, no_ack: bool = True) -> Reply | None:
        """A message of the queue, or None when it is empty."""
        self.send("basic.get", queue=queue, no_ack=no_ack)
        reply = self.receive()
        if reply.name == "basic.get-empty":
            assert reply.arguments == {"reserved_1": ""}
            return None
        return checked(reply, "basic.get-ok", {})

    def drain(self, queue: str) -> list[str]:
        """The bodies of all ready messages, taken off the queue in its order."""
        bodies: list[str] = []
        while (message := self.get(queue)) is not None:
            bodies.append(message.body.decode())
        return bodies

    def arrival(self, queue: str, no_ack: bool = True, deadline: float = DEADLINE) -> Reply:
        """The next message of a queue to which it may still be on its way."""
        until = time.monotonic() + deadline
        while (message := self.get(queue, no_ack)) is None:
            assert time.monotonic() < until, f"nothing came to {queue}"
            time.sleep(0.002)  # leave the processor to the broker
        return message

    def arrivals(self, queue: str, count: int) -> list[str]:
        """The bodies of the next so many messages of such a queue."""
        return [self.arrival(queue).body.decode() for _ in range(count)]

    def arrivals_kept(self, queue: str, count: int) -> list[str]:
        """The same, and the messages stay unacked."""
        return [self.arrival(queue, no_ack=False).body.decode() for _ in range(count)]

    def outcomes(self, count: int, first: int = 1) -> list[str]:
        """What becomes of the next so many publishes of a confirming channel, "ack" or "nack", however the
        broker puts its confirms together; `first` is the number of the first of them.
        """
        settled: dict[int, str] = {}
        while len(settled) < count:
            reply = self.receive()
            assert reply.name in ("basic.ack", "basic.nack"), f"{reply} came where a confirm was due"
            tag = reply["delivery_tag"]
            new = [n for n in range(first, tag + 1) if n not in settled] if reply["multiple"] else [tag]
            assert not settled.keys() & set(new), f"{reply} came, but that is settled"
            settled.update((number, reply.name.removeprefix("basic.")) for number in new)
        assert sorted(settled) == list(range(first, first + count)), settled
        return [settled[number] for number in sorted(settled)]

    def deliveries(self, count: int) -> list[Reply]:
        return [self.expect("basic.deliver") for _ in range(count)]

    def hears_nothing(self, queue: str = "") -> None:
        """Nothing is on its way on this channel: the replies to two round trips, by way of `queue`, are all
        that comes.
        """
        for _ in range(2):
            if queue:
                self.call("queue.declare", queue=queue, passive=True)
            else:
                self.call("exchange.declare", exchange="amq.direct", passive=True)

    def refuses(self, code: int, text: str, by: str = "") -> None:
        """The channel is closed with exactly this, `by` naming the failing method; its number is free for
        use again.
        """
        reply = self.receive()
        assert (reply.name, reply.arguments) == ("channel.close", refusal(code, text, by)), reply
        self.send("channel.close-ok")
        self.open()

    def close(self) -> None:
        self.call("channel.close", reply_code=200, reply_text="bye")


def refusal(code: int, text: str, by: str) -> dict[str, Any]:
    """The arguments of a close: the reply text is the code's name and the explanation."""
    class_id, method_id, _ = METHODS[by] if by else (0, 0, "")
    full = f"{REPLY_NAMES[code]} - {text}"
    return {"reply_code": code, "reply_text": full, "class_id": class_id, "method_id": method_id}


def checked(reply: Reply, name: str, arguments: dict[str, Any]) -> Reply:
    assert reply.name == name, f"{reply} came where {name} was due"
    found = {key: reply.arguments[key] for key in arguments}
    assert found == arguments, f"{reply} came where {arguments} was due"
    return reply


def eventually(look: Callable[[], Value], wanted: Value, deadline: float = DEADLINE) -> None:
    """Look again until it is as wanted; each look is a round trip, so this does not spin."""
    until = time.monotonic() + deadline
    while (found := look()) != wanted:
        assert time.monotonic() < until, f"still {found}, not {wanted}"

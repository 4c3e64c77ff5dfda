"""A whole broker without sockets, loop, disk or clock: sessions that are given octets and the time by hand.

A `World` is the broker and the turn it runs in; a `Peer` is a client of it, whose octets are the ones of
`tests.conversations.codec`. What a peer sends is one turn, at whose end the output of every connection is taken,
unless that peer is `stuck`. Batches of the store become durable when the test says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from amqp_broker.broker.access import Permission, User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.passwords import hash_password
from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import table_of
from amqp_broker.session.connection import Connection
from amqp_broker.session.settings import SessionSettings, Turn
from tests.broker.ledger_store import LedgerStore
from tests.conversations import codec
from tests.conversations.codec import BODY, HEADER, HEARTBEAT, METHOD, Frame

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = {
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}

# How a channel ends.
ENDS = ["channel.close", "a failing method", "connection.close", "a lost socket"]


class Received(NamedTuple):
    """A method that came, with its content if it has one; "heartbeat" is one without arguments."""

    channel: int
    name: str
    arguments: dict[str, Any]
    properties: dict[str, Any]
    body: bytes

    def __getattr__(self, name: str) -> Any:
        return self.arguments[name]


class World:
    """now: seconds; it stands still unless a test moves it. portion: how many deliveries are settled in a turn of which
    that is enough; 0 for any number. patient: what is left to do then waits for the test, instead of the turn's end.
    """

    def __init__(self, store: LedgerStore | None = None, *, portion: int = 0, patient: bool = False) -> None:
        self.store = store or LedgerStore()
        self.broker = Broker(self.store)
        self.recovered = self.broker.recover()
        self.vhost = self.broker.add_vhost("/")
        self.guest = User("guest", hash_password("guest"), [])
        self.broker.add_user(self.guest)
        self.broker.permit(self.guest, "/", Permission(".*", ".*", ".*"))
        self.settings = SessionSettings(table_of({"product": "RabbitMQ"}))
        if portion:
            self.settings.portion = portion
            self.settings.clock = after_all_time
        self.patient = patient
        self.turn = Turn()
        self.now = 1000.0
        self.peers: list[Peer] = []

    def dial(self, *, from_loopback: bool = True) -> Peer:
        """A connection on which nothing was said."""
        peer = Peer(self, from_loopback)
        self.peers.append(peer)
        return peer

    def connect(self, **options: Any) -> Peer:
        """A connection that is open; options as for `Peer.handshake`."""
        return self.dial().handshake(**options)

    def queue(self, name: str) -> Queue:
        return self.vhost.queues[name]

    def end_turn(self) -> None:
        """Who is behind goes on, everybody's output goes out, and what its going out sets free."""
        while True:
            if not self.patient:
                self.broker.chores.finish()
            behind, self.turn.behind = self.turn.behind, []
            for connection in behind:
                connection.receive(b"", self.now)
            dirty = self.turn.settle()
            for peer in self.peers:
                if peer.connection in dirty:
                    peer.take_output()
            if not (self.turn.dirty or self.turn.behind):
                return

    def go_on(self) -> bool:
        """A turn for a portion of what is left to do; whether something still is."""
        clock = self.broker.clock
        clock.milliseconds = max(clock.milliseconds, 1)
        self.broker.timetable.run_due()
        self.end_turn()
        return len(self.broker.chores) > 0

    def commit(self) -> None:
        """All that was changed so far is durable, and who waited for it speaks."""
        self.store.commit()
        self.end_turn()

    def seal(self) -> None:
        """What was changed so far is on its way to the disk."""
        assert self.store.seal(), "there is nothing to write"

    def commit_oldest(self) -> None:
        self.store.commit_oldest()
        self.end_turn()

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let the clock go on, every connection being told every `step` seconds."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step)
            for peer in self.peers:
                peer.connection.tick(self.now)
            self.end_turn()


def after_all_time() -> float:
    """The clock of a turn that is over when somebody looks at it."""
    return float("inf")


class Peer:
    """received: what came and was not taken yet. stuck: the socket takes no output."""

    def __init__(self, world: World, from_loopback: bool) -> None:
        self.world = world
        name = f"127.0.0.1:{40000 + len(world.peers)} -> 127.0.0.1:5672"
        self.connection = Connection(world.broker, world.settings, world.turn, name, from_loopback, world.now)
        self.received: list[Received] = []
        self.octets = b""
        self.stuck = False
        self._unread = b""

    # -- out

    def say(self, octets: bytes) -> Peer:
        """These octets, in one turn."""
        self.connection.receive(octets, self.world.now)
        self.world.end_turn()
        return self

    def send(self, channel: int, name: str, **arguments: Any) -> Peer:
        return self.say(method(channel, name, **arguments))

    def publish(self, channel: int, routing_key: str, body: bytes, **options: Any) -> Peer:
        return self.say(message(channel, routing_key, body, **options))

    # -- in

    def take_output(self) -> None:
        """The socket takes what there is, unless it is stuck."""
        output = self.connection.output
        if self.stuck or not output:
            return
        octets = b"".join(output)
        output.clear()
        self.connection.sent(self.connection.output_size - self.connection.held_size, self.world.now)
        self.octets += octets
        self._parse(octets)

    def flow_again(self) -> None:
        """The socket takes output again."""
        self.stuck = False
        self.take_output()
        self.world.end_turn()

    def take(self) -> list[Received]:
        """What came since the last time."""
        received, self.received = self.received, []
        return received

    def names(self) -> list[str]:
        """Take what came, by name alone."""
        return [item.name for item in self.take()]

    def bodies(self) -> list[bytes]:
        """Take what came: the bodies of deliveries, nothing else having come."""
        received = self.take()
        assert {item.name for item in received} <= {"basic.deliver"}, received
        return [item.body for item in received]

    def reply(self, channel: int, name: str, **arguments: Any) -> Received:
        """Send a method and take the one thing that comes back."""
        self.take()
        self.send(channel, name, **arguments)
        received = self.take()
        assert len(received) == 1, received
        return received[0]

    def _parse(self, octets: bytes) -> None:
        data = self._unread + octets
        if data == PROTOCOL_HEADER:
            self.received.append(Received(0, "protocol header", {}, {}, b""))
            return
        pending: Received | None = None
        size, at, start = 0, 0, 0
        while at < len(data):
            kind, channel = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
            end = at + 7 + int.from_bytes(data[at + 3 : at + 7], "big")
            assert data[end] == 0xCE
            payload, at = data[at + 7 : end], end + 1
            if kind == METHOD:
                name, arguments = codec.decode_method(payload)
                assert pending is None, f"{name} in the middle of content"
                pending = Received(channel, name, arguments, {}, b"")
            elif kind == HEARTBEAT:
                pending = Received(channel, "heartbeat", {}, {}, b"")
            elif kind == HEADER:
                assert pending is not None
                assert pending.channel == channel
                size, properties = codec.decode_header(payload)
                pending = pending._replace(properties=properties)
            else:
                assert kind == BODY
                assert pending is not None
                assert pending.channel == channel
                assert len(payload) <= self.connection.frame_max - 8
                pending = pending._replace(body=pending.body + payload)
            assert pending is not None
            needs_content = pending.name in codec.CONTENT_METHODS
            if not needs_content or (kind in (HEADER, BODY) and len(pending.body) == size):
                self.received.append(pending)
                pending, start = None, at
        self._unread = data[start:]

    # -- all at once

    def handshake(
        self,
        *,
        heartbeat: int = 0,
        frame_max: int = 131072,
        capabilities: dict[str, bool] | None = None,
        channels: int = 1,
        user: str = "guest",
        virtual_host: str = "/",
    ) -> Peer:
        """Log in, with the name as password, and open `channels` channels."""
        properties = {"capabilities": CAPABILITIES if capabilities is None else capabilities}
        self.say(PROTOCOL_HEADER)
        self.send(
            0,
            "connection.start-ok",
            client_properties=properties,
            mechanism="PLAIN",
            response=f"\0{user}\0{user}",
        )
        self.send(0, "connection.tune-ok", channel_max=2047, frame_max=frame_max, heartbeat=heartbeat)
        self.send(0, "connection.open", virtual_host=virtual_host)
        for channel in range(1, channels + 1):
            self.send(channel, "channel.open")
        expected = ["connection.start", "connection.tune", "connection.open-ok"]
        assert self.names() == expected + ["channel.open-ok"] * channels
        self.octets = b""
        return self

    def end(self, how: str) -> None:
        """End channel 1, if not all, in one of the `ENDS`."""
        if how == "channel.close":
            self.send(1, "channel.close", reply_code=200)
        elif how == "a failing method":
            self.send(1, "queue.declare", queue="no such queue", passive=True)
        elif how == "connection.close":
            self.send(0, "connection.close", reply_code=200)
        else:
            assert how == "a lost socket"
            self.lose()

    def lose(self) -> None:
        """The socket is gone, without a word."""
        self.stuck = True
        self.connection.lost()
        self.world.end_turn()


def method(channel: int, name: str, **arguments: Any) -> bytes:
    return Frame(METHOD, channel, codec.encode_method(name, arguments)).encoded()


def message(
    channel: int,
    routing_key: str,
    body: bytes,
    *,
    exchange: str = "",
    mandatory: bool = False,
    immediate: bool = False,
    **properties: Any,
) -> bytes:
    """A publish with its content. `persistent=True` is short for delivery mode 2."""
    if properties.pop("persistent", False):
        properties["delivery_mode"] = 2
    octets = method(
        channel,
        "basic.publish",
        exchange=exchange,
        routing_key=routing_key,
        mandatory=mandatory,
        immediate=immediate,
    )
    octets += Frame(HEADER, channel, codec.encode_header(len(body), properties)).encoded()
    return octets + (Frame(BODY, channel, body).encoded() if body else b"")

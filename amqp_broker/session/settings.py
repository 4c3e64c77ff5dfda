"""What a session needs to know of the configuration, and the turn it runs in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.broker.limits import NodeLimits
from amqp_broker.content.table import Field
from amqp_broker.session.auth import Authenticator, OwnUsers
from amqp_broker.wire.turns import before_all_time

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel
    from amqp_broker.session.connection import Connection


class SessionSettings:
    """heartbeat, handshake_timeout, close_timeout, consumer_timeout (0 for none): seconds.

    max_message_size, high_water, low_water: octets.
    high_water: a connection with more unsent output than this gets no more deliveries until it is below
    low_water. channel_max: the highest channel number. consumer_max: consumers on a channel, 0 for any number.
    node_limits: of all connections together. ignore_deaths: take the header x-death out of what clients publish.
    clock: what time it is within a turn. turn_time: after how many seconds of it the next connection has its turn.
    portion: so many deliveries are settled in one go.
    authenticator: says who may log in. external_is_distinguished: a certificate's user is all of its subject's name.
    """

    __slots__ = (
        "authenticator",
        "channel_max",
        "clock",
        "close_timeout",
        "consumer_max",
        "consumer_timeout",
        "external_is_distinguished",
        "frame_max",
        "handshake_timeout",
        "heartbeat",
        "high_water",
        "ignore_deaths",
        "loopback_users",
        "low_water",
        "max_message_size",
        "mechanisms",
        "node_limits",
        "portion",
        "server_properties",
        "turn_time",
    )

    def __init__(self, server_properties: dict[str, Field]) -> None:
        self.server_properties: dict[str, Field] = server_properties
        self.mechanisms: list[str] = ["PLAIN", "AMQPLAIN"]
        self.loopback_users: list[str] = ["guest"]
        self.authenticator: Authenticator = OwnUsers()
        self.external_is_distinguished: bool = False
        self.frame_max: int = 131072
        self.channel_max: int = 2047
        self.heartbeat: int = 60
        self.handshake_timeout: float = 10.0
        self.close_timeout: float = 3.0
        self.max_message_size: int = 134217728
        self.ignore_deaths: bool = False
        self.consumer_max: int = 0
        self.node_limits: NodeLimits = NodeLimits()
        self.consumer_timeout: float = 1800.0
        self.clock: Callable[[], float] = before_all_time
        self.turn_time: float = 0.005
        self.portion: int = 1000
        self.high_water: int = 1 << 20
        self.low_water: int = 1 << 18


class Turn:
    """What the current turn of the event loop has to finish: see `server.commits`.

    dirty: connections with output to write, or that want to be closed. confirming: channels with publisher
    confirms to send. behind: connections that took all the time there was for them and have octets left: the next
    turn of each is `receive` of nothing.
    """

    __slots__ = ("behind", "confirming", "dirty")

    def __init__(self) -> None:
        self.behind: list[Connection] = []
        self.dirty: list[Connection] = []
        self.confirming: list[Channel] = []

    def settle(self) -> list[Connection]:
        """Send the confirms that are due; returns the connections with output and forgets them."""
        if self.confirming:
            channels = self.confirming
            self.confirming = []
            for channel in channels:
                channel.send_confirms()
        connections = self.dirty
        self.dirty = []
        for connection in connections:
            connection.dirty = False
        return connections

"""A connection in its virtual host: whether it may enter, and what it is told when rights change.

`handshake` lets a connection in through here and `Connection` leaves through here, so that users and virtual hosts know
their connections. What the model then tells a `ConnectionPresence` becomes basic.cancel or connection.close. Who the
user is was found out before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import User
from amqp_broker.broker.limits import check_connection
from amqp_broker.broker.presence import Presence
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.errors import HardError, not_allowed
from amqp_broker.session.consumer import ChannelConsumer
from amqp_broker.session.delivery import withdraw
from amqp_broker.wire.methods import method_frame

if TYPE_CHECKING:
    from amqp_broker.session.connection import Connection


def check_entry(user: User, vhost: VirtualHost) -> None:
    """Raises HardError 530 for a user who may not open the virtual host, or not once more."""
    check_connection(user, vhost)
    if vhost.name not in user.permissions:
        raise vhost_refused(vhost.name, user)


def vhost_refused(name: str, user: User) -> HardError:
    return not_allowed(f"access to vhost '{name}' refused for user '{user.name}'")


class ConnectionPresence(Presence):
    """silenced: the consumers that get nothing more and are still to be cancelled."""

    __slots__ = ("connection", "silenced")

    def __init__(self, connection: Connection, user: User, vhost: VirtualHost) -> None:
        super().__init__(user, vhost, connection.rights is not user)
        self.connection: Connection = connection
        self.silenced: list[ChannelConsumer] = []
        user.presences[self] = None
        vhost.presences[self] = None

    def leave(self) -> None:
        del self.user.presences[self]
        del self.vhost.presences[self]

    def silence(self) -> None:
        vhost = self.vhost.name
        for channel in self.connection.channels.values():
            for consumer in channel.consumers.values():
                if consumer.queue is not channel.reply_queue and not consumer.may_read(vhost):
                    consumer.blocked = True
                    self.silenced.append(consumer)

    def cancel_silenced(self) -> None:
        silenced = self.silenced
        self.silenced = []
        for consumer in silenced:
            withdraw(consumer)

    def expel(self, reason: str) -> None:
        self.connection.force_closed(reason)


def update_secret(connection: Connection, method: Method) -> None:
    """What no backend here has, secrets that expire, is what this is for: the client is told that it was taken."""
    connection.send(method_frame(0, commands.Connection.UpdateSecretOk()))

"""The channels of a connection: how one is opened, closed, and let go when an error has closed it.

`Connection` comes here with what the client says about a channel as such; what is said on it goes to the `Channel`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pamqp import commands

from amqp_broker.broker.limits import check_channel
from amqp_broker.errors import not_allowed
from amqp_broker.session.channel import Channel
from amqp_broker.wire.methods import method_frame

if TYPE_CHECKING:
    from amqp_broker.session.connection import Connection

CHANNEL_OPEN: Final = b"\x00\x14\x00\x0a"
CHANNEL_CLOSE: Final = b"\x00\x14\x00\x28"
CHANNEL_CLOSE_OK: Final = b"\x00\x14\x00\x29"


def open_channel(connection: Connection, channel_id: int) -> None:
    """Raises HardError 530 for a channel too many."""
    vhost, user = connection.vhost, connection.user
    assert vhost is not None
    assert user is not None
    if channel_id > connection.channel_max:
        raise not_allowed(
            f"number of channels opened ({len(connection.channels)}) has reached the negotiated "
            f"channel_max ({connection.channel_max})"
        )
    connection.settings.node_limits.check_channel(connection.broker)
    check_channel(user)
    channel = Channel(connection, channel_id, vhost, user)
    connection.channels[channel_id] = channel
    ok = commands.Channel.OpenOk()
    ok.channel_id = b""  # type: ignore[assignment]
    channel.send(method_frame(channel_id, ok))


def close_channel(connection: Connection, channel: Channel) -> None:
    """The client has closed it."""
    channel.close()
    del connection.channels[channel.channel_id]
    connection.reader.forget_publishes()
    channel.reply(commands.Channel.CloseOk())


def closing_channel_method(connection: Connection, channel: Channel, index: bytes) -> None:
    """A channel that was closed by an error hears only its close-ok, or a close that crossed ours."""
    if index == CHANNEL_CLOSE_OK:
        del connection.channels[channel.channel_id]
        connection.reader.forget_publishes()
    elif index == CHANNEL_CLOSE:
        # After what the channel still holds back, our own close perhaps among it.
        channel.reply(commands.Channel.CloseOk())

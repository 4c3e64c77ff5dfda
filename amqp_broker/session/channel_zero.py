"""What a client says on channel 0, which is about the connection as a whole, and how it ends at the client's wish.

Which methods are due depends on the phase: a literal dictionary at the end of the file. The steps before the virtual
host is open are `handshake`'s; errors are for `Connection` to send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.errors import AmqpError, HardError, channel_error
from amqp_broker.session.handshake import (
    CLOSING,
    OPENING,
    PHASE_NAMES,
    RUNNING,
    STARTING,
    TUNING,
    open_vhost,
    start_ok,
    tune_ok,
)
from amqp_broker.session.presence import update_secret
from amqp_broker.wire.methods import decode_method, method_frame

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel
    from amqp_broker.session.connection import Connection


def connection_method(connection: Connection, payload: bytes, index: bytes) -> None:
    """Raises HardError: on channel 0 every error is one."""
    try:
        method = decode_method(payload)
        number = method.index
        if connection.phase == CLOSING:
            _while_closing(connection, number)
            return
        handler = _METHODS.get((connection.phase, number))
        if handler is None:
            raise channel_error(f"unexpected method in connection state {PHASE_NAMES[connection.phase]}")
        handler(connection, method)
    except AmqpError as error:
        raise connection.at(index, HardError(error.code, error.explanation)) from None


def _while_closing(connection: Connection, number: int) -> None:
    if number == commands.Connection.CloseOk.index:
        connection.end(connection.close_reason)
    elif number == commands.Connection.Close.index and not connection.awaited:
        connection.send(method_frame(0, commands.Connection.CloseOk()))


def _close(connection: Connection, method: Method) -> None:
    """The client wants to go; replies that are held until something is durable go before its close-ok."""
    connection.awaited = [channel for channel in connection.channels.values() if channel.held]
    connection.close_channels()
    if connection.awaited:
        connection.phase = CLOSING
        connection.deadline = connection.last_received + connection.settings.close_timeout
    else:
        _close_ok(connection)


def replies_released(connection: Connection, channel: Channel) -> None:
    """A channel has nothing more to hold back."""
    if channel in connection.awaited:
        connection.awaited.remove(channel)
        if not connection.awaited:
            _close_ok(connection)


def _close_ok(connection: Connection) -> None:
    connection.send(method_frame(0, commands.Connection.CloseOk()))
    connection.end(None)


_METHODS: Final[dict[tuple[int, int], Callable[[Connection, Method], None]]] = {
    (STARTING, commands.Connection.StartOk.index): start_ok,
    (TUNING, commands.Connection.TuneOk.index): tune_ok,
    (OPENING, commands.Connection.Open.index): open_vhost,
    (RUNNING, commands.Connection.Close.index): _close,
    (RUNNING, commands.Connection.UpdateSecret.index): update_secret,
}

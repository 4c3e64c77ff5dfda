"""Channel 0 until the virtual host is open: the protocol header, login, tuning, opening.

Each function is the step of one phase of a `Connection` and moves it to the next. A peer that does something wrong
before it has logged in is told nothing; see `Connection.receive`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.content.table import Field
from amqp_broker.errors import ACCESS_REFUSED, not_allowed, reply_text
from amqp_broker.session.auth import LoginRefused, MalformedResponse, login
from amqp_broker.wire.methods import FRAME_MIN_SIZE, method_frame

if TYPE_CHECKING:
    from amqp_broker.session.connection import Connection

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

PHASE_NAMES: Final = ("pre_init", "starting", "tuning", "opening", "running", "closing", "closed")


def greet(connection: Connection, data: bytes) -> bytes:
    """Take the protocol header; returns what came after it."""
    data = connection.greeting + data
    if len(data) < len(PROTOCOL_HEADER):
        connection.greeting = data
        return b""
    connection.greeting = b""
    version = ACCEPTED_HEADERS.get(data[:8])
    if version is None:
        connection.send(PROTOCOL_HEADER)
        connection.end("unsupported protocol header")
        return b""
    start = commands.Connection.Start()
    start.version_major, start.version_minor = version
    start.server_properties = connection.settings.server_properties  # type: ignore[assignment]
    start.mechanisms = " ".join(connection.settings.mechanisms)
    start.locales = "en_US"
    connection.phase = STARTING
    connection.send(method_frame(0, start))
    return data[8:]


def start_ok(connection: Connection, method: Method) -> None:
    start_ok = cast(commands.Connection.StartOk, method)
    connection.client_properties = cast("dict[str, Field]", start_ok.client_properties)
    capabilities = connection.client_properties.get("capabilities")
    if capabilities is not None and isinstance(capabilities.value, dict):
        connection.capabilities = capabilities.value
    mechanism = start_ok.mechanism
    try:
        if mechanism not in connection.settings.mechanisms:
            raise MalformedResponse(f"authentication mechanism '{mechanism}' is not offered")
        # A long string is octets here; pamqp's annotation has it a str.
        user = login(connection.broker, mechanism, cast(bytes, cast(Any, method).response))
        if user.name in connection.settings.loopback_users and not connection.from_loopback:
            raise LoginRefused(f"user '{user.name}' can only connect via localhost")
    except MalformedResponse as malformed:
        connection.end(str(malformed))
        return
    except LoginRefused as refusal:
        _refuse_login(connection, mechanism, str(refusal))
        return
    connection.user = user
    tune = commands.Connection.Tune()
    tune.channel_max = connection.settings.channel_max
    tune.frame_max = connection.settings.frame_max
    tune.heartbeat = connection.settings.heartbeat
    connection.phase = TUNING
    connection.send(method_frame(0, tune))


def _refuse_login(connection: Connection, mechanism: str, reason: str) -> None:
    connection.close_reason = reason
    if not connection.capable("authentication_failure_close"):
        connection.end(reason)
        return
    close = commands.Connection.Close()
    close.reply_code = ACCESS_REFUSED
    close.reply_text = reply_text(
        ACCESS_REFUSED,
        f"Login was refused using authentication mechanism {mechanism}. For details see the broker logfile.",
    )
    close.class_id = close.method_id = 0
    connection.phase = CLOSING
    connection.send(method_frame(0, close))


def tune_ok(connection: Connection, method: Method) -> None:
    """What the client chose must lie within what was offered; 0 for no limit is refused where there is one."""
    tune_ok = cast(commands.Connection.TuneOk, method)
    channel_max, frame_max = tune_ok.channel_max, tune_ok.frame_max
    _check_negotiated("frame_max", frame_max, FRAME_MIN_SIZE, connection.settings.frame_max)
    _check_negotiated("channel_max", channel_max, 1, connection.settings.channel_max)
    connection.frame_max = frame_max or 0x7FFFFFFF
    connection.channel_max = channel_max or 0xFFFF
    connection.heartbeat = tune_ok.heartbeat
    connection.reader.frame_max = connection.frame_max
    connection.phase = OPENING


def _check_negotiated(name: str, value: int, least: int, most: int) -> None:
    if value and value < least:
        raise not_allowed(f"negotiated {name} = {value} is lower than the minimum allowed value ({least})")
    if most and (value == 0 or value > most):
        raise not_allowed(f"negotiated {name} = {value} is higher than the maximum allowed value ({most})")


def open_vhost(connection: Connection, method: Method) -> None:
    name = cast(commands.Connection.Open, method).virtual_host
    user = connection.user
    assert user is not None
    vhost = connection.broker.vhosts.get(name)
    if vhost is None:
        raise not_allowed(f"vhost {name} not found")
    if name not in user.permissions:
        raise not_allowed(f"access to vhost '{name}' refused for user '{user.name}'")
    connection.vhost = vhost
    connection.phase = RUNNING
    connection.send(method_frame(0, commands.Connection.OpenOk()))

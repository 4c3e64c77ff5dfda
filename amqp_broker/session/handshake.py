"""Channel 0 until the virtual host is open: the protocol header, login, tuning, opening.

Each function is the step of one phase of a `Connection` and moves it to the next. A peer that does something wrong
before it has logged in is told nothing; see `Connection.receive`. Two steps may have to wait for an answer from
outside, `Login` and `Opening`: what the client sends meanwhile is kept and not looked at, and its deadline runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import Rights, User
from amqp_broker.broker.limits import check_connection
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.table import Field
from amqp_broker.errors import ACCESS_REFUSED, HardError, not_allowed
from amqp_broker.session.auth import (
    EXTERNAL,
    LoginRefused,
    MalformedResponse,
    read_response,
    shown,
)
from amqp_broker.session.presence import ConnectionPresence, check_entry, vhost_refused
from amqp_broker.wire.methods import FRAME_MIN_SIZE, method_frame
from amqp_broker.wire.reader import MOST_HELD

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
    if data and not connection.greeting:
        connection.settings.authenticator.greeted(connection)
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
    properties = connection.settings.server_properties
    if version == (8, 0):
        properties = properties | {"capabilities": Field("F", {})}  # they are extensions of AMQP 0-9-1
    start.server_properties = properties  # type: ignore[assignment]
    start.mechanisms = " ".join(offered(connection))
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
        if mechanism not in offered(connection):
            raise MalformedResponse(f"authentication mechanism '{shown(mechanism)}' is not offered")
        # A long string is octets here; pamqp's annotation has it a str.
        response = cast(bytes, cast(Any, method).response)
        name, password = read_response(mechanism, response, _certified_name(connection))
    except MalformedResponse as malformed:
        connection.end(str(malformed))
        return
    except LoginRefused as refusal:
        _refuse_login(connection, mechanism, str(refusal))
        return
    login = Login(connection, mechanism, name, password)
    connection.question = login
    connection.settings.authenticator.log_in(login)
    login.wait()


def offered(connection: Connection) -> list[str]:
    """The mechanisms for this client: EXTERNAL is of no use to one that showed no certificate."""
    mechanisms = connection.settings.mechanisms
    if EXTERNAL in mechanisms and not _certified_name(connection):
        return [mechanism for mechanism in mechanisms if mechanism != EXTERNAL]
    return mechanisms


def _certified_name(connection: Connection) -> str:
    common_name, distinguished_name = connection.peer_names
    return distinguished_name if connection.settings.external_is_distinguished else common_name


class Question:
    """Something that a connection has to be told before it goes on. asked: when, by the session's time.

    Whoever answers with a later time `now` does so in a turn; an answer that is not `wanted` any more does nothing.
    """

    __slots__ = ("asked", "connection")

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection = connection
        self.asked: float = connection.last_received

    @property
    def address(self) -> str:
        """Where the client comes from, without its port."""
        return self.connection.name.partition(" -> ")[0].rpartition(":")[0].strip("[]")

    @property
    def wanted(self) -> bool:
        """Whether the client is still there and has not run out of time."""
        return self.connection.question is self and self.connection.phase < RUNNING

    def wait(self) -> None:
        """Hear nothing of what the client sends from here on, unless there is an answer already."""
        if self.wanted:
            self.connection.reader.hold(MOST_HELD)

    def _answered(self, now: float) -> None:
        """Go on with what the client sent meanwhile."""
        self.connection.question = None
        if self.connection.reader.held:
            self.connection.reader.hold(0)
            self.connection.receive(b"", now)

    def drop(self, reason: str, now: float) -> None:
        """There is no answer, which is not the client's fault: it may try again, and is not told what about."""
        if self.wanted:
            self.connection.end(reason)
            self._answered(now)


class Login(Question):
    """Who a client says it is. password: None for a client that showed a certificate of that name instead."""

    __slots__ = ("mechanism", "name", "password")

    def __init__(self, connection: Connection, mechanism: str, name: str, password: bytes | None) -> None:
        super().__init__(connection)
        self.mechanism: str = mechanism
        self.name: str = name
        self.password: bytes | None = password

    @property
    def comes_from_outside(self) -> bool:
        """Whether this user may only come from this machine, and does not."""
        return self.name in self.connection.settings.loopback_users and not self.connection.from_loopback

    def allow(self, user: User, now: float, rights: Rights | None = None) -> None:
        """rights: if they are not the user's permissions here; then also virtual hosts are asked about."""
        if self.wanted:
            self.connection.user = user
            self.connection.rights = rights or user
            _propose_limits(self.connection)
            self._answered(now)

    def refuse(self, reason: str, now: float) -> None:
        """reason: for the log."""
        if self.wanted:
            _refuse_login(self.connection, self.mechanism, reason)
            self._answered(now)


class Opening(Question):
    """A virtual host that a client wants to open, whose rights are not the user's permissions here."""

    __slots__ = ("rights", "user", "vhost")

    def __init__(self, connection: Connection, user: User, rights: Rights, vhost: VirtualHost) -> None:
        super().__init__(connection)
        self.user: User = user
        self.rights: Rights = rights
        self.vhost: VirtualHost = vhost

    def allow(self, now: float) -> None:
        if self.wanted:
            try:
                if self.connection.broker.vhosts.get(self.vhost.name) is not self.vhost:
                    raise not_allowed(f"vhost {self.vhost.name} not found")
                # Others may have come since the question was asked, or the user gone.
                _check_judged(self.user, self.vhost)
                _enter(self.connection, self.user, self.vhost)
            except HardError as error:
                self._fail(error, now)
            self._answered(now)

    def refuse(self, now: float) -> None:
        if self.wanted:
            self._fail(vhost_refused(self.vhost.name, self.user), now)
            self._answered(now)

    def _fail(self, error: HardError, now: float) -> None:
        error.class_id, error.method_id = 10, 40
        self.connection.fail(error, now)


def _propose_limits(connection: Connection) -> None:
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
    text = (
        f"Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    )
    connection.phase = CLOSING
    connection.send(close_frame(HardError(ACCESS_REFUSED, text)))


def close_frame(error: HardError) -> bytes:
    close = commands.Connection.Close()
    close.reply_code = error.code
    close.reply_text = error.text
    close.class_id = error.class_id
    close.method_id = error.method_id
    return method_frame(0, close)


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
    user, rights = connection.user, connection.rights
    assert user is not None
    assert rights is not None
    vhost = connection.broker.vhosts.get(name)
    if vhost is None:
        raise not_allowed(f"vhost {name} not found")
    if rights is user:
        check_entry(user, vhost)
        _enter(connection, user, vhost)
        return
    _check_judged(user, vhost)
    opening = Opening(connection, user, rights, vhost)
    connection.question = opening
    connection.settings.authenticator.open_vhost(opening)
    opening.wait()


def _check_judged(user: User, vhost: VirtualHost) -> None:
    """Raises HardError 530 for one too many, and for who was deleted here; the rest somebody else knows."""
    check_connection(user, vhost)
    if user.deleted:
        raise vhost_refused(vhost.name, user)


def _enter(connection: Connection, user: User, vhost: VirtualHost) -> None:
    connection.vhost = vhost
    connection.presence = ConnectionPresence(connection, user, vhost)
    connection.phase = RUNNING
    connection.send(method_frame(0, commands.Connection.OpenOk()))

"""What the attempts are made at: a broker with users of few rights, and the sockets of an attacker.

`Site` is the installed command with TLS, a Unix socket and definitions of its own, which can be loaded again with other
rows. An attacker says anything (`tests.conversations.client`) and looks at what comes back. Nothing here looks inside
the broker.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import signal
import socket
import ssl
from pathlib import Path
from typing import Any, Final, Self

from tests.conversations.client import DEADLINE, REPLY_NAMES, Channel, Client, Reply, TcpTransport, Transport
from tests.server.broker_process import BrokerProcess
from tests.server.secure import Authority, StreamTransport, configured, eventually, tls_port

Row = dict[str, Any]
SALT: Final = b"salt"
FULL: Final[Row] = {"configure": ".*", "write": ".*", "read": ".*"}
# What mallory may do: everything with names of her own, and some keys of amq.topic.
OWN: Final[Row] = {
    "configure": "^mallory",
    "write": r"^(mallory.*|amq\.topic)$",
    "read": r"^(mallory.*|amq\.topic)$",
}
# Those whose rights go while they are there; each belongs to one attempt.
FADING: Final = (
    "fading.write",
    "fading.consume",
    "fading.get",
    "fading.declare",
    "fading.topic",
    "fading.vhost",
)


def digest(password: str) -> str:
    """As RabbitMQ keeps a password."""
    return base64.b64encode(SALT + hashlib.sha256(SALT + password.encode()).digest()).decode()


def user(name: str, *tags: str, **row: Any) -> Row:
    return {"name": name, "password_hash": digest(name), "tags": ",".join(tags)} | row


def permission(name: str, rights: Row = FULL, vhost: str = "/") -> Row:
    return {"user": name, "vhost": vhost} | rights


USERS: Final = [
    user("alice"),
    user("mallory"),
    user(".*"),
    user("a-z"),
    user("boss", "administrator", "impersonator"),
    user("stranger"),
    user("few", limits={"max-connections": 3, "max-channels": 5}),
    user("ghost", password_hash=""),
    user("nothing", password_hash=digest("")),
    user("changed"),
    user("fading.tag", "impersonator"),
    *map(user, FADING),
]
PERMISSIONS: Final = [
    permission("mallory", OWN),
    *(
        permission(each)
        for each in ("alice", ".*", "a-z", "boss", "few", "ghost", "nothing", "changed", "fading.tag")
    ),
    *map(permission, FADING),
    permission("alice", vhost="narrow"),
]
TOPICS: Final = [
    {"user": "a-z", "vhost": "/", "exchange": "amq.topic", "write": r"^[{username}]\.", "read": ""},
    *(
        {"user": name, "vhost": "/", "exchange": "amq.topic", "write": r"^{username}\.", "read": r"^news\."}
        for name in ("mallory", ".*", "fading.topic")
    ),
]
LIMITS: Final = {
    "vhost": "narrow",
    "component": "vhost-limits",
    "name": "limits",
    "value": {"max-connections": 3, "max-queues": 4},
}
DEFINITIONS: Final[dict[str, list[Row]]] = {
    "vhosts": [{"name": "/"}, {"name": "narrow"}, {"name": "secret"}],
    "users": USERS,
    "permissions": PERMISSIONS,
    "topic_permissions": TOPICS,
    "parameters": [LIMITS],
}


def plain(name: str, password: str | None = None) -> bytes:
    return f"\0{name}\0{name if password is None else password}".encode()


class Site:
    """A running broker. more: further text of its configuration, `tls` that of its section [tls]."""

    def __init__(self, folder: Path, authority: Authority, more: str = "", tls: str = "") -> None:
        self.folder = folder
        self.authority = authority
        self.definitions = folder / "definitions.json"
        # Paths of Unix sockets are short.
        self.unix = folder / "s"
        certificate, key = authority.server()
        self.rows = {name: list(rows) for name, rows in DEFINITIONS.items()}
        self.process: BrokerProcess = configured(
            folder,
            f'[data]\nload_definitions = "{self.definitions}"\n'
            f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nca = "{authority.file}"\n'
            f'sni = {{ "other.example" = ["{certificate}", "{key}"] }}\n'
            f"{tls or 'verify = ' + chr(34) + 'optional' + chr(34)}\n{more}\n",
        )
        self._clients: list[Client] = []
        self._write()

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """It is still there, ends as asked, and nothing that was tried has made it stumble."""
        try:
            self.hang_up()
            if kind is None:
                assert self.process.running, self.process.stderr()
                assert self.process.stop() == 0
                assert "Traceback" not in self.process.stderr(), self.process.stderr()
        finally:
            self.process.kill()

    def _write(self) -> None:
        self.definitions.write_text(json.dumps(self.rows))

    def reload(self, **rows: list[Row]) -> None:
        """Change or add these rows, and return when they count."""
        keys = {"users": ("name",), "permissions": ("user", "vhost"), "topic_permissions": ("user", "vhost")}
        for name, changed in rows.items():
            same = keys[name]
            others = [
                row
                for row in self.rows[name]
                if all([row[key] for key in same] != [new[key] for key in same] for new in changed)
            ]
            self.rows[name] = [*others, *changed]
        self._write()
        before = len(self.process.stderr())
        self.process.send_signal(signal.SIGHUP)
        self.logs("loaded definitions", before)

    def logs(self, pattern: str, after: int = 0) -> re.Match[str]:
        """Wait until something of the log matches."""
        return eventually(lambda: re.search(pattern, self.process.stderr()[after:]), self.process.stderr)

    # -- sockets

    def dial(self) -> Client:
        """A connection on which nothing has been said."""
        return self.on(TcpTransport(self.process.port))

    def on(self, transport: Transport) -> Client:
        self._clients.append(Client(transport))
        return self._clients[-1]

    def hang_up(self) -> None:
        """Leave all connections without a word."""
        for client in self._clients:
            client.drop()
        self._clients.clear()

    def dial_tls(
        self, shown: tuple[Path, Path] | None = None, context: ssl.SSLContext | None = None
    ) -> Client:
        raw = socket.create_connection(("127.0.0.1", tls_port(self.process.ready_line)), timeout=DEADLINE)
        try:
            context = context or self.authority.trusting(shown)
            return self.on(StreamTransport(context.wrap_socket(raw, server_hostname="localhost")))
        except BaseException:
            raw.close()
            raise

    def opened(self, name: str, vhost: str = "/") -> Client:
        """A connection of a user, whose password is the name."""
        return opened(self.dial(), name, vhost)

    def channel(self, name: str, vhost: str = "/") -> Channel:
        return self.opened(name, vhost).channel()

    def asks_in(self, response: bytes, mechanism: str = "PLAIN", client: Client | None = None) -> str:
        """What comes of a login: "in", the text of the refusal, or "" for the end without a word."""
        client = client or self.dial()
        client.send_bytes(b"AMQP\0\0\x09\x01")
        client.expect("connection.start")
        client.send_start_ok(mechanism=mechanism, response=response)
        try:
            return outcome(client)
        finally:
            client.drop()


def outcome(client: Client) -> str:
    """What came of a login."""
    try:
        reply = client.receive(0)
    except AssertionError as ended:
        assert "closed the socket" in str(ended)
        return ""
    if reply.name == "connection.tune":
        return "in"
    assert reply.name == "connection.close", reply
    return str(reply["reply_text"])


def opened(
    client: Client, name: str, vhost: str = "/", response: bytes | None = None, mechanism: str = "PLAIN"
) -> Client:
    """Log in on a connection on which nothing has been said, and open the virtual host."""
    client.log_in(mechanism=mechanism, response=plain(name) if response is None else response)
    client.send(0, "connection.tune-ok", **(client.tune | {"heartbeat": 0}))
    client.send(0, "connection.open", virtual_host=vhost)
    client.expect("connection.open-ok")
    return client


def refused(channel: Channel, code: int) -> str:
    """The channel is closed with this code; returns why, and the channel is open again."""
    reply = channel.receive()
    assert (reply.name, reply.arguments.get("reply_code")) == ("channel.close", code), reply
    channel.send("channel.close-ok")
    channel.open()
    return str(reply["reply_text"]).removeprefix(f"{REPLY_NAMES[code]} - ")


def closed(client: Client, code: int) -> str:
    """The connection is closed with this code; returns why."""
    reply = client.receive(0)
    assert (reply.name, reply.arguments.get("reply_code")) == ("connection.close", code), reply
    client.send(0, "connection.close-ok")
    client.is_closed()
    return str(reply["reply_text"]).removeprefix(f"{REPLY_NAMES[code]} - ")


def ends_silently(client: Client) -> None:
    """The socket is closed, and nothing is said."""
    client.is_closed()


def published(channel: Channel, **content: Any) -> list[Reply]:
    """Publish in confirm mode; what comes until the confirm, without it."""
    channel.publish(**content)
    replies = []
    while (reply := channel.receive()).name not in ("basic.ack", "basic.nack"):
        replies.append(reply)
    return replies

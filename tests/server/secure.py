"""A certificate authority in a directory, a broker that listens with TLS, and clients that connect to it.

`Authority` writes PEM files as an operator would have them. `SecureBroker` is the installed command with a
configuration file of its own; `on_loop` chooses the event loop that it runs on.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import pika
import trustme
from cryptography.hazmat.primitives import serialization
from pika.exceptions import AMQPConnectionError

from tests.server.broker_process import BrokerProcess

SERVER_NAME: Final = "localhost"
DEADLINE: Final = 30.0
# What clients make of a connection that ends in the TLS handshake.
CLOSED: Final = (ConnectionError, ssl.SSLError)
REFUSED: Final = (AMQPConnectionError, *CLOSED)


class Authority:
    """Issues certificates into files. `other` is an authority that nobody trusts."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "server", *identities: str) -> tuple[Path, Path]:
        """The files of a certificate for these names, localhost and 127.0.0.1 if there are none, and of its key."""
        return self._write(name, self._ca.issue_cert(*(identities or (SERVER_NAME, "127.0.0.1"))))

    def dated(self, first: datetime, last: datetime) -> tuple[Path, Path]:
        """The same for a server's that is valid from then until then."""
        issued = self._ca.issue_cert(SERVER_NAME, not_before=first, not_after=last)
        return self._write("dated", issued)

    def client(self, name: str = "client", **subject: Any) -> tuple[Path, Path]:
        """The same for a client with this common name."""
        subject = {
            "common_name": name,
            "organization_unit_name": "clients",
            "organization_name": "server",
        } | subject
        return self._write(name, self._ca.issue_cert("client@example.test", **subject))

    def _write(self, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def trusting(self, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority, and shows a certificate if it is given one."""
        context = ssl.create_default_context(cafile=str(self.file))
        if shown is not None:
            context.load_cert_chain(*shown)
        return context


def encrypt_key(key: Path, password: str) -> Path:
    """The same key in a file that needs the password."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted = key.with_suffix(".encrypted")
    encrypted.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return encrypted


def configured(directory: Path, text: str) -> BrokerProcess:
    """A broker with this configuration, not started yet."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "broker.toml"
    file.write_text(text)
    return BrokerProcess(directory / "data", ["--config", str(file)])


class SecureBroker:
    """process: the broker, which listens with TLS beside its plain port. port: the one with TLS."""

    def __init__(self, directory: Path, authority: Authority, tls: str = "", more: str = "") -> None:
        certificate, key = authority.directory / "server.pem", authority.directory / "server.key"
        if not certificate.exists():
            authority.server()
        self.authority = authority
        self.process = configured(
            directory,
            f'[listeners]\ntls = ["127.0.0.1:0"]\n[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n{tls}\n{more}\n',
        )

    @property
    def port(self) -> int:
        return tls_port(self.process.ready_line)

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        ended_by_itself = not self.process.running
        self.process.kill()
        assert not ended_by_itself or self.process.process is None or self.process.process.returncode == 0
        assert "Traceback" not in self.process.stderr(), self.process.stderr()

    def parameters(self, context: ssl.SSLContext | None = None) -> pika.ConnectionParameters:
        options = pika.SSLOptions(context or self.authority.trusting(), SERVER_NAME)
        return pika.ConnectionParameters("127.0.0.1", self.port, ssl_options=options, connection_attempts=1)

    def connect(self, context: ssl.SSLContext | None = None) -> pika.BlockingConnection:
        return pika.BlockingConnection(self.parameters(context))

    def wrapped(self, context: ssl.SSLContext | None = None, name: str = SERVER_NAME) -> ssl.SSLSocket:
        """A socket after its TLS handshake."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        try:
            return (context or self.authority.trusting()).wrap_socket(raw, server_hostname=name)
        except BaseException:
            raw.close()
            raise

    def logs(self, pattern: str) -> re.Match[str]:
        """Wait until something of the log matches."""
        return eventually(lambda: re.search(pattern, self.process.stderr()), self.process.stderr)


def eventually(look: Callable[[], Any], otherwise: Callable[[], object]) -> Any:
    """What `look` returns as soon as that is anything. Fails after DEADLINE."""
    until = time.monotonic() + DEADLINE
    while not (found := look()):
        assert time.monotonic() < until, otherwise()
        time.sleep(0.01)
    return found


def tls_port(ready_line: str) -> int:
    found = re.search(r"127\.0\.0\.1:(\d+) \(TLS\)", ready_line)
    assert found is not None, ready_line
    return int(found[1])


def hide_uvloop(directory: Path) -> str:
    """A directory for PYTHONPATH in which uvloop cannot be imported."""
    directory.mkdir()
    (directory / "uvloop.py").write_text("raise ImportError\n")
    return str(directory)


class StreamTransport:
    """Any connected socket as a conversation's transport."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, deadline: float) -> bytes:
        self._socket.settimeout(max(deadline, 0.001))
        try:
            return self._socket.recv(262144)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._socket.close()

"""The PROXY protocol ahead of AMQP and of TLS: who is believed to have connected, and what is not a header."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import aio_pika
import anyio
import pika
import pytest
from pika.exceptions import AMQPConnectionError

from amqp_broker.server.proxy import LINE_MOST, SIGNATURE, Ends, MalformedHeader, read_header
from tests.conversations.client import Client
from tests.server.broker_process import PROTOCOL_HEADER
from tests.server.secure import CLOSED, DEADLINE, SERVER_NAME, Authority, SecureBroker, StreamTransport

FAR: Ends = (("203.0.113.5", 40000), ("192.0.2.1", 5672))
NEAR: Ends = (("127.0.0.9", 41000), ("127.0.0.1", 5672))
FAR_6: Ends = (("2001:db8::5", 40000), ("2001:db8::1", 5672))


def line(ends: Ends = FAR) -> bytes:
    """A header of version 1."""
    (source, port), (destination, other) = ends
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {port} {other}\r\n".encode()


def binary(
    ends: Ends | None = FAR, *, command: int = 0x21, family: int | None = None, more: bytes = b""
) -> bytes:
    """A header of version 2; more: what follows the addresses."""
    body, kind = b"", 0
    if ends is not None:
        (source, port), (destination, other) = ends
        version = socket.AF_INET6 if ":" in source else socket.AF_INET
        kind = 0x21 if ":" in source else 0x11
        hosts = socket.inet_pton(version, source) + socket.inet_pton(version, destination)
        body = hosts + struct.pack(">HH", port, other)
    body += more
    return (
        SIGNATURE + bytes([command, kind if family is None else family]) + struct.pack(">H", len(body)) + body
    )


def read(*pieces: bytes, end: bool = True) -> tuple[Ends | None, bytes]:
    """What the header says that comes in these pieces, and what is left after it."""

    async def both() -> tuple[Ends | None, bytes]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(feed, theirs)
                said = await read_header(ours)
            rest = b""
            with suppress(BlockingIOError):
                rest = ours.recv(65536)
            return said, rest

    async def feed(theirs: socket.socket) -> None:
        for piece in pieces:
            theirs.sendall(piece)
            await anyio.lowlevel.checkpoint()
        if end:
            theirs.shutdown(socket.SHUT_WR)

    try:
        return anyio.run(both)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


# -- headers


@pytest.mark.parametrize("ends", [FAR, NEAR, FAR_6])
@pytest.mark.parametrize("written", [line, binary])
def test_both_versions_tell_both_ends(written: object, ends: Ends) -> None:
    assert callable(written)
    assert read(written(ends)) == (ends, b"")


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        binary(None, command=0x20),
        binary(FAR, command=0x20),
        binary(None),
        binary(None, family=0x31, more=bytes(216)),
    ],
)
def test_where_nothing_is_told_the_sockets_own_ends_count(header: bytes) -> None:
    assert read(header) == (None, b"")


@pytest.mark.parametrize("header", [line(), line(FAR_6), binary(), binary(FAR_6), b"PROXY UNKNOWN\r\n"])
def test_what_follows_the_header_is_left_alone(header: bytes) -> None:
    said = read(header)[0]
    assert read(header + PROTOCOL_HEADER) == (said, PROTOCOL_HEADER)
    for size in range(1, len(header)):
        assert read(header[:size], header[size:] + b"x") == (said, b"x")


def test_octet_by_octet_is_the_same() -> None:
    for header in (line(), binary()):
        assert read(*(bytes([octet]) for octet in header)) == (FAR, b"")


def test_extensions_are_passed_over() -> None:
    assert read(binary(FAR, more=b"\x04\x00\x02zz" + bytes(500)) + b"rest") == (FAR, b"rest")


def test_the_longest_line_that_can_be_is_taken() -> None:
    host = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    longest = f"PROXY TCP6 {host} {host} 65535 65535\r\n".encode()
    assert read(longest) == (((host, 65535), (host, 65535)), b"")
    assert len(longest) <= LINE_MOST


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"PROXY",
        b"PROXY TCP4 203.0.113.5",
        PROTOCOL_HEADER,
        b"GET / HTTP/1.1\r\n\r\n",
        b"proxy TCP4 203.0.113.5 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 1\r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 1 2 3\r\n",
        b"PROXY  TCP4 203.0.113.5 192.0.2.1 1 2\r\n",
        b"PROXY TCP5 203.0.113.5 192.0.2.1 1 2\r\n",
        b"PROXY UDP4 203.0.113.5 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::5 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 203.0.113.5 192.0.2.1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP4 localhost 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 65536 2\r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 -1 2\r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 01 2\r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 1 \r\n",
        b"PROXY TCP4 203.0.113.5 192.0.2.1 1 2\n",
        b"PROXY TCP4 \xff 192.0.2.1 1 2\r\n",
        b"PROXY " + b"x" * 200 + b"\r\n",
        SIGNATURE,
        SIGNATURE + b"\x21\x11\x00",
        binary()[:-1],
        binary(command=0x11),
        binary(command=0x22),
        binary(family=0x12),
        binary(family=0xFF),
        binary(FAR, family=0x21),
        binary(None, family=0x11, more=bytes(11)),
        binary(None, family=0x31, more=bytes(215)),
        binary(more=bytes(2048)),
        SIGNATURE + b"\x20\x00\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(MalformedHeader):
        read(header)


@pytest.mark.parametrize("start", [b"A", b"PROXx", b"\r\n\r\nx", b"\x16\x03\x01"])
def test_what_cannot_become_a_header_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(MalformedHeader, match="no PROXY header"):
        read(start, end=False)


# -- a broker behind a proxy


class HeaderProxy:
    """Passes each connection on to a broker, after a header."""

    def __init__(self, port: int, header: bytes) -> None:
        self._target = port
        self._header = header
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        for each in (self._listener, *self._open):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target), timeout=DEADLINE)
            self._open += [near, far]
            far.sendall(self._header)
            for source, sink in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=(source, sink)))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while octets := source.recv(65536):
                sink.sendall(octets)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecureBroker]:
    """One that wants a header on both of its ports. Somebody but guest may come from anywhere."""
    more = '[auth]\ndefault_user = "anna"\ndefault_pass = "secret"\n'
    secure = proxied(tmp_path_factory.mktemp("proxied"), authority, more)
    with secure:
        yield secure
        assert secure.process.stop() == 0


def proxied(directory: Path, authority: Authority, more: str = "") -> SecureBroker:
    """A broker that wants a header, not started yet."""
    secure = SecureBroker(directory, authority, more=more)
    file = secure.process.data.with_name("broker.toml")
    file.write_text(file.read_text().replace("[listeners]\n", "[listeners]\nproxy_protocol = true\n"))
    return secure


CREDENTIALS = pika.PlainCredentials("anna", "secret")


@pytest.mark.parametrize("header", [line(), binary(), binary(more=b"\x04\x00\x01z")])
def test_a_client_behind_a_proxy_is_named_by_its_own_address(broker: SecureBroker, header: bytes) -> None:
    with HeaderProxy(broker.process.port, header) as proxy:
        parameters = pika.ConnectionParameters("127.0.0.1", proxy.port, credentials=CREDENTIALS)
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.basic_publish("", queue, b"m")
            assert channel.basic_get(queue)[2] == b"m"
    broker.logs(r"accepted connection 203\.0\.113\.5:40000 -> 192\.0\.2\.1:5672\n")


def test_a_header_may_come_before_tls(broker: SecureBroker, authority: Authority) -> None:
    with HeaderProxy(broker.port, binary(FAR_6)) as proxy:
        options = pika.SSLOptions(authority.trusting(), SERVER_NAME)
        parameters = pika.ConnectionParameters(
            "127.0.0.1", proxy.port, credentials=CREDENTIALS, ssl_options=options
        )
        with pika.BlockingConnection(parameters) as connection:
            connection.channel().queue_declare("", exclusive=True)
    broker.logs(r"accepted connection \[2001:db8::5\]:40000 -> \[2001:db8::1\]:5672 \(TLSv1\.3, ")


@pytest.mark.anyio
async def test_aio_pika_comes_through_a_proxy_with_tls(broker: SecureBroker, authority: Authority) -> None:
    with HeaderProxy(broker.port, line()) as proxy:
        connection = await aio_pika.connect(
            host=SERVER_NAME,
            port=proxy.port,
            login="anna",
            password="secret",
            ssl=True,
            ssl_context=authority.trusting(),
        )
        async with connection:
            channel = await connection.channel()
            await channel.declare_queue(exclusive=True)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", binary(None, command=0x20)])
def test_the_proxys_own_connections_have_their_own_names(broker: SecureBroker, header: bytes) -> None:
    with connected(broker.process.port) as raw:
        raw.sendall(header + PROTOCOL_HEADER)
        assert raw.recv(1) == b"\x01"
        broker.logs(
            "accepted connection {}:{} -> 127.0.0.1:{}\n".format(*raw.getsockname(), broker.process.port)
        )


def test_header_and_first_octets_may_come_together(broker: SecureBroker) -> None:
    with connected(broker.process.port) as raw:
        raw.sendall(line())
        Client(StreamTransport(raw)).log_in(response="\0anna\0secret")


@pytest.mark.parametrize(
    "start", [PROTOCOL_HEADER, b"PROXY nonsense\r\n", SIGNATURE + bytes(4), b"\x16\x03\x01"]
)
def test_who_brings_no_header_is_closed_without_a_word(broker: SecureBroker, start: bytes) -> None:
    for port in (broker.process.port, broker.port):
        with connected(port) as raw:
            raw.sendall(start)
            assert everything(raw) == b""


def test_who_brings_half_a_header_is_closed_in_time(tmp_path: Path, authority: Authority) -> None:
    with proxied(tmp_path, authority, '[protocol]\nhandshake_timeout = "1s"\n') as hasty:
        for port in (hasty.process.port, hasty.port):
            with connected(port) as raw:
                raw.sendall(b"PROXY TCP4 ")
                assert everything(raw) == b""
        hasty.logs("closed connection .*: handshake timeout")


def test_tls_that_begins_without_a_header_is_closed(broker: SecureBroker, authority: Authority) -> None:
    with connected(broker.port) as raw, pytest.raises(CLOSED):
        authority.trusting().wrap_socket(raw, server_hostname=SERVER_NAME)
    broker.logs("closed connection .*: no PROXY header")


def test_the_loopback_rule_goes_by_the_clients_address(tmp_path: Path, authority: Authority) -> None:
    with proxied(tmp_path, authority) as secure:
        for header, welcome in (
            (line(NEAR), True),
            (binary(NEAR), True),
            (line(), False),
            (binary(FAR_6), False),
        ):
            with HeaderProxy(secure.process.port, header) as proxy:
                parameters = pika.ConnectionParameters("127.0.0.1", proxy.port)
                if welcome:
                    pika.BlockingConnection(parameters).close()
                else:
                    with pytest.raises(AMQPConnectionError):
                        pika.BlockingConnection(parameters)
        secure.logs("user 'guest' can only connect via localhost")


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def everything(connection: socket.socket) -> bytes:
    """What the broker sends before it closes."""
    found = b""
    with suppress(ConnectionResetError, ssl.SSLError):
        while octets := connection.recv(4096):
            found += octets
    return found

"""To come from somewhere else than one does."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.client import Client
from tests.penetration.conftest import CALM
from tests.penetration.site import Site, ends_silently, plain
from tests.penetration.test_logins import is_refused
from tests.server.secure import Authority, StreamTransport, tls_port

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture(scope="module")
def proxied(folder: Path, authority: Authority) -> Iterator[Site]:
    """A broker behind a proxy."""
    more = f'[listeners]\ntls = ["127.0.0.1:0"]\nproxy_protocol = true\n{CALM}'
    with Site(folder / "proxied", authority, more) as running:
        yield running


@pytest.fixture(autouse=True)
def gone_afterwards(proxied: Site) -> Iterator[None]:
    yield
    proxied.hang_up()


def line(client: str, family: str = "TCP4", here: str = "127.0.0.1") -> bytes:
    return f"PROXY {family} {client} {here} 40000 5672\r\n".encode()


def binary(client: str, command: int = 0x21) -> bytes:
    octets = ipaddress.ip_address(client).packed
    ends = octets + octets + struct.pack(">HH", 40000, 5672)
    family = 0x11 if len(octets) == 4 else 0x21
    return SIGNATURE + bytes((command, family)) + struct.pack(">H", len(ends)) + ends


def comes(site: Site, header: bytes) -> Client:
    client = site.dial()
    client.send_bytes(header)
    return client


OUTSIDE = {
    "IPv4": line("203.0.113.5"),
    "IPv6": line("2001:db8::5", "TCP6", "::1"),
    "IPv4 in IPv6": line("::ffff:203.0.113.5", "TCP6", "::1"),
    "loopback in a zone": line("127.0.0.1.example", "TCP4"),
    "almost loopback": line("128.0.0.1"),
    "NAT64 of loopback": line("64:ff9b::7f00:1", "TCP6", "::1"),
    "IPv4-compatible loopback": line("::127.0.0.1", "TCP6", "::1"),
    "binary IPv4": binary("203.0.113.5"),
    "binary IPv4 in IPv6": binary("::ffff:203.0.113.5"),
    "unspecified": line("0.0.0.0"),
}


@pytest.mark.parametrize("header", OUTSIDE.values(), ids=OUTSIDE)
def test_guest_does_not_come_in_from_outside_through_a_proxy(proxied: Site, header: bytes) -> None:
    """The proxy is on this machine, and the client that it tells of is not."""
    client = comes(proxied, header)
    if b"example" in header:
        ends_silently(client)
    else:
        assert is_refused(proxied.asks_in(plain("guest"), client=client))


def test_a_second_header_does_not_replace_the_first(proxied: Site) -> None:
    for first, second in (
        (line("203.0.113.5"), line("127.0.0.1")),
        (binary("203.0.113.5"), binary("127.0.0.1")),
    ):
        client = comes(proxied, first + second)
        assert client.receive_octets(8) == b"AMQP\0\0\x09\x01"
        ends_silently(client)


def test_a_header_within_tls_is_none(proxied: Site, authority: Authority) -> None:
    port = tls_port(proxied.process.ready_line)
    raw = socket.create_connection(("127.0.0.1", port), timeout=30)
    raw.sendall(line("203.0.113.5"))
    client = proxied.on(StreamTransport(authority.trusting().wrap_socket(raw, server_hostname="localhost")))
    client.send_bytes(line("127.0.0.1"))
    assert client.receive_octets(8) == b"AMQP\0\0\x09\x01"
    ends_silently(client)


def test_nobody_comes_in_around_the_header(proxied: Site) -> None:
    for start in (
        b"AMQP\0\0\x09\x01",
        b"\0AMQP",
        line("203.0.113.5").lower(),
        b"PROXY\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
    ):
        client = comes(proxied, start)
        assert client.receive_octets(1) == b""


def test_a_header_that_says_too_much_is_refused(proxied: Site) -> None:
    for header in (
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY TCP4 203.0.113.5 203.0.113.6 1 2 3\r\n",
        b"PROXY TCP4 203.0.113.5 203.0.113.6 65536 2\r\n",
        b"PROXY TCP4 0x7f.1 203.0.113.6 1 2\r\n",
        b"PROXY TCP4 0177.0.0.1 203.0.113.6 1 2\r\n",
        b"PROXY TCP6 ::1%lo ::1 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        binary("127.0.0.1", 0x2F),
    ):
        client = comes(proxied, header)
        assert client.receive_octets(1) == b"", header


def test_where_no_proxy_is_expected_its_header_is_not_believed(site: Site) -> None:
    for header in (line("127.0.0.1"), binary("127.0.0.1"), line("203.0.113.5")):
        client = comes(site, header)
        assert client.receive_octets(8) == b"AMQP\0\0\x09\x01"
        ends_silently(client)


def test_a_proxys_word_about_certificates_is_not_taken_for_a_login(proxied: Site) -> None:
    """Version 2 has an extension in which a proxy tells the common name of a client's certificate."""
    name = b"\x22" + struct.pack(">H", 4) + b"boss"
    told = b"\x20" + struct.pack(">H", 5 + len(name)) + b"\x07\0\0\0\0" + name
    header = binary("127.0.0.1")
    size = struct.unpack(">H", header[14:16])[0] + len(told)
    client = comes(proxied, header[:14] + struct.pack(">H", size) + header[16:] + told)
    client.send_bytes(b"AMQP\0\0\x09\x01")
    assert b"EXTERNAL" not in client.expect("connection.start")["mechanisms"].encode()
    client.send_start_ok(mechanism="EXTERNAL", response=b"")
    ends_silently(client)

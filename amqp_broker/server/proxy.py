"""The PROXY protocol, versions 1 and 2: what a proxy says of the client before the client's own octets.

It follows the specification that HAProxy publishes (proxy-protocol.txt). Exactly the header is read from the socket,
so that whatever comes after it, TLS or AMQP, finds its first octet. Headers are bounded, and type-length-value
extensions are passed over. What the addresses are good for is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final

# A host and a port.
End = tuple[str, int]
Ends = tuple[End, End]

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
PREFIX: Final = b"PROXY "
# The longest line of version 1, with its line break, and the most octets that may follow the 16 of version 2.
LINE_MOST: Final = 107
EXTENSIONS_MOST: Final = 2048

FAMILIES: Final = {b"TCP4": 4, b"TCP6": 6}
LOCAL: Final = 0x20
PROXIED: Final = 0x21
UNSPECIFIED: Final = 0x00
UNIX_STREAM: Final = 0x31
# The octets of one address, by family and transport.
ADDRESS_SIZES: Final = {0x11: 4, 0x21: 16}
UNIX_SIZE: Final = 216


class MalformedHeader(Exception):
    """The connection does not begin with a header that can be understood."""


class NoHeader(MalformedHeader):
    """It was closed before anything came."""


async def read_header(connection: socket.socket) -> Ends | None:
    """The client's end and the one it connected to; None where the header says that those of the socket count.

    connection: not blocking. Raises MalformedHeader or OSError.
    """
    start = await _start(connection)
    if start.startswith(PREFIX):
        line = bytearray(start)
        while not line.endswith(b"\r\n"):
            if len(line) >= LINE_MOST:
                raise MalformedHeader("the line of the PROXY header does not end")
            line += await _exactly(connection, 1)
        return parse_line(bytes(line))
    rest = await _exactly(connection, 4)
    size = int.from_bytes(rest[2:])
    if size > EXTENSIONS_MOST:
        raise MalformedHeader(f"a PROXY header of {size} octets is too long")
    return parse_binary(rest[0], rest[1], await _exactly(connection, size))


def parse_line(line: bytes) -> Ends | None:
    """A header of version 1, with its line break. Raises MalformedHeader."""
    parts = line.removesuffix(b"\r\n").split(b" ")
    if len(parts) > 1 and parts[1] == b"UNKNOWN":
        return None
    if len(parts) != 6 or parts[1] not in FAMILIES:
        raise MalformedHeader("a PROXY header that cannot be understood")
    version = FAMILIES[parts[1]]
    source, destination = (_address(text, version) for text in parts[2:4])
    return (source, _port(parts[4])), (destination, _port(parts[5]))


def parse_binary(command: int, family: int, rest: bytes) -> Ends | None:
    """A header of version 2, after its signature and its length. Raises MalformedHeader."""
    if command == LOCAL:
        return None
    if command != PROXIED:
        raise MalformedHeader(f"a PROXY header with version and command {command:#04x}")
    if family == UNSPECIFIED or (family == UNIX_STREAM and len(rest) >= UNIX_SIZE):
        return None
    size = ADDRESS_SIZES.get(family)
    if size is None or len(rest) < 2 * size + 4:
        raise MalformedHeader(f"a PROXY header with {len(rest)} octets for family {family:#04x}")
    hosts = (rest[:size], rest[size : 2 * size])
    source, destination = (str(ipaddress.ip_address(host)) for host in hosts)
    ports = rest[2 * size : 2 * size + 4]
    return (source, int.from_bytes(ports[:2])), (destination, int.from_bytes(ports[2:]))


async def _start(connection: socket.socket) -> bytes:
    """The first octets, as many as a signature has; anything else is found out by its first octet that differs."""
    start = b""
    while len(start) < len(SIGNATURE):
        try:
            start += await _some(connection, len(SIGNATURE) - len(start))
        except MalformedHeader:
            if start:
                raise
            raise NoHeader("it sent nothing") from None
        if not (SIGNATURE.startswith(start) or start[: len(PREFIX)] == PREFIX[: len(start)]):
            raise MalformedHeader("no PROXY header")
    return start


async def _exactly(connection: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        octets += await _some(connection, size - len(octets))
    return octets


async def _some(connection: socket.socket, most: int) -> bytes:
    octets = await asyncio.get_running_loop().sock_recv(connection, most)
    if not octets:
        raise MalformedHeader("it was closed before its PROXY header was complete")
    return octets


def _address(text: bytes, version: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
        # A zone would say something about the proxy's machine only.
        if address.version == version and b"%" not in text:
            return str(address)
    except ValueError:
        pass
    raise MalformedHeader("a PROXY header with an address that cannot be understood")


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or str(int(text)).encode() != text or int(text) > 65535:
        raise MalformedHeader("a PROXY header with a port that cannot be understood")
    return int(text)

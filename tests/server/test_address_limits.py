"""Limits of one address: how many connections it may have and open, where that is found out, and what is said of it."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from amqp_broker.server import address_limits
from amqp_broker.server.address_limits import BURST, LOG_INTERVAL, MOST_RATES, AddressLimits
from tests.conversations.client import Client
from tests.server.broker_process import PROTOCOL_HEADER, BrokerProcess
from tests.server.secure import DEADLINE, Authority, StreamTransport, configured, eventually, tls_port

HERE, THERE = "192.0.2.1", "192.0.2.2"


def entered(limits: AddressLimits, host: str, times: int, now: float = 0.0) -> int:
    """How many of some attempts get in."""
    return sum([limits.enter(host, now) for _ in range(times)])


def test_without_limits_everybody_may_come() -> None:
    limits = AddressLimits(0, 0)
    assert entered(limits, HERE, 100_000) == 100_000
    limits.leave(HERE)


def test_an_address_has_so_many_connections_at_a_time() -> None:
    limits = AddressLimits(3, 0)
    assert entered(limits, HERE, 5) == 3
    assert entered(limits, THERE, 5) == 3
    limits.leave(HERE)
    assert entered(limits, HERE, 5) == 1


def test_nothing_is_kept_of_who_has_gone() -> None:
    limits = AddressLimits(3, 0)
    for number in range(1000):
        host = f"10.0.{number // 250}.{number % 250}"
        assert limits.enter(host, 0.0)
        limits.leave(host)
    assert limits._connections == {}


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ("2001:db8:1:2::ffff", True),
        ("2001:db8:1:2:3:4:5:6", True),
        ("2001:db8:1:3::1", False),
        ("192.0.2.1", False),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_address(other: str, is_same: bool) -> None:
    limits = AddressLimits(1, 0)
    assert limits.enter("2001:db8:1:2::1", 0.0)
    assert limits.enter(other, 0.0) is not is_same


def test_ipv4_in_ipv6_is_ipv4() -> None:
    limits = AddressLimits(1, 0)
    assert limits.enter("::ffff:192.0.2.1", 0.0)
    assert not limits.enter(HERE, 0.0)
    assert limits.enter(THERE, 0.0)


def test_an_address_opens_so_many_a_second_and_some_at_once() -> None:
    limits = AddressLimits(0, 4)
    assert entered(limits, HERE, 1000) == 4 * BURST
    assert entered(limits, HERE, 1000, now=0.75) == 3
    assert entered(limits, HERE, 1000, now=1.0) == 1
    assert entered(limits, HERE, 1000, now=1000.0) == 4 * BURST
    assert entered(limits, THERE, 1000, now=1000.0) == 4 * BURST


def test_who_is_refused_does_not_wait_longer_for_trying_again() -> None:
    limits = AddressLimits(0, 1)
    assert entered(limits, HERE, 100_000) == BURST
    assert entered(limits, HERE, 2, now=1.0) == 1


def test_of_many_addresses_the_last_ones_are_remembered() -> None:
    limits = AddressLimits(0, 1)
    for number in range(2 * MOST_RATES):
        limits.enter(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(limits._paid) == MOST_RATES


def test_what_is_refused_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    limits = AddressLimits(1, 0)
    with caplog.at_level(logging.WARNING, address_limits.__name__):
        entered(limits, HERE, 1000)
        assert len(caplog.records) == 1
        entered(limits, THERE, 1001, now=LOG_INTERVAL)
    assert [record.getMessage() for record in caplog.records] == [
        f"connections are refused ({count} since the last such line); one from {host}: "
        "1 are open, as many as limits.connections_per_address allows"
        for count, host in ((1, HERE), (999, THERE))
    ]


# -- in a broker


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.server()
    return made


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "amqp.sock"


def options(authority: Authority, more: str) -> str:
    certificate, key = authority.directory / "server.pem", authority.directory / "server.key"
    return (
        '[listeners]\ntls = ["127.0.0.1:0"]\n'
        f'{more}\n[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        "[limits]\nconnections_per_address = 2\n"
    )


@pytest.fixture
def broker(tmp_path: Path, authority: Authority, place: Path) -> Iterator[BrokerProcess]:
    """Two connections may come from an address, by any way but the Unix socket."""
    process = configured(tmp_path, options(authority, f'unix = ["{place}"]')).start()
    yield process
    assert process.stop() == 0
    assert "Traceback" not in process.stderr(), process.stderr()


def dial(port: int, say: bytes = PROTOCOL_HEADER) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    connected.sendall(say)
    return connected


def first_octet(connected: socket.socket) -> bytes:
    """Of what the broker says; b"" if it hangs up."""
    try:
        return connected.recv(1)
    except ConnectionError:
        return b""


def test_more_connections_than_that_are_closed_without_a_word(broker: BrokerProcess) -> None:
    with ExitStack() as open_ones:
        for _ in range(2):
            assert first_octet(open_ones.enter_context(dial(broker.port))) == b"\x01"
        with dial(broker.port) as third:
            assert first_octet(third) == b""
        # Not even a TLS handshake begins: that costs the broker a thousand times as much.
        with dial(tls_port(broker.ready_line), b"") as secure:
            assert first_octet(secure) == b""

    def comes_in() -> bool:
        with dial(broker.port) as again:
            return first_octet(again) == b"\x01"

    assert eventually(comes_in, broker.stderr)


def test_a_tls_handshake_counts_and_one_that_fails_is_forgotten(
    broker: BrokerProcess, authority: Authority
) -> None:
    port = tls_port(broker.ready_line)
    with ExitStack() as open_ones:

        def is_full() -> bool:
            # Whoever comes first has the place, and this one stays.
            open_ones.enter_context(dial(port, b""))
            with dial(broker.port) as third:
                return first_octet(third) == b""

        assert eventually(is_full, broker.stderr)

    def shakes_hands() -> bool:
        raw = dial(port, b"")
        try:
            with authority.trusting().wrap_socket(raw, server_hostname="localhost") as wrapped:
                return wrapped.version() is not None
        except OSError:
            return False

    assert eventually(shakes_hands, broker.stderr)


def test_a_unix_socket_is_not_counted(broker: BrokerProcess, place: Path) -> None:
    with ExitStack() as open_ones:
        for _ in range(5):
            raw = open_ones.enter_context(socket.socket(socket.AF_UNIX))
            raw.settimeout(DEADLINE)
            raw.connect(str(place))
            Client(StreamTransport(raw)).handshake()


def test_behind_a_proxy_the_clients_address_counts(tmp_path: Path, authority: Authority) -> None:
    process = configured(tmp_path, options(authority, "proxy_protocol = true")).start()
    try:
        with ExitStack() as open_ones:

            def come(host: str) -> bytes:
                header = f"PROXY TCP4 {host} 192.0.2.9 40000 5672\r\n".encode()
                return first_octet(open_ones.enter_context(dial(process.port, header + PROTOCOL_HEADER)))

            assert [come(HERE), come(HERE), come(HERE)] == [b"\x01", b"\x01", b""]
            assert [come(THERE), come(THERE), come(THERE)] == [b"\x01", b"\x01", b""]
        assert (
            "connections are refused (1 since the last such line); one from 192.0.2.1: 2 are open"
            in process.stderr()
        )
    finally:
        process.kill()
    assert "Traceback" not in process.stderr()

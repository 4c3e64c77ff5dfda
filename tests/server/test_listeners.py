"""Several addresses at once: names, both versions of IP, and addresses that cannot be had."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.conversations.client import Client
from tests.server.broker_process import BrokerProcess, free_port
from tests.server.secure import DEADLINE, Authority, StreamTransport, configured


def listening_on(directory: Path, *addresses: str) -> BrokerProcess:
    listed = ", ".join(f'"{address}"' for address in addresses)
    broker = configured(directory, f"[listeners]\ntcp = [{listed}]\n")
    # Not the flag --port, which would change all of them.
    broker.arguments += ["--log-level", "info"]
    return WithoutPort(broker)


class WithoutPort(BrokerProcess):
    """The same broker with no other port than those in its file."""

    def __init__(self, like: BrokerProcess) -> None:
        super().__init__(like.data, like.arguments)

    def command(self) -> list[str]:
        command = super().command()
        place = command.index("--port")
        return command[:place] + command[place + 2 :]


def addresses(broker: BrokerProcess) -> list[str]:
    found = re.search("listening on (.*), data in", broker.ready_line)
    assert found is not None
    return found[1].split(", ")


def handshake(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=DEADLINE) as connected:
        Client(StreamTransport(connected)).handshake().close()


def refusal(process: BrokerProcess) -> str:
    process.launch()
    assert process.wait_ended() == 1
    assert "Traceback" not in process.stderr()
    return process.stderr().splitlines()[-1]


def test_every_address_is_listened_on(tmp_path: Path) -> None:
    broker = listening_on(tmp_path, "127.0.0.1:0", "127.0.0.2:0", "[::1]:0").start()
    try:
        taken = addresses(broker)
        assert [address.rpartition(":")[0] for address in taken] == ["127.0.0.1", "127.0.0.2", "[::1]"]
        for address in taken:
            host, _, port = address.rpartition(":")
            handshake(host.strip("[]"), int(port))
    finally:
        broker.kill()


def test_every_ipv6_address_is_not_every_ipv4_address(tmp_path: Path) -> None:
    port = free_port()
    broker = listening_on(tmp_path, f"[::]:{port}").start()
    try:
        handshake("::1", port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    finally:
        broker.kill()


def test_both_together_are_everywhere(tmp_path: Path) -> None:
    port = free_port()
    broker = listening_on(tmp_path, f"0.0.0.0:{port}", f"[::]:{port}").start()
    try:
        for host in ("127.0.0.1", "127.0.0.3", "::1"):
            handshake(host, port)
    finally:
        broker.kill()


def test_a_name_stands_for_all_its_addresses(tmp_path: Path) -> None:
    port = free_port()
    broker = listening_on(tmp_path, f"localhost:{port}").start()
    try:
        assert f"127.0.0.1:{port}" in addresses(broker)
        handshake("localhost", port)
    finally:
        broker.kill()


def test_ipv6_clients_are_named_with_brackets(tmp_path: Path) -> None:
    broker = listening_on(tmp_path, "[::1]:0").start()
    try:
        handshake("::1", broker.port)
        assert re.search(rf"accepted connection \[::1\]:\d+ -> \[::1\]:{broker.port}\n", broker.stderr())
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("203.0.113.1:5672", "Cannot assign requested address"),
        ("[2001:db8::1]:5672", "Cannot assign requested address"),
        ("no-such-host.invalid:5672", ""),
    ],
)
def test_an_address_that_is_not_here_is_named(tmp_path: Path, address: str, cause: str) -> None:
    line = refusal(listening_on(tmp_path, "127.0.0.1:0", address))
    assert line.startswith(f"amqp-broker: error: cannot listen on {address}: {cause}")


def test_a_port_in_use_is_named_whichever_kind_of_listener_wants_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "files")
    certificate, key = authority.server()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        for listeners in (
            f'tcp = ["{address}"]',
            f'tcp = ["127.0.0.1:0"]\ntls = ["{address}"]',
            f'tcp = ["{address}"]\nproxy_protocol = true',
        ):
            broker = WithoutPort(configured(tmp_path / "broker", f"[listeners]\n{listeners}\n{tls}"))
            line = refusal(broker)
            assert line == f"amqp-broker: error: cannot listen on {address}: Address already in use"


def test_tls_may_be_the_only_way_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "files")
    certificate, key = authority.server()
    port = free_port()
    text = f'[listeners]\ntcp = []\ntls = ["127.0.0.1:{port}"]\n[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    broker = WithoutPort(configured(tmp_path / "broker", text))
    broker.launch()
    try:
        assert broker.process is not None
        assert broker.process.stdout is not None
        assert f"listening on 127.0.0.1:{port} (TLS), data in" in broker.process.stdout.readline().decode()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as raw,
            authority.trusting().wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            Client(StreamTransport(wrapped)).handshake()
        assert broker.stop() == 0
    finally:
        broker.kill()

"""Unix sockets: who may connect, what a connection is called, and whose file it is."""

from __future__ import annotations

import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conversations.client import Client
from tests.server.broker_process import BrokerProcess
from tests.server.secure import DEADLINE, StreamTransport, configured, eventually, hide_uvloop
from tests.server.target import RunningBroker


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the socket is to be: the paths that pytest makes are too long for one."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "amqp.sock"


def listening_on(path: Path, directory: Path, more: str = "") -> BrokerProcess:
    return configured(directory, f'[listeners]\nunix = ["{path}"]\n{more}\n')


@pytest.fixture(params=["uvloop", "asyncio"])
def broker(
    request: pytest.FixtureRequest, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BrokerProcess]:
    if request.param == "asyncio":
        monkeypatch.setenv("PYTHONPATH", hide_uvloop(tmp_path / "hidden"))
    process = listening_on(path, tmp_path / "broker").start()
    yield process
    process.kill()
    assert "Traceback" not in process.stderr(), process.stderr()


def dial(path: Path) -> Client:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(DEADLINE)
    connected.connect(str(path))
    return Client(StreamTransport(connected))


def refusal(process: BrokerProcess) -> str:
    """The line that a start ends with that fails."""
    process.launch()
    assert process.wait_ended() == 1
    assert "Traceback" not in process.stderr()
    return process.stderr().splitlines()[-1]


def test_messages_come_and_go(broker: BrokerProcess, path: Path) -> None:
    client = dial(path).handshake()
    channel = client.channel()
    queue = channel.declare("", exclusive=True)
    bodies = ["m" * size for size in (0, 1, 5000, 300_000, 2_000_000)]
    for body in bodies:
        channel.publish(body, routing_key=queue)
    assert channel.drain(queue) == bodies
    client.close()


def test_both_kinds_of_listeners_are_there(broker: BrokerProcess, path: Path) -> None:
    assert f"listening on 127.0.0.1:{broker.port}, unix:{path}, data in" in broker.ready_line
    with RunningBroker(broker.port).connect() as connection:
        assert connection.is_open
    dial(path).handshake().close()


def test_connections_have_names_of_their_own(broker: BrokerProcess, path: Path) -> None:
    clients = [dial(path).handshake() for _ in range(3)]
    found = eventually(
        lambda: (names := re.findall(r"accepted connection (.*)\n", broker.stderr()))[2:] and names,
        broker.stderr,
    )
    assert len(set(found)) == 3
    for name in found:
        assert re.fullmatch(rf"unix:\d+#\d+ -> unix:{path}", name)
    for client in clients:
        client.close()


def test_owner_and_group_may_connect_and_nobody_else(broker: BrokerProcess, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_the_file_goes_when_the_broker_stops(broker: BrokerProcess, path: Path) -> None:
    assert path.exists()
    assert broker.stop() == 0
    assert not path.exists()


def test_the_file_of_a_killed_broker_is_replaced(broker: BrokerProcess, path: Path) -> None:
    broker.kill()
    assert path.exists()
    broker.start()
    dial(path).handshake().close()


def test_the_file_of_a_living_broker_is_refused(broker: BrokerProcess, path: Path, tmp_path: Path) -> None:
    line = refusal(listening_on(path, tmp_path / "second"))
    assert line == f"amqp-broker: error: cannot listen on unix:{path}: somebody listens there"
    dial(path).handshake().close()


def test_the_file_that_somebody_else_put_there_meanwhile_stays(broker: BrokerProcess, path: Path) -> None:
    path.unlink()
    path.write_text("mine")
    assert broker.stop() == 0
    assert path.read_text() == "mine"


def test_a_file_that_is_no_socket_is_refused_and_kept(path: Path, tmp_path: Path) -> None:
    path.write_text("precious")
    assert "there is a file that is not a socket" in refusal(listening_on(path, tmp_path / "broker"))
    assert path.read_text() == "precious"


def test_a_link_to_a_socket_is_refused_and_kept(path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path.with_name("elsewhere")))
    path.symlink_to(path.with_name("elsewhere"))
    assert "there is a file that is not a socket" in refusal(listening_on(path, tmp_path / "broker"))
    assert path.is_symlink()
    assert path.with_name("elsewhere").exists()


def test_a_directory_that_is_not_there_is_named(path: Path, tmp_path: Path) -> None:
    missing = path.parent / "missing" / "amqp.sock"
    line = refusal(listening_on(missing, tmp_path / "broker"))
    assert line == f"amqp-broker: error: cannot listen on unix:{missing}: No such file or directory"


def test_clients_on_unix_sockets_are_told_of_the_stop(broker: BrokerProcess, path: Path) -> None:
    client = dial(path).handshake()
    broker.send_signal(15)
    client.says_goodbye(320, "broker forced connection closure with reason 'shutdown'")
    assert broker.wait_ended() == 0
    client.drop()


def test_unix_sockets_take_no_proxy_header(path: Path, tmp_path: Path) -> None:
    broker = listening_on(path, tmp_path / "broker", "proxy_protocol = true").start()
    try:
        dial(path).handshake().close()
    finally:
        broker.kill()


def test_it_may_be_the_only_listener(path: Path, tmp_path: Path) -> None:
    broker = UnixOnly(path, tmp_path)
    broker.launch()
    try:
        assert broker.process is not None
        assert broker.process.stdout is not None
        line = broker.process.stdout.readline().decode()
        assert line.endswith(f"listening on unix:{path}, data in {broker.data}\n")
        dial(path).handshake().close()
    finally:
        broker.kill()


class UnixOnly(BrokerProcess):
    """No port at all."""

    def __init__(self, path: Path, directory: Path) -> None:
        file = directory / "broker.toml"
        file.write_text(f'[listeners]\ntcp = []\nunix = ["{path}"]\n')
        super().__init__(directory / "data", ["--config", str(file)])

    def command(self) -> list[str]:
        command = super().command()
        place = command.index("--port")
        return command[:place] + command[place + 2 :]

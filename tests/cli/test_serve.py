"""What `serve` hands to the broker, and how it ends when the broker cannot start."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from amqp_broker.cli.main import main, plain_serve_flags
from amqp_broker.config import Address, Config
from amqp_broker.store.errors import StoreError


class FakeServer(ModuleType):
    """Stands in for the server: keeps what it was run with and ends as it is told to."""

    def __init__(self) -> None:
        super().__init__("amqp_broker.server.main")
        self.configs: list[Config] = []
        self.notes: list[str] = []
        self.end: Callable[[], int] = lambda: 0

    def run(self, config: Config, notes: Sequence[str]) -> int:
        self.configs.append(config)
        self.notes.extend(notes)
        return self.end()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    fake = FakeServer()
    monkeypatch.setitem(sys.modules, "amqp_broker.server.main", fake)
    return fake


def raising(error: BaseException) -> Callable[[], int]:
    def end() -> int:
        raise error

    return end


@pytest.mark.parametrize("notation", [["--port", "0"], ["--port=0"]])
def test_flags_reach_the_broker_in_both_notations(server: FakeServer, notation: list[str]) -> None:
    assert main(["serve", *notation, "--data-dir", "/srv/broker", "--log-level", "error"]) == 0
    (config,) = server.configs
    assert config.listeners.tcp == (Address("127.0.0.1", 0),)
    assert config.data.directory == Path("/srv/broker")
    assert config.log.level == "error"


def test_the_short_way_and_the_library_read_the_same_command_line(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[limits]\nconnection_max = 3\n")
    arguments = [
        "--config",
        str(file),
        "--bind",
        "::1",
        "--port",
        "7",
        "--data-dir",
        "d",
        "--log-level",
        "debug",
    ]
    assert plain_serve_flags(["serve", *arguments]) is not None
    # A repeated flag is left to the library, where the last one counts.
    library = ["serve", "--port", "1", *arguments]
    assert plain_serve_flags(library) is None
    assert main(["serve", *arguments]) == main(library) == 0
    assert server.configs[0] == server.configs[1]
    assert server.configs[0].limits.connection_max == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["perf"],
        ["serve", "--help"],
        ["serve", "--port"],
        ["serve", "--port", "--bind"],
        ["serve", "--color", "x"],
        ["serve", "x"],
    ],
)
def test_anything_but_a_plain_serve_is_left_to_the_library(arguments: list[str]) -> None:
    assert plain_serve_flags(arguments) is None


def test_what_has_no_effect_in_a_rabbitmq_conf_is_handed_to_the_broker_for_its_log(
    server: FakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "rabbitmq.conf"
    file.write_text("heartbeat = 7\nnet_ticktime = 60\n")
    assert main(["serve", "--config", str(file)]) == 0
    assert server.configs[0].protocol.heartbeat == 7
    assert server.notes == [f"{file}:2: net_ticktime: no effect: this broker is one node"]


def test_the_status_of_the_broker_is_the_status_of_the_command(server: FakeServer) -> None:
    server.end = lambda: 3
    assert main(["serve"]) == 3


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            StoreError("/srv/broker", "in use by another broker (pid 7)"),
            "/srv/broker: in use by another broker (pid 7)",
        ),
        (OSError(errno.EADDRINUSE, "address already in use"), "address already in use"),
        (PermissionError(errno.EACCES, "Permission denied", "/srv"), "/srv: Permission denied"),
        (OSError("no route"), "no route"),
        (StoreError("/srv", "two\nlines"), "/srv: two lines"),
    ],
)
def test_what_the_operator_can_put_right_is_one_line_and_status_1(
    server: FakeServer, error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.end = raising(error)
    assert main(["serve"]) == 1
    assert capsys.readouterr().err == f"amqp-broker: error: {line}\n"


def test_an_interrupt_before_the_broker_listens_ends_quietly(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.end = raising(KeyboardInterrupt())
    assert main(["serve"]) == 130
    assert capsys.readouterr().err == ""


def test_a_defect_keeps_its_traceback(server: FakeServer) -> None:
    server.end = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["serve"])

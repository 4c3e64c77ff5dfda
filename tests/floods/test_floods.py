"""Every flood for a moment, against one broker: somebody else is served, and what it took comes back.

How fast somebody else is served depends on the machine, so `python -m tests.floods` measures it, and this does not.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.floods import __main__ as command
from tests.floods.floods import FLOODS
from tests.floods.measure import Flooder, descriptors, resident, settled, trouble_in
from tests.floods.probe import PATIENCE, Probe
from tests.server.broker_process import BrokerProcess

SCALE = 0.01
SECONDS = 0.05
# MiB. Floods of hours need no more than those of a moment; a leak of theirs would.
MOST_LEFT = 100.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("floods") / "data", ["--log-level", "warning"]).start()
    yield process
    process.kill()


def test_whatever_one_connection_does_another_is_served(broker: BrokerProcess) -> None:
    with Probe(broker.port) as probe, Flooder(broker.port, SCALE) as flooder:
        memory, opened = resident(broker.pid), descriptors(broker.pid)
        for name in FLOODS:
            flooder.prepare(name, SECONDS)
            probe.start()
            flooder.go()
            sent, received = flooder.wait_over()
            latencies = probe.stop()
            assert latencies.lost == 0, name
            assert latencies.count > 0, name
            assert trouble_in(broker.stderr()) == "", name
            assert sent + received >= 0
        left, still_open = settled(broker.pid, memory + MOST_LEFT - 2, opened + 1, PATIENCE)
    assert still_open <= opened + 1
    assert left - memory < MOST_LEFT


class Deaf:
    """Takes a connection and its messages like a broker, and delivers none."""

    def __init__(self, replies: bytes) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._replies = replies
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connected, _ = self._listening.accept()
        with connected, self._listening:
            connected.sendall(self._replies)
            connected.recv(1)

    def join(self) -> None:
        self._thread.join()


def test_a_broker_that_hangs_up_on_others_is_found_out() -> None:
    deaf = Deaf(b"\x01\0\1\0\0\0\x07\0\x3c\0\x15\x02ct\xce")
    with Probe(deaf.port) as probe:
        deaf.join()
        probe.start()
        assert probe.ended()
        with pytest.raises(OSError, match="closed|reset|Broken"):
            probe.stop()


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01 00:00:00,000 [ERROR] something: internal error",
        "Traceback (most recent call last):",
        "2026-01-01 00:00:00,000 [ERROR] no memory",
    ],
)
def test_trouble_in_the_log_is_found(line: str) -> None:
    harmless = "2026-01-01 00:00:00,000 [WARNING] closed connection a -> b: FRAME_ERROR - type 9\n"
    assert trouble_in(harmless) == ""
    assert trouble_in(harmless + line + "\n") == line


def test_the_command_prints_a_row_for_each_flood(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seconds", "0.1", "--scale", "0.01", "--only", "heartbeats"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^\| flood \| MiB sent \| p50 ms ", printed, re.MULTILINE)
    assert re.search(r"^\| heartbeats( \| [\d.,/ ]+){6} \|$", printed, re.MULTILINE)


def test_the_documentation_has_a_row_for_each_flood() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \|", Path(ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
    assert {name.replace("-", " ") for name in FLOODS} <= set(rows)

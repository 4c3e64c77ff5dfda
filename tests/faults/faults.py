"""What goes wrong around a broker, made to go wrong from outside: limits of a process, files, calls that fail."""

from __future__ import annotations

import os
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conversations.client import Client, TcpTransport
from tests.server.broker_process import BrokerProcess

HERE: Final = Path(__file__).parent
PATIENCE: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_connected: list[Client] = []
PERSISTENT: Final[dict[str, Any]] = {"delivery_mode": 2}


def limit(pid: int, what: int, value: int) -> None:
    """Set a soft limit of a running process; resource.RLIM_INFINITY takes it away."""
    resource.prlimit(pid, what, (value, resource.prlimit(pid, what)[1]))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in the kernel as well."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def virtual_size(pid: int) -> int:
    """Octets of address space of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def own_memory(pid: int) -> int:
    """Octets that a process has resident without pages of files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this system does not tell")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def spilled(broker: BrokerProcess) -> int:
    """Octets of the broker's files in its data directory that have no name there; -1 if there is none."""
    sizes = [-1]
    for descriptor in Path(f"/proc/{broker.pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith(str(broker.data)) and target.endswith("(deleted)"):
            sizes.append(descriptor.stat().st_size)
    return max(sizes)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def connect(broker: BrokerProcess, *, heartbeat: int = 0, tells_blocked: bool = True) -> Client:
    """A connection that is dropped at the end of the test."""
    capabilities = None if tells_blocked else {"basic.nack": True}
    client = Client(TcpTransport(broker.port))
    _connected.append(client)
    return client.handshake(heartbeat=heartbeat, capabilities=capabilities)


def drop_all() -> None:
    while _connected:
        _connected.pop().drop()


def pass_two_seconds(broker: BrokerProcess) -> None:
    """Return when the broker has ended a neighbour who says nothing, for missed heartbeats."""
    neighbour = connect(broker, heartbeat=1)
    while neighbour.receive_frame_name(PATIENCE) is not None:
        continue
    neighbour.drop()


def pass_a_second(broker: BrokerProcess) -> None:
    """Return when the broker has sent heartbeats to a neighbour for so long, or has missed its own meanwhile."""
    neighbour = connect(broker, heartbeat=1)
    for _ in range(2):
        if neighbour.receive_frame_name(PATIENCE) is None:
            break
    neighbour.drop()


def is_calm(broker: BrokerProcess) -> None:
    """The broker and its writer do next to nothing for a second."""
    processes = [broker.pid, *broker.writers()]
    before, started = sum(map(cpu_seconds, processes)), time.monotonic()
    pass_a_second(broker)
    used, elapsed = sum(map(cpu_seconds, processes)) - before, time.monotonic() - started
    assert used < 0.2 * elapsed, f"{used:.2f} s of processor time in {elapsed:.1f} s"


def log_has(broker: BrokerProcess, text: str, times: int = 1) -> None:
    """The log comes to have a text, this often and no more."""
    deadline = time.monotonic() + PATIENCE
    while broker.stderr().count(text) < times:
        assert time.monotonic() < deadline, f"no {text!r} in {broker.stderr()}"
        time.sleep(0.01)
    assert broker.stderr().count(text) == times, broker.stderr()


class Publisher:
    """A confirming channel that notes what it published."""

    def __init__(self, broker: BrokerProcess, queue: str, *, tells_blocked: bool = True) -> None:
        self.client = connect(broker, tells_blocked=tells_blocked)
        self.channel = self.client.channel()
        self.channel.call("confirm.select")
        self.queue = queue
        self.bodies: list[str] = []

    def publish(self, body: str = "") -> str:
        self.bodies.append(body or f"{len(self.bodies)} of {self.queue}")
        self.channel.publish(self.bodies[-1], routing_key=self.queue, **PERSISTENT)
        return self.bodies[-1]

    def publish_until_blocked(self, reason: str) -> None:
        """Publish on until the broker says that it is enough; it confirms nothing before it says so."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, "not blocked"
            self.publish()
            try:
                reply = self.client.receive(deadline=0.1)
            except AssertionError:
                continue
            assert (reply.name, reply.arguments) == ("connection.blocked", {"reason": reason}), reply
            return

    def was_cut_off_after(self, bodies: list[str]) -> bool:
        """Whether these are its first ones, and not those that met the block."""
        return bodies == self.bodies[: len(bodies)] and 0 < len(bodies) < len(self.bodies)

    def all_confirmed(self, first: int = 1) -> None:
        count = len(self.bodies) - first + 1
        assert self.channel.outcomes(count, first) == ["ack"] * count

    def unblocked(self) -> None:
        reply = self.client.receive(0)
        assert reply.name == "connection.unblocked", reply


class Fault(ABC):
    """Something that keeps the store from writing; made before the broker starts. reason: what publishers hear."""

    reason = "the store cannot write"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
        self.scratch = scratch

    @abstractmethod
    def begin(self, broker: BrokerProcess) -> None: ...

    @abstractmethod
    def end(self, broker: BrokerProcess) -> None: ...


class FullDisk(Fault):
    """Every write beyond what the files hold is refused, and those within."""

    def begin(self, broker: BrokerProcess) -> None:
        for writer in broker.writers():
            limit(writer, resource.RLIMIT_FSIZE, 0)

    def end(self, broker: BrokerProcess) -> None:
        for writer in broker.writers():
            limit(writer, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)


class BrokenDisk(Fault):
    """The disk does not acknowledge what is written to the log: EIO."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
        super().__init__(monkeypatch, scratch)
        self._switch = inject(monkeypatch, scratch)

    def begin(self, broker: BrokerProcess) -> None:
        self._switch.write_text("pwrite batches.log\n")

    def end(self, broker: BrokerProcess) -> None:
        self._switch.unlink()


class MovedDirectory(Fault):
    """The data directory is not where it was."""

    reason = "the data directory is missing"

    def begin(self, broker: BrokerProcess) -> None:
        broker.data.rename(self.scratch / "elsewhere")

    def end(self, broker: BrokerProcess) -> None:
        (self.scratch / "elsewhere").rename(broker.data)


def inject(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> Path:
    """Have calls of the broker to be started fail as the file says that is returned; see `injected`."""
    switch = scratch / "faults"
    monkeypatch.setenv("AMQP_TEST_FAULTS", str(switch))
    monkeypatch.setenv("PYTHONPATH", str(HERE / "injected"))
    return switch


class Unprivileged(BrokerProcess):
    """A broker to which the modes of files apply, whoever runs the tests."""

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "unprivileged.py"), *super().command()]

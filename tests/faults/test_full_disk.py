"""A disk that fills up while large messages are published: LMDB gets no more room, though the log has some.

Everywhere a limit on the size of files stands for the disk; where a file system of its own can be mounted, that too.
"""

from __future__ import annotations

import resource
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.faults import PATIENCE, Publisher, connect, limit, virtual_size
from tests.server.broker_process import BrokerFailed, BrokerProcess

MIB: Final = 1 << 20
SIZE: Final = 20 * MIB
BODY: Final = "x" * 100_000


class Disk(ABC):
    """Has SIZE for the data directory. make_room: there is enough from now on."""

    @abstractmethod
    def start(self, broker: BrokerProcess) -> None: ...

    @abstractmethod
    def make_room(self, broker: BrokerProcess) -> None: ...

    @abstractmethod
    def give_up(self) -> None:
        """It is not needed any more."""


class LimitedFiles(Disk):
    """No file of the writer may be larger."""

    def __init__(self, data: Path) -> None:
        self._limited = True

    def start(self, broker: BrokerProcess) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self._limited:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, before[1]))
        try:
            broker.start()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def make_room(self, broker: BrokerProcess) -> None:
        self._limited = False
        if broker.running:
            for pid in (broker.pid, *broker.writers()):
                limit(pid, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)

    def give_up(self) -> None:
        self._limited = False


class SmallFileSystem(Disk):
    """A tmpfs with something else on it, which can be removed."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._mounted = mount(data, 2 * SIZE)
        assert self._mounted
        (data / "something else").write_bytes(bytes(SIZE))

    def start(self, broker: BrokerProcess) -> None:
        broker.start()

    def make_room(self, broker: BrokerProcess) -> None:
        (self._data / "something else").unlink()

    def give_up(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._data)], check=True)


def mount(path: Path, size: int) -> bool:
    path.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def can_mount(path: Path) -> bool:
    if not mount(path, MIB):
        return False
    subprocess.run(["umount", str(path)], check=True)
    return True


@pytest.fixture(params=[LimitedFiles, SmallFileSystem])
def disk(
    request: pytest.FixtureRequest, own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Disk]:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_DISK_FREE_LIMIT", "0")
    kind = request.param
    if kind is SmallFileSystem and not can_mount(own_broker.data):
        kind = LimitedFiles
    disk: Disk = kind(own_broker.data)
    yield disk
    own_broker.kill()
    disk.give_up()


def publish_until_full(publisher: Publisher) -> int:
    """Returns how many were confirmed before the broker said that the store cannot write."""
    confirmed = 0
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline, "the disk does not fill up"
        publisher.publish(f"{len(publisher.bodies)} {BODY}")
        try:
            reply = publisher.client.receive(deadline=0.05)
        except AssertionError:
            continue
        if reply.name == "connection.blocked":
            assert reply["reason"] == "the store cannot write"
            return confirmed
        assert reply.name == "basic.ack", reply
        confirmed = reply["delivery_tag"]


def test_what_was_confirmed_is_there_after_a_kill_once_there_is_room(
    own_broker: BrokerProcess, disk: Disk
) -> None:
    disk.start(own_broker)
    connect(own_broker).channel().declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    confirmed = publish_until_full(publisher)
    assert 0 < confirmed < len(publisher.bodies)
    assert "octets of disk free); publishers are blocked" in own_broker.stderr()
    own_broker.kill()
    with pytest.raises(BrokerFailed, match="cannot write the store"):
        disk.start(own_broker)
    disk.make_room(own_broker)
    disk.start(own_broker)
    found = connect(own_broker).channel().drain("q")
    assert found == publisher.bodies[: len(found)]
    assert len(found) >= confirmed


def test_consumers_go_on_and_publishers_as_soon_as_there_is_room(
    own_broker: BrokerProcess, disk: Disk
) -> None:
    disk.start(own_broker)
    channel = connect(own_broker).channel()
    channel.declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    confirmed = publish_until_full(publisher)
    drained = channel.drain("q")
    assert publisher.was_cut_off_after(drained)
    disk.make_room(own_broker)
    publisher.all_confirmed(first=confirmed + 1)
    assert drained + channel.drain("q") == publisher.bodies
    publisher.unblocked()
    own_broker.kill()
    assert own_broker.stderr().count("publishers are blocked") == 1
    disk.start(own_broker)
    publisher = Publisher(own_broker, "q")
    publisher.publish("again")
    publisher.all_confirmed()
    assert connect(own_broker).channel().drain("q")[-1:] == ["again"]


def test_a_map_that_cannot_grow_is_like_a_full_disk(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_DATA_MAP_SIZE", "64 MiB")
    own_broker.start()
    connect(own_broker).channel().declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    (writer,) = own_broker.writers()
    limit(writer, resource.RLIMIT_AS, virtual_size(writer) + 48 * MIB)
    confirmed = publish_until_full(publisher)
    assert "the map of 67108864 bytes is full and cannot grow: Cannot allocate memory" in own_broker.stderr()
    limit(writer, resource.RLIMIT_AS, resource.RLIM_INFINITY)
    publisher.all_confirmed(first=confirmed + 1)
    publisher.unblocked()
    assert connect(own_broker).channel().drain("q") == publisher.bodies

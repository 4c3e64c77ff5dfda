"""Memory and disk watched, and memory given back: when the C library is asked for it, and the collector run."""

from __future__ import annotations

import ctypes
import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from amqp_broker.config import Limits
from amqp_broker.config import memory as memory_module
from amqp_broker.server import alarms
from amqp_broker.server.alarms import LOW_DISK, LOW_MEMORY, NO_DIRECTORY, Watch
from amqp_broker.server.garbage import CLOSED_CONNECTIONS, Garbage

PAGE = os.sysconf("SC_PAGE_SIZE")
LIMIT = 1000 * PAGE


class Memory:
    """A process's memory as the system reports it: pages in use, and pages that only the C library still keeps.

    trims: how often the C library was asked to give back what it keeps.
    """

    def __init__(self, report: Path) -> None:
        self._report = report
        self.trims = 0
        self.hold(used=0)

    def hold(self, *, used: int, kept: int = 0) -> None:
        self._used = used
        self._report.write_text(f"{10 * used} {used + kept} 0 0 0 0 0\n")

    def trim(self) -> None:
        self.trims += 1
        self.hold(used=self._used)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    report = tmp_path / "statm"
    memory = Memory(report)
    monkeypatch.setattr(alarms, "_STATM", str(report))
    monkeypatch.setattr(alarms, "_trim", memory.trim)
    return memory


@pytest.fixture
def watch(memory: Memory, tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(str(tmp_path), Limits(memory_high_watermark_absolute=LIMIT, disk_free_limit=0))
    yield watch
    watch.close()


def test_below_the_limit_there_is_no_alarm_and_nothing_is_asked_for(watch: Watch, memory: Memory) -> None:
    memory.hold(used=400, kept=600)
    assert watch.reasons() == []
    assert memory.trims == 0


def test_memory_in_use_above_the_limit_is_an_alarm(watch: Watch, memory: Memory) -> None:
    memory.hold(used=1001)
    assert watch.reasons() == [LOW_MEMORY]


def test_memory_that_was_freed_is_given_back_and_no_reason_for_an_alarm(watch: Watch, memory: Memory) -> None:
    memory.hold(used=400, kept=5000)
    assert watch.reasons() == []
    assert memory.trims == 1
    assert watch.resident() == 400 * PAGE
    assert watch.reasons() == []
    assert memory.trims == 1


def test_an_alarm_ends_as_soon_as_the_memory_is_free_though_the_c_library_keeps_it(
    watch: Watch, memory: Memory
) -> None:
    memory.hold(used=5000)
    assert watch.reasons() == [LOW_MEMORY]
    memory.hold(used=400, kept=4600)
    assert watch.reasons() == []


def test_each_change_of_the_alarms_is_logged_once(
    watch: Watch, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    for used in (1, 2000, 2000, 1, 1):
        memory.hold(used=used)
        watch.reasons()
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        f"alarms: {LOW_MEMORY}",
        "alarms: none",
    ]


def test_a_limit_of_zero_switches_both_alarms_off(memory: Memory, tmp_path: Path) -> None:
    memory.hold(used=1 << 40)
    limits = Limits(memory_high_watermark_relative=0.0, disk_free_limit=0)
    watch = Watch(str(tmp_path), limits)
    assert watch.reasons() == []
    assert memory.trims == 0
    watch.close()


def test_a_disk_with_less_than_the_limit_free_is_an_alarm(memory: Memory, tmp_path: Path) -> None:
    memory.hold(used=2000)
    limits = Limits(memory_high_watermark_absolute=LIMIT, disk_free_limit=1 << 60)
    watch = Watch(str(tmp_path), limits)
    assert watch.reasons() == [LOW_MEMORY, LOW_DISK]
    memory.hold(used=1)
    assert watch.reasons() == [LOW_DISK]
    watch.close()


def test_an_alarm_for_memory_ends_only_when_there_is_some_room_again(watch: Watch, memory: Memory) -> None:
    memory.hold(used=1001)
    assert watch.reasons() == [LOW_MEMORY]
    memory.hold(used=990)
    assert watch.reasons() == [LOW_MEMORY]
    memory.hold(used=980)
    assert watch.reasons() == []
    memory.hold(used=1000)
    assert watch.reasons() == []


class Disk:
    """What is free on a disk, as the system tells."""

    f_frsize = 1

    def __init__(self, free: int) -> None:
        self.f_bavail = free


def test_an_alarm_for_the_disk_ends_only_when_there_is_some_room_again(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(999)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    watch = Watch(str(tmp_path), Limits(memory_high_watermark_relative=0.0, disk_free_limit=1000))
    found = []
    for disk.f_bavail in (999, 1000, 1019, 1020, 1000, 999):
        found.append(watch.reasons())
    assert found == [[LOW_DISK], [LOW_DISK], [LOW_DISK], [], [], [LOW_DISK]]
    watch.close()


def test_the_limit_for_memory_is_a_share_of_what_there_is_or_a_size_that_precedes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "machine_memory", lambda: 1000)
    limits = [Limits(memory_high_watermark_relative=0.25), Limits(memory_high_watermark_absolute=4096)]
    watches = [Watch(str(tmp_path), each) for each in limits]
    assert [watch.memory_limit for watch in watches] == [250, 4096]
    for watch in watches:
        watch.close()


def test_a_container_has_no_more_memory_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_module, "_CGROUP_LIMITS", (str(limit),))
    machine = memory_module.machine_memory()
    limit.write_text("1048576\n")
    assert memory_module.machine_memory() == 1048576
    limit.write_text("max\n")
    assert memory_module.machine_memory() == machine


def test_a_directory_that_is_gone_is_an_alarm_and_so_is_another_in_its_place(
    memory: Memory, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    watch = Watch(str(directory), Limits(memory_high_watermark_relative=0.0, disk_free_limit=0))
    assert watch.reasons() == []
    moved = directory.rename(tmp_path / "moved")
    assert watch.reasons() == [NO_DIRECTORY]
    directory.mkdir()
    assert watch.reasons() == [NO_DIRECTORY]
    directory.rmdir()
    moved.rename(directory)
    assert watch.reasons() == []
    watch.close()


class Library:
    """A C library that has `malloc_trim`."""

    def __init__(self) -> None:
        self.pads: list[int] = []

    def malloc_trim(self, pad: int) -> int:
        self.pads.append(pad)
        return 1


def test_a_trim_asks_the_c_library_for_all_it_can_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    alarms._trim()
    assert library.pads == [0]


def test_a_c_library_that_cannot_trim_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    alarms._trim()


class Closed:
    """Something closed that holds itself, as connections do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage() -> Iterator[Garbage]:
    garbage = Garbage()
    garbage.take_over()
    yield garbage
    garbage.give_back()


def test_closed_connections_are_freed_after_a_number_of_them(garbage: Garbage) -> None:
    closed = weakref.ref(Closed())
    for _ in range(CLOSED_CONNECTIONS - 1):
        garbage.connection_closed()
    garbage.collect_if_due()
    assert closed() is not None
    garbage.connection_closed()
    garbage.collect_if_due()
    assert closed() is None
    again = weakref.ref(Closed())
    garbage.collect_if_due()
    assert again() is not None


def test_nothing_is_collected_but_where_a_pause_is_harmless(garbage: Garbage) -> None:
    assert not gc.isenabled()
    garbage.give_back()
    assert gc.isenabled()


def test_what_is_only_kept_is_let_go_of_when_memory_is_short_and_not_before(
    memory: Memory, tmp_path: Path
) -> None:
    asked: list[int] = []
    limits = Limits(memory_high_watermark_absolute=LIMIT, disk_free_limit=0)
    watch = Watch(str(tmp_path), limits, lambda: asked.append(1))
    memory.hold(used=400, kept=600)
    watch.reasons()
    assert asked == []
    memory.hold(used=1001)
    watch.reasons()
    assert asked == [1]
    watch.close()


def test_room_that_a_drained_backlog_left_in_the_store_ends_the_alarm_for_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reusable = 0
    limits = Limits(memory_high_watermark_relative=0.0, disk_free_limit=1 << 60)
    watch = Watch(str(tmp_path), limits, reusable=lambda: reusable)
    assert watch.reasons() == ["low on disk"]
    reusable = 1 << 60
    assert watch.reasons() == ["low on disk"]
    reusable += 1 << 56
    assert watch.reasons() == []
    watch.close()

"""The power goes at any point: every acknowledged batch is there, and the rest in order, whole or not at all.

What the log asks of the system is recorded, together with the file of LMDB after each of its commits, and then
played back up to every point, with the last write torn in several ways. Only what was synced is played back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.store import log as log_module
from amqp_broker.store import records
from amqp_broker.store.environment import data_file
from tests.memory_disk import fast_directory

from . import logged
from .logged import LOG_SIZE, FailingWriter, LoggedStore, Sections, contents, putting

SECTOR = 64
KEPT = 3


class Disk:
    """Stands in for `os` and writes down what becomes durable.

    effects: ("write", at, octets), ("named",), ("lmdb", its file), ("acknowledged", number of the batch).
    """

    def __init__(self) -> None:
        self.effects: list[tuple[Any, ...]] = []
        self._synced: set[int] = set()
        self._directories: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        descriptor = os.open(path, flags, mode)
        if os.path.isdir(path):
            self._directories.add(descriptor)
        elif flags & os.O_DSYNC:
            self._synced.add(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._synced.discard(descriptor)
        self._directories.discard(descriptor)
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: bytes, at: int) -> int:
        if descriptor in self._synced:
            self.effects.append(("write", at, bytes(data)))
        return os.pwrite(descriptor, data, at)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        if descriptor in self._directories:
            self.effects.append(("named",))


class Image:
    """What is on the disk. log is None while no file is sure to be found under the log's name."""

    def __init__(self) -> None:
        self.lmdb = b""
        self.content = bytearray()
        self.named = False
        self.acknowledged = 0

    def add(self, effect: tuple[Any, ...]) -> None:
        if effect[0] == "write":
            self.content = self.written(effect[1], effect[2], (0, len(effect[2])))
        elif effect[0] == "named":
            self.named = True
        elif effect[0] == "lmdb":
            self.lmdb = effect[1]
        else:
            self.acknowledged = effect[1]

    def written(self, at: int, data: bytes, *parts: tuple[int, int]) -> bytearray:
        """The log after some parts of a write."""
        content = bytearray(self.content)
        if len(content) < at + len(data):
            content.extend(bytes(at + len(data) - len(content)))
        for start, end in parts:
            content[at + start : at + end] = data[start:end]
        return content

    def torn(self, at: int, data: bytes) -> Iterator[bytearray]:
        """The log after a write of which not every sector got there: front, back, or every other one."""
        borders = [0, *range(SECTOR - at % SECTOR, len(data), SECTOR), len(data)]
        sectors = list(pairwise(borders))
        if len(sectors) > 20:
            borders = [0, len(data) // 2, len(data)]
            sectors = list(pairwise(borders))
        for count in range(len(sectors)):
            yield self.written(at, data, *sectors[:count])
            yield self.written(at, data, *sectors[count + 1 :])
        yield self.written(at, data, *sectors[::2])
        yield self.written(at, data, *sectors[1::2])


class Recorded(FailingWriter):
    """Notes what LMDB's file holds when it has committed."""

    disk: Disk
    file: Path

    def apply(self, payloads: list[list[object]], log_number: int = 0) -> list[int]:
        released = super().apply(payloads, log_number)
        self.disk.effects.append(("lmdb", self.file.read_bytes()))
        return released


def batch(number: int) -> Sections:
    """Each batch leaves the last KEPT entries and its own number."""
    body = bytes([number]) * (number * 37 % 150)
    sections = [records.DEFINE, [b"number", b"%d" % number]]
    if number > KEPT:
        sections += [records.DELETE, [1, [number - KEPT, number - KEPT]]]
    return sections + putting(number, body)


def number_found(store: LoggedStore) -> int:
    """The last batch in the store, which must be there whole, and all before it."""
    number = int(contents(store.environment)[records.DEFINITIONS].get(b"number", b"0"))
    assert store.seqs() == list(range(max(1, number - KEPT + 1), number + 1))
    assert store.inner.log_number() == number
    return number


# How many batches come at a time; 0: LMDB follows, -1: the writer is killed and another one takes over.
SCRIPT = [1, 1, 0, 3, 1, 1, 0, 1, 2, -1, 1, 4, 0, 2, -1, -1, 1, 0, 0, *[1] * 20, 0, 1, -1, 2]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The script, played and recorded."""
    recorder = Disk()
    monkeypatch.setattr(log_module, "os", recorder)
    monkeypatch.setattr(logged, "FailingWriter", Recorded)
    monkeypatch.setattr(Recorded, "disk", recorder, raising=False)
    monkeypatch.setattr(Recorded, "file", Path(data_file(str(tmp_path / "recorded"))), raising=False)
    store = LoggedStore(tmp_path / "recorded")
    number = 0
    for step in SCRIPT:
        if step > 0:
            store.apply(*map(batch, range(number + 1, number + step + 1)))
            number += step
            recorder.effects.append(("acknowledged", number))
        elif step == 0:
            store.writer.follow()
        else:
            store.reopen()
    store.close()
    monkeypatch.undo()
    return recorder


class Machine:
    """Starts from an image of a disk, again and again in one directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        LoggedStore(path).close()
        self._empty = Path(data_file(str(path))).read_bytes()

    def check(self, image: Image, log: bytearray | None, sent: int) -> None:
        """A start finds what it must, and goes on: also when that is interrupted again."""
        log_file = self._path / "batches.log"
        Path(data_file(str(self._path))).write_bytes(image.lmdb or self._empty)
        if log is None:
            log_file.unlink(missing_ok=True)
        else:
            log_file.write_bytes(log)
        store = LoggedStore(self._path)
        try:
            number = number_found(store)
            assert image.acknowledged <= number <= sent
            store.apply(batch(number + 1))
            store.reopen()
            assert number_found(store) == number + 1
        finally:
            store.close()


def test_the_recording_has_everything_in_it(disk: Disk) -> None:
    kinds = [effect[0] for effect in disk.effects]
    assert kinds[:2] == ["write", "named"]
    assert len(disk.effects[0][2]) == LOG_SIZE
    assert kinds.count("acknowledged") == sum(step > 0 for step in SCRIPT)
    assert kinds.count("lmdb") >= 8
    assert max(effect[1] for effect in disk.effects if effect[0] == "write") > LOG_SIZE // 2
    assert sum(effect[:2] == ("write", 0) for effect in disk.effects) >= 8


@pytest.fixture
def machine() -> Iterator[Machine]:
    with fast_directory() as path:
        yield Machine(path)


def test_nothing_acknowledged_is_lost_at_any_point(disk: Disk, machine: Machine) -> None:
    image = Image()
    later = [effect[1] for effect in disk.effects if effect[0] == "acknowledged"]
    for effect in disk.effects:
        sent = next((number for number in later if number > image.acknowledged), image.acknowledged)
        if effect[0] == "write":
            for content in image.torn(effect[1], effect[2]):
                machine.check(image, content, sent)
        if not image.named:
            machine.check(image, None, sent)
        image.add(effect)
        machine.check(image, image.content, sent)
    assert image.acknowledged == later[-1] == sum(step for step in SCRIPT if step > 0)

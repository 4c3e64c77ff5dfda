"""Putting a backup into a data directory: all of it or nothing, and nothing that was there is lost."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from amqp_broker.store import restore as module
from amqp_broker.store.backup import back_up
from amqp_broker.store.errors import StoreError
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.restore import restore

from .logged import LoggedStore, putting

FULL_DISK = """
import resource, sys
from amqp_broker.store.errors import StoreError
from amqp_broker.store.restore import restore
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    restore(sys.argv[1], sys.argv[2], force=True)
except StoreError as error:
    print(error)
"""


def made(path: Path, in_lmdb: range, in_log: range) -> Path:
    """A data directory whose entries are partly in the log alone."""
    store = LoggedStore(path)
    for seq in in_lmdb:
        store.apply(putting(seq))
    store.writer.follow()
    for seq in in_log:
        store.apply(putting(seq))
    store.close()
    return path


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Of a store with the entries 1 to 3, the last of them in the log."""
    source = made(tmp_path / "source", range(1, 3), range(3, 4))
    (source / "running").touch()
    back_up(str(source), str(tmp_path / "backup"))
    assert names(tmp_path / "backup") == ["batches.log", "running", "store", "store/data.mdb"]
    return tmp_path / "backup"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with other entries, from 11 to 14."""
    return made(tmp_path / "data", range(11, 13), range(13, 15))


def names(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def seqs(path: Path) -> list[int]:
    """What a start finds there. Raises StoreError where a start is refused."""
    store = LoggedStore(path)
    try:
        return store.seqs()
    finally:
        store.close()


@pytest.mark.parametrize(
    "there", [None, [], ["lost+found"], ["broker.lock", "store.lock"], ["control.sock"], ["replaced-1"]]
)
def test_a_directory_that_is_empty_takes_it(backup: Path, tmp_path: Path, there: list[str] | None) -> None:
    path = tmp_path / "var" / "broker"
    if there is not None:
        path.mkdir(parents=True)
        for name in there:
            (path / name).mkdir() if "lock" not in name else (path / name).touch()
    done = restore(str(backup), str(path))
    assert done.set_aside == ""
    assert done.octets == sum(each.stat().st_size for each in backup.rglob("*") if each.is_file())
    assert (path / "running").exists()
    assert stat.S_IMODE((path / "store" / "data.mdb").stat().st_mode) == 0o600
    assert not list(path.glob("restoring-*"))
    assert seqs(path) == [1, 2, 3]


def test_a_backup_can_be_restored_more_than_once(backup: Path, tmp_path: Path) -> None:
    before = {name: (backup / name).read_bytes() for name in names(backup) if (backup / name).is_file()}
    for name in ("one", "two"):
        restore(str(backup), str(tmp_path / name))
        assert seqs(tmp_path / name) == [1, 2, 3]
    assert {name: (backup / name).read_bytes() for name in before} == before
    assert names(backup) == ["batches.log", "running", "store", "store/data.mdb"]


def test_a_directory_with_something_in_it_is_left_as_it_is(backup: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").touch()
    for path in (data, tmp_path / "home"):
        before = names(path)
        with pytest.raises(StoreError, match=f"{path}: is not empty: there is (batches.log, store|letters)"):
            restore(str(backup), str(path))
        assert names(path) == before
    assert seqs(data) == [11, 12, 13, 14]


def test_what_was_there_is_set_aside_by_force_whole_and_each_time(backup: Path, data: Path) -> None:
    (data / "notes").write_text("mine")
    for number in (1, 2):
        done = restore(str(backup), str(data), force=True)
        assert done.set_aside == str(data / f"replaced-{number}")
    assert seqs(data) == [1, 2, 3]
    assert seqs(data / "replaced-1") == [11, 12, 13, 14]
    assert seqs(data / "replaced-2") == [1, 2, 3]
    assert (data / "notes").read_text() == "mine"


def test_a_directory_that_a_broker_has_is_refused_even_by_force(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "in use"
    directory = open_data_directory(str(path), embedded=True)
    before = names(path)
    for force in (False, True):
        with pytest.raises(StoreError, match=rf"is in use by another broker \(pid {os.getpid()}\)"):
            restore(str(backup), str(path), force=force)
    assert names(path) == before
    directory.close()


def test_a_directory_whose_writer_has_not_ended_is_refused(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "orphaned"
    open_data_directory(str(path), embedded=True).close()
    descriptor = os.open(path / "store.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match=r"the writer of an earlier broker has not finished"):
        restore(str(backup), str(path), force=True, patience=0.05)
    os.close(descriptor)
    restore(str(backup), str(path), force=True)
    assert seqs(path) == [1, 2, 3]


def test_a_broker_can_have_the_directory_afterwards(backup: Path, tmp_path: Path) -> None:
    restore(str(backup), str(tmp_path / "new"))
    restore(str(backup), str(tmp_path / "new"), force=True)
    for name in ("broker.lock", "store.lock"):
        descriptor = os.open(tmp_path / "new" / name, os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_what_is_no_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store in it"):
        restore(str(tmp_path / "none"), str(tmp_path / "new"))
    with pytest.raises(StoreError, match="is the backup itself"):
        restore(str(backup), str(backup), force=True)
    assert not (tmp_path / "new").exists()


def test_a_disk_that_takes_no_more_leaves_the_old_data_as_they_are(backup: Path, data: Path) -> None:
    before = set(names(data)) | {"broker.lock", "store.lock"}
    arguments = [sys.executable, "-c", FULL_DISK, str(backup), str(data)]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert ran.stdout == f"{data}: cannot restore: File too large\n", ran.stderr
    assert set(names(data)) == before
    assert seqs(data) == [11, 12, 13, 14]


class PowerFailure(Exception):
    """After it nothing of the restore happens any more."""


@pytest.mark.parametrize("renames", range(7))
def test_a_power_failure_never_leaves_a_log_beside_another_store(
    backup: Path, data: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """A start then finds the old, the new, nothing yet, or refuses: never part of one, never some of both."""
    (data / "running").touch()
    rename, left = os.rename, renames

    def fail_later(source: str, target: str) -> None:
        nonlocal left
        if not left:
            raise PowerFailure
        left -= 1
        rename(source, target)

    monkeypatch.setattr(module.os, "rename", fail_later)
    if renames < 6:
        monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(PowerFailure):
            restore(str(backup), str(data), force=True)
    else:
        restore(str(backup), str(data), force=True)
    monkeypatch.undo()
    (data / "store").mkdir(exist_ok=True)
    try:
        found = seqs(data)
    except StoreError:
        found = []
    assert found == {0: [11, 12, 13, 14], 6: [1, 2, 3]}.get(renames, [])

"""A copy of a store: whole whatever happens while it is made, durable, and there under its name or not at all."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.store import backup, records
from amqp_broker.store.backup import back_up
from amqp_broker.store.environment import open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.mark import leave_mark, log_is_lost

from .logged import LOG_SIZE, MAP_SIZE, LoggedStore, putting

# Another process, as an environment must not be opened twice in one.
MEANWHILE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.store.logged import LoggedStore, putting
store = LoggedStore(Path(sys.argv[2]))
{what}
store.close()
"""
FULL_DISK = """
import resource, sys
from amqp_broker.store.backup import back_up
from amqp_broker.store.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    back_up(sys.argv[1], sys.argv[2])
except StoreError as error:
    print(error)
"""
READING = """
import sys
from amqp_broker.store.environment import open_environment
with open_environment(sys.argv[1], 1 << 30, readonly=True).begin():
    print("reading", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def source(tmp_path: Path) -> LoggedStore:
    """A store whose entries 1 to 3 are in LMDB, and 4 and 5 in the log alone; as after a kill, nobody has it open."""
    store = LoggedStore(tmp_path / "data")
    for seq in (1, 2, 3):
        store.apply(putting(seq))
    store.writer.follow()
    for seq in (4, 5):
        store.apply(putting(seq))
    assert store.seqs() == [1, 2, 3]
    store.close()
    return store


def restored_seqs(path: Path) -> list[int]:
    """What a start on a copy finds."""
    store = LoggedStore(path)
    try:
        return store.seqs()
    finally:
        store.close()


def meanwhile(source: LoggedStore, what: str) -> None:
    """Have another process open the store, do something, and be killed."""
    root = str(Path(__file__).parents[2])
    arguments = [sys.executable, "-c", MEANWHILE.format(what=what), root, str(source.path)]
    subprocess.run(arguments, check=True, timeout=30)


def after_the_first_copy(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Let something happen between the copy of the log and that of LMDB, whichever comes first."""
    acted = False

    def before_acting(name: str) -> None:
        function: Callable[..., Any] = getattr(backup, name)

        def copy_and_act(*arguments: Any) -> Any:
            nonlocal acted
            result = function(*arguments)
            if not acted:
                acted = True
                act()
            return result

        monkeypatch.setattr(backup, name, copy_and_act)

    before_acting("read_log")
    before_acting("_copy_environment")


def names(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_what_only_the_log_has_is_in_the_copy(source: LoggedStore, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    done = back_up(str(source.path), str(copy))
    assert names(copy) == ["batches.log", "store", "store/data.mdb"]
    assert (done.batches, done.octets) == (2, sum(each.stat().st_size for each in copy.rglob("*.*")))
    assert (copy / "batches.log").stat().st_size < LOG_SIZE
    assert restored_seqs(copy) == [1, 2, 3, 4, 5]
    # A start gave the log the length that it has to have.
    assert (copy / "batches.log").stat().st_size == LOG_SIZE
    assert restored_seqs(source.path) == [1, 2, 3, 4, 5]


def test_a_copy_of_what_is_in_use_misses_its_log_if_it_had_one(source: LoggedStore, tmp_path: Path) -> None:
    leave_mark(str(source.path))
    for batches in (2, 0):
        copy = tmp_path / f"copy of {batches}"
        assert back_up(str(source.path), str(copy)).batches == batches
        assert not log_is_lost(str(copy))
        (copy / "batches.log").unlink(missing_ok=True)
        assert log_is_lost(str(copy)) is (batches > 0)
        # A start has LMDB take over what the log has.
        assert restored_seqs(source.path) == [1, 2, 3, 4, 5]


def test_a_copy_of_a_store_that_has_everything_needs_no_log(source: LoggedStore, tmp_path: Path) -> None:
    assert restored_seqs(source.path) == [1, 2, 3, 4, 5]
    done = back_up(str(source.path), str(tmp_path / "copy"))
    assert done.batches == 0
    assert names(tmp_path / "copy") == ["store", "store/data.mdb"]
    assert restored_seqs(tmp_path / "copy") == [1, 2, 3, 4, 5]


def test_a_copy_can_be_copied(source: LoggedStore, tmp_path: Path) -> None:
    back_up(str(source.path), str(tmp_path / "one"))
    back_up(str(tmp_path / "one"), str(tmp_path / "two"))
    assert names(tmp_path / "one") == names(tmp_path / "two")
    assert restored_seqs(tmp_path / "two") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("what", "least"),
    [
        # To open the store is to have LMDB catch up.
        ("", 5),
        ("store.apply(putting(6))", 5),
        ("[store.apply(putting(seq)) for seq in range(6, 9)]; store.writer.follow()", 8),
        # More than the log has room for, so that it begins again at its front.
        ("[store.apply(putting(seq, b'.' * 400)) for seq in range(6, 40)]", 20),
    ],
    ids=["LMDB follows", "LMDB follows and the log goes on", "LMDB goes beyond", "the log begins again"],
)
def test_what_happens_between_the_two_copies_takes_nothing_away(
    source: LoggedStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    least: int,
) -> None:
    after_the_first_copy(monkeypatch, lambda: meanwhile(source, what))
    done = back_up(str(source.path), str(tmp_path / "copy"))
    found = restored_seqs(tmp_path / "copy")
    assert done.batches == 0
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= least


def test_the_mark_of_a_running_broker_goes_with_the_copy(source: LoggedStore, tmp_path: Path) -> None:
    (source.path / "running").touch()
    back_up(str(source.path), str(tmp_path / "copy"))
    assert "running" in names(tmp_path / "copy")


def test_a_broker_that_came_and_went_meanwhile_leaves_its_mark(
    source: LoggedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_the_first_copy(monkeypatch, lambda: meanwhile(source, ""))
    back_up(str(source.path), str(tmp_path / "copy"))
    assert "running" in names(tmp_path / "copy")


def test_the_copy_is_its_owners_alone(source: LoggedStore, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    back_up(str(source.path), str(copy))
    for each in (copy, *copy.rglob("*")):
        assert stat.S_IMODE(each.stat().st_mode) == (0o700 if each.is_dir() else 0o600)


def test_the_copy_is_compact(source: LoggedStore, tmp_path: Path) -> None:
    store = LoggedStore(source.path)
    for seq in range(100, 200):
        store.apply(putting(seq, b"." * 2000))
    store.writer.follow()
    store.apply([records.DELETE, [1, [100, 199]]])
    store.writer.follow()
    store.close()
    back_up(str(source.path), str(tmp_path / "copy"))
    sizes = [(path / "store" / "data.mdb").stat().st_size for path in (source.path, tmp_path / "copy")]
    assert sizes[0] > 200_000
    assert sizes[1] < 50_000


def test_it_goes_into_a_directory_that_is_there_and_empty(source: LoggedStore, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    back_up(str(source.path), str(tmp_path / "copy"))
    assert restored_seqs(tmp_path / "copy") == [1, 2, 3, 4, 5]


def test_it_goes_where_a_link_leads(source: LoggedStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy").symlink_to(tmp_path / "elsewhere")
    back_up(str(source.path), str(tmp_path / "copy"))
    assert restored_seqs(tmp_path / "elsewhere") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("destination", "complaint"),
    [
        ("full", "full: is there already, and is not empty"),
        ("file", "file: is there already, and is no directory"),
        ("none/copy", "copy: cannot write the backup: No such file or directory"),
        ("data/copy", "copy: lies in the data directory .*data itself"),
    ],
)
def test_a_destination_that_will_not_do_is_refused(
    source: LoggedStore, tmp_path: Path, destination: str, complaint: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "file").touch()
    before = names(tmp_path)
    with pytest.raises(StoreError, match=complaint):
        back_up(str(source.path), str(tmp_path / destination))
    assert names(tmp_path) == before


def test_a_directory_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store in it"):
        back_up(str(tmp_path / "none"), str(tmp_path / "copy"))
    assert names(tmp_path) == []


def test_a_disk_that_takes_no_more_leaves_nothing_behind(source: LoggedStore, tmp_path: Path) -> None:
    before = names(tmp_path)
    arguments = [sys.executable, "-c", FULL_DISK, str(source.path), str(tmp_path / "copy")]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert "cannot copy the store: " in ran.stdout, ran.stderr
    assert names(tmp_path) == before


def test_a_log_that_does_not_go_with_the_store_is_refused(source: LoggedStore, tmp_path: Path) -> None:
    store = LoggedStore(tmp_path / "other")
    for seq in range(1, 9):
        store.apply(putting(seq))
    store.writer.follow()
    store.apply(putting(9))
    store.close()
    os.replace(store.log_file, source.log_file)
    with pytest.raises(StoreError, match="begins with batch 9, but the store ends with batch 3"):
        back_up(str(source.path), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_a_log_that_was_cut_short_is_refused(source: LoggedStore, tmp_path: Path) -> None:
    os.truncate(source.log_file, 70)
    with pytest.raises(StoreError, match="was cut short"):
        back_up(str(source.path), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_readers_that_were_killed_are_crossed_out(source: LoggedStore, tmp_path: Path) -> None:
    """They would keep the broker from using its free pages again, for as long as it runs."""
    arguments = [sys.executable, "-c", READING, str(source.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        # Held as by a broker, so that the table of readers is not made anew.
        environment = open_environment(str(source.path), MAP_SIZE)
        assert reader.stdout.readline() == "reading\n"
        reader.send_signal(signal.SIGKILL)
    assert str(reader.pid) in environment.readers()
    program = "import sys; from amqp_broker.store.backup import back_up; back_up(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", program, str(source.path), str(tmp_path / "copy")], check=True)
    assert str(reader.pid) not in environment.readers()
    environment.close()

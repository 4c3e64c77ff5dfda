"""Opening a data directory: made, locked, checked, or refused with one clear line."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from amqp_broker.store import records
from amqp_broker.store.environment import open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.open import open_data_directory

HOLDER = """
import sys
from amqp_broker.store.open import open_data_directory
directory = open_data_directory(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_it_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "var" / "broker"
    open_data_directory(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "store" / "data.mdb").stat().st_mode) == 0o600


def test_it_can_be_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        open_data_directory(str(tmp_path)).close()


def test_a_second_broker_is_refused_at_once_and_told_by_whom(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError) as refusal:
            open_data_directory(str(tmp_path))
        holder.communicate("")
    text = f"{tmp_path}: data directory is in use by another broker (pid {holder.pid})"
    assert str(refusal.value) == text
    open_data_directory(str(tmp_path)).close()


def test_a_newer_schema_is_refused_naming_both_versions(tmp_path: Path) -> None:
    open_data_directory(str(tmp_path)).close()
    environment = open_environment(str(tmp_path))
    meta = environment.open_db(records.META)
    with environment.begin(write=True) as txn:
        txn.put(records.SCHEMA_KEY, records.U64.pack(records.SCHEMA_VERSION + 6), db=meta)
    environment.close()
    with pytest.raises(StoreError, match="schema version is 8, this broker knows versions up to 2"):
        open_data_directory(str(tmp_path))
    # A refusal leaves nothing locked.
    with pytest.raises(StoreError, match="schema version is 8"):
        open_data_directory(str(tmp_path))


def test_one_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "making" / "store").mkdir(parents=True)
    (tmp_path / "making" / "store" / "data.mdb").write_bytes(b"half of it")
    directory = open_data_directory(str(tmp_path))
    assert directory.reader.scan().queues == {}
    directory.close()
    assert not (tmp_path / "making").exists()


def test_what_another_program_keeps_in_lmdb_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    open_environment(str(tmp_path)).close()
    before = (tmp_path / "store" / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match="no store of this broker: it has no schema version"):
        open_data_directory(str(tmp_path))
    assert (tmp_path / "store" / "data.mdb").read_bytes() == before


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"not a store" * 4096)
    with pytest.raises(StoreError, match=r"store: cannot open the store: .*MDB_INVALID"):
        open_data_directory(str(tmp_path))


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="data: cannot use the data directory: File exists"):
        open_data_directory(str(tmp_path / "data"))


def test_too_little_address_space_gets_a_smaller_map(tmp_path: Path) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30));"
        "from amqp_broker.store.open import open_data_directory;"
        "directory = open_data_directory(sys.argv[1]);"
        "print(directory.environment.info()['map_size'])"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    assert 1 << 30 <= int(output) < 8 << 30


def hold_store_lock(path: Path) -> int:
    """As the writer of a broker that was killed would."""
    descriptor = os.open(path / "store.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_it_waits_for_an_orphaned_writer_to_finish(tmp_path: Path) -> None:
    orphan = hold_store_lock(tmp_path)
    timer = threading.Timer(0.1, os.close, [orphan])
    timer.start()
    open_data_directory(str(tmp_path)).close()
    assert timer.finished.is_set()
    timer.join()


def test_it_gives_up_on_an_orphaned_writer_that_does_not_finish(tmp_path: Path) -> None:
    orphan = hold_store_lock(tmp_path)
    with pytest.raises(StoreError, match=r"has not finished within 0\.05 s"):
        open_data_directory(str(tmp_path), patience=0.05)
    os.close(orphan)
    open_data_directory(str(tmp_path)).close()

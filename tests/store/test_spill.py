"""What memory has no room for: kept in a file without a name, found again, and given up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from amqp_broker.store.errors import StoreError
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.spill import SLOT, Spill


@pytest.fixture
def spill(tmp_path: Path) -> Spill:
    return Spill(str(tmp_path))


def test_what_was_written_is_read_as_often_as_it_is_wanted(spill: Spill) -> None:
    datas = [bytes([number]) * size for number, size in enumerate([0, 1, SLOT, SLOT + 1, 700_000])]
    tickets = [spill.write(data) for data in datas]
    assert len(set(tickets)) == len(tickets)
    for _ in range(2):
        assert [spill.read(ticket) for ticket in reversed(tickets)] == list(reversed(datas))


def test_a_slot_is_used_again_for_what_is_as_large(spill: Spill) -> None:
    kept = spill.write(bytes(SLOT))
    for size in (SLOT - 5, 3 * SLOT, 600_000):
        for number in range(50):
            ticket = spill.write(bytes([number]) * size)
            assert spill.read(ticket) == bytes([number]) * size
            spill.forget(ticket)
    assert spill.size() == SLOT + SLOT + 3 * SLOT + 600_000
    assert spill.octets == SLOT
    spill.forget(kept)
    assert (spill.octets, spill.size(), len(spill)) == (0, 0, 0)


def test_the_file_has_no_name(spill: Spill, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    spill.write(b"data")
    assert list(tmp_path.iterdir()) == []
    spill.close()


def test_a_full_disk_keeps_nothing_and_harms_nothing(spill: Spill, monkeypatch: pytest.MonkeyPatch) -> None:
    first = spill.write(b"first")
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", refuse)
        with pytest.raises(OSError, match="full"):
            spill.write(b"second")
    assert len(spill) == 1
    assert spill.read(spill.write(b"third")) == b"third"
    assert spill.read(first) == b"first"


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, "full")


def test_a_file_that_lost_its_end_is_an_error_and_not_a_message(
    spill: Spill, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = spill.write(b"data")
    with monkeypatch.context() as damaged:
        damaged.setattr(os, "pread", lambda *_: b"")
        with pytest.raises(StoreError, match="cut short"):
            spill.read(ticket)
    with monkeypatch.context() as damaged:
        damaged.setattr(os, "pread", refuse)
        with pytest.raises(StoreError, match="cannot read spilled messages: full"):
            spill.read(ticket)


def test_the_store_says_so_when_it_cannot_spill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = open_data_directory(str(tmp_path / "data"), embedded=True)
    try:
        store = JournalStore(directory.reader, Spill(str(tmp_path)))
        values: list[object] = [1, b"two", [3, "four"], None]
        ticket = store.spill(values)
        assert store.unspill(ticket) == values
        store.forget_spilled(ticket)
        monkeypatch.setattr(os, "pwrite", refuse)
        assert store.spill(values) == 0
        assert JournalStore(directory.reader).spill(values) == 0
    finally:
        directory.close()

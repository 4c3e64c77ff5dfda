"""A writer behind a log: LMDB ends up with the same, whatever fails, and whenever it is opened again."""

from __future__ import annotations

import marshal
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from amqp_broker.store import records
from amqp_broker.store import writer as writer_module
from amqp_broker.store.environment import PROCESS, open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.log import Log
from amqp_broker.store.log_copy import RECORD
from amqp_broker.store.logged import LoggedWriter

from .logged import LOG_SIZE, MAP_SIZE, LoggedStore, dereferencing, encoded, putting, sharing


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LoggedStore]:
    opened = LoggedStore(tmp_path)
    yield opened
    opened.close()


def break_log(patch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, os.strerror(5))

    patch.setattr(os, "pwrite", fail)


def test_lmdb_has_a_batch_when_it_has_followed(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.apply(putting(2), putting(3))
    assert store.seqs() == []
    store.writer.follow()
    assert not store.writer.unsettled
    assert store.seqs() == [1, 2, 3]
    assert store.inner.log_number() == 3
    store.writer.follow()
    assert store.inner.calls == ["sync", "apply 3"]


def test_a_start_applies_what_lmdb_lacks_in_one_transaction(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.writer.follow()
    store.apply(putting(2))
    store.apply(putting(3))
    for _ in range(2):
        store.reopen()
        assert store.seqs() == [1, 2, 3]
        assert store.inner.log_number() == 3
    store.apply(putting(4))
    store.reopen()
    assert store.inner.calls == ["apply 1", "sync"]
    assert store.seqs() == [1, 2, 3, 4]


def test_what_was_applied_before_the_log_began_again_is_not_applied_twice(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.apply(putting(2))
    store.writer.follow()
    store.apply([records.DELETE, [1, [1, 2]]])
    store.writer.follow()
    store.reopen()
    assert store.seqs() == []


def test_a_large_batch_goes_to_lmdb_at_once_behind_all_before_it(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.apply([records.DELETE, [1, [1, 1]]], putting(2, bytes(LOG_SIZE)))
    assert not store.writer.unsettled
    assert store.seqs() == [2]
    assert store.inner.log_number() == 3
    store.apply(putting(3))
    store.reopen()
    assert store.seqs() == [2, 3]


def test_what_lmdb_lacks_is_bounded(store: LoggedStore) -> None:
    for seq in range(1, 500):
        store.apply(putting(seq, bytes(seq % 300)))
        lacking = sum(map(len, store.writer._pending)) + len(store.writer._pending) * RECORD.size
        assert lacking <= LOG_SIZE // 4 + LOG_SIZE // 16
    store.reopen()
    assert store.seqs() == list(range(1, 500))


def test_while_lmdb_fails_batches_are_taken_until_enough_has_gathered(store: LoggedStore) -> None:
    store.inner.failing = True
    size = RECORD.size + len(encoded(putting(1))[0])
    taken = 0
    with pytest.raises(StoreError, match="the disk refuses"):
        while taken < LOG_SIZE:
            store.apply(putting(taken + 1))
            taken += 1
    assert LOG_SIZE // 2 < taken * size < LOG_SIZE
    with pytest.raises(StoreError, match="the disk refuses"):
        store.writer.follow()
    with pytest.raises(StoreError, match="the disk refuses"):
        store.apply(putting(taken + 1, bytes(LOG_SIZE)))
    store.inner.failing = False
    store.apply(putting(taken + 1))
    store.reopen()
    assert store.seqs() == list(range(1, taken + 2))


def test_a_batch_that_the_log_refused_can_be_repeated(store: LoggedStore) -> None:
    store.apply(putting(1))
    with pytest.MonkeyPatch.context() as patch:
        break_log(patch)
        with pytest.raises(StoreError, match=r"batches\.log: cannot use the log: Input/output error"):
            store.apply(putting(2), putting(3))
    store.apply(putting(2))
    assert store.inner.log_number() == 0
    store.reopen()
    assert store.seqs() == [1, 2]


def test_what_was_released_is_told_once_even_if_the_batch_that_came_then_failed(store: LoggedStore) -> None:
    store.apply(sharing(7, 1, 1, 2))
    store.apply(dereferencing(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        break_log(patch)
        patch.setattr(Log, "room", 0)
        with pytest.raises(StoreError):
            store.apply(putting(1, queue_id=3))
    assert store.seqs(1) == []
    assert store.apply(putting(1, queue_id=3)) == [7]
    assert store.apply(dereferencing(2, 1)) == []
    assert store.writer.follow() == [7]
    assert store.writer.follow() == []


def test_what_a_start_releases_is_not_told_for_references_are_counted_after_it(store: LoggedStore) -> None:
    store.apply(sharing(7, 1, 1, 2, 3))
    store.writer.follow()
    store.apply(dereferencing(1, 1))
    store.reopen()
    assert store.seqs(1) == []
    assert store.apply(dereferencing(2, 1)) == []
    assert store.writer.follow() == [7]


@pytest.mark.parametrize(("logged", "begun_by"), [(False, "the run"), (True, "the run"), (True, "the start")])
@pytest.mark.parametrize("ended_by", ["tidying", "another removal"])
def test_what_an_earlier_run_left_to_remove_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: str, logged: bool, begun_by: str
) -> None:
    monkeypatch.setattr(writer_module, "RANGE_STEP", 3)
    store = LoggedStore(tmp_path, logged=logged)
    store.apply(*[putting(seq) for seq in range(1, 10)], sharing(7, 10, 1, 2))
    store.writer.follow()
    store.apply([records.DELETE_RANGE, [1, 0, 10]])
    if begun_by == "the run":
        store.writer.follow()
    # A start does not count the reference in what is still to be removed.
    store.reopen(logged=logged)
    assert store.inner.untidy
    assert 10 in store.seqs(1)
    told: list[int] = []
    while store.seqs(1):
        if ended_by == "tidying":
            store.inner.tidy()
        else:
            told += store.apply([records.DELETE_RANGE, [1, 0, 10]])
            told += store.writer.follow()
    # One that it did count, in rows that came later, is told.
    told += store.apply(sharing(8, 11, 1, 2), dereferencing(2, 10))
    told += store.apply([records.DELETE_RANGE, [1, 11, 11]])
    told += store.writer.follow()
    assert told == [7, 8]
    store.close()


@pytest.mark.parametrize("modes", [(True, False, True), (False, True, False), (False, False, True, True)])
def test_it_can_be_opened_with_and_without_the_log_in_turn(tmp_path: Path, modes: tuple[bool, ...]) -> None:
    store = LoggedStore(tmp_path, logged=modes[0])
    seq = 0
    for mode in modes:
        store.reopen(logged=mode)
        assert store.seqs() == list(range(1, seq + 1))
        for _ in range(3):
            seq += 1
            store.apply(putting(seq))
        assert store.writer.unsettled is mode
    store.reopen()
    assert store.seqs() == list(range(1, seq + 1))
    assert store.inner.log_number() == seq
    store.close()


def test_without_a_log_no_file_is_made(tmp_path: Path) -> None:
    store = LoggedStore(tmp_path, logged=False)
    store.apply(putting(1))
    store.close()
    assert not store.log_file.exists()


def test_a_run_that_synced_nothing_is_synced_before_the_log_is_relied_on(tmp_path: Path) -> None:
    store = LoggedStore(tmp_path, logged=False)
    store.apply(putting(1))
    assert store.inner.calls == ["apply 1"]
    store.reopen(logged=True)
    assert store.inner.calls == ["sync"]
    store.close()


def test_a_log_that_is_missing_has_nothing_to_add(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.writer.follow()
    store.log_file.unlink()
    store.reopen()
    assert store.inner.log_number() == 1
    store.apply(putting(2))
    store.reopen()
    assert store.seqs() == [1, 2]


def test_a_gap_between_lmdb_and_the_log_is_refused_naming_both_ends(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.writer.follow()
    log = Log(str(store.log_file), LOG_SIZE)
    log.append([(3, encoded(putting(3))[0])])
    log.close()
    text = (
        f"{store.log_file}: the log begins with batch 3, but the store ends with batch 1: "
        "what lies between them is missing"
    )
    for logged in (True, False):
        with pytest.raises(StoreError, match=f"^{re.escape(text)}$"):
            LoggedWriter(store.inner, str(store.log_file), logged=logged, log_size=LOG_SIZE)
    assert store.seqs() == [1]


def test_an_older_log_is_passed_over(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.apply(putting(2))
    older = store.log_file.read_bytes()
    store.apply(putting(3))
    store.writer.follow()
    store.apply([records.DELETE, [1, [1, 3]]])
    store.writer.follow()
    store.log_file.write_bytes(older)
    store.reopen()
    assert store.seqs() == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"?",
        marshal.dumps([99, []], 2),
        marshal.dumps([records.PUT], 2),
        marshal.dumps([records.COUNTER, []], 2),
        marshal.dumps([records.COUNTER, ["x"]], 2),
        marshal.dumps(5, 2),
    ],
)
def test_a_batch_that_makes_no_sense_is_named(store: LoggedStore, payload: bytes) -> None:
    log = Log(str(store.log_file), LOG_SIZE)
    log.append([(1, encoded(putting(1))[0]), (2, payload)])
    log.close()
    with pytest.raises(
        StoreError, match=r"batches\.log: batches 1 to 2 of the log make no sense: \w*[Ee]rror"
    ):
        LoggedWriter(store.inner, str(store.log_file), log_size=LOG_SIZE)
    assert store.seqs() == []


def test_a_start_that_fails_leaves_the_log_as_it_is(store: LoggedStore) -> None:
    store.apply(putting(1))
    store.inner.failing = True
    before = store.log_file.read_bytes()
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreError, match="the disk refuses"):
        LoggedWriter(store.inner, str(store.log_file), log_size=LOG_SIZE)
    assert store.log_file.read_bytes() == before
    assert len(os.listdir("/proc/self/fd")) == files
    store.reopen()
    assert store.seqs() == [1]


def test_a_run_whose_last_row_is_not_there_removes_the_rest(store: LoggedStore) -> None:
    store.apply(putting(1), putting(2))
    store.apply([records.DELETE, [1, [1, 3]]])
    store.writer.follow()
    assert store.seqs() == []


class PanickingTransaction:
    """Stands for LMDB's environment: its next write transaction is made, or is not, and then LMDB gives up."""

    def __init__(self, environment: lmdb.Environment, made: bool) -> None:
        self._environment = environment
        self._made = made
        self._txn: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def begin(self, **options: Any) -> Any:
        if not options.get("write"):
            return self._environment.begin(**options)
        self._txn = self._environment.begin(**options)
        return self

    def __enter__(self) -> Any:
        return self._txn.__enter__()

    def __exit__(self, *_: object) -> None:
        if self._made:
            self._txn.commit()
        else:
            self._txn.abort()
        raise lmdb.PanicError("gives up")


@pytest.mark.parametrize("made", [True, False])
def test_lmdb_giving_up_is_outlived_where_it_can_be_opened_again(store: LoggedStore, made: bool) -> None:
    store.apply(putting(1))
    store.inner._reopen = lambda: open_environment(str(store.path), MAP_SIZE, PROCESS)
    store.inner._environment = PanickingTransaction(store.environment, made)  # type: ignore[assignment]
    if made:
        store.writer.follow()
    else:
        with pytest.raises(StoreError, match="cannot write the store: gives up"):
            store.writer.follow()
        store.writer.follow()
    store.environment = store.inner._environment
    assert (store.seqs(), store.inner.log_number()) == ([1], 1)


class Outgrown:
    """A map of which too much is resident, always."""

    def outgrown(self, _: int) -> bool:
        return True


@pytest.mark.parametrize("can_be_opened", [True, False])
def test_the_map_is_made_anew_only_where_the_files_can_be_opened_again(
    store: LoggedStore, monkeypatch: pytest.MonkeyPatch, can_be_opened: bool
) -> None:
    opened: list[lmdb.Environment] = []

    def reopen() -> lmdb.Environment:
        opened.append(open_environment(str(store.path), MAP_SIZE, PROCESS))
        return opened[-1]

    monkeypatch.setattr(writer_module, "can_be_opened", lambda _: can_be_opened)
    monkeypatch.setattr(store.inner, "_mapping", Outgrown())
    monkeypatch.setattr(store.inner, "_reopen", reopen)
    store.apply(putting(1))
    store.writer.follow()
    store.environment = store.inner._environment
    assert store.seqs() == [1]
    assert len(opened) == can_be_opened

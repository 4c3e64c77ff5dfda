"""LMDB follows beside the log: nothing waits for it that need not, and nothing is lost where it lags or fails."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from amqp_broker.store import follower as follower_module
from amqp_broker.store import loop as loop_module
from amqp_broker.store import records
from amqp_broker.store import writer as writer_module
from amqp_broker.store.errors import StoreDied, StoreError
from amqp_broker.store.loop import ANSWER, REQUEST, serve
from amqp_broker.store.writer import Writer

from .logged import LOG_SIZE, LoggedStore, dereferencing, encoded, putting, sharing

PATIENCE = 30.0
BODY = bytes(200)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LoggedStore]:
    opened = LoggedStore(tmp_path / "data")
    opened.writer.start()
    yield opened
    opened.inner.gate.set()
    opened.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def has_ended(store: LoggedStore) -> bool:
    """The step that was given last was made, or has failed."""
    given = store.writer._given
    return given is None or given.ended.is_set()


def fill_until_lmdb_is_given_something(store: LoggedStore, first: int = 1) -> int:
    """Batches of one message each; the next seq."""
    while store.writer._given is None:
        store.apply(putting(first, BODY))
        first += 1
    return first


def fill_until_refused(store: LoggedStore, first: int) -> int:
    with pytest.raises(StoreError, match="the disk refuses"):
        while first < LOG_SIZE:
            store.apply(putting(first, BODY))
            first += 1
    return first


def test_batches_are_taken_while_lmdb_takes_over_earlier_ones(store: LoggedStore) -> None:
    store.inner.gate.clear()
    first = fill_until_lmdb_is_given_something(store)
    for seq in range(first, first + 10):
        store.apply(putting(seq, BODY))
    assert store.seqs() == []
    store.inner.gate.set()
    store.writer.follow()
    assert store.seqs() == list(range(1, first + 10))


def test_a_batch_waits_only_where_neither_half_of_the_log_has_room(store: LoggedStore) -> None:
    store.inner.gate.clear()
    done: list[int] = []

    def publish() -> None:
        for seq in range(1, 200):
            store.apply(putting(seq, BODY))
            done.append(seq)

    publisher = threading.Thread(target=publish)
    publisher.start()
    until(lambda: sum(len(BODY) for _ in done) > LOG_SIZE // 2)
    publisher.join(0.05)
    assert publisher.is_alive()
    assert len(done) * len(BODY) < LOG_SIZE
    store.inner.gate.set()
    publisher.join(PATIENCE)
    store.writer.follow()
    assert store.seqs() == list(range(1, 200))


def test_a_kill_while_both_halves_hold_batches_loses_none(store: LoggedStore, tmp_path: Path) -> None:
    store.inner.gate.clear()
    first = fill_until_lmdb_is_given_something(store)
    store.apply(putting(first, BODY))
    shutil.copytree(store.path, tmp_path / "killed")
    killed = LoggedStore(tmp_path / "killed")
    assert killed.seqs() == list(range(1, first + 1))
    assert killed.inner.log_number() == first
    killed.close()


def test_a_kill_at_any_batch_of_many_rounds_loses_none(store: LoggedStore, tmp_path: Path) -> None:
    copy = tmp_path / "killed"
    for seq in range(1, 150):
        store.apply(putting(seq, bytes(seq * 7 % 500)))
        if seq % 3 == 0:
            store.writer.follow_soon()
        # The log first: what it lacks by then, LMDB has.
        log = store.log_file.read_bytes()
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store.path, copy)
        (copy / store.log_file.name).write_bytes(log)
        killed = LoggedStore(copy)
        assert killed.seqs() == list(range(1, seq + 1))
        killed.close()


def test_a_batch_that_is_missing_between_the_halves_is_named(store: LoggedStore, tmp_path: Path) -> None:
    store.inner.gate.clear()
    first = fill_until_lmdb_is_given_something(store)
    store.apply(putting(first, BODY))
    log = bytearray(store.log_file.read_bytes())
    log[log.rindex(b"header", 0, LOG_SIZE // 2)] ^= 1
    shutil.copytree(store.path, tmp_path / "damaged")
    (tmp_path / "damaged" / store.log_file.name).write_bytes(log)
    text = f"batch {first} follows batch {first - 2} in the log: what lies between them is missing"
    with pytest.raises(StoreError, match=text):
        LoggedStore(tmp_path / "damaged")


def test_a_step_that_fails_is_told_once_and_tried_again(store: LoggedStore) -> None:
    store.inner.failing = True
    first = fill_until_lmdb_is_given_something(store)
    until(lambda: has_ended(store))
    for _ in range(3):
        store.writer.follow_soon()
        until(lambda: has_ended(store))
    assert store.complaints == [f"{store.path}: the disk refuses"]
    last = fill_until_refused(store, first)
    store.inner.failing = False
    store.writer.follow_soon()
    store.apply(putting(last, BODY))
    store.writer.follow()
    assert store.seqs() == list(range(1, last + 1))


def test_while_a_failed_step_is_tried_again_the_log_goes_on(store: LoggedStore) -> None:
    store.inner.failing = True
    first = fill_until_lmdb_is_given_something(store)
    until(lambda: has_ended(store))
    store.inner.failing = False
    store.inner.gate.clear()
    store.writer.follow_soon()
    store.apply(putting(first, BODY))
    store.inner.gate.set()
    until(lambda: store.seqs() != [])
    assert store.seqs() == list(range(1, first))
    until(lambda: has_ended(store))
    store.writer.follow_soon()
    until(lambda: store.seqs() == list(range(1, first + 1)))


@pytest.mark.parametrize("error", [StoreDied("here", "it is over"), MemoryError(), RuntimeError("a mistake")])
def test_what_ends_the_thread_ends_the_writer(store: LoggedStore, error: BaseException) -> None:
    store.inner.error = error
    store.apply(putting(1))
    store.writer.follow_soon()
    until(lambda: store.writer._follower.died is not None)
    for payload in (b"", bytes(LOG_SIZE)):
        with pytest.raises(type(error)):
            store.apply(putting(2, payload))
    with pytest.raises(type(error)):
        store.writer.follow()


def test_rows_are_removed_while_nothing_is_asked_for(
    store: LoggedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RANGE_STEP", 3)
    store.apply(*[putting(seq) for seq in range(1, 50)])
    store.apply([records.DELETE_RANGE, [1, 0, 50]])
    store.writer.follow_soon()
    until(lambda: not store.inner.untidy and store.inner.log_number() == 50)
    assert store.seqs() == []


def test_removing_gives_way_to_batches(store: LoggedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RANGE_STEP", 1)
    store.apply(*[putting(seq, bytes(40)) for seq in range(1, 4000)])
    store.apply([records.DELETE_RANGE, [1, 0, 4000]])
    store.writer.follow()
    store.apply(putting(5000))
    store.writer.follow()
    assert store.inner.untidy
    assert 5000 in store.seqs()


def test_a_step_that_removes_many_rows_is_made_in_portions(
    store: LoggedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "PORTION", 10)
    store.apply(*[putting(seq) for seq in range(1, 20)], sharing(7, 1, 2, 3))
    store.writer.follow()
    store.inner.calls.clear()
    for seq in range(1, 20, 4):
        store.apply([records.DELETE, [1, [seq, seq + 3]]])
    store.apply(dereferencing(2, 1))
    assert store.writer.follow() == [7]
    assert store.inner.calls == ["apply 3", "apply 3"]
    assert store.seqs() == []
    assert store.inner.log_number() == 26


def test_the_portions_of_a_step_that_were_made_are_not_made_again(
    store: LoggedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "PORTION", 1)
    store.apply(putting(1), putting(2), sharing(7, 1, 2, 3))
    store.writer.follow()
    store.inner.fail_after(1)
    store.apply(dereferencing(2, 1))
    store.apply([records.DELETE, [1, [1, 1]]], putting(3))
    with pytest.raises(StoreError, match="the disk refuses"):
        store.writer.follow()
    assert (store.inner.log_number(), store.seqs()) == (4, [1, 2])
    store.inner.failing = False
    assert store.apply(putting(1), [records.DELETE, [1, [2, 2]]]) == [7]
    store.writer.follow()
    assert (store.inner.log_number(), store.seqs()) == (8, [1, 3])


def test_what_came_while_lmdb_was_busy_is_given_to_it_in_the_pause_that_follows(
    store: LoggedStore,
) -> None:
    store.inner.gate.clear()
    first = fill_until_lmdb_is_given_something(store)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=serve, args=(theirs.fileno(), store.writer, pytest.fail))
        server.start()
        payload = encoded(putting(first))[0]
        ours.sendall(REQUEST.pack(1, len(payload)) + payload)
        answered = b""
        while len(answered) < 2 * ANSWER.size:
            answered += ours.recv(1000)
        store.inner.gate.set()
        until(lambda: store.inner.log_number() == first)
        ours.shutdown(socket.SHUT_WR)
        server.join(PATIENCE)
    assert store.seqs() == list(range(1, first + 1))


def test_a_failed_step_is_tried_again_while_nothing_is_asked_for(
    store: LoggedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "RETRY", 10)
    store.inner.failing = True
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=serve, args=(theirs.fileno(), store.writer, pytest.fail))
        server.start()
        payload = encoded(putting(1))[0]
        ours.sendall(REQUEST.pack(1, len(payload)) + payload)
        until(lambda: len(store.complaints) == 1)
        store.inner.failing = False
        until(lambda: store.inner.log_number() == 1)
        until(lambda: len(store.complaints) == 2)
        ours.shutdown(socket.SHUT_WR)
        server.join(PATIENCE)
    assert store.complaints == [f"{store.path}: the disk refuses", "the store can be written again"]


def test_a_complaint_that_nobody_hears_holds_nothing_up(store: LoggedStore) -> None:
    def fail(_: str) -> None:
        raise ValueError("nobody is there")

    store.writer._follower._complain = fail
    store.inner.failing = True
    store.apply(putting(1))
    with pytest.raises(StoreError, match="the disk refuses"):
        store.writer.follow()


def test_removing_stops_when_the_map_is_full_and_cannot_grow(
    store: LoggedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RANGE_STEP", 3)
    store.writer._follower.stop()
    store.apply(*[putting(seq) for seq in range(1, 20)], [records.DELETE_RANGE, [1, 0, 20]])
    store.writer.follow()
    assert store.inner.untidy

    def full(*_: object) -> bool:
        raise lmdb.MapFullError("full")

    def stuck(_: object) -> None:
        raise StoreError("here", "the map cannot grow")

    monkeypatch.setattr(writer_module, "Changes", full)
    monkeypatch.setattr(Writer, "_grow", stuck)
    with pytest.raises(StoreError, match="the map cannot grow"):
        store.inner.tidy()
    assert not store.inner.untidy

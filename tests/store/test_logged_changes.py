"""A writer behind a log beside a plain one: the same batches leave the same rows, whatever happens in between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from amqp_broker.store import records
from amqp_broker.store import writer as writer_module
from amqp_broker.store.environment import PROCESS, environment_path, open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.writer import Writer
from tests.examples import examples
from tests.memory_disk import fast_place

from .logged import LOG_SIZE, MAP_SIZE, LoggedStore, Sections, contents

QUEUE_IDS = st.integers(1, 3)
KEYS = st.sampled_from([b"a", b"b"])


class LoggedChanges(RuleBasedStateMachine):
    """`batch` gathers sections until they are sent, to the plain writer only once the other has taken them.

    refused: batches that failed and must come first. sent: how many were taken. told, expected: released
    store ids, by how often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # So few that a range is seldom removed at once.
        self.patch.setattr(writer_module, "RANGE_STEP", 3)
        self.path = tempfile.mkdtemp(prefix="logged-", dir=fast_place())
        self.batch: Sections = []
        self.refused: list[Sections] = []
        self.next_seq = 1
        self.next_store_id = 1
        self.next_queue_id = 4
        self.references: list[tuple[int, int]] = []
        self.told: Counter[int] = Counter()
        self.expected: Counter[int] = Counter()
        self.killed = False
        self.sent = 0

    @initialize(logged=st.booleans())
    def open(self, logged: bool) -> None:
        self.store = LoggedStore(Path(self.path, "logged"), logged=logged)
        plain = os.path.join(self.path, "plain")
        os.makedirs(environment_path(plain))
        self.plain_environment = open_environment(plain, MAP_SIZE, PROCESS)
        self.plain = Writer(self.plain_environment, plain)

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.store.close()
            self.plain_environment.close()
            shutil.rmtree(self.path)
            self.patch.undo()

    # ---- what a batch may hold

    @rule(queue_id=QUEUE_IDS, count=st.integers(1, 6), size=st.sampled_from([0, 10, 200, LOG_SIZE]))
    def put(self, queue_id: int, count: int, size: int) -> None:
        fields: list[object] = []
        for _ in range(count):
            fields += [self.next_seq, 0, b"\0\1k", b"header", bytes(size // count)]
            self.next_seq += 1
        self.batch += [records.PUT, [queue_id, fields]]

    @rule(queue_ids=st.lists(QUEUE_IDS, min_size=2, unique=True))
    def share(self, queue_ids: list[int]) -> None:
        self.batch += [records.PUT_MESSAGES, [self.next_store_id, b"\0\1k", b"header", b"shared"]]
        for queue_id in queue_ids:
            self.batch += [records.PUT_REFERENCE, [queue_id, [self.next_seq, 0, self.next_store_id, 6]]]
            self.references.append((queue_id, self.next_seq))
        self.next_store_id += 1
        self.next_seq += 1

    @precondition(lambda self: not self.batch)
    @rule(queue_id=QUEUE_IDS, back=st.integers(1, 8), length=st.integers(0, 3))
    def delete(self, queue_id: int, back: int, length: int) -> None:
        first = max(1, self.next_seq - back)
        taken = {seq for found_id, seq in self.references if found_id == queue_id}
        if not taken.intersection(range(first, first + length + 1)):
            self.batch += [records.DELETE, [queue_id, [first, first + length]]]

    @precondition(lambda self: not self.batch)
    @rule(choice=st.integers(0, 100))
    def delete_reference(self, choice: int) -> None:
        if self.references:
            self.batch += [records.DELETE_REFERENCE, list(self.references.pop(choice % len(self.references)))]

    @precondition(lambda self: not self.batch)
    @rule(queue_id=QUEUE_IDS, first=st.sampled_from([0, 3]), open_ended=st.booleans())
    def delete_range(self, queue_id: int, first: int, open_ended: bool) -> None:
        last = records.MAX_SEQ if open_ended else self.next_seq - 1
        self.batch += [records.DELETE_RANGE, [queue_id, first, last]]

    @rule(key=KEYS, value=st.binary(max_size=20), define=st.booleans())
    def define(self, key: bytes, value: bytes, define: bool) -> None:
        self.batch += [records.DEFINE, [key, value]] if define else [records.UNDEFINE, [key]]

    @rule(queue_id=QUEUE_IDS, limit=st.integers(1, 1000))
    def count_and_mark(self, queue_id: int, limit: int) -> None:
        self.batch += [records.COUNTER, [limit], records.MARK, [queue_id, self.next_seq]]

    @rule(rows=st.integers(1, 8))
    def make_and_delete_a_queue(self, rows: int) -> None:
        queue_id = self.next_queue_id
        self.next_queue_id += 1
        self.put(queue_id, rows, 0)
        self.send(together=False)
        self.batch += [records.DELETE_QUEUE, [queue_id]]

    # ---- what happens to it

    @rule(together=st.booleans())
    def send(self, together: bool) -> None:
        """Refused batches come first, alone or with the current one."""
        waiting = [*self.refused, self.batch] if self.batch else self.refused
        self.batch = []
        while waiting:
            group = waiting if together else waiting[:1]
            waiting = waiting[len(group) :]
            self.told.update(self.store.apply(*group))
            self.taken(group)
        self.refused = []

    def taken(self, group: list[Sections]) -> None:
        self.sent += len(group)
        for sections in group:
            self.expected.update(self.plain.apply([sections]))

    @rule(octets=st.integers(0, 2 * LOG_SIZE), lmdb_fails=st.booleans())
    def send_in_vain(self, octets: int, lmdb_fails: bool) -> None:
        """Both the log, after so many octets, and perhaps LMDB refuse."""
        waiting = [*self.refused, self.batch] if self.batch else self.refused
        if not waiting:
            return
        pwrite = os.pwrite

        def fail(descriptor: int, data: bytes, at: int) -> int:
            pwrite(descriptor, data[:octets], at)
            raise OSError(28, os.strerror(28))

        self.store.inner.failing = lmdb_fails
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "pwrite", fail)
            try:
                self.told.update(self.store.apply(*waiting))
            except StoreError:
                self.refused = waiting
            else:
                # It went past the log.
                self.refused = []
                self.taken(waiting)
        self.batch = []
        self.store.inner.failing = False

    @rule()
    def follow(self) -> None:
        self.told.update(self.store.writer.follow())

    @rule()
    def fail_to_follow(self) -> None:
        self.store.inner.failing = True
        if self.store.writer.unsettled:
            with pytest.raises(StoreError):
                self.store.writer.follow()
        self.store.inner.failing = False

    @rule()
    def tidy_one(self) -> None:
        if self.store.inner.untidy:
            self.store.inner.tidy()

    @rule()
    def tidy_the_other(self) -> None:
        if self.plain.untidy:
            self.plain.tidy()

    @rule(logged=st.booleans())
    def kill(self, logged: bool) -> None:
        """Batches that were refused may be there all the same, the first ones first."""
        self.store.reopen(logged=logged)
        assert not self.store.writer.unsettled
        kept = self.store.inner.log_number() - self.sent
        assert 0 <= kept <= len(self.refused)
        self.taken(self.refused[:kept])
        self.refused = self.refused[kept:]
        self.killed = True

    @rule()
    def finish(self) -> None:
        """Bring both to rest: the same rows, and the same told, if nobody was killed who had it to tell."""
        self.send(together=True)
        self.told.update(self.store.writer.follow())
        while self.store.inner.untidy:
            self.store.inner.tidy()
        while self.plain.untidy:
            self.plain.tidy()
        assert contents(self.store.environment) == contents(self.plain_environment)
        self.batch = [records.COUNTER, [1]]
        self.send(together=True)
        self.told.update(self.store.writer.follow())
        assert self.killed or self.told == self.expected


TestLoggedChanges = LoggedChanges.TestCase
TestLoggedChanges.settings = settings(
    max_examples=examples(60),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

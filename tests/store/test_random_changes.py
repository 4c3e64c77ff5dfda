"""Whatever the order of puts, fan-outs, removals and restarts: the store holds what the model holds."""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Definition
from amqp_broker.broker.queue import Queue
from amqp_broker.store import writer as writer_module
from amqp_broker.store.batch import Batch
from amqp_broker.store.environment import log_path
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.logged import LoggedWriter
from amqp_broker.store.memory import MemoryStore
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.writer import Writer
from tests.examples import examples
from tests.memory_disk import fast_place

from .harness import message

QUEUE_IDS = st.integers(1, 4)


class Changes(RuleBasedStateMachine):
    """A journal over a writer without a carrier, beside a dictionary that is obviously right.

    held: the live entries by queue id and seq; durable: what the batches that were written leave.
    released: store ids to be told with the next answer.
    """

    logged = False

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # So few that a range is seldom removed at once.
        self.patch.setattr(writer_module, "RANGE_STEP", 3)
        self.path = tempfile.mkdtemp(prefix="store-", dir=fast_place())
        self.held: dict[int, dict[int, QueueEntry]] = {queue_id: {} for queue_id in range(1, 5)}
        self.durable: dict[int, dict[int, bytes]] = {queue_id: {} for queue_id in range(1, 5)}
        self.sealed: list[tuple[Batch, dict[int, dict[int, bytes]]]] = []
        self.messages: list[Message] = []
        self.bodies = 0
        self.next_seq = 1
        self.queue = Queue("q", "/", True, {}, MemoryStore())

    @initialize()
    def open(self) -> None:
        self.directory = open_data_directory(self.path, embedded=True, durability="process")
        self.inner = Writer(self.directory.environment, self.path)
        self.writer = LoggedWriter(self.inner, log_path(self.path), logged=self.logged, log_size=8192)
        self.released: list[int] = []
        self.store = JournalStore(self.directory.reader)
        self.recovered = self.store.recover()[1]

    def teardown(self) -> None:
        self.writer.close()
        self.directory.close()
        shutil.rmtree(self.path)
        self.patch.undo()

    def put(self, queue_id: int, of: Message) -> None:
        entry = QueueEntry(of, self.queue, self.next_seq)
        self.next_seq += 1
        self.held[queue_id][entry.seq] = entry
        self.store.put(queue_id, entry)

    @rule(queue_ids=st.lists(QUEUE_IDS, min_size=1, unique=True))
    def publish(self, queue_ids: list[int]) -> None:
        self.bodies += 1
        fresh = message(b"%d" % self.bodies)
        self.messages.append(fresh)
        for queue_id in queue_ids:
            self.put(queue_id, fresh)

    @rule(queue_id=QUEUE_IDS, choice=st.integers(0, 1000))
    def put_a_known_message_again(self, queue_id: int, choice: int) -> None:
        if self.messages:
            self.put(queue_id, self.messages[choice % len(self.messages)])

    @rule(queue_id=QUEUE_IDS, choice=st.integers(0, 1000))
    def acknowledge(self, queue_id: int, choice: int) -> None:
        held = self.held[queue_id]
        if held:
            self.store.delete(queue_id, held.pop(list(held)[choice % len(held)]))

    @rule(queue_id=QUEUE_IDS)
    def purge(self, queue_id: int) -> None:
        """As the model does: what is known by entry is deleted by entry, the rest as a range."""
        held = self.held[queue_id]
        if not held:
            return
        self.store.delete_range(queue_id, min(held), max(held))
        under_way = [entry for entry in held.values() if self.in_a_batch(entry)]
        for entry in under_way:
            self.store.delete(queue_id, entry)
        held.clear()

    def in_a_batch(self, entry: QueueEntry) -> bool:
        first = self.sealed[0][0].number if self.sealed else self.store.batch
        return entry.batch >= first

    @rule()
    def seal(self) -> None:
        batch = self.store.seal()
        if batch is not None:
            after = {
                queue_id: {seq: entry.message.body for seq, entry in held.items()}
                for queue_id, held in self.held.items()
            }
            self.sealed.append((batch, after))

    @rule(together=st.booleans())
    def write(self, together: bool) -> None:
        batches = self.sealed if together else self.sealed[:1]
        self.sealed = self.sealed[len(batches) :]
        written = [batch for batch, _ in batches if batch.payload]
        if written:
            self.released += self.writer.apply([batch.payload for batch in written])
            written[-1].released = self.released
            self.released = []
        for batch, after in batches:
            self.durable = after
            self.store.committed(batch.number)

    @rule()
    def follow(self) -> None:
        self.released += self.writer.follow()

    @rule()
    def tidy(self) -> None:
        if self.inner.untidy:
            self.inner.tidy()

    @rule()
    def crash(self) -> None:
        self.writer.close()
        self.directory.close()
        self.sealed = []
        self.open()
        self.held = {queue_id: self.read_back(queue_id) for queue_id in self.held}
        self.messages = [entry.message for held in self.held.values() for entry in held.values()]
        for queue_id, held in self.held.items():
            found = self.recovered.get(queue_id)
            assert (found.count if found else 0) == len(held)

    def read_back(self, queue_id: int) -> dict[int, QueueEntry]:
        entries = {}
        for stored in self.store.read(queue_id, 0, 1000):
            of = message(stored.body)
            of.store_id = stored.store_id
            entry = entries[stored.seq] = QueueEntry(of, self.queue, stored.seq)
            entry.batch = 0
        return entries

    @invariant()
    def durable_contents_are_as_expected(self) -> None:
        if self.writer.unsettled:
            return
        for queue_id, expected in self.durable.items():
            assert {entry.seq: entry.body for entry in self.store.read(queue_id, 0, 1000)} == expected

    @rule()
    def settle(self) -> None:
        """When all is quiet, just the messages with references are kept apart."""
        quiet = False
        while not quiet:
            # What tidying released is told with the next batch.
            while self.inner.untidy:
                self.inner.tidy()
            self.store.put_definition(Definition("any", b"key", {}))
            self.seal()
            self.write(together=True)
            self.follow()
            quiet = self.store.empty and not (self.sealed or self.released or self.inner.untidy)
        found = self.directory.reader.scan()
        assert found.store_ids == sorted(found.references)


class LoggedChanges(Changes):
    """The same through a log so small that it is soon full."""

    logged = True


_SETTINGS = settings(
    max_examples=examples(40),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRandomChanges = Changes.TestCase
TestRandomChanges.settings = _SETTINGS
TestRandomLoggedChanges = LoggedChanges.TestCase
TestRandomLoggedChanges.settings = _SETTINGS

"""Whether queues leave memory is nobody's business: two brokers get the same orders, and only one of them pages out.

Their answers, their counts and what lies in their stores have to be equal at any time, in any order of publishes,
deliveries, settlements, waits, policies and crashes. AMQP_TEST_EXAMPLES is how many stories are tried, each from its
own seed; a story that fails tells its last steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import cast

import pytest

from amqp_broker.broker.memory import Memory
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.policy import Policy
from amqp_broker.broker.ports import StoredEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.content.table import table_of
from tests.broker.house import House, made, recount
from tests.broker.ledger_store import LedgerStore
from tests.examples import seeds

STORIES = 16
STEPS = 250
DEAD = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
QUEUES: dict[str, dict[str, object]] = {
    "plain": {},
    "ranked": {"max_priority": 5, **DEAD},
    "ranked.widely": {"max_priority": 255},
    "quorum": {"queue_type": "quorum", **DEAD},
    "counted": {"queue_type": "quorum", "delivery_limit": 2, **DEAD},
    "brief": {"message_ttl": 500, **DEAD},
    "limited": {"max_length": 30, **DEAD},
    "refusing": {"max_length": 30, "overflow": "reject-publish-dlx", **DEAD},
    "ranked.brief.limited": {"max_priority": 3, "max_length": 30, "message_ttl": 800, **DEAD},
    "unique": {"message_deduplication": True, "message_ttl": 700},
    "unique.remembering": {"message_deduplication": True, "cache_size": 10, "cache_ttl": 400},
    "retrying": {"delayed_retry_type": "all", "delayed_retry_min": 100, "delivery_limit": 3, **DEAD},
    "dead": {},
}
# Those in which much gathers.
ROOMY = ("plain", "ranked", "quorum", "quorum")
POLICIES: list[dict[str, object]] = [
    {"max-length": 0},
    {"max-length": 40},
    {"max-length": 10, "overflow": "reject-publish"},
    {"max-length-bytes": 500},
    {"message-ttl": 50},
    {"delivery-limit": 1},
    {"dead-letter-exchange": "", "dead-letter-routing-key": "dead"},
    {"x-message-deduplication": True},
]
# In milliseconds; most have no end.
LIVES = (None,) * 20 + (0, 100, 600)
# How often one order to give deliveries back may have a row of the store read: for its message, and as one of a run.
READS = 2


class ReadStore(LedgerStore):
    """reads: how often each row was read, by queue id and seq, since the test last cleared it."""

    def __init__(self, ledger: LedgerStore | None = None) -> None:
        super().__init__(ledger.disk if ledger else None)
        self.reads: Counter[tuple[int, int]] = Counter()

    def read(self, queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        rows = super().read(queue_id, first_seq, limit)
        self.reads.update((queue_id, row.seq) for row in rows)
        return rows


class Side:
    """One of the two brokers, with a channel. outstanding: what the channel holds, by delivery tag."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._tag = 0
        self.open(House(ReadStore()))
        for name in QUEUES:
            self.declare(name)
        self.house.store.commit()

    def open(self, house: House) -> None:
        self.house = house
        self.store = cast("ReadStore", house.store)
        self.store.lag = self.lag
        self.memory = Memory(house.broker, 1)
        self.outstanding: dict[int, QueueEntry] = {}
        house.vhost.unsettled[self] = self.outstanding

    def queue(self, name: str) -> Queue:
        return self.house.vhost.queues[name]

    def declare(self, name: str) -> None:
        self.house.durable(name, **QUEUES[name])

    def held(self, name: str) -> list[int]:
        return [tag for tag, entry in self.outstanding.items() if entry.queue.name == name]

    def get(self, name: str, count: int) -> list[object]:
        seen: list[object] = []
        for _ in range(count):
            entry = self.queue(name).get()
            if entry is not None:
                self._tag += 1
                self.outstanding[self._tag] = entry
                seen.append(view(entry))
        return seen

    def settle(self, tags: list[int], rejected: bool) -> None:
        for entry in map(self.outstanding.pop, tags):
            entry.queue.reject(entry) if rejected else entry.queue.settle(entry)

    def give_back(self, name: str, tags: list[int], failed: bool) -> int:
        """Returns how often the row that was read most was read for it."""
        queue, entries = self.queue(name), [self.outstanding.pop(tag) for tag in tags]
        if not queue.is_quorum:
            entries.sort(key=lambda entry: entry.seq)
        self.store.reads.clear()
        queue.requeue(entries, failed)
        return max(self.store.reads.values(), default=0)

    def delete(self, name: str) -> object:
        count = self.house.vhost.delete_queue(self.queue(name))
        self.settle(self.held(name), rejected=False)
        self.declare(name)
        return count

    def crash(self, written: int, after: int, *, was_killed: bool) -> None:
        survivor = ReadStore(self.store.survivor(written))
        self.open(House(survivor, self.house.now + after, was_killed=was_killed))
        self.house.pass_time()

    def set_policy(self, definition: dict[str, object]) -> None:
        if definition:
            self.house.vhost.set_policy(Policy("p", "^(?!dead$)", table_of(definition), 0, "queues"))
        else:
            self.house.vhost.delete_policy("p")

    def drain(self, after: int) -> list[object]:
        self.house.pass_time(after)
        seen: list[object] = []
        for queue in map(self.queue, QUEUES):
            while (entry := queue.get()) is not None:
                seen.append(view(entry))
                queue.settle(entry)
        return seen

    def counts(self) -> dict[str, tuple[int, int, int, int]]:
        return {
            name: (queue.ready_count(), queue.ready_bytes, queue.unacked, len(queue.retries))
            for name, queue in self.house.vhost.queues.items()
        }

    def stored(self) -> dict[str, list[bytes]]:
        return {name: self.store.stored(queue.store_id) for name, queue in self.house.vhost.queues.items()}


class Story:
    """A random one of few queues. paging, steady: the broker whose queues leave memory, and the one that keeps all."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        lag = self.random.choice([0, 1, 3])
        self.paging, self.steady = Side(lag), Side(lag)
        self.names = [self.random.choice(ROOMY), self.random.choice(list(QUEUES))]
        self.told: list[str] = []
        self._bodies = 0

    def tell(self, steps: int) -> None:
        for number in range(steps):
            step = self.random.choices(list(CHANCES), list(CHANCES.values()))[0]
            name = self.random.choice(self.names)
            self.told.append(f"{step.__name__} {name}")
            step(self, name)
            assert self.paging.counts() == self.steady.counts(), self.told[-5:]
            if number % 25 == 0:
                for queue in self.paging.house.vhost.queues.values():
                    assert recount(queue) == (queue.ready_count(), queue.ready_bytes), queue.name

    def both(self, act: Callable[[Side], object]) -> None:
        assert act(self.paging) == act(self.steady), self.told[-5:]

    def end(self) -> None:
        """All that can be had is had, now and when all of it is due; what is left is what the channel holds."""
        self.both(lambda side: side.drain(0))
        self.both(lambda side: side.drain(60_000))
        self.both(lambda side: side.store.commit())
        assert self.paging.stored() == self.steady.stored()
        assert self.paging.store.spilled == {}

    # -- steps

    def publish(self, name: str) -> None:
        count = self.random.choice([1, 1, 1, 10, 50, 300])
        persistent = self.random.random() < 0.7
        size = self.random.choice([0, 10, 3000]) if count < 300 else 5
        makers = [self._maker(size, persistent) for _ in range(count)]
        self.both(lambda side: [side.queue(name).publish(make()) for make in makers])

    def _maker(self, size: int, persistent: bool) -> Callable[[], Message]:
        """Each side has messages of its own, since a queue may write into them."""
        choice = self.random.choice
        self._bodies += 1
        body = b"%d" % self._bodies + bytes(size)
        priority = choice([None, 0, 1, 2, 3, 9, 200])
        expiration = choice(LIVES)
        same: dict[str, object] = {"x-deduplication-header": self.random.randrange(20)}
        headers = choice([None, same])
        return lambda: made(
            body, persistent=persistent, priority=priority, expiration=expiration, headers=headers
        )

    def get(self, name: str) -> None:
        count = self.random.choice([1, 1, 5, 50, 300])
        self.both(lambda side: side.get(name, count))

    def settle(self, name: str) -> None:
        tags, rejected = self._some_held(name, [1, 1, 10]), self.random.random() < 0.4
        self.both(lambda side: side.settle(tags, rejected))

    def give_back(self, name: str) -> None:
        tags = self._some_held(name, [1, 1, 10, 100, 500])
        failed = self.random.random() < 0.5
        for side in (self.paging, self.steady):
            if tags:
                assert side.give_back(name, tags, failed) <= READS, self.told[-5:]

    def _some_held(self, name: str, limits: list[int]) -> list[int]:
        """Delivery tags of a queue in any order, up to one of the limits."""
        held = self.paging.held(name)
        return self.random.sample(held, min(self.random.choice(limits), len(held)))

    def wait(self, name: str) -> None:
        milliseconds = self.random.choice([0, 1, 50, 300, 1000])
        self.both(lambda side: side.house.pass_time(milliseconds))

    def page_out(self, name: str) -> None:
        keep, whole_runs = self.random.choice([0, 0, 1, 5, 256]), self.random.random() < 0.3
        self.paging.store.spill_fails = self.random.random() < 0.1
        for queue in self.paging.house.vhost.queues.values():
            queue.page_out(keep, whole_runs)

    def relieve(self, name: str) -> None:
        self.paging.memory.limit = self.random.choice([1, 1, 100_000])
        self.paging.memory.relieve()

    def commit(self, name: str) -> None:
        self.both(lambda side: side.store.seal())
        if self.random.random() < 0.75:
            self.both(lambda side: side.store.commit())

    def purge(self, name: str) -> None:
        self.both(lambda side: side.queue(name).purge())

    def delete(self, name: str) -> None:
        self.both(lambda side: side.delete(name))

    def set_policy(self, name: str) -> None:
        definition = self.random.choice([{}, self.random.choice(POLICIES)])
        self.both(lambda side: side.set_policy(definition))

    def crash(self, name: str) -> None:
        after, was_killed = self.random.choice([0, 300]), self.random.random() < 0.5
        written = self.random.randint(0, len(self.paging.store.sealed))
        self.both(lambda side: side.crash(written, after, was_killed=was_killed))


# How likely each step is, in proportion.
CHANCES: dict[Callable[[Story, str], None], float] = {
    Story.publish: 30,
    Story.get: 20,
    Story.settle: 16,
    Story.give_back: 14,
    Story.wait: 6,
    Story.page_out: 25,
    Story.relieve: 6,
    Story.commit: 16,
    Story.purge: 3,
    Story.delete: 0.5,
    Story.set_policy: 3,
    Story.crash: 1,
}


def view(entry: QueueEntry) -> object:
    message = entry.message
    return b"".join(message.pieces()), message.header.payload, entry.deliveries, entry.expiry


@pytest.mark.parametrize("seed", seeds(STORIES))
def test_a_broker_that_pages_out_does_what_one_that_does_not_does(seed: int) -> None:
    story = Story(seed)
    story.tell(STEPS)
    story.end()

"""Deliveries that nobody acknowledges: their messages leave memory, and are there again when they are wanted."""

from __future__ import annotations

import time
from random import Random

import pytest

from amqp_broker.broker.memory import Memory
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.outstanding import PORTION
from amqp_broker.broker.ports import StoredEntry
from amqp_broker.broker.queue import Queue
from tests.broker.house import House, made
from tests.broker.test_paging import drain
from tests.examples import seeds

COUNT = 3000


@pytest.fixture
def house() -> House:
    return House()


class Channel:
    """Stands for one in the session: what it has outstanding, by delivery tag."""

    def __init__(self, house: House) -> None:
        self.outstanding: dict[int, QueueEntry] = {}
        self._tag = 0
        house.vhost.unsettled[self] = self.outstanding

    def get(self, queue: Queue, count: int = 1) -> None:
        for _ in range(count):
            entry = queue.get()
            assert entry is not None
            self._tag += 1
            self.outstanding[self._tag] = entry

    def skip(self, tags: int) -> None:
        """So many deliveries came and went."""
        self._tag += tags

    def entries(self) -> list[QueueEntry]:
        return sorted(self.outstanding.values(), key=lambda entry: entry.seq)


def publish(queue: Queue, count: int, *, persistent: bool = True) -> list[bytes]:
    bodies = [b"%d" % number for number in range(count)]
    for body in bodies:
        queue.publish(made(body, persistent=persistent))
    return bodies


def relieve(house: House, limit: int = 1) -> None:
    Memory(house.broker, limit).relieve()


def absent(channel: Channel) -> int:
    return sum(entry.message is entry.queue.absent for entry in channel.outstanding.values())


def test_messages_that_are_outstanding_leave_memory_and_come_back(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    bodies = publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house)
    assert absent(channel) == COUNT
    queue.requeue(channel.entries())
    assert queue.ready_bytes == sum(map(len, bodies))
    assert drain(queue) == bodies


def test_much_that_comes_back_is_not_all_in_memory(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    bodies = publish(queue, 5 * PORTION)
    house.store.commit()
    channel.get(queue, 5 * PORTION)
    relieve(house)
    queue.requeue(channel.entries())
    assert len(queue.resident()) <= 2 * PORTION
    assert drain(queue) == bodies


def test_what_was_acknowledged_without_its_message_is_gone_from_the_store(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house)
    for entry in channel.entries()[:-1]:
        queue.settle(entry)
    house.store.commit()
    assert house.store.stored(queue.store_id) == [b"%d" % (COUNT - 1)]


@pytest.mark.parametrize("how", ["reject", "delivery limit"])
def test_a_dead_letter_has_its_message(house: House, how: str) -> None:
    dead = house.durable("dead")
    queue = house.durable(dead_letter_exchange="", dead_letter_routing_key="dead", delivery_limit=0)
    channel = Channel(house)
    bodies = publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house)
    if how == "reject":
        for entry in channel.entries():
            queue.reject(entry)
    else:
        queue.requeue(channel.entries())
    assert drain(dead) == bodies


def test_what_waits_for_its_next_try_has_its_message_then(house: House) -> None:
    queue = house.durable(delayed_retry_type="all", delayed_retry_min=1000)
    channel = Channel(house)
    bodies = publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house)
    queue.requeue(channel.entries(), failed=True)
    assert queue.ready_count() == 0
    house.pass_time(2000)
    assert drain(queue) == bodies


def test_a_quorum_queue_keeps_the_order_in_which_they_came_back(house: House) -> None:
    queue, channel = house.durable(queue_type="quorum"), Channel(house)
    bodies = publish(queue, 3 * PORTION, persistent=False)
    house.store.commit()
    channel.get(queue, 3 * PORTION)
    relieve(house)
    assert absent(channel) == 3 * PORTION
    queue.requeue(channel.entries())
    assert drain(queue) == bodies


def test_what_the_store_does_not_have_keeps_its_message(house: House) -> None:
    queue, other, unique = (
        house.durable(),
        house.durable("other"),
        house.durable("unique", message_deduplication=True),
    )
    channel = Channel(house)
    publish(queue, 300, persistent=False)
    shared = made(b"shared", persistent=True)
    publish(unique, 10)
    house.store.commit()
    house.store.lag = 1
    for target in (queue, other):
        target.publish(shared)
    shared.store_id = 7
    channel.get(queue, 301)
    channel.get(unique, 10)
    relieve(house)
    assert absent(channel) == 0


def test_what_the_store_cannot_read_yet_is_looked_at_again(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    publish(queue, COUNT)
    house.store.lag = 1
    house.store.commit()
    channel.get(queue, COUNT)
    memory = Memory(house.broker, 1)
    memory.relieve()
    assert absent(channel) == 0
    house.store.lag = 0
    memory.relieve()
    assert absent(channel) == COUNT
    publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    memory.relieve()
    assert absent(channel) == 2 * COUNT


def test_what_fits_stays(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house, 64 << 20)
    assert absent(channel) == 0


def test_a_message_that_the_store_lost_is_an_error(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house)
    house.store.disk.entries[queue.store_id].clear()
    with pytest.raises(LookupError, match="of queue 'q' is not in the store any more"):
        queue.requeue(channel.entries())


def test_a_quorum_queue_takes_them_back_in_any_order_quickly(house: House) -> None:
    queue, channel = house.durable(queue_type="quorum"), Channel(house)
    bodies = publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    relieve(house)
    reads = 0
    read = house.store.read

    def counted(queue_id: int, first_seq: int, limit: int) -> list[StoredEntry]:
        nonlocal reads
        reads += 1
        found: list[StoredEntry] = read(queue_id, first_seq, limit)
        return found

    house.store.read = counted
    queue.requeue(list(reversed(channel.entries())))
    assert reads == 1
    assert drain(queue) == list(reversed(bodies))


def test_few_large_messages_leave_as_well(house: House) -> None:
    queue, channel = house.durable(), Channel(house)
    for _ in range(20):
        queue.publish(made(bytes(100_000), persistent=True))
    house.store.commit()
    channel.get(queue, 20)
    relieve(house, 1 << 20)
    assert absent(channel) == 20


def seconds_to_relieve(settled_meanwhile: int) -> float:
    """Processor time where so many deliveries came and went after one that is still there."""
    house = House()
    queue, channel = house.durable(), Channel(house)
    publish(queue, COUNT)
    house.store.commit()
    channel.get(queue)
    channel.skip(settled_meanwhile)
    channel.get(queue, COUNT - 1)
    started = time.process_time()
    relieve(house)
    elapsed = time.process_time() - started
    assert absent(channel) == COUNT
    return elapsed


def test_one_that_is_never_settled_does_not_hide_the_others() -> None:
    # Looking for each of them would take several hundred times as long.
    assert min(seconds_to_relieve(20_000_000) for _ in range(3)) < 100 * seconds_to_relieve(0)


def test_what_waits_for_its_next_try_gives_up_its_message(house: House) -> None:
    queue = house.durable(delayed_retry_type="all", delayed_retry_min=1000)
    channel = Channel(house)
    bodies = publish(queue, COUNT)
    house.store.commit()
    channel.get(queue, COUNT)
    queue.requeue(channel.entries(), failed=True)
    channel.outstanding.clear()
    relieve(house)
    assert all(entry.message is queue.absent for entry in queue.retries.entries())
    house.pass_time(2000)
    assert drain(queue) == bodies


@pytest.mark.parametrize("seed", seeds(8))
def test_any_part_may_come_back_at_any_time(seed: int) -> None:
    random = Random(seed)
    house = House()
    queue, channel = house.durable(**({"max_priority": 2} if seed % 2 else {})), Channel(house)
    memory = Memory(house.broker, 1)
    number = 0
    places: dict[bytes, tuple[int, int]] = {}
    for _ in range(40):
        for _ in range(random.choice([0, 100, 700])):
            level = random.randrange(3) if seed % 2 else 0
            queue.publish(made(b"%d" % number, persistent=random.random() < 0.8, priority=level))
            places[b"%d" % number] = (-level, number)
            number += 1
        house.store.commit()
        channel.get(queue, random.choice([0, min(queue.ready_count(), 500)]))
        memory.relieve()
        tags = random.sample(list(channel.outstanding), len(channel.outstanding) // 3)
        back = [channel.outstanding.pop(tag) for tag in tags]
        if back and random.random() < 0.5:
            queue.requeue(sorted(back, key=lambda entry: entry.seq))
        else:
            for entry in back:
                queue.settle(entry)
        house.store.commit()
    queue.requeue(channel.entries())
    found = drain(queue)
    assert found == sorted(found, key=lambda body: places[body])
    house.store.commit()
    assert house.store.stored(queue.store_id) == []

"""What is ready leaves memory when there is too much of it, and comes back in order, unchanged and once."""

from __future__ import annotations

from random import Random

import pytest

from amqp_broker.broker.memory import Memory, weight
from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.runs import RUN_LENGTH
from tests.broker.house import House, headers_of, made, recount
from tests.broker.taker import Taker
from tests.examples import seeds

LARGE = 5000


@pytest.fixture
def house() -> House:
    return House()


def fill(queue: Queue, count: int, *, persistent: bool = True, size: int = 0) -> list[bytes]:
    bodies = [b"%d" % number + bytes(size) for number in range(count)]
    for body in bodies:
        queue.publish(made(body, persistent=persistent))
    return bodies


def drain(queue: Queue) -> list[bytes]:
    bodies: list[bytes] = []
    while (entry := queue.get()) is not None:
        bodies.append(body_of(entry.message))
        queue.settle(entry)
    return bodies


def body_of(message: Message) -> bytes:
    return b"".join(message.pieces())


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("size", [0, LARGE])
def test_what_left_memory_comes_back_in_order(house: House, persistent: bool, size: int) -> None:
    queue = house.durable()
    bodies = fill(queue, 1000, persistent=persistent, size=size)
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 1000
    assert queue.resident() == []
    assert (queue.ready_count(), queue.ready_bytes) == (1000, sum(map(len, bodies)))
    assert drain(queue) == bodies
    assert (queue.ready_count(), queue.ready_bytes, queue.away_count()) == (0, 0, 0)
    house.store.commit()
    assert house.store.spilled == {}
    assert house.store.stored(queue.store_id) == []


def test_large_persistent_bodies_are_read_from_where_they_are_stored(house: House) -> None:
    queue = house.durable()
    fill(queue, 300, size=LARGE)
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    assert (queue.away_count(), house.store.spilled) == (300, {})


def test_what_the_store_cannot_read_back_yet_is_spilled(house: House) -> None:
    queue = house.durable()
    bodies = fill(queue, 300, size=LARGE)
    house.store.commit()
    house.store.lag = 1
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 300
    assert len(house.store.spilled) > 0
    assert drain(queue) == bodies


def test_what_is_not_durable_yet_stays(house: House) -> None:
    queue = house.durable()
    fill(queue, 300)
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 0
    house.store.seal()
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 0
    house.store.commit()
    fill(queue, 300)
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 300
    assert len(queue.resident()) == 300


def test_everything_stays_where_there_is_no_room(house: House) -> None:
    queue = house.queue()
    bodies = fill(queue, 1000, persistent=False)
    house.store.spill_fails = True
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 0
    assert drain(queue) == bodies


def test_the_head_and_what_makes_no_run_may_stay(house: House) -> None:
    queue = house.queue()
    fill(queue, 3 * RUN_LENGTH + 10, persistent=False)
    queue.page_out(RUN_LENGTH, whole_runs=True)
    assert queue.away_count() == 2 * RUN_LENGTH
    assert len(queue.ready) == RUN_LENGTH


def test_what_a_message_knows_comes_back_with_it(house: House) -> None:
    queue = house.durable(message_ttl=10_000)
    shared = house.durable("other")
    message = made(b"m", persistent=True, headers={"h": 1})
    for target in (queue, shared):
        target.publish(message)
    queue.publish(made(b"never", expiration=5000))
    house.store.commit()
    for _ in range(2):
        entry = queue.get()
        assert entry is not None
        queue.requeue([entry])
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 2
    first, second = queue.get(), queue.get()
    assert first is not None
    assert second is not None
    assert (first.deliveries, first.expiry, headers_of(first.message)) == (2, house.now + 10_000, {"h": 1})
    assert (second.deliveries, second.expiry) == (0, house.now + 5000)
    queue.settle(first)
    house.store.commit()
    assert house.store.stored(queue.store_id) == []
    assert house.store.stored(shared.store_id) == [b"m"]


def test_an_acknowledgement_reaches_the_store_for_what_came_back(house: House) -> None:
    queue = house.durable()
    bodies = fill(queue, 600)
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    entry = queue.get()
    assert entry is not None
    queue.settle(entry)
    house.store.commit()
    again = house.restarted().vhost.queues["q"]
    assert drain(again) == bodies[1:]


def test_a_purge_takes_what_is_away_as_well(house: House) -> None:
    queue = house.durable()
    fill(queue, 600)
    house.store.commit()
    held = queue.get()
    assert held is not None
    queue.page_out(0, whole_runs=False)
    fill(queue, 10)
    assert queue.purge() == 609
    assert (queue.ready_count(), queue.ready_bytes) == (0, 0)
    house.store.commit()
    assert house.store.spilled == {}
    assert house.store.stored(queue.store_id) == [b"0"]


def test_a_deleted_queue_gives_up_what_was_spilled(house: House) -> None:
    queue = house.queue()
    fill(queue, 600)
    queue.page_out(0, whole_runs=False)
    assert house.store.spilled
    house.vhost.delete_queue(queue)
    assert house.store.spilled == {}


def test_what_comes_back_goes_before_what_is_away(house: House) -> None:
    queue = house.durable()
    bodies = fill(queue, 2000)
    house.store.commit()
    held = [queue.get() for _ in range(1000)]
    queue.page_out(0, whole_runs=False)
    queue.requeue([entry for entry in held if entry is not None])
    queue.page_out(RUN_LENGTH, whole_runs=True)
    assert queue.away_count() > 1000
    assert drain(queue) == bodies


def test_each_priority_pages_for_itself(house: House) -> None:
    queue = house.durable(max_priority=9)
    published: list[tuple[int, bytes]] = []
    for number in range(2000):
        priority = number % 7
        published.append((priority, b"%d" % number))
        queue.publish(made(published[-1][1], persistent=number % 2 == 0, priority=priority))
    house.store.commit()
    held = queue.get()
    assert held is not None
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 1999
    queue.publish(made(b"first", priority=9))
    queue.requeue([held])
    expected = [body for _, body in sorted(published, key=lambda pair: -pair[0])]
    assert drain(queue) == [b"first", *expected]


def test_priorities_are_found_by_a_restart_without_being_read(house: House) -> None:
    queue = house.durable(max_priority=200)
    for number in range(1000):
        queue.publish(made(b"%d" % number, persistent=True, priority=number % 201))
    house.store.commit()
    again = house.restarted().vhost.queues["q"]
    assert (again.ready_count(), again.away_count()) == (1000, 1000)
    again.publish(made(b"later", priority=200))
    expected = [b"%d" % number for number in sorted(range(1000), key=lambda number: -(number % 201))]
    expected.insert(4, b"later")
    assert drain(again) == expected


def test_the_heaviest_queues_give_way_first(house: House) -> None:
    large, small = house.queue("large"), house.queue("small")
    fill(large, 4000, persistent=False, size=1000)
    fill(small, 300, persistent=False)
    Memory(house.broker, 2 << 20).relieve()
    assert weight(large) + weight(small) <= 2 << 20
    assert large.away_count() > 0
    assert small.away_count() == 0


def test_many_small_queues_keep_nothing_if_that_is_needed(house: House) -> None:
    queues = [house.queue(f"q{number}") for number in range(200)]
    for queue in queues:
        fill(queue, 100, persistent=False)
    Memory(house.broker, 1 << 20).relieve()
    assert sum(map(weight, queues)) > 1 << 20, "that is more than a turn has time for"
    house.broker.chores.finish()
    assert sum(map(weight, queues)) <= 1 << 20
    assert all(drain(queue) == [b"%d" % number for number in range(100)] for queue in queues)


def test_nothing_leaves_without_a_limit_or_below_it(house: House) -> None:
    queue = house.queue()
    fill(queue, 3000, persistent=False)
    Memory(house.broker, 0).relieve()
    Memory(house.broker, 64 << 20).relieve()
    assert queue.away_count() == 0


def test_a_consumer_gets_what_is_away(house: House) -> None:
    queue = house.queue()
    bodies = fill(queue, 700, persistent=False)
    queue.page_out(0, whole_runs=False)
    taker = Taker(queue, no_ack=True).start()
    assert [body for _, body, _ in taker.log] == bodies


@pytest.mark.parametrize("purged", [True, False], ids=["purged", "drained"])
def test_what_somebody_holds_is_safe_from_a_purge_of_what_lies_around_it(house: House, purged: bool) -> None:
    queue = house.durable()
    fill(queue, 600)
    house.store.commit()
    held = [queue.get() for _ in range(10)]
    back = [entry for entry in held if entry is not None]
    kept = back.pop(5)
    queue.requeue(back)
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    if purged:
        assert queue.purge() == 599
    else:
        assert len(drain(queue)) == 599
    house.store.commit()
    assert house.store.stored(queue.store_id) == [b"5"]
    assert house.store.spilled == {}
    queue.requeue([kept])
    assert drain(queue) == [b"5"]


def test_nor_does_it_matter_in_which_order_it_lies_there(house: House) -> None:
    queue = house.durable(queue_type="quorum", delivery_limit=5)
    bodies = fill(queue, 6)
    entries = [queue.get() for _ in bodies]
    # As many as there are numbers from the first to the last, and yet not these.
    for number in (0, 1, 2, 5, 4):
        back = entries[number]
        assert back is not None
        queue.requeue([back])
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 5
    assert queue.purge() == 5
    house.store.commit()
    assert house.store.stored(queue.store_id) == [bodies[3]]


def test_what_came_back_from_the_spill_is_not_taken_for_readable(house: House) -> None:
    queue = house.durable()
    house.store.lag = 5
    bodies = fill(queue, 60, size=LARGE)
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    first = queue.get()
    assert first is not None
    queue.page_out(0, whole_runs=False)
    assert drain(queue) == bodies[1:]


def test_the_head_leaves_as_well_if_nothing_may_be_kept(house: House) -> None:
    queue = house.queue()
    bodies = fill(queue, 400, persistent=False)
    queue.page_out(0, whole_runs=False)
    assert queue.available()
    assert len(queue.resident()) > 0
    queue.page_out(0, whole_runs=False)
    assert queue.resident() == []
    assert drain(queue) == bodies


def test_large_bodies_keep_to_the_limit(house: House) -> None:
    queue = house.queue()
    fill(queue, 300, persistent=False, size=100_000)
    memory = Memory(house.broker, 2 << 20)
    memory.relieve()
    assert weight(queue) <= 2 << 20
    assert queue.available()
    memory.relieve()
    assert weight(queue) <= 2 << 20


def test_what_came_back_to_a_quorum_queue_pages_as_well(house: House) -> None:
    queue = house.durable(queue_type="quorum")
    bodies = fill(queue, 1500)
    house.store.commit()
    held = [entry for entry in (queue.get() for _ in range(1000)) if entry is not None]
    held.reverse()
    queue.requeue(held)
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes)
    Memory(house.broker, 1).relieve()
    assert (queue.away_count(), queue.resident()) == (1500, [])
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes)
    assert drain(queue) == [*reversed(bodies[:1000]), *bodies[1000:]]


def test_messages_that_the_store_has_lost_are_an_error_and_not_the_end(house: House) -> None:
    queue = house.durable()
    fill(queue, 300, size=LARGE)
    house.store.commit()
    queue.page_out(0, whole_runs=False)
    house.store.disk.entries[queue.store_id].clear()
    fill(queue, 3)
    with pytest.raises(LookupError, match="300 messages are not in the store any more"):
        queue.get()
    assert (queue.ready_count(), queue.ready_bytes) == (3, 3)
    assert drain(queue) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("arguments", [{}, {"delivery_limit": 2}, {"queue_type": "quorum"}], ids=str)
def test_a_killed_broker_counts_no_delivery_that_is_not_on_record(
    house: House, arguments: dict[str, object]
) -> None:
    """Where none is counted, all are marked as redelivered, since any may have been."""
    queue = house.durable(**arguments)
    fill(queue, 3)
    house.store.commit()
    entry = queue.get()
    assert entry is not None
    # How far a queue was handed out is written when something else is.
    fill(house.durable("other"), 1)
    house.store.commit()
    again = house.restarted(was_killed=True).vhost.queues["q"]
    found = [again.get() for _ in range(3)]
    assert [entry.deliveries for entry in found if entry is not None] == (
        [1, 0, 0] if arguments else [1, 1, 1]
    )


@pytest.mark.parametrize("seed", seeds(12))
def test_any_course_of_events_keeps_order_and_counts(seed: int) -> None:
    """The oracle is a list of what is ready, and what was made durable of it."""
    random = Random(seed)
    house = House()
    queue = house.durable(**({"max_priority": 3} if seed % 3 == 0 else {}))
    levels = 4 if seed % 3 == 0 else 1
    ready: list[tuple[int, int, bytes]] = []
    held: list[tuple[tuple[int, int, bytes], QueueEntry]] = []
    number = 0
    for _ in range(120):
        event = random.choice(
            ["publish", "publish", "page", "page", "get", "ack", "requeue", "commit", "lag"]
        )
        if event == "publish":
            for _ in range(random.choice([1, 40, 400])):
                level = random.randrange(levels)
                body = b"%d" % number + bytes(random.choice([0, 0, 3000]))
                queue.publish(made(body, persistent=random.random() < 0.7, priority=level))
                ready.append((-level, number, body))
                number += 1
            ready.sort()
        elif event == "page":
            queue.page_out(random.choice([0, 100, 300]), whole_runs=random.random() < 0.5)
        elif event == "commit":
            house.store.commit()
        elif event == "lag":
            house.store.lag = random.choice([0, 0, 3])
        elif event == "get":
            for _ in range(min(len(ready), random.choice([1, 50, 500]))):
                entry = queue.get()
                assert entry is not None
                assert body_of(entry.message) == ready[0][2]
                held.append((ready.pop(0), entry))
        elif event == "ack":
            random.shuffle(held)
            for _ in range(len(held) // 2):
                queue.settle(held.pop()[1])
        elif held:
            back = held[: len(held) // 2 + 1]
            del held[: len(back)]
            back.sort(key=lambda pair: pair[1].seq)
            queue.requeue([entry for _, entry in back])
            ready = sorted(ready + [place for place, _ in back])
        assert queue.ready_count() == len(ready)
        assert queue.ready_bytes == sum(len(body) for _, _, body in ready)
    assert drain(queue) == [body for _, _, body in ready]
    assert house.store.spilled == {}


@pytest.mark.parametrize("kind", [{}, {"max_priority": 1}, {"queue_type": "quorum"}])
def test_what_leaves_in_several_turns_stays_in_order(house: House, kind: dict[str, object]) -> None:
    queue = house.durable(**kind)
    fill(queue, 2000)
    house.store.commit()
    back = [queue.get() for _ in range(600)]
    queue.requeue([entry for entry in back if entry is not None])
    assert [queue.page_out(0, False, 1) for _ in range(3)] == [1, 1, 1]
    assert 600 <= queue.away_count() <= 3 * RUN_LENGTH
    first = [queue.get() for _ in range(100)]
    fill(queue, 10)
    while queue.page_out(5, True, 2):
        assert queue.ready_count() == queue.away_count() + len(queue.resident())
    found = [entry for entry in first if entry is not None]
    while (entry := queue.get()) is not None:
        found.append(entry)
    assert [entry.message.body for entry in found[:2000]] == [b"%d" % number for number in range(2000)]
    assert (len(found), queue.ready_bytes, house.store.spilled) == (2010, 0, {})


@pytest.mark.parametrize("looked_again", [False, True])
@pytest.mark.parametrize("end", ["purge", "delete", "drain"])
def test_what_was_begun_ends_when_nothing_more_has_to_leave(
    house: House, end: str, looked_again: bool
) -> None:
    large = house.queue("large")
    fill(large, 150 * RUN_LENGTH, persistent=False)
    small = [house.queue(f"q{number}") for number in range(100)]
    for queue in small:
        fill(queue, 30, persistent=False, size=1000)
    limit = round(0.6 * (weight(large) + sum(map(weight, small))))
    memory = Memory(house.broker, limit)
    memory.relieve()
    assert len(house.broker.chores) == 1
    if end == "drain":
        drain(large)
    elif end == "purge":
        large.purge()
    else:
        house.vhost.delete_queue(large)
    assert sum(map(weight, small)) < 0.75 * limit
    if looked_again:
        memory.relieve()
    house.broker.chores.finish()
    assert [queue.away_count() for queue in small] == [0] * len(small)

"""Many deliveries that come back a portion at a time: they take their turns among what is ready, in memory or not."""

from __future__ import annotations

import random

import pytest

from amqp_broker.broker.chores import Chore, Chores
from amqp_broker.broker.comeback import Comeback
from amqp_broker.broker.memory import Memory
from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.mortal import MOST_DELIVERED
from amqp_broker.broker.policy import new_policy
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.runs import RUN_LENGTH
from amqp_broker.broker.timetable import Clock, Timetable
from amqp_broker.content.table import table_of
from tests.broker.house import House, headers_of, made
from tests.broker.taker import Taker

KINDS: dict[str, dict[str, object]] = {
    "classic": {},
    "ranked": {"max_priority": 2},
    "quorum": {"queue_type": "quorum"},
}


@pytest.fixture
def house() -> House:
    return House()


def filled(house: House, count: int, **arguments: object) -> Queue:
    queue = house.durable(**arguments)
    for number in range(count):
        queue.publish(made(b"%d" % number, persistent=True))
    return queue


def taken(queue: Queue, count: int) -> list[QueueEntry]:
    entries = [queue.get() for _ in range(count)]
    return [entry for entry in entries if entry is not None]


def come_back(queue: Queue, entries: list[QueueEntry], portion: int = 10) -> None:
    comeback = Comeback(queue)
    entries = list(entries)
    while entries:
        comeback.add(entries[:portion])
        del entries[:portion]
    comeback.finish()


def bodies(queue: Queue) -> list[int]:
    """Take all that is ready."""
    found = []
    while (entry := queue.get()) is not None:
        found.append(int(entry.message.body))
        queue.settle(entry)
    return found


def test_what_comes_back_is_unacknowledged_until_it_is_all_there(house: House) -> None:
    queue = filled(house, 30)
    comeback = Comeback(queue)
    held = taken(queue, 30)
    comeback.add(held[:20])
    assert (queue.ready_count(), queue.unacked) == (0, 30)
    comeback.add(held[20:])
    comeback.finish()
    assert (queue.ready_count(), queue.unacked, queue.comebacks) == (30, 0, [])
    assert queue.ready_bytes == sum(len(b"%d" % number) for number in range(30))
    assert bodies(queue) == list(range(30))


def test_two_that_had_messages_in_turns_put_them_in_order_again(house: House) -> None:
    queue = filled(house, 100)
    held = taken(queue, 80)
    come_back(queue, held[::2])
    come_back(queue, held[1::2])
    assert bodies(queue) == list(range(100))


def test_entries_in_any_order_take_their_turns(house: House) -> None:
    queue = filled(house, 100)
    held = taken(queue, 90)
    random.Random(1).shuffle(held)
    come_back(queue, held)
    assert bodies(queue) == list(range(100))


def test_what_comes_back_one_by_one_meanwhile_takes_its_turn_too(house: House) -> None:
    queue = filled(house, 100)
    held = taken(queue, 100)
    come_back(queue, held[:50] + held[52:])
    first = taken(queue, 10)
    queue.requeue([held[50]])
    queue.requeue([held[51]])
    queue.requeue(first)
    assert bodies(queue) == list(range(100))


def test_a_few_of_many_that_are_ready_do_not_move_the_others(house: House) -> None:
    queue = filled(house, 1000)
    held = taken(queue, 1000)
    queue.requeue([entry for entry in held if entry.seq % 100])
    queue.requeue([entry for entry in held if entry.seq % 100 == 0])
    assert len(queue.ready) == 990
    assert bodies(queue) == list(range(1000))


def test_a_consumer_gets_what_came_back_before_the_rest(house: House) -> None:
    queue = filled(house, 50)
    held = taken(queue, 40)
    come_back(queue, held)
    taker = Taker(queue, room=45).start()
    assert [int(body) for _, body, _ in taker.log] == list(range(45))
    assert [redelivered for _, _, redelivered in taker.log] == [True] * 40 + [False] * 5


def test_a_purge_takes_what_came_back(house: House) -> None:
    queue = filled(house, 50)
    come_back(queue, taken(queue, 40))
    assert queue.purge() == 50
    assert (queue.ready_count(), queue.ready_bytes, bodies(queue)) == (0, 0, [])
    house.store.commit()
    assert house.store.stored(queue.store_id) == []


def test_a_queue_that_is_deleted_forgets_what_was_on_its_way(house: House) -> None:
    queue = filled(house, 600)
    house.store.commit()
    held = taken(queue, 600)
    for entry in held:
        assert entry.batch <= house.store.settled
    queue.absent = made(b"")
    comeback = Comeback(queue)
    comeback.add(held)
    assert house.store.spilled
    house.vhost.delete_queue(queue)
    comeback.finish()
    assert (house.store.spilled, queue.unacked) == ({}, 0)


@pytest.mark.parametrize("keep", [RUN_LENGTH, 0])
def test_what_came_back_leaves_memory_like_anything_else(house: House, keep: int) -> None:
    queue = filled(house, 3000)
    house.store.commit()
    held = taken(queue, 2000)
    come_back(queue, held[::2])
    come_back(queue, held[1::2])
    queue.page_out(keep, whole_runs=False)
    assert (queue.away_count(), len(queue.resident())) == (3000 - 2 * keep, 2 * keep)
    assert queue.resident_octets() == sum(len(entry.message.body) for entry in queue.resident())
    assert len(list(queue.headers())) == 3000
    assert bodies(queue) == list(range(3000))
    assert (queue.ready_bytes, house.store.spilled) == (0, {})


def test_a_purge_takes_what_came_back_and_left_memory(house: House) -> None:
    queue = filled(house, 1000)
    house.store.commit()
    come_back(queue, taken(queue, 900))
    queue.page_out(0, whole_runs=False)
    assert queue.away_count() == 1000
    assert queue.purge() == 1000
    assert (queue.ready_count(), queue.ready_bytes, house.store.spilled) == (0, 0, {})
    house.store.commit()
    assert house.store.stored(queue.store_id) == []


class Twice:
    """A queue to which much comes back in portions and from which things leave memory, and one without either."""

    def __init__(self, kind: str) -> None:
        self.house = House()
        self.kind = kind
        self.queue = self.house.durable(**KINDS[kind])
        self.plain = House().durable(**KINDS[kind])
        self.held: list[tuple[QueueEntry, QueueEntry]] = []

    def publish(self, body: bytes, priority: int) -> None:
        for queue in (self.queue, self.plain):
            queue.publish(made(body, persistent=True, priority=priority))

    def get(self, count: int) -> None:
        self.held += zip(taken(self.queue, count), taken(self.plain, count), strict=True)

    def take(self, count: int, dice: random.Random) -> list[tuple[QueueEntry, QueueEntry]]:
        """Some of what is held, in the order in which it was got."""
        count = min(count, len(self.held))
        chosen = [self.held[index] for index in sorted(dice.sample(range(len(self.held)), count))]
        self.held = [each for each in self.held if each not in chosen]
        return chosen

    def give_back(self, chosen: list[tuple[QueueEntry, QueueEntry]], portion: int) -> None:
        come_back(self.queue, [entry for entry, _ in chosen], portion)
        plain = [entry for _, entry in chosen]
        self.plain.requeue(plain if self.kind == "quorum" else sorted(plain, key=lambda entry: entry.seq))

    def leave(self, keep: int, *, whole_runs: bool) -> None:
        self.house.store.commit()
        self.queue.page_out(keep, whole_runs)

    def check(self) -> None:
        """They hold the same, and the queue knows how much of it is where."""
        queue, plain = self.queue, self.plain
        assert [one.message.body for one, _ in self.held] == [other.message.body for _, other in self.held]
        assert queue.ready_count() == plain.ready_count() == queue.away_count() + len(queue.resident())
        assert (queue.ready_bytes, queue.unacked) == (plain.ready_bytes, plain.unacked)
        assert queue.resident_octets() == sum(len(entry.message.body) for entry in queue.resident())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_many_that_come_back_are_where_few_would_be(kind: str, seed: int) -> None:
    dice = random.Random(f"{kind} {seed}")
    twice = Twice(kind)
    steps = ["publish"] * 2 + ["get"] * 2 + ["give back"] * 2 + ["settle", "leave", "leave"]
    for step in range(150):
        what, count = dice.choice(steps), dice.choice([1, 3, 20, 150])
        if what == "publish":
            for number in range(count):
                twice.publish(b"%d%03d" % (step, number), dice.randrange(4))
        elif what == "get":
            twice.get(count)
        elif what == "give back":
            twice.give_back(twice.take(count, dice), dice.choice([1, 7, 1000]))
        elif what == "settle":
            for pair in twice.take(count, dice):
                for entry in pair:
                    entry.queue.settle(entry)
        else:
            twice.leave(dice.choice([0, 5, RUN_LENGTH]), whole_runs=dice.random() < 0.3)
        twice.check()
    assert bodies(twice.queue) == bodies(twice.plain)
    assert (twice.queue.ready_bytes, twice.house.store.spilled) == (0, {})


def test_consumers_with_room_for_more_than_a_turn_has_time_for_get_it_in_several(house: House) -> None:
    queue = house.queue()
    message = made(b"m")
    for _ in range(MOST_DELIVERED + 5):
        queue.publish(message)
    held = taken(queue, MOST_DELIVERED + 5)
    log: list[tuple[str, bytes, bool]] = []
    for tag in ("a", "b"):
        Taker(queue, tag=tag, log=log).start()
    comeback = Comeback(queue)
    comeback.add(held)
    comeback.finish()
    assert (len(log), queue.ready_count()) == (MOST_DELIVERED, 5)
    queue.publish(made(b"later"))
    assert len(log) == MOST_DELIVERED
    house.timetable.run_due()
    assert [body for _, body, _ in log[MOST_DELIVERED:]] == [b"m"] * 5 + [b"later"]
    assert [tag for tag, _, _ in log] == ["a", "b"] * (MOST_DELIVERED // 2 + 3)
    assert not queue.overdue


# -- chores


class Count(Chore):
    """Counts, and then is done or fails."""

    def __init__(self, log: list[str], name: str, portions: int, *, fails: bool = False) -> None:
        self.log = log
        self.name = name
        self.portions = portions
        self.fails = fails

    def go_on(self) -> bool:
        self.log.append(self.name)
        self.portions -= 1
        if not self.portions and self.fails:
            raise MemoryError
        return self.portions == 0


def test_chores_take_turns_and_one_portion_is_done_in_a_turn() -> None:
    timetable, log = Timetable(Clock(1)), list[str]()
    chores = Chores(timetable)
    for name, portions in (("a", 2), ("b", 1), ("c", 3)):
        chores.add(Count(log, name, portions))
    turns = 0
    while timetable.next_due:
        timetable.run_due()
        turns += 1
        assert len(log) == turns
    assert "".join(log) == "abcacc"
    assert len(chores) == 0


def test_a_chore_that_fails_is_over_and_the_others_go_on() -> None:
    timetable, log = Timetable(Clock(1)), list[str]()
    chores = Chores(timetable)
    chores.add(Count(log, "a", 1, fails=True))
    chores.add(Count(log, "b", 1))
    with pytest.raises(MemoryError):
        timetable.run_due()
    timetable.run_due()
    assert (log, len(chores), timetable.next_due) == (["a", "b"], 0, 0)


def test_chores_can_be_finished_at_once() -> None:
    timetable, log = Timetable(Clock(1)), list[str]()
    chores = Chores(timetable)
    chores.add(Count(log, "a", 3))
    chores.finish()
    timetable.run_due()
    assert (log, len(chores)) == (["a"] * 3, 0)


def test_what_returns_a_few_at_a_time_takes_little_more_than_what_returns_at_once(house: House) -> None:
    queue = filled(house, 2000)
    entries = taken(queue, 2000)
    for at in range(0, 2000, 2):
        queue.requeue(entries[at : at + 2])
    assert len(queue.lane.returned) <= 1
    assert queue.ready_count() == 2000
    assert bodies(queue) == list(range(2000))


def test_what_returns_a_few_at_a_time_in_any_order_takes_its_turns(house: House) -> None:
    queue = filled(house, 600)
    entries = taken(queue, 600)
    pairs = [entries[at : at + 2] for at in range(0, 600, 2)]
    random.Random(3).shuffle(pairs)
    for number, pair in enumerate(pairs):
        queue.requeue(pair)
        if number == 200:
            house.store.commit()
            queue.page_out(0, whole_runs=False)
    assert bodies(queue) == list(range(600))


def test_values_of_what_is_away_and_on_its_way_back_are_known_to_deduplication(house: House) -> None:
    queue = house.durable()
    messages = [
        made(b"%d" % number, persistent=True, headers={"x-deduplication-header": f"v{number}"})
        for number in range(4 * RUN_LENGTH)
    ]
    for message in messages:
        queue.publish(message)
    entries = taken(queue, len(messages))
    for entry in entries:
        house.vhost.unsettled.setdefault(queue, {})[entry.seq] = entry
    house.store.commit()
    Memory(house.broker, 1).relieve()
    assert queue.absent is not None
    house.vhost.unsettled.clear()
    comeback = Comeback(queue)
    comeback.add(entries)
    assert sum(lane.count_away() for lane in comeback.lanes) > 0
    house.vhost.set_policy(new_policy("p", "", table_of({"x-message-deduplication": True})))
    for message in messages:
        queue.publish(made(b"again", persistent=True, headers=headers_of(message)))
    comeback.finish()
    assert queue.ready_count() == len(messages)

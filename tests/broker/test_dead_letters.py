"""Dead letters: nothing is lost or doubled on the way, circles end, and no chain of queues is too long."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from amqp_broker.broker.queue import Queue
from tests.broker.house import House, headers_of, made
from tests.broker.taker import Taker, bodies_in, publish

CHAIN = 5000
TO_DEAD = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}


@pytest.fixture
def house() -> House:
    return House()


def reject_one(queue: Queue) -> None:
    entry = queue.get()
    assert entry is not None
    queue.reject(entry)


def died(queue: Queue) -> list[tuple[bytes, str, int]]:
    """What is in a queue of dead letters: the body, and reason and count of the newest death."""
    found = []
    while (entry := queue.get()) is not None:
        deaths: Any = headers_of(entry.message)["x-death"]
        found.append((entry.message.body, deaths[0]["reason"], deaths[0]["count"]))
        queue.settle(entry)
    return found


def test_each_way_to_die_is_named(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(max_length=2, message_ttl=100, delivery_limit=0, **TO_DEAD)
    publish(queue, b"over the limit", b"rejected", b"came back")
    reject_one(queue)
    entry = queue.get()
    assert entry is not None
    queue.requeue([entry])
    publish(queue, b"expired")
    house.pass_time(100)
    assert died(dead) == [
        (b"over the limit", "maxlen", 1),
        (b"rejected", "rejected", 1),
        (b"came back", "delivery_limit", 1),
        (b"expired", "expired", 1),
    ]


@pytest.mark.parametrize("how", ["purge", "delete"])
def test_purging_and_deleting_is_no_death(house: House, how: str) -> None:
    dead = house.queue("dead")
    queue = house.queue(**TO_DEAD)
    publish(queue, b"1")
    if how == "purge":
        queue.purge()
    else:
        house.vhost.delete_queue(queue)
    assert dead.ready_count() == 0


def test_what_was_out_when_its_queue_was_deleted_does_not_die(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(**TO_DEAD)
    publish(queue, b"1")
    entry = queue.get()
    assert entry is not None
    house.vhost.delete_queue(queue)
    queue.reject(entry)
    assert dead.ready_count() == 0


def test_a_dead_letter_is_stored_in_the_batch_in_which_it_leaves_its_queue(house: House) -> None:
    dead = house.durable("dead")
    queue = house.durable(max_length=3, message_ttl=100, **TO_DEAD)
    publish(queue, b"0", b"1", b"2", persistent=True)
    house.store.commit()
    for how in ("rejected", "over the limit", "expired"):
        if how == "rejected":
            reject_one(queue)
        elif how == "over the limit":
            publish(queue, b"3", b"4", persistent=True)
        else:
            house.pass_time(100)
        before, after = house.store.survivor(), house.store
        assert sorted(before.stored(queue.store_id) + before.stored(dead.store_id)) in (
            [b"0", b"1", b"2"],
            [b"0", b"1", b"2", b"3", b"4"],
        )
        assert after.seal()
        after.commit_oldest()
        both = after.stored(queue.store_id) + after.stored(dead.store_id)
        assert len(both) == len(set(both))
        assert house.store.idle, "one batch was enough"
    assert house.store.stored(dead.store_id) == [b"0", b"1", b"2", b"3", b"4"]
    assert house.store.stored(queue.store_id) == []


def test_a_message_that_dies_in_the_batch_it_came_in_is_written_once(house: House) -> None:
    dead = house.durable("dead")
    queue = house.durable(max_length=0, **TO_DEAD)
    publish(queue, b"1", persistent=True)
    house.store.seal()
    house.store.commit_oldest()
    assert (house.store.stored(queue.store_id), house.store.stored(dead.store_id)) == ([], [b"1"])


def test_several_dead_letters_keep_their_order(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(message_ttl=100, **TO_DEAD)
    publish(queue, *(b"%d" % number for number in range(100)))
    house.pass_time(100)
    assert bodies_in(dead) == [b"%d" % number for number in range(100)]


def test_a_dead_letter_that_nobody_takes_is_gone(house: House) -> None:
    lost = [
        house.queue("no exchange", dead_letter_exchange="nothing"),
        house.queue("no queue", dead_letter_exchange="", dead_letter_routing_key="nothing"),
        house.queue("no dead letters"),
    ]
    for queue in lost:
        publish(queue, b"1")
        reject_one(queue)
        assert (queue.ready_count(), queue.unacked) == (0, 0)


def test_a_row_of_five_thousand_full_queues_is_no_chain_of_calls(house: House) -> None:
    """Each pushes the message it holds into the next one."""
    row = [
        house.queue(
            f"q{number}", max_length=1, dead_letter_exchange="", dead_letter_routing_key=f"q{number + 1}"
        )
        for number in range(CHAIN)
    ]
    last = house.queue(f"q{CHAIN}")
    for queue in row:
        publish(queue, queue.name.encode())
    publish(row[0], b"new")
    assert bodies_in(last) == [b"q%d" % (CHAIN - 1)]
    assert bodies_in(row[0]) == [b"new"]
    assert all(bodies_in(queue) == [b"q%d" % number] for number, queue in enumerate(row[1:]))


def test_one_message_may_die_in_many_queues_at_once(house: House) -> None:
    row = [
        house.queue(
            f"q{number}", max_length=0, dead_letter_exchange="", dead_letter_routing_key=f"q{number + 1}"
        )
        for number in range(100)
    ]
    last = house.queue("q100")
    publish(row[0], b"1")
    entry = last.get()
    assert entry is not None
    deaths: Any = headers_of(entry.message)["x-death"]
    assert len(deaths) == 100
    assert deaths[0]["queue"] == "q99"


@pytest.mark.timeout(10)
def test_a_long_history_that_a_client_made_up_is_read_in_no_time(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(**TO_DEAD)
    history = [{"queue": f"{number:x}"} for number in range(5000)]
    queue.publish(made(b"1", headers={"x-death": history}))
    reject_one(queue)
    entry = dead.get()
    assert entry is not None
    deaths: Any = headers_of(entry.message)["x-death"]
    assert len(deaths) == 5001


def test_a_circle_in_which_messages_expire_ends(house: House) -> None:
    ring = [
        house.queue(
            f"q{number}",
            message_ttl=10,
            dead_letter_exchange="",
            dead_letter_routing_key=f"q{(number + 1) % 3}",
        )
        for number in range(3)
    ]
    publish(ring[0], b"1")
    for expected in ([0, 1, 0], [0, 0, 1], [0, 0, 0]):
        house.pass_time(10)
        assert [queue.ready_count() for queue in ring] == expected
    assert len(house.timetable) == 0


def test_a_queue_that_is_its_own_dead_letter_queue_keeps_what_is_rejected_only(house: House) -> None:
    queue = house.queue(dead_letter_exchange="", max_length=2)
    publish(queue, b"1", b"2", b"3")
    assert queue.ready_count() == 2
    reject_one(queue)
    assert bodies_in(queue) == [b"3", b"2"]


def test_a_consumer_that_rejects_for_ever_gets_its_message_again_and_again(house: House) -> None:
    queue = house.queue(dead_letter_exchange="")
    taker = Taker(queue, room=1).start()
    publish(queue, b"1")
    for count in range(1, 6):
        entry = taker.held.pop()
        taker.blocked = False
        queue.reject(entry)
        queue.activate(taker)
        deaths: Any = headers_of(taker.held[0].message)["x-death"]
        assert [(death["reason"], death["count"]) for death in deaths] == [("rejected", count)]


def test_a_count_that_a_client_made_up_does_not_overflow(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(**TO_DEAD)
    most = (1 << 63) - 1
    death = {"count": most, "reason": "rejected", "queue": "q"}
    queue.publish(made(b"1", headers={"x-death": [death]}))
    reject_one(queue)
    assert died(dead) == [(b"1", "rejected", most)]


def test_the_longest_dead_letter_routing_key_arrives_whole(house: House) -> None:
    dead = house.queue("dead")
    house.vhost.bind(house.vhost.exchanges["amq.fanout"], dead, "", {})
    queue = house.queue(dead_letter_exchange="amq.fanout", dead_letter_routing_key="k" * 255)
    publish(queue, b"1")
    reject_one(queue)
    entry = dead.get()
    assert entry is not None
    assert entry.message.key_octets() == b"k" * 255


def test_dead_letters_that_wait_take_little_more_memory_than_their_octets(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(message_ttl=100, **TO_DEAD)
    publish(queue, *(b"%d" % number for number in range(1000)))
    tracemalloc.start()
    try:
        house.pass_time(100)
        octets = tracemalloc.get_traced_memory()[0] / 1000
    finally:
        tracemalloc.stop()
    assert dead.ready_count() == 1000
    assert octets < 1000


def test_dead_letters_survive_a_restart_and_go_on_dying(house: House) -> None:
    dead = house.durable("dead")
    house.durable("middle", message_ttl=100, **TO_DEAD)
    queue = house.durable(dead_letter_exchange="", dead_letter_routing_key="middle")
    publish(queue, b"1", b"2", persistent=True)
    reject_one(queue)
    house.store.commit()
    again = house.restarted(after=50)
    again.pass_time(50)
    again.store.commit()
    assert again.store.stored(queue.store_id) == [b"2"]
    assert again.store.stored(dead.store_id) == [b"1"]
    (letter,) = [again.vhost.queues["dead"].get()]
    assert letter is not None
    deaths: Any = headers_of(letter.message)["x-death"]
    assert [(death["queue"], death["reason"]) for death in deaths] == [
        ("middle", "expired"),
        ("q", "rejected"),
    ]

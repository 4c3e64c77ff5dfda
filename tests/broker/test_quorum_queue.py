"""Quorum queues: every message is kept, what comes back has an order of its own, and a restart knows both."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.message import QueueEntry
from amqp_broker.broker.policy import Policy
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.quorum_queue import check_get, check_shared_prefetch
from amqp_broker.content.table import table_of
from amqp_broker.errors import HardError, SoftError
from tests.broker.house import House, made, recount
from tests.broker.taker import Taker, bodies_in, drain, publish
from tests.examples import examples

LETTERS = (b"a", b"b", b"c", b"d", b"e")


@pytest.fixture
def house() -> House:
    return House()


def quorum(house: House, name: str = "q", **arguments: Any) -> Queue:
    return house.durable(name, queue_type="quorum", **arguments)


def get(queue: Queue, count: int) -> list[QueueEntry]:
    entries = [queue.get() for _ in range(count)]
    return [entry for entry in entries if entry is not None]


def refuse(queue: Queue, *entries: QueueEntry) -> None:
    """Each is given back by its consumer, one after the other."""
    for entry in entries:
        queue.requeue([entry], failed=True)


# -- what is kept


@pytest.mark.parametrize("persistent", [False, True])
def test_a_message_is_kept_whatever_its_delivery_mode(house: House, persistent: bool) -> None:
    publish(quorum(house), *LETTERS, persistent=persistent)
    house.store.commit()
    again = house.restarted()
    assert bodies_in(again.vhost.queues["q"]) == list(LETTERS)
    again.store.commit()
    assert house.restarted().store.stored(1) == list(LETTERS)
    assert again.store.stored(1) == []


def test_other_queues_that_a_transient_message_reaches_do_not_keep_it(house: House) -> None:
    first, other = quorum(house, "first"), house.durable("other")
    message = made(b"m", persistent=False)
    first.publish(message)
    other.publish(message)
    house.store.commit()
    again = house.restarted()
    assert bodies_in(again.vhost.queues["first"]) == [b"m"]
    assert bodies_in(again.vhost.queues["other"]) == []


# -- what comes back


def test_without_a_limit_what_is_refused_goes_to_the_end(house: House) -> None:
    queue = quorum(house)
    publish(queue, *LETTERS)
    a, b, c = get(queue, 3)
    refuse(queue, c, a, b)
    assert drain(queue) == [(b"d", False), (b"e", False), (b"c", True), (b"a", True), (b"b", True)]


def test_with_a_limit_what_is_refused_comes_first_in_the_order_of_refusing(house: House) -> None:
    queue = quorum(house, delivery_limit=5)
    publish(queue, *LETTERS)
    a, b, c = get(queue, 3)
    refuse(queue, c, a, b)
    assert drain(queue) == [(b"c", True), (b"a", True), (b"b", True), (b"d", False), (b"e", False)]


@pytest.mark.parametrize("arguments", [{}, {"delivery_limit": 5}], ids=str)
def test_what_nobody_refused_comes_first(house: House, arguments: dict[str, Any]) -> None:
    queue = quorum(house, **arguments)
    publish(queue, *LETTERS)
    queue.requeue(get(queue, 3))
    assert bodies_in(queue) == list(LETTERS)


def test_a_lease_that_runs_out_brings_the_message_back_to_the_front(house: House) -> None:
    queue = quorum(house, consumer_timeout=100)
    publish(queue, *LETTERS)
    slow = Taker(queue, room=2).start()
    queue.remove_consumer(slow)
    house.pass_time(101)
    assert drain(queue) == [(b"a", True), (b"b", True), (b"c", False), (b"d", False), (b"e", False)]


def test_a_consumer_gets_what_it_refused_after_everything_else(house: House) -> None:
    queue = quorum(house)
    publish(queue, b"a", b"b", b"c")
    taker = Taker(queue, room=1).start()
    refused = taker.held.pop()
    queue.requeue([refused], failed=True)
    taker.resume()
    taker.settle(b"b")
    taker.settle(b"c")
    assert taker.bodies() == [b"a", b"b", b"c", b"a"]


@pytest.mark.parametrize(("limit", "dead"), [(0, 1), (2, 3)])
def test_a_message_leaves_when_it_came_back_more_often_than_the_limit(
    house: House, limit: int, dead: int
) -> None:
    letters = house.queue("dead")
    queue = quorum(house, delivery_limit=limit, dead_letter_exchange="", dead_letter_routing_key="dead")
    publish(queue, b"a")
    for _ in range(dead):
        assert letters.ready_count() == 0
        refuse(queue, *get(queue, 1))
    assert bodies_in(letters) == [b"a"]
    assert queue.get() is None


def test_a_limit_by_policy_changes_the_place_of_what_is_refused_then(house: House) -> None:
    queue = quorum(house)
    publish(queue, *LETTERS)
    a, b = get(queue, 2)
    refuse(queue, a)
    house.vhost.set_policy(Policy("p", "^q$", table_of({"delivery-limit": 3})))
    refuse(queue, b)
    assert bodies_in(queue) == [b"b", b"c", b"d", b"e", b"a"]


# -- limits and time


@pytest.mark.parametrize(
    ("arguments", "kept"), [({}, [b"a", b"b"]), ({"delivery_limit": 5}, [b"c", b"d"])], ids=str
)
def test_what_comes_back_to_a_full_queue_drops_what_is_then_the_head(
    house: House, arguments: dict[str, Any], kept: list[bytes]
) -> None:
    queue = quorum(house, max_length=2, **arguments)
    publish(queue, b"a", b"b")
    entries = get(queue, 2)
    publish(queue, b"c", b"d")
    queue.requeue(entries, failed=True)
    assert bodies_in(queue) == kept


def test_refusing_publishers_with_a_dead_letter_is_dropping_from_the_head(house: House) -> None:
    queue = quorum(house, max_length=2, overflow="reject-publish-dlx")
    publish(queue, *LETTERS)
    assert bodies_in(queue) == [b"d", b"e"]


@pytest.mark.parametrize("arguments", [{}, {"delivery_limit": 5}], ids=str)
def test_what_comes_back_keeps_its_time(house: House, arguments: dict[str, Any]) -> None:
    queue = quorum(house, message_ttl=100, **arguments)
    publish(queue, b"a")
    house.jump(60)
    refuse(queue, *get(queue, 1))
    house.pass_time(39)
    assert queue.ready_count() == 1
    house.pass_time(1)
    assert queue.ready_count() == 0


# -- the store


def test_a_place_at_the_end_and_the_count_outlast_a_restart(house: House) -> None:
    queue = quorum(house)
    publish(queue, b"a", b"b", b"c")
    for _ in range(2):
        refuse(queue, *get(queue, 1))
    house.store.commit()
    found = get(house.restarted().vhost.queues["q"], 3)
    assert [(entry.message.body, entry.deliveries) for entry in found] == [(b"c", 0), (b"a", 1), (b"b", 1)]


def test_a_place_at_the_end_is_taken_in_the_batch_in_which_the_old_one_is_left(house: House) -> None:
    queue = quorum(house)
    publish(queue, b"a", b"b")
    house.store.commit()
    refuse(queue, *get(queue, 1))
    assert bodies_in(house.restarted().vhost.queues["q"]) == [b"a", b"b"]
    house.store.seal()
    house.store.commit_oldest()
    assert bodies_in(house.restarted().vhost.queues["q"]) == [b"b", b"a"]


def test_what_was_out_when_the_broker_ended_was_delivered_once_more(house: House) -> None:
    queue = quorum(house)
    publish(queue, b"a")
    refuse(queue, *get(queue, 1))
    refuse(queue, *get(queue, 1))
    get(queue, 1)
    house.store.commit()
    assert [entry.deliveries for entry in get(house.restarted().vhost.queues["q"], 1)] == [3]


def test_a_purge_leaves_nothing_in_the_store_wherever_it_was(house: House) -> None:
    publish(quorum(house), *LETTERS)
    house.store.commit()
    house = house.restarted()
    queue = house.vhost.queues["q"]
    a, b = get(queue, 2)
    refuse(queue, a)
    queue.requeue([b])
    publish(queue, b"f")
    assert queue.purge() == 6
    house.store.commit()
    assert house.store.stored(queue.store_id) == []
    assert recount(queue) == (queue.ready_count(), queue.ready_bytes) == (0, 0)


@settings(max_examples=examples(60))
@given(st.integers(0, 2**32), st.sampled_from([{}, {"delivery_limit": 100}]))
def test_in_any_order_of_events_nothing_is_lost_or_doubled(seed: int, arguments: dict[str, Any]) -> None:
    """The order is that of two lists: what came back, and what goes behind it."""
    chance = random.Random(seed)
    house = House()
    queue = quorum(house, **arguments)
    returns: list[bytes] = []
    ready: list[bytes] = []
    out: list[QueueEntry] = []
    for number in range(60):
        step = chance.choice(["publish", "get", "refuse", "return", "ack"])
        if step == "publish":
            ready.append(b"%d" % number)
            publish(queue, ready[-1])
        elif step == "get" and (returns or ready):
            out += get(queue, 1)
            assert out[-1].message.body == (returns or ready).pop(0)
        elif out and step != "get":
            entry = out.pop(chance.randrange(len(out)))
            if step == "ack":
                queue.settle(entry)
                continue
            (ready if step == "refuse" and not arguments else returns).append(entry.message.body)
            queue.requeue([entry], failed=step == "refuse")
        assert recount(queue) == (queue.ready_count(), queue.ready_bytes)
    house.store.commit()
    kept = [entry.message.body for entry in out] + returns + ready
    assert sorted(house.store.stored(queue.store_id)) == sorted(kept)
    assert bodies_in(queue) == returns + ready


# -- what is refused


def test_a_quorum_queue_is_named_by_the_client(house: House) -> None:
    with pytest.raises(SoftError, match="Cannot declare a server-named queue for type rabbit_quorum_queue"):
        quorum(house, "")


@pytest.mark.parametrize("flag", ["if_unused", "if_empty"])
def test_a_quorum_queue_is_not_deleted_under_a_condition(house: House, flag: str) -> None:
    queue = quorum(house)
    with pytest.raises(HardError, match=f"operations with {flag.replace('_', '-')} flag set"):
        house.vhost.delete_queue(queue, **{flag: True})
    assert house.vhost.delete_queue(queue) == 0


def test_a_get_is_refused_where_one_consumer_is_active_at_a_time(house: House) -> None:
    with pytest.raises(SoftError, match="basic.get operations are not supported"):
        check_get(quorum(house, single_active_consumer=True))
    check_get(quorum(house, "other"))
    check_get(house.durable("classic", single_active_consumer=True))


def test_a_shared_prefetch_is_refused(house: House) -> None:
    with pytest.raises(HardError, match="queue 'q' in vhost '/' does not support global qos"):
        check_shared_prefetch(quorum(house))
    check_shared_prefetch(house.queue("classic"))


def test_a_virtual_host_whose_queues_are_quorum_queues_names_none(house: House) -> None:
    house.vhost.metadata.default_queue_type = "quorum"
    with pytest.raises(SoftError, match="server-named"):
        house.durable("")
    assert house.queue("").name.startswith("amq.gen-")

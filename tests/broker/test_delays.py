"""What an x-delayed-message exchange holds: released in time and in order, however little of it is in memory."""

from __future__ import annotations

from random import Random

import pytest

from amqp_broker.broker.delays import (
    IN_A_BATCH,
    MANY,
    NUMBER_BITS,
    PAUSE,
    RELEASED,
    SLICE,
    DelayQueue,
    due_at,
)
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.flags import ExchangeFlags
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.runs import RUN_LENGTH
from amqp_broker.content.header import HEADERS, ContentHeader, build_header
from amqp_broker.content.table import table_of
from tests.broker.house import House, headers_of, made
from tests.examples import seeds

SECOND = 1000
NOW = 1_700_000_000_000


@pytest.fixture
def house() -> House:
    return House(now=NOW)


def delays(house: House, *, durable: bool = True) -> tuple[DelayQueue, Queue]:
    """The queue of a new delayed exchange, and one that what it releases goes to."""
    vhost = house.vhost
    arguments = table_of({"x-delayed-type": "fanout"})
    flags = ExchangeFlags(durable, False, False)
    exchange = vhost.declare_exchange("later", "x-delayed-message", flags, arguments)
    target = house.durable()
    vhost.bind(exchange, target, "", {})
    assert isinstance(exchange.holds, DelayQueue)
    return exchange.holds, target


def publish(held: DelayQueue, delay: int, body: bytes, *, persistent: bool = True) -> None:
    held.publish(made(body, persistent=persistent, headers={"x-delay": delay}))


def bodies(queue: Queue) -> list[bytes]:
    """Takes them."""
    taken: list[bytes] = []
    while (entry := queue.get()) is not None:
        taken.append(text(entry.message))
        queue.settle(entry)
    return taken


def text(message: Message) -> bytes:
    return b"".join(message.pieces())


def test_what_is_due_last_leaves_memory_and_comes_back_in_time(house: House) -> None:
    held, target = delays(house)
    for number in range(5000):
        publish(held, (number * 7919 % 5000 + 1) * SECOND, b"%d" % (number * 7919 % 5000))
    house.store.commit()
    held.page_out(100, whole_runs=True)
    assert held.away_count() >= 4890
    assert held.ready_count() == 5000
    for number in range(5000):
        house.pass_time(SECOND)
        assert bodies(target) == [b"%d" % number]
    assert (held.ready_count(), held.ready_bytes, held.away_count()) == (0, 0, 0)
    house.store.commit()
    assert house.store.stored(held.store_id) == []


def test_many_that_are_due_at_once_go_in_portions_and_in_order(house: House) -> None:
    held, target = delays(house)
    for number in range(5000):
        publish(held, SECOND, b"%d" % number)
    house.store.commit()
    held.page_out(0, whole_runs=False)
    house.jump(SECOND)
    house.timetable.run_due()
    assert target.ready_count() == RELEASED
    house.pass_time()
    assert bodies(target) == [b"%d" % number for number in range(5000)]


def test_a_slice_comes_in_order_although_the_store_has_it_in_another(house: House) -> None:
    held, target = delays(house)
    slice_begins = SLICE - NOW % SLICE + SLICE
    for number in range(2000):
        publish(held, slice_begins + (number * 37 + 11) % SLICE, b"%d" % number)
    house.store.commit()
    held.page_out(0, whole_runs=False)
    house.jump(SECOND)
    while held.ready_count():
        house.timetable.run_due()
    offsets = [(int(body) * 37 + 11) % SLICE for body in bodies(target)]
    assert offsets == sorted(offsets)
    assert len(offsets) == 2000


def test_of_very_many_that_are_due_at_once_few_are_in_memory(house: House) -> None:
    held, target = delays(house)
    count = MANY + 5 * RELEASED
    for number in range(count):
        publish(held, SECOND, b"%d" % number)
    house.store.commit()
    held.page_out(0, whole_runs=False)
    house.jump(SECOND)
    house.timetable.run_due()
    assert len(held.resident()) <= MANY + RUN_LENGTH
    for _ in range(count // IN_A_BATCH + 1):
        house.pass_time(PAUSE)
        house.store.commit()
    assert bodies(target) == [b"%d" % number for number in range(count)]


def test_no_more_are_released_than_the_store_has_time_for(house: House) -> None:
    held, target = delays(house)
    count = IN_A_BATCH + 2 * RELEASED
    message = made(b"x", persistent=True, headers={"x-delay": SECOND})
    for _ in range(count):
        held.publish(message)
    house.store.commit()

    house.pass_time(2 * SECOND)
    assert IN_A_BATCH <= target.ready_count() < IN_A_BATCH + RELEASED
    house.store.commit()
    house.pass_time(PAUSE)
    assert target.ready_count() == count


def test_what_is_published_later_may_be_due_earlier(house: House) -> None:
    held, target = delays(house)
    for number in range(300):
        publish(held, (number + 10) * SECOND, b"%d" % number)
    house.store.commit()
    held.page_out(0, whole_runs=False)
    assert held.resident() == []
    publish(held, 5 * SECOND, b"first")
    publish(held, 10 * SECOND + 500, b"between")
    house.pass_time(11 * SECOND)
    assert bodies(target) == [b"first", b"0", b"between", b"1"]


def test_what_the_store_cannot_read_yet_stays_in_memory(house: House) -> None:
    held, target = delays(house)
    publish(held, SECOND, b"readable")
    house.store.commit()
    publish(held, SECOND, b"new")
    held.page_out(0, whole_runs=False)
    assert (held.away_count(), len(held.resident())) == (1, 1)
    house.store.commit()
    house.store.lag = 1
    held.page_out(0, whole_runs=False)
    assert (held.away_count(), len(held.resident())) == (1, 1)
    house.pass_time(SECOND)
    assert bodies(target) == [b"readable", b"new"]


def test_a_restart_reads_nothing_until_it_is_due(house: House) -> None:
    held, _ = delays(house)
    for number in range(1000):
        publish(held, (number + 1) * SECOND, b"%d" % number, persistent=number % 2 == 0)
    house.store.commit()
    again = house.restarted(after=10 * SECOND)
    exchange, target = again.vhost.exchanges["later"], again.vhost.queues["q"]
    assert exchange.holds is not None
    assert exchange.holds.resident() == []
    assert exchange.holds.ready_count() == 1000
    again.pass_time()
    assert bodies(target) == [b"%d" % number for number in range(10)]
    again.pass_time(SECOND)
    assert bodies(target) == [b"10"]


def test_a_killed_broker_does_not_confuse_numbers_with_deliveries(house: House) -> None:
    held, _ = delays(house)
    publish(held, SECOND, b"m")
    house.store.commit()
    again = house.restarted(was_killed=True)
    later = again.vhost.exchanges["later"].holds
    assert isinstance(later, DelayQueue)
    publish(later, SECOND, b"n")
    again.pass_time(SECOND)
    assert bodies(again.vhost.queues["q"]) == [b"m", b"n"]


def test_a_number_that_is_used_again_takes_nobodys_place(house: House) -> None:
    held, target = delays(house)
    publish(held, SECOND, b"1")
    publish(held, SECOND, b"2")
    house.store.commit()
    held.page_out(0, whole_runs=False)
    publish(held, SECOND, b"3")
    held.use_numbers_from(1 << NUMBER_BITS)
    publish(held, SECOND, b"4")
    publish(held, SECOND, b"5")
    house.pass_time(SECOND)
    assert sorted(bodies(target)) == [b"1", b"2", b"3", b"4", b"5"]


def test_what_was_released_is_not_read_again(house: House) -> None:
    """The store may still have the row of a message that is gone, in the slice of one that waits."""
    held, target = delays(house)
    first = SLICE - NOW % SLICE + SLICE
    publish(held, first + 40, b"late")
    publish(held, first + 10, b"early")
    house.store.commit()
    house.pass_time(first + 20)
    assert bodies(target) == [b"early"]
    held.page_out(0, whole_runs=False)
    house.pass_time(SECOND)
    assert bodies(target) == [b"late"]


def test_a_transient_exchange_keeps_to_the_memory_limit_and_is_gone_after_a_restart(house: House) -> None:
    held, _ = delays(house, durable=False)
    for number in range(300):
        publish(held, (number + 1) * SECOND, b"%d" % number)
    house.store.commit()
    held.page_out(10, whole_runs=False)
    assert held.away_count() == 290
    again = house.restarted()
    assert "later" not in again.vhost.exchanges
    again.store.commit()
    assert not any(again.store.disk.entries.values())


@pytest.mark.parametrize("seed", seeds(20))
def test_any_course_of_events_releases_each_once_and_in_time(seed: int) -> None:
    random = Random(seed)
    house = House(now=NOW + seed)
    held, target = delays(house)
    waiting: list[tuple[int, bytes]] = []
    number = 0
    for _ in range(150):
        event = random.choice(["publish", "publish", "page", "commit", "lag", "time", "time", "restart"])
        if event == "publish":
            for _ in range(random.choice([1, 30, 400])):
                delay = random.choice([1, 10, 63, 64, 65, 200, random.randrange(1, 5000)])
                publish(held, delay, b"%d" % number, persistent=random.random() < 0.5)
                waiting.append((house.now + delay, b"%d" % number))
                number += 1
        elif event == "page":
            held.page_out(random.choice([0, 0, 10, 300]), whole_runs=False)
        elif event == "commit":
            house.store.commit()
        elif event == "lag":
            house.store.lag = random.choice([0, 0, 2])
        elif event == "restart":
            house.store.commit()
            house = house.restarted(was_killed=random.random() < 0.5)
            again = house.vhost.exchanges["later"].holds
            assert isinstance(again, DelayQueue)
            held, target = again, house.vhost.queues["q"]
        else:
            house.pass_time(random.choice([1, 30, 64, 100, 1000]))
            due = [body for when, body in waiting if when <= house.now]
            assert sorted(bodies(target)) == sorted(due)
            waiting = [(when, body) for when, body in waiting if when > house.now]
        assert held.ready_count() == len(waiting)
    house.pass_time(10 * SECOND)
    assert sorted(bodies(target)) == sorted(body for _, body in waiting)
    assert (held.ready_count(), held.ready_bytes) == (0, 0)


# -- what messages with one header have in common


def target_of(house: House) -> tuple[Exchange, Queue]:
    delays(house)
    return house.vhost.exchanges["later"], house.vhost.queues["q"]


def send(house: House, exchange: Exchange, body: bytes, header: ContentHeader) -> None:
    """Publish as a session does."""
    sent = Message(b"\5later\0", header, body)
    for queue in house.vhost.route(exchange, "", header, message=sent):
        queue.publish(sent)


def asking(**headers: object) -> ContentHeader:
    return build_header(1, {HEADERS: table_of({"x-" + name: value for name, value in headers.items()})})


def released(queue: Queue) -> list[tuple[bytes, object, ContentHeader]]:
    """Taken: the body, the delay that the header shows, and the header."""
    found = []
    while (entry := queue.get()) is not None:
        found.append((entry.message.body, headers_of(entry.message).get("x-delay"), entry.message.header))
        queue.settle(entry)
    return found


def test_messages_with_one_header_share_that_with_the_negated_delay(house: House) -> None:
    exchange, target = target_of(house)
    header = asking(delay=SECOND)
    for body in (b"1", b"2"):
        send(house, exchange, body, header)
    house.pass_time(SECOND)
    (first, delay, negated), (second, _, again) = released(target)
    assert (first, second, delay) == (b"1", b"2", -SECOND)
    assert negated is again


def test_each_header_has_its_own_delay(house: House) -> None:
    exchange, target = target_of(house)
    headers = [
        asking(delay=SECOND),
        asking(delay=2 * SECOND),
        asking(delay=SECOND),
        asking(),
        asking(delay=-1),
    ]
    for turn in range(2):
        for number, header in enumerate(headers):
            send(house, exchange, b"%d.%d" % (number, turn), header)
    expected = [
        [(b"3.0", None), (b"4.0", -1), (b"3.1", None), (b"4.1", -1)],
        [(b"0.0", -SECOND), (b"2.0", -SECOND), (b"0.1", -SECOND), (b"2.1", -SECOND)],
        [(b"1.0", -2 * SECOND), (b"1.1", -2 * SECOND)],
    ]
    for portion in expected:
        assert [(body, delay) for body, delay, _ in released(target)] == portion
        house.pass_time(SECOND)


def test_one_header_means_another_time_when_time_has_gone_on(house: House) -> None:
    exchange, target = target_of(house)
    relative, absolute = asking(delay=SECOND), asking(**{"deliver-at": NOW + SECOND})
    for header in (relative, absolute):
        assert due_at(header, NOW) == NOW + SECOND
        assert due_at(header, NOW + SECOND - 1) == NOW + (2 * SECOND - 1 if header is relative else SECOND)
    assert due_at(absolute, NOW + SECOND) == 0
    send(house, exchange, b"1", relative)
    house.pass_time(500)
    send(house, exchange, b"2", relative)
    house.pass_time(500)
    assert [body for body, _, _ in released(target)] == [b"1"]
    house.pass_time(500)
    assert [body for body, _, _ in released(target)] == [b"2"]


def test_what_names_a_time_keeps_its_header(house: House) -> None:
    exchange, target = target_of(house)
    header = asking(**{"deliver-at": NOW + SECOND})
    send(house, exchange, b"1", header)
    house.pass_time(SECOND)
    assert released(target) == [(b"1", None, header)]


def test_what_comes_back_from_the_store_shares_headers_and_keeps_its_delay(house: House) -> None:
    exchange, target = target_of(house)
    delays_in_turn = [asking(delay=SECOND), asking(delay=SECOND + 1)]
    for number in range(10):
        send(house, exchange, b"%d" % number, delays_in_turn[number // 5])
    house.store.commit()
    held = exchange.holds
    assert held is not None
    held.page_out(0, whole_runs=False)
    assert held.resident() == []
    house.pass_time(SECOND + 1)
    found = released(target)
    assert [delay for _, delay, _ in found] == [-SECOND] * 5 + [-SECOND - 1] * 5
    assert len({id(header) for _, _, header in found}) == 2

"""Deduplication on exchanges: one message with a value goes through, wherever it came from and also after a restart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.flags import ExchangeFlags
from amqp_broker.broker.message import Message
from amqp_broker.broker.policy import new_policy
from amqp_broker.broker.queue import REFUSED, TAKEN, Queue
from amqp_broker.content.header import HEADERS, build_header
from amqp_broker.content.table import Field, table_of
from amqp_broker.errors import SoftError
from tests.broker.house import House, made
from tests.broker.taker import bodies_in
from tests.examples import examples

HEADER = "x-deduplication-header"
DEDUPLICATING = {"x-message-deduplication": True}


@pytest.fixture
def house() -> House:
    return House()


def declare(
    house: House, name: str = "x", kind: str = "fanout", *, durable: bool = True, **arguments: object
) -> Exchange:
    """An exchange that deduplicates; `cache_size=1` stands for the argument x-cache-size."""
    named = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
    table = table_of(DEDUPLICATING | named)
    return house.vhost.declare_exchange(name, kind, ExchangeFlags(durable, False, False), table)


def plain(house: House, name: str, kind: str = "fanout", **arguments: object) -> Exchange:
    flags = ExchangeFlags(True, False, False)
    return house.vhost.declare_exchange(name, kind, flags, table_of(arguments))


def bind(house: House, exchange: str, *names: str, key: str = "", to_exchange: bool = False) -> None:
    for name in names:
        destination = house.vhost.exchanges[name] if to_exchange else house.vhost.queues[name]
        house.vhost.bind(house.vhost.exchanges[exchange], destination, key, {})


def through(house: House, **arguments: Any) -> Queue:
    """A durable queue behind a fanout exchange that deduplicates."""
    declare(house, **arguments)
    queue = house.durable()
    bind(house, "x", "q")
    return queue


def message(body: bytes, value: object, *, persistent: bool = True, **headers: object) -> Message:
    return made(body, persistent=persistent, headers={HEADER: value, **headers})


def send(
    house: House, body: bytes, value: object, *, to: str = "x", key: str = "", **options: Any
) -> list[int]:
    """Publish as a session does; what became of it in each queue, none if it led nowhere."""
    sent = message(body, value, **options)
    exchange = house.vhost.exchanges[to]
    return [queue.publish(sent) for queue in house.vhost.route(exchange, key, sent.header, message=sent)]


def lasting(milliseconds: object) -> Any:
    """The header with which a message says how long its value is remembered."""
    return {"x-cache-ttl": milliseconds}


def known(house: House, name: str = "x") -> int:
    """How many values an exchange remembers."""
    gate = house.vhost.exchanges[name].gate
    assert gate is not None
    return len(gate.cache)


def found(house: House, name: str = "q") -> list[bytes]:
    return bodies_in(house.vhost.queues[name])


# -- what goes through


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("direct", {}),
        ("fanout", {}),
        ("topic", {}),
        ("headers", {}),
        ("x-random", {}),
        ("x-modulus-hash", {}),
        ("x-recent-history", {}),
        ("x-consistent-hash", {}),
        ("x-delayed-message", {"delayed_type": "direct"}),
        ("x-message-deduplication", {"cache_size": 10}),
    ],
)
def test_an_exchange_of_any_type_lets_a_value_through_once(
    house: House, kind: str, more: dict[str, Any]
) -> None:
    declare(house, kind=kind, **more)
    house.queue()
    bind(house, "x", "q", key="1")
    for body, value in ((b"1", "a"), (b"2", "a"), (b"3", "b"), (b"4", "a")):
        assert send(house, body, value, key="1") == [TAKEN]
    assert found(house) == [b"1", b"3"]


def test_messages_without_the_header_all_go_through_and_leave_nothing(house: House) -> None:
    queue = through(house)
    for body in (b"1", b"2"):
        sent = made(body, headers={"another": "a"})
        for target in house.vhost.route(house.vhost.exchanges["x"], "", sent.header, message=sent):
            target.publish(sent)
    assert bodies_in(queue) == [b"1", b"2"]
    assert known(house) == 0


def test_the_header_may_have_another_name(house: House) -> None:
    queue = through(house, deduplication_header="id")
    for body, number in ((b"1", 7), (b"2", 7), (b"3", 8)):
        send(house, body, "a", id=number)
    assert bodies_in(queue) == [b"1", b"3"]


def test_an_integer_is_the_same_in_every_width(house: House) -> None:
    queue = through(house)
    for body, field in ((b"1", Field("s", 7)), (b"2", Field("l", 7)), (b"3", Field("S", b"7"))):
        header = build_header(len(body), {HEADERS: {HEADER: field}})
        sent = Message(b"\x01x\0", header, body)
        for target in house.vhost.route(house.vhost.exchanges["x"], "", header, message=sent):
            target.publish(sent)
    assert bodies_in(queue) == [b"1", b"3"]


def test_an_exchange_that_is_not_asked_to_does_nothing_of_the_kind(house: House) -> None:
    arguments: Any = {"x-cache-size": 10, "x-message-deduplication": False}
    exchange = plain(house, "x", **arguments)
    house.queue()
    bind(house, "x", "q")
    assert not house.vhost.route_varies(exchange), "its routes are found once"
    for body in (b"1", b"2"):
        send(house, body, "a")
    assert found(house) == [b"1", b"2"]


def test_a_duplicate_does_not_go_to_the_alternate_exchange_and_counts_as_routed(house: House) -> None:
    declare(house, kind="direct", durable=True)
    plain(house, "rest")
    house.vhost.exchanges["x"].alternate = "rest"
    house.queue()
    house.queue("q2")
    bind(house, "x", "q", key="k")
    bind(house, "rest", "q2")
    assert send(house, b"1", "a", key="k") == [TAKEN]
    assert send(house, b"2", "a", key="k") == [TAKEN]
    assert found(house) == [b"1"]
    assert found(house, "q2") == []
    assert send(house, b"3", "b", key="none") == [TAKEN], "a new one that nobody wants goes there"
    assert found(house, "q2") == [b"3"]


def test_a_message_that_leads_nowhere_may_be_sent_again(house: House) -> None:
    declare(house, kind="direct")
    house.queue()
    assert send(house, b"1", "a", key="k") == []
    bind(house, "x", "q", key="k")
    assert send(house, b"1", "a", key="k") == [TAKEN]
    assert found(house) == [b"1"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_message_that_a_queue_refuses_may_be_sent_again(house: House, *, beside: bool) -> None:
    through(house)
    full = house.queue("full", max_length=0, overflow="reject-publish")
    bind(house, "x", "full")
    if beside:
        plain(house, "all")
        bind(house, "all", "x", to_exchange=True)
    assert send(house, b"1", "a", to="all" if beside else "x") == [REFUSED]
    assert known(house) == 0
    house.vhost.delete_queue(full)
    assert send(house, b"1", "a") == [TAKEN]
    assert known(house) == 1


def test_a_route_that_is_only_looked_up_leaves_no_value(house: House) -> None:
    through(house)
    house.vhost.route(house.vhost.exchanges["x"], "", message(b"1", "a").header)
    assert known(house) == 0


# -- where messages come from


def test_what_comes_from_another_exchange_is_looked_at(house: House) -> None:
    through(house)
    plain(house, "all")
    house.queue("q2")
    bind(house, "all", "q2")
    bind(house, "all", "x", to_exchange=True)
    assert house.vhost.route_varies(house.vhost.exchanges["all"])
    for body in (b"1", b"2"):
        send(house, body, "a", to="all")
    send(house, b"3", "a")
    assert found(house) == [b"1"]
    assert found(house, "q2") == [b"1", b"2"]


def test_each_of_several_exchanges_in_a_row_has_a_memory_of_its_own(house: House) -> None:
    declare(house, "first")
    through(house)
    house.queue("q2")
    bind(house, "first", "q2")
    bind(house, "first", "x", to_exchange=True)
    send(house, b"1", "a")
    send(house, b"2", "a", to="first")
    send(house, b"3", "a", to="first")
    assert found(house) == [b"1"]
    assert found(house, "q2") == [b"2"]
    assert (known(house, "first"), known(house)) == (1, 1)


def test_a_queue_with_a_way_around_gets_every_message_once(house: House) -> None:
    through(house)
    plain(house, "all")
    bind(house, "all", "x", to_exchange=True)
    bind(house, "all", "q")
    for body in (b"1", b"2"):
        send(house, body, "a", to="all")
    assert found(house) == [b"1", b"2"]


def test_exchanges_that_deduplicate_in_a_circle_end(house: House) -> None:
    declare(house, "first")
    through(house)
    bind(house, "first", "x", to_exchange=True)
    bind(house, "x", "first", to_exchange=True)
    for body in (b"1", b"2"):
        send(house, body, "a", to="first")
    assert found(house) == [b"1"]


def test_dead_letters_are_looked_at(house: House) -> None:
    through(house)
    dying = house.durable("dying", dead_letter_exchange="x")
    for body, value in ((b"1", "a"), (b"2", "a"), (b"3", "b")):
        dying.publish(message(body, value))
    while (entry := dying.get()) is not None:
        dying.reject(entry)
    assert found(house) == [b"1", b"3"]


def test_a_dead_letter_does_not_go_round_in_circles_through_it(house: House) -> None:
    declare(house, cache_ttl=1)
    house.queue(message_ttl=100, dead_letter_exchange="x")
    bind(house, "x", "q")
    send(house, b"1", "a")
    house.pass_time(1000)
    assert found(house) == []


def test_what_is_delayed_is_looked_at_once_when_it_comes(house: House) -> None:
    declare(house, kind="x-delayed-message", delayed_type="fanout")
    house.durable()
    bind(house, "x", "q")
    later: Any = {"x-delay": 100}
    for body, value in ((b"1", "a"), (b"2", "a"), (b"3", "b")):
        send(house, body, value, **later)
    house.store.commit()
    house = house.restarted()
    send(house, b"4", "a", **later)
    assert found(house) == []
    house.pass_time(100)
    assert found(house) == [b"1", b"3"]
    assert send(house, b"5", "a") == [TAKEN]
    assert found(house) == []


def test_a_duplicate_is_not_remembered_by_a_recent_history(house: House) -> None:
    declare(house, kind="x-recent-history")
    house.queue("early")
    bind(house, "x", "early")
    for body in (b"1", b"2"):
        send(house, body, "a")
    house.queue()
    bind(house, "x", "q")
    assert found(house) == [b"1"]


def test_a_message_that_is_held_by_a_transaction_counts_when_it_is_committed(house: House) -> None:
    queue = through(house)
    sent = [message(b"1", "a"), message(b"2", "a"), message(b"3", "b")]
    held = [house.vhost.route(house.vhost.exchanges["x"], "", one.header, message=one) for one in sent]
    assert known(house) == 0, "it may be rolled back"
    for one, queues in zip(sent[:2], held, strict=False):
        assert [target.publish(one) for target in queues] == [TAKEN]
    assert bodies_in(queue) == [b"1"]
    assert send(house, b"3", "b") == [TAKEN]
    assert bodies_in(queue) == [b"3"]


@pytest.mark.parametrize("first", [True, False])
def test_a_transaction_may_be_committed_when_the_exchange_is_gone(house: House, *, first: bool) -> None:
    queue = through(house)
    if not first:
        send(house, b"1", "a")
    sent = message(b"2", "a")
    held = house.vhost.route(house.vhost.exchanges["x"], "", sent.header, message=sent)
    house.vhost.delete_exchange("x", if_unused=False)
    house.store.commit()
    for target in held:
        if not target.deleted:
            assert target.publish(sent) == TAKEN
    house.store.commit()
    assert bodies_in(queue) == ([b"2"] if first else [b"1"])
    assert list(house.store.disk.entries) == [queue.store_id]


# -- how much is remembered


def test_so_many_values_are_remembered(house: House) -> None:
    queue = through(house, cache_size=2)
    for body, value in ((b"1", "a"), (b"2", "b"), (b"3", "a"), (b"4", "c"), (b"5", "a"), (b"6", "c")):
        send(house, body, value)
    assert bodies_in(queue) == [b"1", b"2", b"4", b"5"]
    assert known(house) == 2


def test_values_are_remembered_for_so_long(house: House) -> None:
    queue = through(house, cache_ttl=100)
    send(house, b"1", "a")
    house.jump(99)
    send(house, b"2", "a")
    house.jump(1)
    send(house, b"3", "a")
    assert bodies_in(queue) == [b"1", b"3"]


def test_a_message_may_say_how_long_its_value_is_remembered(house: House) -> None:
    queue = through(house, cache_size=10, cache_ttl=100)
    send(house, b"1", "a", **lasting(500))
    send(house, b"2", "b", **lasting(50))
    send(house, b"3", "c", **lasting("500"))
    house.jump(50)
    send(house, b"4", "b")
    house.jump(50)
    for body, value in ((b"5", "a"), (b"6", "c")):
        send(house, body, value)
    house.jump(400)
    send(house, b"7", "a")
    assert bodies_in(queue) == [b"1", b"2", b"3", b"4", b"6", b"7"]


def test_without_a_size_a_message_cannot_have_its_value_remembered_for_longer(house: House) -> None:
    queue = through(house, cache_ttl=100)
    send(house, b"1", "a", **lasting(1 << 40))
    house.jump(100)
    send(house, b"2", "a")
    assert bodies_in(queue) == [b"1", b"2"]


def test_an_exchange_that_is_told_no_bound_has_one(house: House) -> None:
    through(house)
    for number in range(10_010):
        send(house, b"", number)
    assert known(house) == 10_000


@pytest.mark.parametrize("own", [{}, lasting(70)])
def test_what_is_too_old_leaves_memory_and_disk_also_when_nothing_comes(
    house: House, own: dict[str, Any]
) -> None:
    through(house, cache_ttl=100)
    for number in range(50):
        send(house, b"", number, **own)
    house.store.commit()
    seen_id = house.vhost.exchanges["x"].seen_id
    assert len(house.store.stored(seen_id)) == known(house) == 50
    house.pass_time(2000)
    house.store.commit()
    assert known(house) == 0
    assert house.store.stored(seen_id) == []


def test_refused_values_do_not_gather(house: House) -> None:
    through(house, cache_ttl=100_000)
    bind(house, "x", house.queue("full", max_length=0, overflow="reject-publish").name)
    for _ in range(1000):
        send(house, b"", "a")
    gate = house.vhost.exchanges["x"].gate
    assert gate is not None
    assert len(gate.cache._due) <= 110


# -- after a restart


@pytest.mark.parametrize("remembers", [{}, {"cache_size": 5000}, {"cache_ttl": 1000}])
def test_values_are_known_after_a_restart_whatever_became_of_their_messages(
    house: House, remembers: dict[str, Any]
) -> None:
    queue = through(house, **remembers)
    for number in range(2500):
        send(house, b"%d" % number, number)
    queue.purge()
    house.store.commit()
    house = house.restarted()
    for number in (0, 1, 1700, 2499):
        assert send(house, b"duplicate", number) == [TAKEN]
    send(house, b"new", 2500)
    assert found(house) == [b"new"]
    house.store.commit()
    assert known(house.restarted()) == 2501


def test_a_restart_forgets_no_order_and_no_time(house: House) -> None:
    through(house, cache_size=3, cache_ttl=100)
    for body, value in ((b"1", "a"), (b"2", "b")):
        send(house, body, value)
    house.pass_time(50)
    send(house, b"3", "c")
    house.store.commit()
    house = house.restarted(10)
    send(house, b"4", "d")
    assert [known(house), len(send(house, b"5", "b"))] == [3, 1]
    house = _after(house, 40)
    assert known(house) == 2, "b had its time"
    send(house, b"6", "b")
    send(house, b"7", "d")
    assert found(house) == [b"1", b"2", b"3", b"4", b"6"]


def _after(house: House, milliseconds: int) -> House:
    house.store.commit()
    return house.restarted(milliseconds)


def test_what_was_forgotten_by_its_size_is_not_on_the_disk(house: House) -> None:
    through(house, cache_size=3)
    for number in range(10):
        send(house, b"", number)
        if number == 4:
            house.store.commit()
    house.store.commit()
    assert house.store.stored(house.vhost.exchanges["x"].seen_id) == [b"7", b"8", b"9"]
    send(house.restarted(), b"", 10)
    house = house.restarted()
    assert known(house) == 3


@pytest.mark.parametrize(
    ("durable", "persistent", "expected"),
    [(True, True, [b"1"]), (True, False, [b"2"]), (False, True, None)],
)
def test_what_is_not_durable_is_not_known_after_a_restart(
    house: House, expected: list[bytes] | None, *, durable: bool, persistent: bool
) -> None:
    through(house, durable=durable)
    send(house, b"1", "a", persistent=persistent)
    send(house, b"-", "a", persistent=persistent)
    house.store.commit()
    house = house.restarted()
    if expected is None:
        assert "x" not in house.vhost.exchanges
        return
    send(house, b"2", "a")
    assert found(house) == expected


def test_a_quorum_queue_keeps_a_transient_message_and_so_its_value_is_kept(house: House) -> None:
    declare(house)
    house.durable(queue_type="quorum")
    bind(house, "x", "q")
    send(house, b"1", "a", persistent=False)
    house.store.commit()
    house = house.restarted()
    send(house, b"2", "a", persistent=False)
    assert found(house) == [b"1"]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_value_and_its_message_are_in_one_batch(house: House, written: int) -> None:
    """A crash leaves both or neither, so that what is sent again is neither lost nor there twice."""
    through(house)
    house.store.commit()
    for body, value in ((b"1", "a"), (b"2", "b")):
        send(house, body, value)
        assert house.store.seal()
    after = House(house.store.survivor(written), house.now)
    assert known(after) == written
    for body, value in ((b"1", "a"), (b"2", "b")):
        assert send(after, body, value) == [TAKEN]
    assert found(after) == [b"1", b"2"]


def test_a_deleted_exchange_leaves_nothing_on_the_disk(house: House) -> None:
    through(house)
    send(house, b"1", "a")
    house.store.commit()
    seen_id = house.vhost.exchanges["x"].seen_id
    assert len(house.store.stored(seen_id)) == 1
    house.vhost.delete_exchange("x", if_unused=False)
    house.store.commit()
    assert house.store.stored(seen_id) == []
    declare(house)
    bind(house, "x", "q")
    send(house, b"2", "a")
    assert found(house) == [b"1", b"2"]


def test_a_duplicate_waits_for_the_disk_as_the_message_it_repeats_does(house: House) -> None:
    """Also in a transient exchange: what is confirmed is there after a crash."""
    through(house, durable=False)
    sent = message(b"1", "a")
    send(house, b"1", "a")
    (taker,) = house.vhost.route(house.vhost.exchanges["x"], "", sent.header, message=sent)
    assert taker.store_id > 0


@settings(max_examples=examples(100))
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "send", "send briefly", "wait", "commit", "restart"]),
            st.integers(0, 4),
        ),
        max_size=40,
    ),
)
def test_whatever_happens_just_what_is_remembered_is_a_duplicate(
    size: int, steps: list[tuple[str, int]]
) -> None:
    house = House()
    queue = through(house, cache_size=size, cache_ttl=30)
    remembered: dict[int, int] = {}
    expected: list[bytes] = []
    for what, number in steps:
        if what.startswith("send"):
            ttl = 8 if what == "send briefly" else 30
            body = b"%d" % len(expected)
            send(house, body, number, **(lasting(8) if ttl == 8 else {}))
            remembered = {value: due for value, due in remembered.items() if due > house.now}
            if number not in remembered:
                expected.append(body)
                remembered[number] = house.now + ttl
            if len(remembered) > size:
                del remembered[next(iter(remembered))]
        elif what == "wait":
            house.pass_time(5 * number)
        else:
            house.store.commit()
            if what == "restart":
                house = house.restarted(number)
                queue = house.vhost.queues["q"]
    assert bodies_in(queue) == expected


# -- policies


def set_policy(house: House, name: str = "p", apply_to: str = "exchanges", **definition: object) -> None:
    named = {"x-" + key.replace("_", "-"): value for key, value in definition.items()}
    house.vhost.set_policy(new_policy(name, "", table_of(named), 0, apply_to))


@pytest.mark.parametrize("exchange", ["x", "amq.fanout"])
def test_a_policy_makes_running_exchanges_deduplicate_and_stops_them(house: House, exchange: str) -> None:
    plain(house, "x")
    queue = house.durable()
    bind(house, exchange, "q")
    generation = house.vhost.generation
    set_policy(house, message_deduplication=True, cache_size=100)
    assert house.vhost.generation > generation, "what is known about routes is void"
    assert house.vhost.route_varies(house.vhost.exchanges[exchange])
    for body in (b"1", b"2"):
        send(house, body, "a", to=exchange)
    house.store.commit()
    house = house.restarted()
    send(house, b"3", "a", to=exchange)
    assert found(house) == [b"1"]
    seen_id = house.vhost.exchanges[exchange].seen_id
    house.vhost.delete_policy("p")
    send(house, b"4", "a", to=exchange)
    assert found(house) == [b"4"]
    house.store.commit()
    assert house.store.stored(seen_id) == []
    house = house.restarted()
    assert house.vhost.exchanges[exchange].gate is None
    assert queue.name in house.vhost.queues


def test_a_policy_for_everything_switches_only_queues_on(house: House) -> None:
    plain(house, "x")
    house.queue()
    bind(house, "x", "q")
    set_policy(house, apply_to="all", message_deduplication=True)
    assert house.vhost.exchanges["x"].gate is None
    for body in (b"1", b"2"):
        send(house, body, "a")
    assert found(house) == [b"1"]


def test_a_policy_can_bound_what_an_exchange_remembers_and_keeps_the_values(house: House) -> None:
    queue = through(house)
    for body, value in ((b"1", "a"), (b"2", "b"), (b"3", "c")):
        send(house, body, value)
    set_policy(house, apply_to="all", cache_size=2)
    assert known(house) == 2
    assert send(house, b"4", "c") == [TAKEN]
    house.vhost.delete_policy("p")
    send(house, b"5", "b")
    send(house, b"6", "a")
    assert bodies_in(queue) == [b"1", b"2", b"3", b"6"]
    house.store.commit()
    assert known(house.restarted()) == 3


def test_an_argument_counts_before_a_policy(house: House) -> None:
    queue = through(house, deduplication_header="id", cache_size=1)
    set_policy(house, deduplication_header="other", cache_size=5)
    for body, number in ((b"1", 1), (b"2", 1), (b"3", 2), (b"4", 1)):
        send(house, body, "a", id=number)
    assert bodies_in(queue) == [b"1", b"3", b"4"]


def test_another_header_is_another_memory(house: House) -> None:
    queue = through(house)
    send(house, b"1", "a", id="a")
    house.store.commit()
    house.vhost.delete_exchange("x", if_unused=False)
    plain(house, "x")
    bind(house, "x", "q")
    set_policy(house, message_deduplication=True)
    send(house, b"2", "a", id="a")
    first = house.vhost.exchanges["x"].seen_id
    set_policy(house, message_deduplication=True, deduplication_header="id")
    send(house, b"3", "a", id="a")
    send(house, b"4", "b", id="a")
    house.store.commit()
    assert house.store.stored(first) == []
    assert bodies_in(queue) == [b"1", b"2", b"3"]
    assert known(house.restarted()) == 1


# -- arguments


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"x-message-deduplication": "yes"}, "'x-message-deduplication' for {}: {unacceptable_type,longstr}"),
        ({"x-cache-size": 0}, "'x-cache-size' for {}: {value_zero,0}"),
        ({"x-cache-ttl": -1}, "'x-cache-ttl' for {}: {value_negative,-1}"),
        ({"x-deduplication-header": 1}, "'x-deduplication-header' for {}: {unacceptable_type,byte}"),
        ({"x-cache-persistence": "tape"}, "'x-cache-persistence' for {}: invalid_cache_persistence"),
    ],
)
def test_wrong_arguments_are_refused(house: House, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(SoftError) as refused:
        plain(house, "x", **arguments)
    text = refused.value.explanation
    assert text.startswith("invalid arg " + problem.split(" for ", maxsplit=1)[0] + " for exchange 'x'")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
        ({"x-cache-size": 0}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
        ({"x-cache-size": "0"}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
        ({"x-cache-size": "x"}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
        ({"x-cache-size": 1, "x-cache-ttl": "x"}, "Invalid argument, 'x-cache-ttl' must be an integer greater than 0"),
        (
            {"x-cache-size": 1, "x-cache-persistence": "tape"},
            "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("delayed", [False, True])
def test_the_plugins_type_says_what_is_wrong_in_the_plugins_words(
    house: House, arguments: dict[str, Any], text: str, *, delayed: bool
) -> None:
    kind = "x-message-deduplication"
    with pytest.raises(SoftError) as refused:
        if delayed:
            plain(house, "x", "x-delayed-message", **arguments, **{"x-delayed-type": kind})
        else:
            plain(house, "x", kind, **arguments)
    assert refused.value.explanation == text


@pytest.mark.parametrize("delayed", [False, True])
def test_the_plugins_type_always_deduplicates_and_takes_digits(house: House, *, delayed: bool) -> None:
    kind = "x-message-deduplication"
    bounds: Any = {"x-cache-size": "2", "x-cache-ttl": "100", "x-cache-persistence": "memory"}
    if delayed:
        plain(house, "x", "x-delayed-message", **bounds, **{"x-delayed-type": kind})
    else:
        plain(house, "x", kind, **bounds)
    queue = house.queue()
    bind(house, "x", "q", key="whatever")
    for body, value in ((b"1", "a"), (b"2", "a"), (b"3", "b"), (b"4", "c"), (b"5", "a")):
        send(house, body, value, key="k")
    house.jump(100)
    send(house, b"6", "a")
    assert bodies_in(queue) == [b"1", b"3", b"4", b"5", b"6"]

"""Dead letters that are alike share a header, and no letter gets the header of one that is not like it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.dead_letters import DeadLetters, Death, Letter, dead_letter
from amqp_broker.broker.message import Message
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import HEADERS, MOST_REWRITTEN, ContentHeader, build_header, parse_header
from amqp_broker.content.table import table_of
from tests.broker.house import House, headers_of, made

TO_DEAD: Any = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
HISTORY: Any = [{"queue": "before", "reason": "expired", "count": 1}]


@pytest.fixture
def house() -> House:
    return House()


def header(size: int = 4, **headers: object) -> ContentHeader:
    return build_header(size, {HEADERS: table_of(headers)})


HEADER = header(CC=["copy"])


def dying(source: ContentHeader = HEADER, exchange: bytes = b"x", key: bytes = b"k") -> Message:
    address = bytes((len(exchange),)) + exchange + bytes((len(key),)) + key
    return Message(address, source, b"body")


def shown(letter: Letter) -> tuple[object, ...]:
    """All that a letter says."""
    return (
        letter.address,
        letter.header.payload,
        letter.header.expiration,
        letter.routing_key,
        letter.further_keys,
        letter.visited,
    )


def letter_of(
    letters: DeadLetters | Callable[..., Letter],
    message: Message | None = None,
    death: tuple[str, str, int] = ("q", "expired", 1),
    exchange: str = "dlx",
    routing_key: str | None = None,
) -> Letter:
    make = letters.letter if isinstance(letters, DeadLetters) else letters
    return make(message or dying(), Death(*death), exchange, routing_key)


def test_a_second_message_like_the_first_becomes_the_same_letter() -> None:
    letters = DeadLetters()
    first = letter_of(letters)
    assert letter_of(letters, dying()) is first
    assert shown(first) == shown(letter_of(dead_letter))


@pytest.mark.parametrize(
    "other",
    [
        {"death": ("other", "expired", 1)},
        {"death": ("q", "rejected", 1)},
        {"death": ("q", "expired", 2)},
        {"death": ("q", "expired", 0)},
        {"exchange": "other"},
        {"routing_key": "other"},
        {"routing_key": ""},
        {"message": dying(key=b"other")},
        {"message": dying(exchange=b"other")},
        {"message": dying(exchange=b"", key=b"xk")},
        {"message": dying(header(CC=["other"]))},
        {"message": dying(header(5, CC=["copy"]))},
    ],
)
def test_a_letter_that_differs_in_anything_is_another_one(other: dict[str, Any]) -> None:
    letters = DeadLetters()
    first = letter_of(letters)
    assert shown(letter_of(letters, **other)) == shown(letter_of(dead_letter, **other)) != shown(first)
    assert shown(letter_of(letters)) == shown(first)


def test_headers_of_the_same_octets_are_different_headers() -> None:
    letters = DeadLetters()
    first = letter_of(letters)
    again = letter_of(letters, dying(parse_header(HEADER.payload)))
    assert again is not first
    assert shown(again) == shown(first)


def test_nothing_of_an_earlier_second_is_kept() -> None:
    letters = DeadLetters()
    for number in range(10):
        letter_of(letters, dying(header(number)))
    assert len(letters) == 10
    letter_of(letters, death=("q", "expired", 2))
    assert len(letters) == 1


def test_so_many_letters_are_remembered() -> None:
    letters = DeadLetters()
    sources = [header(number) for number in range(5 * MOST_REWRITTEN)]
    for source in sources:
        assert letter_of(letters, dying(source)) is letter_of(letters, dying(source))
        assert len(letters) <= MOST_REWRITTEN


def test_what_is_long_is_not_remembered() -> None:
    letters = DeadLetters()
    for source in (header(text="x" * 100_000), header(CC=["x" * 250] * 100)):
        letter = letter_of(letters, dying(source), routing_key="k")
        assert shown(letter) == shown(letter_of(dead_letter, dying(source), routing_key="k"))
    assert len(letters) == 0


SOURCES = [
    header(CC=["copy"]),
    header(CC=["copy"]),
    header(BCC=["blind"]),
    header(4, **{"x-death": HISTORY}),
    header(4, **{"x-death": HISTORY * 2}),
    build_header(4, {}),
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SOURCES),
            st.sampled_from([b"", b"x"]),
            st.tuples(
                st.sampled_from(["q", "before"]), st.sampled_from(["expired", "rejected"]), st.sampled_from([1, 2])
            ),
            st.sampled_from(["", "dlx"]),
            st.sampled_from([None, "", "key"]),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_whatever_died_before_each_letter_is_made_as_if_it_were_the_first(deaths: list[Any]) -> None:
    letters = DeadLetters()
    for source, origin, death, exchange, routing_key in deaths:
        options = {"death": death, "exchange": exchange, "routing_key": routing_key}
        letter = letter_of(letters, dying(source, origin), **options)
        assert shown(letter) == shown(letter_of(dead_letter, dying(source, origin), **options))


# -- in a virtual host


def taken(queue: Queue) -> list[Message]:
    messages = []
    while (entry := queue.get()) is not None:
        messages.append(entry.message)
        queue.settle(entry)
    return messages


def reject_all(queue: Queue) -> None:
    while (entry := queue.get()) is not None:
        queue.reject(entry)


def test_dead_letters_of_one_header_share_one(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(**TO_DEAD)
    for body in (b"1", b"2", b"3"):
        queue.publish(Message(b"\0\1q", HEADER, body))
    reject_all(queue)
    messages = taken(dead)
    assert [message.body for message in messages] == [b"1", b"2", b"3"]
    assert len({id(message.header) for message in messages}) == 1


def test_dead_letters_that_share_a_header_take_the_memory_of_their_places_only(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(message_ttl=100, **TO_DEAD)
    for _ in range(1000):
        queue.publish(dying())
    tracemalloc.start()
    try:
        house.pass_time(100)
        octets = tracemalloc.get_traced_memory()[0] / 1000
    finally:
        tracemalloc.stop()
    assert dead.ready_count() == 1000
    assert octets < 400


def test_each_letter_goes_to_the_copies_of_its_message(house: House) -> None:
    names = ["k", "copy", "blind"]
    queues = [house.queue(name) for name in names]
    source = header(CC=["copy"], BCC=["blind"])
    dead = house.queue(dead_letter_exchange="")
    for _ in range(3):
        dead.publish(dying(source))
    reject_all(dead)
    assert [queue.ready_count() for queue in queues] == [3, 3, 3]


def test_a_letter_tells_the_second_it_died_in(house: House) -> None:
    dead = house.queue("dead")
    queue = house.queue(message_ttl=100, **TO_DEAD)
    for _ in range(3):
        queue.publish(dying())
        house.pass_time(1000)
    found: list[Any] = [headers_of(message)["x-death"] for message in taken(dead)]
    first = (house.now - 3000) // 1000
    assert [deaths[0]["time"] for deaths in found] == [first, first + 1, first + 2]


def test_letters_that_go_round_are_counted_one_by_one(house: House) -> None:
    """The same message is a letter, dies again in the same queue and the same second, and is another letter."""
    queue = house.queue(dead_letter_exchange="", dead_letter_routing_key="q")
    queue.publish(dying())
    queue.publish(dying())
    for count in range(1, 4):
        for _ in range(2):
            entry = queue.get()
            assert entry is not None
            queue.reject(entry)
        entries = [queue.get(), queue.get()]
        for entry in entries:
            assert entry is not None
            deaths: Any = headers_of(entry.message)["x-death"]
            assert [death["count"] for death in deaths] == [count]
        queue.requeue([entry for entry in entries if entry is not None])


def test_a_message_that_was_in_a_queue_stays_out_while_one_like_it_may_go_there(house: House) -> None:
    """What died elsewhere may go to the queue in which the other one died."""
    house.queue("a", message_ttl=100, dead_letter_exchange="amq.fanout")
    house.queue("b", message_ttl=100, dead_letter_exchange="amq.fanout")
    for name in ("a", "b"):
        house.vhost.bind(house.vhost.exchanges["amq.fanout"], house.vhost.queues[name], "", {})
        house.vhost.queues[name].publish(dying())
    house.pass_time(100)
    assert [house.vhost.queues[name].ready_count() for name in ("a", "b")] == [1, 1]
    house.pass_time(100)
    assert [house.vhost.queues[name].ready_count() for name in ("a", "b")] == [0, 0]


def test_a_message_of_another_publisher_is_not_touched(house: House) -> None:
    """The header that a letter was made from goes on being that of the messages that live."""
    house.queue("dead")
    dying_queue, other = house.queue(**TO_DEAD), house.queue("other")
    one = made(b"1", headers={"name": "value"})
    dying_queue.publish(one)
    other.publish(one)
    reject_all(dying_queue)
    assert [headers_of(message) for message in taken(other)] == [{"name": "value"}]

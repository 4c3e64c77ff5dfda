"""The ledger itself: it finds each kind of broken promise, and nothing where none was broken."""

from __future__ import annotations

import pytest

from tests.crash.ledger import (
    Ledger,
    Message,
    QueueLedger,
    Transaction,
    body_of,
    message_in,
    ranked_publisher,
)


def ledger_with(sent: int, confirmed: int, acknowledged: int = 0, settled: int = 0) -> QueueLedger:
    queue = QueueLedger("q")
    messages = [queue.send("p") for _ in range(sent)]
    queue.confirmed = set(messages[:confirmed])
    queue.acknowledged = set(messages[:acknowledged])
    queue.settled = set(messages[:settled])
    return queue


def numbered(*numbers: int) -> list[Message]:
    return [("p", number) for number in numbers]


@pytest.mark.parametrize(
    "left",
    [numbered(1, 2), numbered(1, 2, 3), numbered(0, 1, 2), numbered(1, 2, 3, 4)],
    ids=["uncertain gone", "one uncertain there", "unsettled back", "all uncertain there"],
)
def test_what_is_uncertain_may_be_there_or_not(left: list[Message]) -> None:
    assert ledger_with(sent=5, confirmed=3, acknowledged=1).problems(left) == []


@pytest.mark.parametrize(
    ("left", "problem"),
    [
        (numbered(2), "q: confirmed, but lost: [('p', 1)]"),
        (numbered(0, 1, 2), "q: acknowledged and settled, but back: [('p', 0)]"),
        (numbered(1, 2, 3, 4, 5), "q: never sent: [('p', 5)]"),
        (numbered(1, 2, 2), "q: there twice: [('p', 2)]"),
        (numbered(2, 1), "q: out of order: [('p', 1)]"),
        (numbered(1, 2, 4), "q: missing, though a later one of its publisher is there: [('p', 3)]"),
    ],
)
def test_a_broken_promise_is_named(left: list[Message], problem: str) -> None:
    assert problem in ledger_with(sent=5, confirmed=3, acknowledged=1, settled=1).problems(left)


@pytest.mark.parametrize(
    ("a", "b", "committed", "count"),
    [(1, 1, True, 0), (1, 1, False, 0), (0, 0, False, 0), (1, 0, False, 1), (0, 0, True, 3), (0, 1, True, 3)],
)
def test_a_transaction_is_there_whole_or_not_at_all(a: int, b: int, committed: bool, count: int) -> None:
    ledger = Ledger(["a", "b"])
    members = [(name, ledger.queues[name].send("p")) for name in ("a", "b")]
    transaction = Transaction(members)
    transaction.committed = committed
    ledger.transactions.append(transaction)
    if committed:
        for name, message in members:
            ledger.queues[name].confirmed.add(message)
    assert len(ledger.problems({"a": numbered(0) * a, "b": numbered(0) * b})) == count


def test_a_moved_message_is_in_one_queue_only() -> None:
    ledger = Ledger(["from", "to"])
    ledger.moves = [("from", "to")]
    for _ in range(3):
        ledger.queues["from"].confirmed.add(ledger.queues["from"].send("p"))
    ledger.moved = set(numbered(0))
    assert ledger.problems({"from": numbered(1, 2), "to": numbered(0)}) == []
    assert ledger.problems({"from": numbered(2), "to": numbered(0, 1)}) == []
    assert ledger.problems({"from": numbered(0, 1, 2), "to": numbered(0)}) != []
    assert ledger.problems({"from": numbered(0, 1, 2), "to": []}) != []
    assert ledger.problems({"from": numbered(2), "to": numbered(0)}) != []


def test_a_message_that_died_is_in_one_queue_only() -> None:
    ledger = Ledger(["alive", "dead"])
    ledger.deaths = [("alive", "dead")]
    for _ in range(3):
        ledger.queues["alive"].confirmed.add(ledger.queues["alive"].send("p"))
    assert ledger.problems({"alive": numbered(1, 2), "dead": numbered(0)}) == []
    assert ledger.problems({"alive": [], "dead": numbered(0, 1, 2)}) == []
    assert ledger.problems({"alive": numbered(1, 2), "dead": []}) != []
    assert ledger.problems({"alive": numbered(0, 1, 2), "dead": numbered(0)}) != []
    assert ledger.problems({"alive": numbered(2), "dead": numbered(1, 0)}) != []


def test_copies_are_in_all_queues_or_in_none() -> None:
    ledger = Ledger(["a", "b"])
    ledger.copies = [("a", "b")]
    for name in ("a", "b"):
        ledger.queues[name].send("p")
    assert ledger.problems({"a": numbered(0), "b": numbered(0)}) == []
    assert ledger.problems({"a": [], "b": []}) == []
    assert ledger.problems({"a": numbered(0), "b": []}) == [
        "a message is in some of ('a', 'b'), but not in all: [('p', 0)]"
    ]


def test_a_message_is_read_back_from_its_body() -> None:
    assert message_in(body_of(("publisher", 17), 100)) == ("publisher", 17)


def test_messages_of_a_priority_queue_come_by_priority_and_then_in_order() -> None:
    ledger = Ledger(["ranked"])
    ledger.ranked = ["ranked"]
    low, high = ranked_publisher("p", 1), ranked_publisher("p", 2)
    for publisher in (low, high, low, high):
        ledger.queues["ranked"].confirmed.add(ledger.queues["ranked"].send(publisher))
    assert ledger.problems({"ranked": [(high, 0), (high, 1), (low, 0), (low, 1)]}) == []
    assert ledger.problems({"ranked": [(high, 1), (high, 0), (low, 0), (low, 1)]}) != []
    assert ledger.problems({"ranked": [(low, 0), (high, 0), (high, 1), (low, 1)]}) == [
        "ranked: behind a message of lower priority: [('p-2', 0)]"
    ]

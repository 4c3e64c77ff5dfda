"""What the clients of a crash test know, and what must therefore be true after the broker comes back.

A message is (publisher, number); a publisher numbers its messages for a queue 0, 1, 2, ... in the order in
which it sends them. Of each the ledger knows whether it was confirmed (or its transaction was), whether an
acknowledgement was sent, and whether that acknowledgement is settled: covered by a later confirm on the same
connection. What was sent but not confirmed is uncertain: it may be there or not. No broker is touched here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

Message = tuple[str, int]


def body_of(message: Message, padding: int) -> bytes:
    publisher, number = message
    return f"{publisher} {number} ".encode() + b"." * padding


def message_in(body: bytes) -> Message:
    publisher, number, _ = body.split(b" ", 2)
    return publisher.decode(), int(number)


class QueueLedger:
    """One queue: what was sent to it, what of that was confirmed, acknowledged, settled."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: dict[str, int] = defaultdict(int)
        self.confirmed: set[Message] = set()
        self.acknowledged: set[Message] = set()
        self.settled: set[Message] = set()

    def send(self, publisher: str) -> Message:
        """The next message of this publisher, counted as sent from now on."""
        number = self.sent[publisher]
        self.sent[publisher] = number + 1
        return publisher, number

    def problems(self, left: list[Message]) -> list[str]:
        """What contradicts the promises, given the messages that were left in the queue, in queue order."""
        here = set(left)
        found = {
            "confirmed, but lost": self.confirmed - self.acknowledged - here,
            "acknowledged and settled, but back": self.settled & here,
            "never sent": {
                (publisher, number) for publisher, number in here if number >= self.sent[publisher]
            },
            "there twice": {message for message in here if left.count(message) > 1}
            if len(here) < len(left)
            else set(),
            "out of order": set(out_of_order(left)),
            "missing, though a later one of its publisher is there": self._holes(here),
        }
        return [f"{self.name}: {what}: {sorted(which)[:5]}" for what, which in found.items() if which]

    def _holes(self, here: set[Message]) -> set[Message]:
        last: dict[str, int] = {}
        for publisher, number in here:
            last[publisher] = max(number, last.get(publisher, -1))
        before = {(publisher, number) for publisher, end in last.items() for number in range(end)}
        return before - here - self.acknowledged


def out_of_order(left: Iterable[Message]) -> Iterable[Message]:
    latest: dict[str, int] = {}
    for publisher, number in left:
        if number < latest.get(publisher, -1):
            yield publisher, number
        latest[publisher] = number


class Transaction:
    """Publishes to several queues that must become visible together."""

    def __init__(self, members: list[tuple[str, Message]]) -> None:
        self.members = members
        self.committed = False


class Ledger:
    """All queues and transactions of one round.

    moves: pairs of queues between which a client moves messages, each move a publish and an acknowledgement
    in one transaction. deaths: pairs of a queue and the one its dead letters go to. copies: groups of queues that
    get every message of an exchange. ranked: queues whose publishers are named after the priority they publish
    with, as `ranked_publisher` says.
    """

    def __init__(self, queues: Iterable[str]) -> None:
        self.queues = {name: QueueLedger(name) for name in queues}
        self.transactions: list[Transaction] = []
        self.moved: set[Message] = set()
        self.moves: list[tuple[str, str]] = []
        self.deaths: list[tuple[str, str]] = []
        self.copies: list[tuple[str, ...]] = []
        self.ranked: list[str] = []

    def problems(self, left: dict[str, list[Message]]) -> list[str]:
        """What contradicts the promises; nothing if all is well. `left`: queue -> messages in its order."""
        paired = {name for pair in (*self.moves, *self.deaths) for name in pair}
        found: list[str] = []
        for name, queue in self.queues.items():
            if name not in paired:
                found += queue.problems(left[name])
        for source, dead in self.deaths:
            found += self.queues[source].problems([*left[dead], *left[source]])
        found += self._move_problems(left)
        found += self._transaction_problems(left)
        found += self._copy_problems(left)
        found += self._rank_problems(left)
        return found

    def _move_problems(self, left: dict[str, list[Message]]) -> list[str]:
        found: list[str] = []
        for source, target in self.moves:
            together = [*left[target], *left[source]]
            found += self.queues[source].problems(together)
            unmoved = self.moved - set(left[target])
            if unmoved:
                found.append(
                    f"{target}: moved by a committed transaction, but not there: {sorted(unmoved)[:5]}"
                )
        return found

    def _transaction_problems(self, left: dict[str, list[Message]]) -> list[str]:
        found: list[str] = []
        present = {name: set(messages) for name, messages in left.items()}
        for source, target in self.moves:
            present[source] |= present[target]
        for transaction in self.transactions:
            there = [message in present[queue] for queue, message in transaction.members]
            if any(there) and not all(there):
                found.append(f"half of a transaction: {transaction.members} of which there: {there}")
            if transaction.committed and not all(there):
                found.append(f"a committed transaction is not there: {transaction.members}")
        return found

    def _copy_problems(self, left: dict[str, list[Message]]) -> list[str]:
        found: list[str] = []
        for group in self.copies:
            held = [set(left[name]) for name in group]
            odd = held[0].union(*held) - held[0].intersection(*held)
            if odd:
                found.append(f"a message is in some of {group}, but not in all: {sorted(odd)[:5]}")
        return found

    def _rank_problems(self, left: dict[str, list[Message]]) -> list[str]:
        found: list[str] = []
        for name in self.ranked:
            messages = left[name]
            wrong = [
                after for before, after in pairwise(messages) if priority_of(before) < priority_of(after)
            ]
            if wrong:
                found.append(f"{name}: behind a message of lower priority: {wrong[:5]}")
        return found


def ranked_publisher(stem: str, priority: int) -> str:
    return f"{stem}-{priority}"


def priority_of(message: Message) -> int:
    return int(message[0].rpartition("-")[2])

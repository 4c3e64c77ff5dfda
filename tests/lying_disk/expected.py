"""What must be in the queues at a point of a trace, going by the marks that stand before it.

The marks are written down in the ledger of the crash tests, which knows most of the rules; what is added is which
queues there are, and that what a purge takes goes all at once. `load` says when clients mark what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.crash.ledger import Ledger, Message, QueueLedger, Transaction
from tests.lying_disk.load import BARRIER, COPIES, DELETED, KEPT, MOVED_TO, PURGED, TRANSACTED

ABSENT, UNCERTAIN, THERE = range(3)


class Expected:
    """`take` marks as they come, then ask for `problems`."""

    def __init__(self) -> None:
        queues = (*KEPT, DELETED)
        # What makes a consumer's acknowledgements settled is not looked at itself.
        self._ledger = Ledger(queue for queue in queues if queue != BARRIER)
        self._ledger.moves = [(TRANSACTED[0], MOVED_TO)]
        self._ledger.copies = [COPIES[1:]]
        self._presence = dict.fromkeys(queues, ABSENT)
        self._transactions: dict[Message, Transaction] = {}
        # What a purge, or the deletion of a queue, is about to take or took.
        self._taking: dict[str, set[Message]] = {}
        self._together: list[tuple[str, set[Message]]] = []
        self.confirmed = 0

    def take(self, mark: list[Any]) -> None:
        kind, *arguments = mark
        _TAKE[kind](self, *arguments)

    def problems(self, left: dict[str, list[Message]]) -> list[str]:
        """What contradicts the promises; left: the queues there are, and the messages in them, in order."""
        found = [
            f"{queue}: {'is gone' if queue not in left else 'is back'}"
            for queue, presence in self._presence.items()
            if presence == (ABSENT if queue in left else THERE)
        ]
        held = {queue: left.get(queue, []) for queue in self._ledger.queues}
        found += self._ledger.problems(held)
        purged = {queue: set(held[queue]) for queue in (PURGED, DELETED)}
        for queue, messages in self._together:
            there = messages & purged[queue]
            if there and there != messages:
                found.append(f"{queue}: half of what was purged is there: {sorted(there)[:5]}")
        return found

    def _queue(self, name: str) -> QueueLedger:
        return self._ledger.queues[name]

    def _sent(self, queues: list[str], messages: list[list[Any]]) -> None:
        for queue in queues:
            for publisher, number in messages:
                assert self._queue(queue).send(publisher) == (publisher, number)

    def _confirmed(self, queues: list[str], messages: list[list[Any]]) -> None:
        for queue in queues:
            self._queue(queue).confirmed.update(map(_message, messages))
        self.confirmed += len(messages)

    def _acking(self, queue: str, messages: list[list[Any]]) -> None:
        self._queue(queue).acknowledged.update(map(_message, messages))

    def _settled(self, queue: str, messages: list[list[Any]]) -> None:
        self._queue(queue).settled.update(map(_message, messages))

    def _committing(self, queues: list[str], message: list[Any]) -> None:
        transaction = Transaction([(queue, _message(message)) for queue in queues])
        self._transactions[_message(message)] = transaction
        self._ledger.transactions.append(transaction)

    def _committed(self, message: list[Any]) -> None:
        self._transactions[_message(message)].committed = True

    def _moved(self, message: list[Any]) -> None:
        self._ledger.moved.add(_message(message))

    def _declaring(self, queue: str) -> None:
        self._presence[queue] = max(UNCERTAIN, self._presence[queue])

    def _declared(self, queue: str) -> None:
        self._presence[queue] = THERE

    def _removing(self, queue: str) -> None:
        ledger = self._queue(queue)
        # One client publishes to it and purges it: all that was sent has been confirmed.
        taking = ledger.confirmed - ledger.acknowledged
        self._taking[queue] = taking
        self._together.append((queue, taking))
        ledger.acknowledged |= taking

    def _removed(self, queue: str) -> None:
        self._queue(queue).settled |= self._taking.pop(queue)

    def _deleting(self, queue: str) -> None:
        self._removing(queue)
        self._presence[queue] = UNCERTAIN

    def _deleted(self, queue: str) -> None:
        self._removed(queue)
        self._presence[queue] = ABSENT


def _message(plain: list[Any]) -> Message:
    publisher, number = plain
    return publisher, number


_TAKE: Final[dict[str, Callable[..., None]]] = {
    "sent": Expected._sent,
    "confirmed": Expected._confirmed,
    "acking": Expected._acking,
    "settled": Expected._settled,
    "committing": Expected._committing,
    "committed": Expected._committed,
    "moved": Expected._moved,
    "declaring": Expected._declaring,
    "declared": Expected._declared,
    "purging": Expected._removing,
    "purged": Expected._removed,
    "deleting": Expected._deleting,
    "deleted": Expected._deleted,
}

"""What a store and the server share: the batch, and the order in which batches are reported.

The server takes the current batch with `seal`, has it made durable if there is anything to write, and calls
`committed`. This module keeps the waiters and calls them in order; what a batch holds is its subclasses'
business.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable

from amqp_broker.broker.message import RECOVERED
from amqp_broker.broker.ports import CommitWaiter, Store


class Batch:
    """The changes of one or more whole turns, to be made durable together or not at all.

    payload: for a carrier; b"" if nothing has to be written and the batch can be reported at once.
    urgent: somebody waits for it. released: store ids whose references the writer removed; set by the
    carrier.
    """

    __slots__ = ("done", "held", "number", "payload", "released", "urgent", "waiters")

    def __init__(self, number: int, payload: bytes, waiters: dict[CommitWaiter, None]) -> None:
        self.number: int = number
        self.payload: bytes = payload
        self.urgent: bool = len(waiters) > 0
        self.waiters: dict[CommitWaiter, None] = waiters
        self.released: list[int] = []
        # Octets that its messages take in memory, roughly.
        self.held: int = 0
        self.done: bool = False


class Notice(CommitWaiter):
    """A waiter that has a function called with the batch's number: for those outside the model."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[int], object]) -> None:
        self._function: Callable[[int], object] = function

    def committed(self, batch: int) -> None:
        self._function(batch)


class BatchStore(Store):
    """A store whose batches the server commits.

    urgent: somebody waits for the current batch. pending_bytes: what the messages that are not durable yet take in
    memory, roughly, and the batches that were made of them.
    """

    __slots__ = ("_held_now", "_in_flight", "_waiters", "batch", "pending_bytes", "settled", "urgent")

    def __init__(self) -> None:
        self.batch: int = RECOVERED + 1
        self.settled: int = RECOVERED
        self.pending_bytes: int = 0
        self.urgent: bool = False
        self._waiters: dict[CommitWaiter, None] = {}
        self._in_flight: deque[Batch] = deque()
        self._held_now: int = 0

    @property
    @abstractmethod
    def empty(self) -> bool:
        """Nobody waits for the current batch, and nothing in it needs writing, delivery marks aside."""

    @abstractmethod
    def seal(self, closing: bool = False) -> Batch | None:
        """Take the current batch and begin the next; None if it is empty.

        closing: nothing will follow, so delivery marks are worth a batch of their own.
        """

    @abstractmethod
    def settle(self, batch: Batch) -> None:
        """Take note that a batch is durable, before its waiters hear of it; called in batch order."""

    def wait(self, waiter: CommitWaiter) -> int:
        self._waiters[waiter] = None
        self.urgent = True
        return self.batch

    def committed(self, number: int) -> None:
        """Report a sealed batch as durable; its waiters are called once all earlier batches are reported,
        too.

        Raises ValueError for a batch that is not under way.
        """
        in_flight = self._in_flight
        for batch in in_flight:
            if batch.number == number:
                batch.done = True
                break
        else:
            raise ValueError(f"batch {number} is not under way")
        while in_flight and in_flight[0].done:
            batch = in_flight.popleft()
            self.pending_bytes -= batch.held + len(batch.payload)
            self.settled = batch.number
            self.settle(batch)
            for waiter in batch.waiters:
                waiter.committed(batch.number)

    def begin_next(self, payload: bytes) -> Batch:
        """Close the current batch with what has to be written for it; for `seal`."""
        batch = Batch(self.batch, payload, self._waiters)
        self._in_flight.append(batch)
        batch.held = self._held_now
        self.pending_bytes += len(payload)
        self._held_now = 0
        self._waiters = {}
        self.urgent = False
        self.batch += 1
        return batch

"""The reference model: what a broker has to hold, in lists and dictionaries that are obviously right.

It does not predict who gets a message, which is the broker's choice; it is told, and judges: was that message the
one whose turn it was, with the right redelivered flag, to a consumer that had room? Of the store it knows the
number of the batch in which each message came and went, and so what a crash leaves.
"""

from __future__ import annotations

from collections.abc import Iterable

NEVER = 1 << 60


class Entry:
    """A message in one queue. position: rises in publish order. came, gone: batches of the store; came is NEVER for
    what is not stored, gone while it was not removed.
    """

    def __init__(self, queue: ModelQueue, body: bytes, position: int, came: int) -> None:
        self.queue = queue
        self.body = body
        self.position = position
        self.redelivered = False
        self.came = came
        self.gone = NEVER

    def __repr__(self) -> str:
        return f"{self.queue.name}:{self.body.decode()}"


class ModelQueue:
    """entries: all that ever were here, in order; ready: those nobody holds. made, deleted: batches of the store.

    marks: [batch, position]: what was delivered, as far as each batch of the store says.
    """

    def __init__(self, name: str, durable: bool, made: int) -> None:
        self.name = name
        self.durable = durable
        self.made = made
        self.deleted = NEVER
        self.entries: list[Entry] = []
        self.ready: list[Entry] = []
        self.unacked = 0
        self.marks: list[tuple[int, int]] = []
        self.consumers: list[ModelConsumer] = []

    def publish(self, body: bytes, persistent: bool, batch: int) -> Entry:
        position = self.entries[-1].position + 1 if self.entries else 1
        entry = Entry(self, body, position, batch if persistent and self.durable else NEVER)
        self.entries.append(entry)
        self.ready.append(entry)
        return entry

    def take(self, entry: Entry, batch: int, *, marked: bool) -> None:
        """Somebody holds it now. marked: it counts as delivered after a crash."""
        self.ready.remove(entry)
        if marked and entry.came != NEVER:
            self.marks.append((batch, entry.position))

    def remove(self, entry: Entry, batch: int) -> None:
        entry.gone = min(entry.gone, batch)

    def give_back(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.unacked -= 1
            if self.deleted == NEVER:
                entry.redelivered = True
                self.ready.append(entry)
        self.ready.sort(key=lambda entry: entry.position)

    def check_taken(self, taken: list[Entry]) -> None:
        """What was delivered in one turn has to be the head of the queue, all of it and nothing after it."""
        head = self.ready[: len(taken)]
        assert {id(entry) for entry in head} == {id(entry) for entry in taken}, (
            f"{taken} were taken from {self.ready}"
        )

    def after_crash(self, durable_up_to: int) -> ModelQueue:
        """What a start finds, the batches up to this one having been written."""
        found = ModelQueue(self.name, self.durable, 0)
        watermark = max((position for batch, position in self.marks if batch <= durable_up_to), default=0)
        if watermark:
            found.marks.append((0, watermark))
        for entry in self.entries:
            if entry.came <= durable_up_to < entry.gone:
                kept = Entry(found, entry.body, entry.position, 0)
                kept.redelivered = entry.position <= watermark
                found.entries.append(kept)
                found.ready.append(kept)
        return found


class ModelConsumer:
    """prefetch: 0 for no limit; unacked: what it was given and is not settled."""

    def __init__(
        self, channel: ModelChannel, tag: str, queue: ModelQueue, prefetch: int, no_ack: bool
    ) -> None:
        self.channel = channel
        self.tag = tag
        self.queue = queue
        self.prefetch = prefetch
        self.no_ack = no_ack
        self.unacked = 0

    def has_room(self) -> bool:
        """The shared limit, once reached, holds for consumers that do not count towards it, too."""
        shared = self.channel.shared_prefetch
        if shared and self.channel.prefetched >= shared:
            return False
        return self.no_ack or not self.prefetch or self.unacked < self.prefetch


class Held:
    """A delivery that is not settled; consumer: None if it was got."""

    def __init__(self, entry: Entry, consumer: ModelConsumer | None) -> None:
        self.entry = entry
        self.consumer = consumer


class ModelChannel:
    """unacked: by delivery tag. confirms: for each publish in confirm mode its bodies and the batch it waits for.

    waiting: batch after which the one reply that is due comes; nothing is said on the channel until then.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.consumers: dict[str, ModelConsumer] = {}
        self.unacked: dict[int, Held] = {}
        self.prefetched = 0
        self.shared_prefetch = 0
        self.confirm_mode = False
        self.confirms: list[tuple[bytes, int]] = []
        self.confirmed = 0
        self.waiting: tuple[int, str] | None = None
        self.held_publishes: list[tuple[list[str], bytes, bool]] = []
        self.held_settlements: list[tuple[int, Held, str]] = []

    def release(self, held: Held) -> None:
        if held.consumer is not None:
            held.consumer.unacked -= 1
            self.prefetched -= 1

    def expected_confirmed(self, committed: int) -> int:
        """How many publishes are confirmed: those before the first that waits for a batch still."""
        for number, (_, batch) in enumerate(self.confirms):
            if batch > committed:
                return number
        return len(self.confirms)

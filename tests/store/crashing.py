"""A program that commits batches until it is killed, and the calculation of what each of them leaves behind.

Run as `python crashing.py PATH SEED MODE`, where MODE is logged or direct: it prints "start PID-OF-WRITER",
then for each batch N "sent N" before it goes to the writer, "given N" when it has gone, and "done N" when it
is durable. Batch N's changes follow from the seed and N alone, so whoever knows both can tell what must be
there.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import anyio
import anyio.lowlevel

from amqp_broker.broker.message import Message, QueueEntry
from amqp_broker.broker.ports import Definition, Store
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import parse_header
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.process import ProcessCarrier

# A queue's entries by seq, by queue id.
Contents = dict[int, dict[int, bytes]]


class Load:
    """The changes, batch by batch: kept as plain contents, and made to a store if there is one."""

    def __init__(self, seed: int, store: Store | None = None) -> None:
        self.contents: Contents = {queue_id: {} for queue_id in range(1, 5)}
        self.batch = 0
        self._random = random.Random(seed)
        self._next_seq = dict.fromkeys(self.contents, 1)
        self._store = store
        self._entries: dict[tuple[int, int], QueueEntry] = {}
        self._queue = Queue("q", "/", True, {}, store) if store is not None else None

    def change(self) -> None:
        """The changes of the next batch."""
        self.batch += 1
        chosen = self._random
        steps: list[Callable[[], None]] = [self._publish, self._publish, self._fan_out, self._acknowledge]
        for _ in range(chosen.randint(1, 20)):
            chosen.choice(steps)()
        if chosen.random() < 0.05:
            self._purge(chosen.choice(list(self.contents)))
        if self._store is not None:
            self._store.put_definition(Definition("batch", b"number", {"number": self.batch}))

    def _body(self) -> bytes:
        chosen = self._random
        size = chosen.choice((0, 10, 100, 1000, 20_000))
        return chosen.randbytes(size)

    def _publish(self) -> None:
        self._put([self._random.choice(list(self.contents))], self._body())

    def _fan_out(self) -> None:
        self._put(self._random.sample(list(self.contents), 3), self._body())

    def _put(self, queue_ids: list[int], body: bytes) -> None:
        size = len(body).to_bytes(2, "big")
        header = parse_header(b"\0\x3c\0\0" + bytes(6) + size + b"\x10\0\2")
        message = Message(b"\0\1k", header, body)
        for queue_id in queue_ids:
            seq = self._next_seq[queue_id]
            self._next_seq[queue_id] = seq + 1
            self.contents[queue_id][seq] = body
            if self._store is not None and self._queue is not None:
                entry = self._entries[queue_id, seq] = QueueEntry(message, self._queue, seq)
                self._store.put(queue_id, entry)

    def _acknowledge(self) -> None:
        queue_id = self._random.choice(list(self.contents))
        held = self.contents[queue_id]
        for seq in self._random.sample(list(held), min(len(held), 3)):
            del held[seq]
            if self._store is not None:
                self._store.delete(queue_id, self._entries.pop((queue_id, seq)))

    def _purge(self, queue_id: int) -> None:
        held = self.contents[queue_id]
        current = self._store.batch if self._store is not None else 0
        if self._store is not None and held:
            for seq in held:
                entry = self._entries.pop((queue_id, seq))
                if entry.batch == current:
                    self._store.delete(queue_id, entry)
            self._store.delete_range(queue_id, min(held), max(held))
        held.clear()


async def commit_until_killed(path: str, seed: int, mode: str) -> None:
    directory = open_data_directory(path, logged=mode == "logged")
    store = JournalStore(directory.reader)
    carrier = ProcessCarrier(directory)
    await carrier.start()
    store.recover()
    load = Load(seed, store)
    print("start", carrier.pid, flush=True)
    while True:
        load.change()
        batch = store.seal()
        assert batch is not None
        print("sent", load.batch, flush=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(carrier.commit, batch)
            await anyio.lowlevel.checkpoint()
            print("given", load.batch, flush=True)
        store.committed(batch.number)
        print("done", load.batch, flush=True)


if __name__ == "__main__":
    anyio.run(commit_until_killed, sys.argv[1], int(sys.argv[2]), sys.argv[3])

"""The clients of a recorded run: what they do is bounded, and each promise is marked in the trace when it is heard.

A mark says what is about to be done before it is done ("sent", "acking", ...), and what was promised after that was
heard ("confirmed", "settled", ...); `expected` knows what follows from them. In each round all clients do their share
at the same time; after most rounds the broker is left alone for so long that the store comes to rest.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from tests.conversations.client import Client, Reply, TcpTransport
from tests.crash.ledger import Message, message_in
from tests.lying_disk.recording import WRITE, Marks, RecordedBroker, Trace

PLAIN, TAKEN, LARGE, PURGED, DELETED, BARRIER = "plain", "taken", "large", "purged", "deleted", "barrier"
TRANSACTED: Final = ("tx.source", "tx.kept")
MOVED_TO: Final = "tx.moved"
COPIES: Final = ("copy.taken", "copy.kept.1", "copy.kept.2")
FAN: Final = "fan"
KEPT: Final = (PLAIN, TAKEN, LARGE, PURGED, BARRIER, *TRANSACTED, MOVED_TO, *COPIES)
SIZES: Final = (0, 10, 100, 100, 700, 3 << 10, 5 << 10)
VERY_LARGE: Final = 2 << 20
WINDOW: Final = 8
_DURABLE: Final[dict[str, Any]] = {"delivery_mode": 2}
# A pause of the broker after which the store has come to rest, if nothing tells it sooner.
PAUSE: Final = 0.25


def body_of(message: Message, size: int) -> bytes:
    """A body that says whose it is, all through."""
    name = f"{message[0]} {message[1]} ".encode()
    return name + (name * (size // len(name) + 1))[:size]


def is_intact(body: bytes) -> bool:
    message = message_in(body)
    return body == body_of(message, len(body) - len(f"{message[0]} {message[1]} "))


class Worker:
    """A client with a connection. `early` has it mark promises before they were made: a mistake, to be found."""

    def __init__(self, port: int, marks: Marks, source: random.Random, *, early: bool = False) -> None:
        self.client = Client(TcpTransport(port)).handshake(heartbeat=0)
        self.channel = self.client.channel()
        self.marks = marks
        self.source = source
        self.early = early

    def close(self) -> None:
        self.client.close()

    def call(self, before: str, name: str, after: str, queue: str, **arguments: Any) -> None:
        self.marks.add(before, queue)
        self.channel.call(name, queue=queue, **arguments)
        self.marks.add(after, queue)


class Publisher(Worker):
    """Publishes with confirms. Numbers go on from those of the publisher of that name before it."""

    def __init__(self, numbers: dict[str, int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.channel.call("confirm.select")
        self._tag = 0
        self._numbers = numbers

    def publish(self, name: str, queues: tuple[str, ...], sizes: list[int], exchange: str = "") -> None:
        """A window of messages, whose confirms are marked as they come."""
        waiting: dict[int, Message] = {}
        for size in sizes:
            number = self._numbers.setdefault(name, 0)
            self._numbers[name] = number + 1
            self._tag += 1
            message = waiting[self._tag] = (name, number)
            self.marks.add("sent", queues, [message])
            if self.early:
                self.marks.add("confirmed", queues, [message])
            self.channel.publish(
                body_of(message, size),
                exchange=exchange,
                routing_key="" if exchange else queues[0],
                **_DURABLE,
            )
        while waiting:
            reply = self.channel.receive()
            assert reply.name == "basic.ack", reply
            tag = reply["delivery_tag"]
            tags = [each for each in waiting if each <= tag] if reply["multiple"] else [tag]
            self.marks.add("confirmed", queues, [waiting.pop(each) for each in tags])

    def publish_some(self, name: str, *queues: str, exchange: str = "", count: int = WINDOW) -> None:
        self.publish(name, queues, self.source.choices(SIZES, k=count), exchange)

    def purge(self) -> None:
        self.publish_some("purged", PURGED)
        self.call("purging", "queue.purge", "purged", PURGED)
        self.publish_some("purged", PURGED, count=3)

    def delete(self) -> None:
        self.call("declaring", "queue.declare", "declared", DELETED, durable=True)
        self.publish_some("deleted", DELETED)
        if self.source.random() < 0.8:
            self.call("deleting", "queue.delete", "deleted", DELETED)


class Taker(Worker):
    """Takes messages and acknowledges them; what a later confirm covers is settled."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._barriers = self.client.channel()
        self._barriers.call("confirm.select")

    def consume(self, queue: str) -> None:
        self.channel.call("basic.qos", prefetch_count=2 * WINDOW)
        self.channel.consume(queue)

    def take_deliveries(self, queue: str, count: int) -> None:
        self._acknowledge(queue, self.channel.deliveries(count))

    def take(self, queue: str, count: int) -> None:
        taken = [self.channel.get(queue, no_ack=False) for _ in range(count)]
        self._acknowledge(queue, [message for message in taken if message is not None])

    def _acknowledge(self, queue: str, taken: list[Reply]) -> None:
        messages = [message_in(reply.body) for reply in taken]
        self.marks.add("acking", queue, messages)
        for reply in taken:
            self.channel.send("basic.ack", delivery_tag=reply["delivery_tag"])
        self._barriers.publish(b"barrier 0 ", routing_key=BARRIER, **_DURABLE)
        assert self._barriers.receive().name == "basic.ack"
        self.marks.add("settled", queue, messages)


class Transactor(Worker):
    """Publishes to several queues in a transaction, and moves messages from one to another."""

    def __init__(self, numbers: dict[str, int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.channel.call("tx.select")
        self._numbers = numbers

    def publish(self) -> None:
        number = self._numbers.setdefault("tx", 0)
        self._numbers["tx"] = number + 1
        for queue in TRANSACTED:
            self.marks.add("sent", [queue], [("tx", number)])
            self.channel.publish(
                body_of(("tx", number), self.source.choice(SIZES)), routing_key=queue, **_DURABLE
            )
        self.marks.add("committing", TRANSACTED, ("tx", number))
        self.channel.call("tx.commit")
        self.marks.add("committed", ("tx", number))

    def move(self, count: int) -> None:
        for _ in range(count):
            taken = self.channel.get(TRANSACTED[0], no_ack=False)
            if taken is None:
                return
            self.channel.publish(taken.body, routing_key=MOVED_TO, **_DURABLE)
            self.channel.send("basic.ack", delivery_tag=taken["delivery_tag"])
            self.channel.call("tx.commit")
            self.marks.add("moved", message_in(taken.body))


class Load:
    """Rounds of all clients on one broker, which may be started again in between."""

    def __init__(self, broker: RecordedBroker, seed: int, *, early: bool = False) -> None:
        self._broker = broker
        self._marks = Marks(broker.trace)
        self._random = random.Random(seed)
        self._early = early
        self._numbers: dict[str, int] = {}
        self._round = 0
        self._trace = Trace(broker.trace)

    def close(self) -> None:
        self._marks.close()

    def play(self, rounds: int) -> None:
        """So many rounds on the broker as it runs now."""
        self._declare()
        workers: list[Worker] = []
        try:
            shares = self._shares(workers)
            for at in range(rounds):
                self._round += 1
                with ThreadPoolExecutor(len(shares)) as pool:
                    for done in [pool.submit(share) for share in shares]:
                        done.result()
                # Sometimes the next round comes at once, so that more gathers, and the last of all is left so.
                if at + 1 < rounds and self._random.random() < 0.75:
                    self._trace.wait_for("data/store/data.mdb", WRITE, PAUSE)
        finally:
            for worker in workers:
                worker.client.drop()

    def _declare(self) -> None:
        worker = Worker(self._broker.port, self._marks, self._random)
        for queue in KEPT:
            worker.call("declaring", "queue.declare", "declared", queue, durable=True)
        worker.channel.call("exchange.declare", exchange=FAN, type="fanout", durable=True)
        for queue in COPIES:
            worker.channel.bind(queue, FAN)
        worker.close()

    def _shares(self, workers: list[Worker]) -> list[Callable[[], None]]:
        port, marks = self._broker.port, self._marks

        def source() -> random.Random:
            return random.Random(self._random.random())

        def publisher() -> Publisher:
            made = Publisher(self._numbers, port, marks, source(), early=self._early)
            workers.append(made)
            return made

        def taker() -> Taker:
            made = Taker(port, marks, source())
            workers.append(made)
            return made

        plain, taken, large, fan, purging, deleting = (publisher() for _ in range(6))
        consumer, getter, emptier, copies = (taker() for _ in range(4))
        transactor = Transactor(self._numbers, port, marks, source())
        workers.append(transactor)
        consumer.consume(TAKEN)

        def publish_large() -> None:
            if self._round % 3 == 1:
                large.publish("large", (LARGE,), [VERY_LARGE])
            elif self._round % 3 == 0:
                emptier.take(LARGE, 1)

        def transact() -> None:
            for _ in range(3):
                transactor.publish()
            transactor.move(2)

        return [
            lambda: plain.publish_some("plain", PLAIN),
            lambda: taken.publish_some("taken", TAKEN),
            lambda: consumer.take_deliveries(TAKEN, WINDOW),
            lambda: getter.take(PLAIN, WINDOW - 2),
            lambda: fan.publish_some("fan", *COPIES, exchange=FAN),
            lambda: copies.take(COPIES[0], WINDOW - 2),
            publish_large,
            transact,
            purging.purge,
            deleting.delete,
        ]


def record(broker: RecordedBroker, seed: int, rounds: int, *, early: bool = False) -> None:
    """A run from the first start on: in the middle everything is killed, and at the end the broker ends by itself."""
    load = Load(broker, seed, early=early)
    try:
        broker.start()
        load.play(rounds - rounds // 2)
        broker.kill_between_calls()
        broker.start()
        load.play(rounds // 2)
        assert broker.stop() == 0, broker.stderr()
    finally:
        load.close()
        broker.kill()

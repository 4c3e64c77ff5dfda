"""The clients of a crash test: publishers, consumers and movers that write down what they were promised.

All run on one event loop, each on a connection of its own, until the broker dies under them. They never
judge: that is the ledger's business. A client that fails while the broker lives is an error of the test run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from tests.crash.ledger import Ledger, QueueLedger, Transaction, body_of, message_in

SINGLE, WINDOW, COPY, TX, MOVED, BARRIER = "single", "window", "copy", "tx", "moved", "barrier"
COPIES: Final = ("copy.consumed", "copy.kept.1", "copy.kept.2")
TRANSACTED: Final = ("tx.moved from", "tx.kept.1", "tx.kept.2")
MOVED_TO: Final = "tx.moved to"
REJECTED, LIMITED = "rejected", "limited"
DEATHS: Final = ((REJECTED, "rejected.dead"), (LIMITED, "limited.dead"))
QUEUES: Final = (SINGLE, WINDOW, *COPIES, *TRANSACTED, MOVED_TO, *DEATHS[0], *DEATHS[1])
ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    REJECTED: {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "rejected.dead"},
    LIMITED: {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "limited.dead",
        "x-max-length": 5,
        "x-max-length-bytes": 100_000,
    },
}
FAN: Final = "fan"
WINDOW_SIZE: Final = 40
BIG: Final = 300_000
FINISH_SECONDS: Final = 30.0
PROMISE_SECONDS: Final = 20.0
CONFIRM, COMMIT, SETTLED = PROMISES = ("confirm", "commit", "settled")

Worker = Callable[[], Awaitable[None]]


def crash_seed() -> int:
    """That of AMQP_CRASH_SEED; one by chance where AMQP_CRASH_ROUNDS asks for many rounds; else always the same."""
    by_chance = random.randrange(1 << 32) if "AMQP_CRASH_ROUNDS" in os.environ else 1
    return int(os.environ.get("AMQP_CRASH_SEED", by_chance))


def ignore(_promise: str) -> None:
    """What `Load.on_promise` does until a test wants to know."""


class Load:
    """`declare`, `start`, and after the kill `finish`; `failures` tells what ended before its time.

    queues: what it declares, with `arguments` for some of them. on_promise: called whenever the ledger was told of
    something that the broker promised just now, with one of CONFIRM, COMMIT and SETTLED. That moment is the hardest to
    keep the promise in.
    """

    queues: tuple[str, ...] = QUEUES
    arguments: dict[str, dict[str, Any]] = ARGUMENTS

    def __init__(self, port: int, ledger: Ledger, source: random.Random) -> None:
        self.on_promise: Callable[[str], None] = ignore
        self._url = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._ledger = ledger
        self._random = source
        self._connections: list[AbstractConnection] = []
        self._tasks: list[asyncio.Task[None]] = []
        ledger.moves = [(TRANSACTED[0], MOVED_TO)]
        ledger.copies = [COPIES[1:]]
        ledger.deaths = list(DEATHS)

    async def _connect(self) -> AbstractConnection:
        connection = await aio_pika.connect(self._url)
        self._connections.append(connection)
        return connection

    def reconnect(self, port: int) -> None:
        """Whoever connects from now on does so there, after the broker came back."""
        self._url = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._tasks, self._connections = [], []
        self.on_promise = ignore

    async def declare(self) -> None:
        channel = await (await self._connect()).channel()
        exchange = await channel.declare_exchange(FAN, ExchangeType.FANOUT, durable=True)
        for name in (*self.queues, BARRIER):
            queue = await channel.declare_queue(name, durable=True, arguments=self.arguments.get(name))
            if name in COPIES:
                await queue.bind(exchange)

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._until_the_end(worker)) for worker in self._workers()]

    def _workers(self) -> list[Worker]:
        return [
            self._publish_one_by_one,
            self._publish_in_windows,
            self._publish_to_all,
            self._publish_transactions,
            self._move,
            lambda: self._publish_to_die(REJECTED),
            lambda: self._publish_to_die(LIMITED),
            self._reject,
            lambda: self._consume(SINGLE),
            lambda: self._consume(WINDOW),
            lambda: self._consume(COPIES[0]),
        ]

    async def _until_the_end(self, worker: Worker) -> None:
        await worker()

    def failures(self) -> list[BaseException | None]:
        """The errors of clients that have ended although the broker lives."""
        return [task.exception() for task in self._tasks if task.done()]

    async def finish(self) -> None:
        """Let the clients go, whether the broker is dead or lives. Raises TimeoutError if one stays.

        They are told again and again: a call with a time limit may end with its answer although its task was
        cancelled, if both come in the same turn (asyncio.wait_for, until Python 3.12), and then that is forgotten.
        """
        async with asyncio.timeout(FINISH_SECONDS):
            pending = set(self._tasks)
            while pending:
                for task in pending:
                    task.cancel()
                _, pending = await asyncio.wait(pending, timeout=0.1)
            closing = (asyncio.wait_for(connection.close(), 5) for connection in self._connections)
            await asyncio.gather(*self._tasks, *closing, return_exceptions=True)

    def _message(self, queue: QueueLedger | None, body: bytes) -> Message:
        return Message(
            body, delivery_mode=DeliveryMode.PERSISTENT, headers={"queue": queue.name if queue else ""}
        )

    def _source(self) -> random.Random:
        """Chances for one client: what it chooses then does not depend on how fast the others are."""
        return random.Random(self._random.random())

    async def _publish_one_by_one(self) -> None:
        source = self._source()
        channel = await (await self._connect()).channel()
        queue = self._ledger.queues[SINGLE]
        while True:
            message = queue.send("single")
            await channel.default_exchange.publish(
                self._message(queue, body_of(message, padding(source))), SINGLE
            )
            queue.confirmed.add(message)
            self.on_promise(CONFIRM)
            # A message that is not persistent must not be there after the crash; the ledger does not know it.
            await channel.default_exchange.publish(Message(b"transient 0 "), SINGLE)

    async def _publish_in_windows(self) -> None:
        source = self._source()
        channel = await (await self._connect()).channel()
        queue = self._ledger.queues[WINDOW]

        async def publish() -> None:
            message = queue.send("window")
            await channel.default_exchange.publish(
                self._message(queue, body_of(message, padding(source))), WINDOW
            )
            queue.confirmed.add(message)
            self.on_promise(CONFIRM)

        while True:
            async with asyncio.TaskGroup() as window:
                for _ in range(WINDOW_SIZE):
                    window.create_task(publish())

    async def _publish_to_all(self) -> None:
        source = self._source()
        channel = await (await self._connect()).channel()
        exchange = await channel.get_exchange(FAN)
        queues = [self._ledger.queues[name] for name in COPIES]

        async def publish() -> None:
            messages = [queue.send("fan") for queue in queues]
            await exchange.publish(self._message(None, body_of(messages[0], padding(source))), "")
            for queue, message in zip(queues, messages, strict=True):
                queue.confirmed.add(message)
            self.on_promise(CONFIRM)

        while True:
            async with asyncio.TaskGroup() as window:
                for _ in range(WINDOW_SIZE // 4):
                    window.create_task(publish())

    async def _publish_to_die(self, name: str) -> None:
        """Few at a time, so that the deaths keep up with the publishes."""
        source = self._source()
        channel = await (await self._connect()).channel()
        queue = self._ledger.queues[name]

        async def publish() -> None:
            message = queue.send("dying")
            await channel.default_exchange.publish(
                self._message(queue, body_of(message, padding(source))), name
            )
            queue.confirmed.add(message)
            self.on_promise(CONFIRM)

        while True:
            async with asyncio.TaskGroup() as window:
                for _ in range(WINDOW_SIZE // 8):
                    window.create_task(publish())

    async def _reject(self) -> None:
        channel = await (await self._connect()).channel()
        await channel.set_qos(prefetch_count=10)

        async def on_message(delivered: AbstractIncomingMessage) -> None:
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):
                await delivered.reject(requeue=False)

        await (await channel.get_queue(REJECTED)).consume(on_message)
        await asyncio.Event().wait()

    async def _publish_transactions(self) -> None:
        source = self._source()
        channel = await (await self._connect()).channel(publisher_confirms=False)
        work = channel.transaction()
        await work.select()
        while True:
            members = []
            for _ in range(source.randint(2, 6)):
                name = source.choice(TRANSACTED)
                members.append((name, self._ledger.queues[name].send("tx")))
            transaction = Transaction(members)
            self._ledger.transactions.append(transaction)
            for name, message in members:
                body = body_of(message, padding(source))
                await channel.default_exchange.publish(self._message(self._ledger.queues[name], body), name)
            await work.commit()
            transaction.committed = True
            for name, message in members:
                self._ledger.queues[name].confirmed.add(message)
            self.on_promise(COMMIT)

    async def _move(self) -> None:
        source = self._source()
        channel = await (await self._connect()).channel(publisher_confirms=False)
        work = channel.transaction()
        await work.select()
        origin, target = self._ledger.moves[0]
        queue = await channel.get_queue(origin)
        while True:
            delivered = await queue.get(fail=False, timeout=None)
            if delivered is None:
                await asyncio.sleep(0.001)
                continue
            for attempt in range(source.choice([1, 1, 1, 2])):
                if attempt:
                    await work.rollback()
                await channel.default_exchange.publish(self._message(None, delivered.body), target)
                await channel_ack(channel, delivered)
            await work.commit()
            self._ledger.moved.add(message_in(delivered.body))
            self.on_promise(COMMIT)

    async def _consume(self, name: str) -> None:
        source = self._source()
        connection = await self._connect()
        channel, barriers = await connection.channel(), await connection.channel()
        await channel.set_qos(prefetch_count=30)
        ledger = self._ledger.queues[name]
        sent: set[tuple[str, int]] = set()

        async def on_message(delivered: AbstractIncomingMessage) -> None:
            message = message_in(delivered.body)
            if not delivered.redelivered and source.random() < 0.02:
                await delivered.nack(requeue=True)
                return
            if message[0] != "transient":
                ledger.acknowledged.add(message)
            try:
                await delivered.ack()
            except CONNECTION_EXCEPTIONS:
                return
            sent.add(message)

        await (await channel.get_queue(name)).consume(on_message)
        while True:
            covered = set(sent)
            await barriers.default_exchange.publish(self._message(None, b"barrier 0 "), BARRIER)
            ledger.settled |= covered - {("transient", 0)}
            sent -= covered
            self.on_promise(SETTLED)
            await asyncio.sleep(0.005)


def padding(source: random.Random) -> int:
    """How many octets follow the name of a message."""
    return BIG if source.random() < 0.005 else source.choice([0, 10, 100, 100, 1000, 5000])


async def channel_ack(channel: AbstractChannel, delivered: AbstractIncomingMessage) -> None:
    """Acknowledge on the wire, also a second time after a rollback, which aio-pika's message would refuse."""
    underlay = await channel.get_underlay_channel()
    assert delivered.delivery_tag is not None
    await underlay.basic_ack(delivered.delivery_tag)


async def promise_of(load: Load, kind: str, react: Callable[[], None]) -> None:
    """Call `react` inside the callback that learns of the next promise of that kind."""
    reacted = asyncio.Event()

    def on_promise(promise: str) -> None:
        if promise == kind and not reacted.is_set():
            reacted.set()
            react()

    load.on_promise = on_promise
    await asyncio.wait_for(reacted.wait(), PROMISE_SECONDS)

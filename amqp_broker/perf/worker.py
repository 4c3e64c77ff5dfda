"""A process's share of a run: its connections, its agents, and the samples taken of them.

`LocalWorker` does the work in this event loop; `RemoteWorker` is the same port to a `LocalWorker` in a child
process. A worker is told when to start and stop; it judges nothing but whether the broker failed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final, cast

from amqp_broker.perf import methods
from amqp_broker.perf.agents import Consumer, Producer
from amqp_broker.perf.connection import Connection, PerfFailure, millisecond_clock, open_connection
from amqp_broker.perf.frames import ConfirmWindow, PublishBurst
from amqp_broker.perf.latency import Histogram
from amqp_broker.perf.loop import run_in_loop
from amqp_broker.perf.pacer import Pacer
from amqp_broker.perf.settings import Settings
from amqp_broker.perf.topology import declare_own_queue

OPENING_AT_ONCE: Final = 16
CLOSE_SECONDS: Final = 5.0

LatencyState = tuple[int, int, int, int, dict[int, int]]


@dataclass(frozen=True)
class Sample:
    """Counts since the start, moments in ns (0: not yet), latencies since the sample before."""

    sent: int
    returned: int
    confirmed: int
    nacked: int
    received: int
    producers_running: int
    consumers_running: int
    first_sent: int
    finished_sending: int
    first_received: int
    last_received: int
    consumer_latency: LatencyState
    confirm_latency: LatencyState
    notices: tuple[str, ...]
    failure: str


class Worker(ABC):
    """Called by the run in this order: prepare, start, any number of samples, stop_producers, close."""

    @abstractmethod
    async def prepare(self) -> None:
        """Connect everything and start consuming. Raises PerfFailure."""

    @abstractmethod
    async def start(self) -> None:
        """Let the producers begin."""

    @abstractmethod
    async def sample(self) -> Sample:
        """Take counts, and the latencies recorded since the last call."""

    @abstractmethod
    async def stop_producers(self) -> None:
        """Let the producers send no more; they finish when all is confirmed."""

    @abstractmethod
    async def close(self) -> None:
        """Acknowledge what is left and close every connection; safe after a failure, and twice."""


class LocalWorker(Worker):
    """Runs its share in the current event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock: Callable[[], int] = millisecond_clock if settings.use_millis else time.monotonic_ns
        self._consumer_latency = Histogram()
        self._confirm_latency = Histogram()
        self._connections: list[Connection] = []
        self._producers: list[Producer] = []
        self._consumers: list[Consumer] = []
        self._finishing: list[asyncio.Task[None]] = []
        self._notices: list[str] = []
        self._failure = ""

    async def prepare(self) -> None:
        share = self._settings
        await self._all(
            self._open_consumer, range(share.first_consumer, share.first_consumer + share.consumers)
        )
        await self._all(
            self._open_producer, range(share.first_producer, share.first_producer + share.producers)
        )

    async def start(self) -> None:
        settings = self._settings
        now = asyncio.get_running_loop().time()
        for index, producer in enumerate(self._producers):
            pacer = None
            if settings.rate:
                # phases spread over one period: many slow producers make a steady stream, not a salvo
                pacer = Pacer(settings.rate, now + index / len(self._producers) / settings.rate)
            producer.start(pacer)
            self._finishing.append(asyncio.create_task(self._finish(producer)))

    async def sample(self) -> Sample:
        self._check_confirms()
        consumer_latency, confirm_latency = self._consumer_latency.state(), self._confirm_latency.state()
        self._consumer_latency.clear()
        self._confirm_latency.clear()
        notices, self._notices = tuple(self._notices), []
        windows = [
            producer.inbox.confirms for producer in self._producers if producer.inbox.confirms is not None
        ]
        return Sample(
            sent=sum(producer.sent for producer in self._producers),
            returned=sum(producer.inbox.returned for producer in self._producers),
            confirmed=sum(window.confirmed for window in windows),
            nacked=sum(window.nacked for window in windows),
            received=sum(consumer.inbox.deliveries for consumer in self._consumers),
            producers_running=sum(not producer.finished for producer in self._producers),
            consumers_running=sum(not consumer.done for consumer in self._consumers),
            first_sent=first(producer.first_sent for producer in self._producers),
            finished_sending=max((producer.finished for producer in self._producers), default=0),
            first_received=first(consumer.first_received for consumer in self._consumers),
            last_received=max((consumer.last_received for consumer in self._consumers), default=0),
            consumer_latency=consumer_latency,
            confirm_latency=confirm_latency,
            notices=notices,
            failure=self._failure,
        )

    async def stop_producers(self) -> None:
        for producer in self._producers:
            producer.stop()

    async def close(self) -> None:
        for task in self._finishing:
            task.cancel()
        await asyncio.gather(*self._finishing, return_exceptions=True)
        for consumer in self._consumers:
            consumer.acknowledge_rest()
        connections, self._connections = self._connections, []
        await asyncio.gather(*(connection.close(CLOSE_SECONDS) for connection in connections))

    async def _all(self, opening: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
        """Open all, a few at a time: a broker's backlog of waiting connections is short."""
        places = asyncio.Semaphore(OPENING_AT_ONCE)

        async def in_turn(number: int) -> None:
            async with places:
                await opening(number)

        tasks = [asyncio.create_task(in_turn(number)) for number in numbers]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self) -> Connection:
        connection = await open_connection(self._settings, self._consumer_latency, self._clock)
        connection.on_failure = self._failed
        connection.on_notice = self._notices.append
        self._connections.append(connection)
        return connection

    async def _open_consumer(self, number: int) -> None:
        settings = self._settings
        connection = await self._connect()
        ack_every = 0 if settings.autoack else max(1, settings.multi_ack_every)
        for _ in range(settings.consumer_channels):
            inbox = await connection.open_channel()
            consumer = Consumer(connection, inbox, ack_every, settings.consumer_messages)
            connection.attach(inbox.number, consumer)
            self._consumers.append(consumer)
            channel = inbox.number
            queues = settings.queues_for(number) or (await declare_own_queue(connection, channel, settings),)
            for prefetch, whole_channel in ((settings.qos, False), (settings.global_qos, True)):
                if prefetch:
                    qos = methods.pack_qos(prefetch, whole_channel)
                    await connection.call(channel, qos, methods.BASIC_QOS_OK)
            for position, queue in enumerate(queues):
                consume = methods.pack_consume(queue, f"perf-{position}", settings.autoack)
                await connection.call(channel, consume, methods.BASIC_CONSUME_OK)

    async def _open_producer(self, number: int) -> None:
        settings = self._settings
        connection = await self._connect()
        exchange = "" if settings.default_exchange else settings.exchange
        publish = methods.pack_publish(exchange, settings.key_for(number), settings.mandatory)
        header = methods.pack_content_header(settings.size, settings.persistent)
        for _ in range(settings.producer_channels):
            window = ConfirmWindow(settings.confirm, self._confirm_latency) if settings.confirm else None
            inbox = await connection.open_channel(window)
            if window is not None:
                await connection.call(inbox.number, methods.pack_confirm_select(), methods.CONFIRM_SELECT_OK)
            burst = PublishBurst(inbox.number, publish, header, settings.size, connection.frame_max)
            producer = Producer(connection, inbox, burst, settings.producer_messages)
            connection.attach(inbox.number, producer)
            self._producers.append(producer)

    async def _finish(self, producer: Producer) -> None:
        try:
            await producer.finish()
        except PerfFailure as failed:
            self._failed(str(failed))

    def _failed(self, text: str) -> None:
        self._failure = self._failure or text

    def _check_confirms(self) -> None:
        """A broker that owes a confirm for too long has failed (PerfTest's --confirm-timeout)."""
        limit = self._settings.confirm_timeout
        oldest = first(p.inbox.confirms.oldest() for p in self._producers if p.inbox.confirms is not None)
        if oldest and limit and self._clock() - oldest > limit * 1_000_000_000:
            self._failed(f"a message has waited {limit:g} s for its confirm")


def first(moments: Iterable[int]) -> int:
    """The earliest of the moments that have come; 0 if none has."""
    return min(filter(None, moments), default=0)


class RemoteWorker(Worker):
    """A LocalWorker in a child process, driven over a pipe: one request, one answer."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve_worker, args=(settings, theirs), daemon=True)
        self._process.start()
        theirs.close()

    async def prepare(self) -> None:
        await self._ask("prepare")

    async def start(self) -> None:
        await self._ask("start")

    async def sample(self) -> Sample:
        return cast(Sample, await self._ask("sample"))

    async def stop_producers(self) -> None:
        await self._ask("stop_producers")

    async def close(self) -> None:
        try:
            await self._ask("close")
        except PerfFailure:
            # a child that is gone has closed its connections
            return
        finally:
            self._pipe.close()
            await asyncio.to_thread(self._process.join, CLOSE_SECONDS)
            if self._process.is_alive():
                self._process.terminate()

    async def _ask(self, request: str) -> object:
        try:
            answer, failure = await asyncio.to_thread(self._exchange, request)
        except (EOFError, OSError) as gone:
            raise PerfFailure("a worker process ended unexpectedly") from gone
        if failure:
            raise PerfFailure(failure)
        return answer

    def _exchange(self, request: str) -> tuple[object, str]:
        self._pipe.send(request)
        return cast(tuple[object, str], self._pipe.recv())


def serve_worker(settings: Settings, pipe: Pipe[Any, Any]) -> None:
    """The child's main: answer requests until `close` or until the parent is gone."""
    # an interrupt from the keyboard reaches the whole group; the parent is the one to act on it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_in_loop(answer_requests(LocalWorker(settings), pipe))


async def answer_requests(worker: Worker, pipe: Pipe[Any, Any]) -> None:
    requests: dict[str, Callable[[], Awaitable[object]]] = {
        "prepare": worker.prepare,
        "start": worker.start,
        "sample": worker.sample,
        "stop_producers": worker.stop_producers,
        "close": worker.close,
    }
    request = ""
    while request != "close":
        try:
            request = await asyncio.to_thread(pipe.recv)
        except EOFError:
            await worker.close()
            return
        answer: object = None
        failure = ""
        try:
            answer = await requests[request]()
        except PerfFailure as failed:
            failure = str(failed)
        pipe.send((answer, failure))

"""The tasks of the scenarios: what the worker runs."""

from __future__ import annotations

import asyncio
import time

from harness import PREFIX, URL
from taskiq import SimpleRetryMiddleware
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from workers import Notes

notes = Notes()
DEFAULT, RANKED = f"{PREFIX}-taskiq", f"{PREFIX}-ranked"
broker = AioPikaBroker(
    URL,
    qos=1,
    exchange=Exchange(name=f"{PREFIX}-taskiq"),
    task_queues=[Queue(name=DEFAULT), Queue(name=RANKED, type=QueueType.CLASSIC, max_priority=10)],
    dead_letter_queue=Queue(name=f"{PREFIX}-dead"),
    delay_queue=Queue(name=f"{PREFIX}-delay", type=QueueType.CLASSIC),
).with_middlewares(SimpleRetryMiddleware(default_retry_count=5))


@broker.task(queue_name=DEFAULT)
async def note(text: str) -> None:
    notes.add(f"note {text}")


@broker.task(queue_name=DEFAULT, retry_on_error=True)
async def third_time() -> None:
    notes.add("try")
    if len(notes.lines("try")) < 3:
        raise ValueError("not yet")


@broker.task(queue_name=DEFAULT)
async def when() -> None:
    notes.add(f"when {time.time()}")


@broker.task(queue_name=RANKED)
async def ranked(priority: int) -> None:
    notes.add(f"ranked {priority}")


@broker.task(queue_name=DEFAULT)
async def survivor() -> None:
    notes.add("survivor")
    while len(notes.lines("survivor")) < 2:  # noqa: ASYNC110 - the other is another process
        await asyncio.sleep(0.02)
    notes.add("survived")

"""The actors of the scenarios: what the worker runs."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from harness import PREFIX, URL
from workers import Notes

notes = Notes()
broker = RabbitmqBroker(url=URL, confirm_delivery=True, max_priority=10)
dramatiq.set_broker(broker)
QUEUE = f"{PREFIX}-actors"


@dramatiq.actor(queue_name=QUEUE)
def note(text: str) -> str:
    notes.add(f"note {text}")
    return text


@dramatiq.actor(queue_name=QUEUE, min_backoff=50, max_backoff=100, max_retries=5)
def third_time(name: str) -> None:
    notes.add(f"try {name}")
    if len(notes.lines(f"try {name}")) < 3:
        raise ValueError("not yet")


@dramatiq.actor(queue_name=QUEUE)
def when() -> None:
    notes.add(f"when {time.time()}")


@dramatiq.actor(queue_name=QUEUE, max_retries=0)
def hopeless() -> None:
    notes.add("hopeless")
    raise ValueError("never")


@dramatiq.actor(queue_name=QUEUE)
def plus(amount: int, number: int) -> int:
    notes.add(f"plus {amount + number}")
    return amount + number

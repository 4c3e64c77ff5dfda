"""The Celery application of the scenarios: what the worker runs."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery, Task
from harness import PREFIX, URL
from kombu import Queue
from workers import Notes

notes = Notes()
app = Celery("tasks", broker=URL, backend=os.environ.get("CELERY_BACKEND", "rpc://"))
app.conf.update(
    task_default_queue=f"{PREFIX}-default",
    task_queues=[
        Queue(f"{PREFIX}-default"),
        Queue(f"{PREFIX}-other"),
        Queue(f"{PREFIX}-ranked", queue_arguments={"x-max-priority": 10}),
    ],
    task_routes={
        "tasks.elsewhere": {"queue": f"{PREFIX}-other"},
        "tasks.ranked": {"queue": f"{PREFIX}-ranked"},
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
)


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time(self: Task) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task
def when() -> float:
    return time.time()


@app.task
def wrong() -> None:
    raise ValueError("as it should")


@app.task(bind=True)
def elsewhere(self: Task) -> Any:
    return self.request.delivery_info["routing_key"]


@app.task
def ranked(name: str) -> None:
    notes.add(f"ranked {name}")


@app.task
def busy(name: str) -> None:
    """Runs until a note lets it go."""
    notes.add(f"busy {name}")
    while not notes.lines(f"free {name}"):
        time.sleep(0.02)


@app.task
def forbidden() -> None:
    notes.add("forbidden ran")


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def survivor(self: Task) -> str:
    redelivered = self.request.delivery_info["redelivered"]
    notes.add(f"survivor {redelivered}")
    while not redelivered:
        time.sleep(0.02)
    return "survived"

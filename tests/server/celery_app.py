"""A small Celery application: the tests make it to send tasks, and run this file as the worker that does them.

`make_app` names everything that an application declares on its broker, so that several can use one broker at
once. As a program it is `celery worker`; the arguments of its `make_app` come in the environment, as
`environment_for` writes them. It imports Celery alone, as a user's own module would.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from celery import Celery, Task

VARIABLE: Final = "CELERY_APP"
PATIENCE: Final = 30.0
_serial = itertools.count(1)


def make_app(url: str, name: str, settings: Mapping[str, object]) -> Celery:
    """An application with the queue `name`, whose exchanges' names begin with it; `settings` are Celery's."""
    app = Celery(name, broker=url, backend="rpc://", set_as_current=False)
    app.conf.update(
        task_default_queue=name,
        control_exchange=f"{name}.control",
        event_exchange=f"{name}.events",
        broker_connection_retry_on_startup=True,
        worker_send_task_events=True,
        **settings,
    )
    for task in (add, fail, fail_once, now, place, attend):
        app.task(name=task.__name__, bind=task in (fail_once, attend), acks_late=task is attend)(task)
    return app


def environment_for(url: str, name: str, settings: Mapping[str, object]) -> dict[str, str]:
    """What this file, run as a program, needs to make the same application."""
    return {VARIABLE: json.dumps({"url": url, "name": name, "settings": settings})}


def add(augend: int, addend: int) -> int:
    return augend + addend


def fail(reason: str) -> None:
    raise ValueError(reason)


def fail_once(task: Task[Any, Any]) -> int:
    """The number of retries that it took: one."""
    if not task.request.retries:
        raise task.retry(countdown=0.1)
    return int(task.request.retries)


def now() -> float:
    return time.time()


def place() -> int:
    """How many of these the process has done, this one included."""
    return next(_serial)


def attend(task: Task[Any, Any], port: int) -> bool:
    """Knock at the gate on this port, say who does, and return once it is opened: whether it was redelivered."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as gate:
        gate.sendall(f"{task.request.hostname}\n".encode())
        gate.recv(1)
    return bool(task.request.delivery_info["redelivered"])


if __name__ == "__main__":
    make_app(**json.loads(os.environ[VARIABLE])).worker_main(["worker", *sys.argv[1:]])

"""Celery as its users use it: a worker of its own process, tasks sent from here."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import Any

from celery import Celery, chain, chord, group
from harness import PREFIX, control, main, same, until
from tasks import (
    add,
    app,
    busy,
    elsewhere,
    forbidden,
    notes,
    ranked,
    survivor,
    third_time,
    when,
    wrong,
)
from workers import Worker

SECONDS = 60
running: list[Worker] = []


def start_worker() -> Worker:
    known = set(ping())
    name = f"w{time.monotonic_ns()}@localhost"
    worker = Worker("celery", "-A", "tasks", "worker", "-c", "1", "-l", "info", "-n", name)
    until(lambda: set(ping()) - known or worker.process.poll() is not None, "the worker's pong", SECONDS)
    assert worker.process.poll() is None, worker.said()[-400:]
    running.append(worker)
    return worker


def ping() -> list[str]:
    return [name for answer in app.control.ping(timeout=0.7) for name in answer]


def worker() -> Worker:
    """The one that runs, or a new one."""
    if not running or running[-1].process.poll() is not None:
        return start_worker()
    return running[-1]


def result(asked: Any) -> Any:
    return asked.get(timeout=SECONDS)


def task_result() -> None:
    worker()
    same([result(add.delay(n, n)) for n in range(10)], [2 * n for n in range(10)])


def retry() -> None:
    worker()
    same(result(third_time.delay()), 2)


def eta() -> None:
    worker()
    before = time.time()
    ran = result(when.apply_async(countdown=1.5))
    same(ran - before >= 1.5, True, f"after {ran - before:.2f} s")


def chain_and_group() -> None:
    worker()
    same(result(chain(add.s(1, 2), add.s(10), add.s(100)).delay()), 113)
    same(result(group(add.s(n, n) for n in range(5)).delay()), [0, 2, 4, 6, 8])


def chord_of_tasks() -> str:
    """The RPC backend has no chords, so results go to files here, and the counting over the broker."""
    folder = tempfile.mkdtemp(prefix="celery-")
    os.environ["CELERY_BACKEND"] = f"file://{folder}"
    counting = None
    try:
        own = Celery("tasks", broker=app.conf.broker_url, backend=f"file://{folder}")
        own.conf.task_default_queue = f"{PREFIX}-chord"
        arguments = ("-A", "tasks", "-b", app.conf.broker_url, "--result-backend", f"file://{folder}")
        counting = Worker(
            "celery", *arguments, "worker", "-c", "1", "-Q", f"{PREFIX}-chord", "-n", "chord@localhost"
        )
        header = [own.signature("tasks.add", (n, n), queue=f"{PREFIX}-chord") for n in range(5)]
        body = own.signature("tasks.total", queue=f"{PREFIX}-chord")
        same(result(chord(header, app=own)(body)), 20)
    finally:
        del os.environ["CELERY_BACKEND"]
        if counting is not None:
            counting.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return "with results in files; its own RPC backend has none"


def priorities() -> None:
    worker()
    busy.delay("priorities")
    until(lambda: notes.lines("busy priorities"), "a busy worker")
    for priority in (1, 5, 9, 3):
        ranked.apply_async((str(priority),), priority=priority)
    # One of them may have been prefetched before the others came.
    notes.add("free priorities")
    until(lambda: len(notes.lines("ranked")) == 4, "the four tasks", SECONDS)
    order = [int(line.split()[1]) for line in notes.lines("ranked")]
    first, rest = order[0], order[1:]
    same(rest, sorted(rest, reverse=True), f"after {first}")


def routing() -> None:
    worker()
    same(result(elsewhere.delay()), f"{PREFIX}-other")


def late_ack_killed_worker() -> None:
    doomed = worker()
    asked = survivor.delay()
    until(lambda: notes.lines("survivor False"), "the task begins", SECONDS)
    doomed.kill()
    start_worker()
    same(result(asked), "survived")


def error_result() -> None:
    worker()
    try:
        result(wrong.delay())
    except ValueError as error:
        same(str(error), "as it should")
        return
    raise AssertionError("no error was raised")


def revoke() -> None:
    worker()
    busy.delay("revoke")
    until(lambda: notes.lines("busy revoke"), "a busy worker")
    doomed = forbidden.delay()
    app.control.revoke(doomed.id, reply=True, timeout=5)
    notes.add("free revoke")
    try:
        result(doomed)
    except Exception as error:  # its kind is what is looked at
        same(type(error).__name__, "TaskRevokedError")
    same(result(add.delay(1, 1)), 2)
    same(notes.lines("forbidden"), [])


def inspect() -> str:
    worker()
    same(len(ping()) >= 1, True)
    (stats,) = app.control.inspect(timeout=5).stats().values()
    queues = next(iter(app.control.inspect(timeout=5).active_queues().values()))
    same({queue["name"] for queue in queues} >= {f"{PREFIX}-default", f"{PREFIX}-other"}, True)
    return f"transport {stats['broker']['transport']}"


def broker_restart() -> None:
    worker()
    same(result(add.delay(1, 1)), 2)
    control("restart")

    def works() -> bool:
        try:
            return add.delay(2, 3).get(timeout=5) == 5
        except Exception:  # whatever is not a result is tried again
            return False

    until(works, "a result after the restart", SECONDS)


if __name__ == "__main__":
    try:
        main(
            {
                "task-result": task_result,
                "retry": retry,
                "eta": eta,
                "chain-and-group": chain_and_group,
                "chord": chord_of_tasks,
                "priorities": priorities,
                "routing": routing,
                "late-ack-killed-worker": late_ack_killed_worker,
                "error-result": error_result,
                "revoke": revoke,
                "inspect": inspect,
                "broker-restart": broker_restart,
            }
        )
    finally:
        for each in running:
            each.kill()
        notes.end()

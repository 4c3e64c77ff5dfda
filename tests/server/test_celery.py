"""Celery against the broker: real workers as processes of their own, results by rpc://, remote control, events.

Most tests share one worker with one process and a prefetch multiplier of three. A `Gate` shows when a task has
begun and lets it end; the worker itself is asked for everything else, by Celery's remote control.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from celery import Celery, chain, group
from celery.app.control import Inspect
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from kombu import Queue, pools
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.blocking import ready
from tests.server.celery_app import PATIENCE, environment_for, make_app
from tests.server.target import Names, RunningBroker

PROGRAM: Final = Path(__file__).with_name("celery_app.py")
MULTIPLIER: Final = 3
HOUR: Final = 3600
# What the broker counts in, seconds: a message may leave a queue where it waits a part of it sooner.
TICK: Final = 0.001
CLASSIC: Final = {
    "worker_prefetch_multiplier": MULTIPLIER,
    "broker_transport_options": {"confirm_publish": True},
}
QUORUM: Final = {
    "task_default_queue_type": "quorum",
    "task_default_exchange_type": "topic",
    "worker_detect_quorum_queues": True,
}
# What native delayed delivery declares: a queue and an exchange for each bit of the seconds to wait.
DELAYED: Final = [f"celery_delayed_{bit}" for bit in range(28)]


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Ask until the answer is yes; every question is a round trip to a broker or a worker."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


class Gate:
    """Where the task `attend` knocks and waits."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._visitors: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def visitor(self) -> str:
        """The name of the worker whose task knocks next."""
        visitor, _ = self._listener.accept()
        visitor.settimeout(PATIENCE)
        self._visitors.append(visitor)
        with visitor.makefile("r") as lines:
            return lines.readline().rstrip("\n")

    def open(self) -> None:
        for visitor in self._visitors:
            visitor.close()
        self._visitors.clear()

    def close(self) -> None:
        self.open()
        self._listener.close()


class Worker:
    """A worker process with one process for tasks, and what it writes."""

    def __init__(self, app: Celery, label: str, environment: Mapping[str, str], log: Path) -> None:
        self._app = app
        self._log = log
        self.name = f"{label}@here"
        command = [sys.executable, str(PROGRAM), "--concurrency=1", f"--hostname={self.name}"]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [*command, "--loglevel=INFO"],
                # Pools leave a directory behind; here it goes with the test's own.
                env=os.environ | environment | {"TMPDIR": str(log.parent)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def inspect(self) -> Inspect:
        return self._app.control.inspect(destination=[self.name], timeout=PATIENCE)

    def wait_until_it_answers(self) -> Worker:
        def answers() -> bool:
            assert self.process.poll() is None, f"the worker ended:\n{self.log}"
            # What is sent before it listens is lost, so a question must not wait for long.
            return bool(self._app.control.ping(destination=[self.name], timeout=0.5))

        eventually(answers, f"an answer of {self.name}")
        return self

    def ids(self, kind: str) -> list[str]:
        """The ids of the tasks that are `active`, `reserved` or `scheduled`."""
        tasks = getattr(self.inspect, kind)()[self.name]
        return sorted(task.get("request", task)["id"] for task in tasks)

    def shut_down(self) -> None:
        """By remote control; it ends by itself and in order."""
        self._app.control.shutdown(destination=[self.name])
        assert self.process.wait(PATIENCE) == 0, self.log

    def kill(self) -> None:
        """kill -9, of the worker and of the process that does its tasks."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Application:
    """A Celery application, its workers, and what both leave on the broker."""

    def __init__(self, broker: RunningBroker, folder: Path, settings: Mapping[str, object]) -> None:
        self.broker = broker
        self.names = Names(folder.name)
        self.queue = self.names.queue()
        self.app = make_app(broker.url, self.queue, settings)
        self._folder = folder
        self._environment = environment_for(broker.url, self.queue, settings)
        self._workers: list[Worker] = []
        self.names.exchanges += [self.queue, f"{self.queue}.events"]
        self.names.exchanges += [f"{self.queue}.control.pidbox", f"reply.{self.queue}.control.pidbox"]
        if settings.get("task_default_queue_type") == "quorum":
            self.names.queues += DELAYED
            self.names.exchanges += [*DELAYED, "celery_delayed_delivery"]

    def start_worker(self, label: str) -> Worker:
        self._workers.append(Worker(self.app, label, self._environment, self._folder / f"{label}.log"))
        return self._workers[-1]

    def send(self, task: str, *arguments: object, **options: Any) -> AsyncResult[Any]:
        return self.app.tasks[task].apply_async(arguments, **options)

    def result(self, task: str, *arguments: object, **options: Any) -> Any:
        return self.send(task, *arguments, **options).get(timeout=PATIENCE)

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            print(worker.log)  # shown when the test fails
        with contextlib.suppress(AttributeError):  # without a result there is nothing to stop
            self.app.backend.result_consumer.stop()
        self.app.close()
        self.names.remove(self.broker)


@contextlib.contextmanager
def application(broker: RunningBroker, folder: Path, settings: Mapping[str, object]) -> Iterator[Application]:
    made = Application(broker, folder, settings)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", autouse=True)
def _shared_connections() -> Iterator[None]:
    """All applications of a process share them, by URL; closing an application leaves them open."""
    yield
    pools.reset()


@pytest.fixture(scope="module")
def celery(broker: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with application(broker, tmp_path_factory.mktemp("celery"), CLASSIC) as made:
        yield made


@pytest.fixture(scope="module")
def worker(celery: Application) -> Iterator[Worker]:
    worker = celery.start_worker("shared").wait_until_it_answers()
    yield worker
    worker.shut_down()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


@pytest.mark.usefixtures("worker")
def test_a_task_and_its_result(celery: Application) -> None:
    assert celery.result("add", 2, 3) == 5


@pytest.mark.usefixtures("worker")
def test_a_task_that_fails(celery: Application) -> None:
    with pytest.raises(ValueError, match="^because$"):
        celery.result("fail", "because")


@pytest.mark.usefixtures("worker")
def test_a_task_that_is_retried(celery: Application) -> None:
    assert celery.result("fail_once") == 1


@pytest.mark.usefixtures("worker")
def test_groups_and_chains(celery: Application) -> None:
    add = celery.app.tasks["add"]
    assert group(add.s(n, n) for n in range(10))().get(timeout=PATIENCE) == [2 * n for n in range(10)]
    assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=PATIENCE) == 10


@pytest.mark.usefixtures("worker")
def test_countdown_and_eta(celery: Application) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    sent = [celery.send("now", countdown=1), celery.send("now", eta=soon)]
    for result in sent:
        assert result.get(timeout=PATIENCE) >= soon.timestamp()


def test_tasks_that_are_not_due_do_not_use_up_the_prefetch(celery: Application, worker: Worker) -> None:
    later = sorted(celery.send("now", countdown=HOUR).id for _ in range(MULTIPLIER + 1))
    eventually(lambda: worker.ids("scheduled") == later, "the worker to hold all of them")
    assert celery.result("add", 2, 3) == 5


def test_the_prefetch_multiplier(
    celery: Application, worker: Worker, gate: Gate, channel: BlockingChannel
) -> None:
    sent = [celery.send("attend", gate.port) for _ in range(6)]
    assert gate.visitor() == worker.name
    waiting = sorted(result.id for result in sent[1:MULTIPLIER])
    eventually(lambda: worker.ids("reserved") == waiting, "a full prefetch")
    assert worker.ids("active") == [sent[0].id]
    assert ready(channel, celery.queue) == len(sent) - MULTIPLIER
    gate.open()
    for _ in sent[1:]:
        gate.visitor()
        gate.open()
    assert [result.get(timeout=PATIENCE) for result in sent] == [False] * len(sent)


def test_priorities(celery: Application, worker: Worker, channel: BlockingChannel) -> None:
    arguments = {"x-max-priority": 9}
    queue = Queue(celery.names.queue(), queue_arguments=arguments)
    celery.names.exchanges.append(queue.name)
    priorities = [0, 5, 9, 5, 1, 9, 0]
    sent = [celery.send("place", queue=queue, priority=priority) for priority in priorities]
    assert ready(channel, queue.name) == len(sent)
    celery.app.control.add_consumer(
        queue.name, options={"queue_arguments": arguments}, destination=[worker.name]
    )
    places = [result.get(timeout=PATIENCE) for result in sent]
    assert places == [6, 3, 1, 4, 5, 2, 7]


def test_a_task_that_expires_before_a_worker_takes_it(celery: Application, channel: BlockingChannel) -> None:
    queue = Queue(celery.names.queue())
    celery.names.exchanges.append(queue.name)
    celery.send("add", 2, 3, queue=queue, expires=0.5)
    kept = celery.send("add", 2, 3, queue=queue)
    eventually(lambda: ready(channel, queue.name) == 1, "the task to expire")
    _, properties, _ = channel.basic_get(queue.name, auto_ack=True)
    assert properties.correlation_id == kept.id


def test_inspection_of_a_worker(celery: Application, worker: Worker) -> None:
    assert worker.inspect.ping() == {worker.name: {"ok": "pong"}}
    assert set(worker.inspect.registered()[worker.name]) >= {"add", "attend", "now"}
    stats = worker.inspect.stats()[worker.name]
    assert stats["broker"]["port"] == celery.broker.port
    assert celery.queue in [queue["name"] for queue in worker.inspect.active_queues()[worker.name]]


def test_a_task_that_is_revoked_before_its_turn(celery: Application, worker: Worker, gate: Gate) -> None:
    first = celery.send("attend", gate.port)
    gate.visitor()
    second = celery.send("add", 2, 3)
    second.revoke()
    eventually(lambda: second.id in worker.inspect.revoked()[worker.name], "the worker to know")
    gate.open()
    with pytest.raises(TaskRevokedError):
        second.get(timeout=PATIENCE)
    assert first.get(timeout=PATIENCE) is False


@pytest.mark.usefixtures("worker")
def test_a_task_that_is_revoked_while_it_runs(celery: Application, gate: Gate) -> None:
    result = celery.send("attend", gate.port)
    gate.visitor()
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    assert celery.result("add", 2, 3) == 5


def test_the_events_of_a_task(celery: Application, worker: Worker) -> None:
    kinds: list[str] = []
    sent: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if event["type"] == "worker-heartbeat" and event["hostname"] == worker.name and not sent:
            # The answer to the receiver's own question: from here on it misses nothing.
            sent.append(celery.send("add", 2, 3).id)
        if event.get("uuid") in sent:
            kinds.append(event["type"])
            receiver.should_stop = event["type"] == "task-succeeded"

    with celery.app.connection() as connection:
        receiver = celery.app.events.Receiver(connection, handlers={"*": note})
        receiver.capture(limit=None, timeout=PATIENCE, wakeup=True)
    assert kinds == ["task-received", "task-started", "task-succeeded"]


@pytest.mark.parametrize("settings", [CLASSIC, QUORUM], ids=["classic", "quorum"])
def test_a_task_of_a_killed_worker_is_done_by_another(
    broker: RunningBroker, tmp_path: Path, gate: Gate, settings: Mapping[str, object]
) -> None:
    with application(broker, tmp_path, settings) as celery:
        workers = {worker.name: worker for worker in map(celery.start_worker, ("one", "other"))}
        for worker in workers.values():
            worker.wait_until_it_answers()
        pongs = celery.app.control.broadcast("ping", reply=True, timeout=PATIENCE, limit=2)
        assert {name for pong in pongs for name in pong} == set(workers)
        result = celery.send("attend", gate.port)
        doomed = workers.pop(gate.visitor())
        doomed.kill()
        assert gate.visitor() in workers
        gate.open()
        assert result.get(timeout=PATIENCE) is True


@pytest.mark.parametrize(("queue_type", "seconds"), [("classic", 1), ("quorum", 3)])
def test_native_delayed_delivery(
    broker: RunningBroker, tmp_path: Path, channel: BlockingChannel, queue_type: str, seconds: int
) -> None:
    """Celery has a queue for each power of two seconds: three seconds are spent in two of them."""
    settings = QUORUM | {"broker_native_delayed_delivery_queue_type": queue_type}
    with application(broker, tmp_path, settings) as celery:
        worker = celery.start_worker("delayed").wait_until_it_answers()
        assert celery.result("add", 2, 3) == 5
        celery.send("now", countdown=HOUR)
        first_stop = DELAYED[HOUR.bit_length() - 1]
        eventually(lambda: ready(channel, first_stop) == 1, "the task to wait on the broker")
        due = time.time() + seconds
        stops = seconds.bit_count()
        assert celery.result("now", countdown=seconds) >= due - stops * TICK
        assert worker.ids("scheduled") == []
        assert "Global QoS is disabled" in worker.log

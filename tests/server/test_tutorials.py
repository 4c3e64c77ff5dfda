"""The tutorial programs of `interop/tutorials`, run as a beginner runs them, for pika and for aio-pika."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.server.target import RunningBroker

TUTORIALS: Final = Path(__file__).parents[2] / "interop" / "tutorials"
QUEUES: Final = ("hello", "task_queue", "rpc_queue")
EXCHANGES: Final = ("logs", "direct_logs", "topic_logs")
PATIENCE: Final = 30.0


class Program:
    """A receiving program: started until it says that it waits, read line by line, interrupted at the end."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        self._received = b""

    def line(self) -> str:
        """The next line of output, stripped."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._received:
                assert selector.select(max(0.0, deadline - time.monotonic())), f"no line: {self._received!r}"
                piece = os.read(self.process.stdout.fileno(), 65536)
                assert piece, "the program ended"
                self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return line.decode().strip()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def interrupt(self) -> int:
        """CTRL+C; the exit status. What it had still printed is an error."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGINT)
        rest = self._received + self.process.stdout.read()
        assert rest == b""
        self.process.stdout.close()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Student:
    """Runs the programs of one client library."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._environment = os.environ | {"AMQP_URL": url}
        # The programs import their neighbour, which is what this would forbid.
        self._environment.pop("PYTHONSAFEPATH", None)
        self.programs: list[Program] = []

    def _command(self, name: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, str(self._folder / f"{name}.py"), *arguments]

    def run(self, name: str, *arguments: str) -> list[str]:
        """What a program printed that ends by itself, line by line, stripped."""
        done = subprocess.run(
            self._command(name, arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [line.strip() for line in done.stdout.splitlines()]

    def start(self, name: str, *arguments: str) -> Program:
        program = Program(self._command(name, arguments), self._environment)
        self.programs.append(program)
        assert program.line().startswith(("[*] Waiting for", "[x] Awaiting"))
        return program


@pytest.fixture(params=["with_pika", "with_aio_pika"])
def student(request: pytest.FixtureRequest, broker: RunningBroker) -> Iterator[Student]:
    clean(broker)
    student = Student(TUTORIALS / request.param, broker.url)
    yield student
    for program in student.programs:
        program.kill()
    clean(broker)


def clean(broker: RunningBroker) -> None:
    with broker.connect() as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(queue)
        for exchange in EXCHANGES:
            channel.exchange_delete(exchange)


def test_hello_world(student: Student) -> None:
    assert student.run("send") == ["[x] Sent 'Hello World!'"]
    receiver = student.start("receive")
    assert receiver.line() == "[x] Received Hello World!"
    student.run("send")
    assert receiver.line() == "[x] Received Hello World!"
    assert receiver.interrupt() == 0


def test_work_queues(student: Student) -> None:
    workers = [student.start("worker"), student.start("worker")]
    for task in ("first.", "second."):
        assert student.run("new_task", task) == [f"[x] Sent {task}"]
    shares = [worker.lines(2) for worker in workers]
    assert sorted(received for received, _ in shares) == ["[x] Received first.", "[x] Received second."]
    assert [done for _, done in shares] == ["[x] Done", "[x] Done"]
    assert [worker.interrupt() for worker in workers] == [0, 0]


def test_a_task_of_a_killed_worker_goes_to_another(student: Student) -> None:
    doomed = student.start("worker")
    student.run("new_task", "long" + "." * 200)
    assert doomed.line().startswith("[x] Received long")
    doomed.kill()
    heir = student.start("worker")
    assert heir.line().startswith("[x] Received long")


def test_publish_and_subscribe(student: Student) -> None:
    listeners = [student.start("receive_logs"), student.start("receive_logs")]
    assert student.run("emit_log", "something", "happened") == ["[x] Sent something happened"]
    assert [listener.line() for listener in listeners] == ["[x] something happened"] * 2
    assert [listener.interrupt() for listener in listeners] == [0, 0]


def test_routing(student: Student) -> None:
    severe = student.start("receive_logs_direct", "warning", "error")
    everything = student.start("receive_logs_direct", "info", "warning", "error")
    for severity in ("info", "error", "debug", "warning"):
        assert student.run("emit_log_direct", severity, "Run!") == [f"[x] Sent {severity}:Run!"]
    assert severe.lines(2) == ["[x] error:Run!", "[x] warning:Run!"]
    assert everything.lines(3) == ["[x] info:Run!", "[x] error:Run!", "[x] warning:Run!"]
    assert [severe.interrupt(), everything.interrupt()] == [0, 0]


def test_topics(student: Student) -> None:
    kernel = student.start("receive_logs_topic", "kern.*")
    critical = student.start("receive_logs_topic", "*.critical")
    everything = student.start("receive_logs_topic", "#")
    for key in ("kern.critical", "cron.info", "cron.critical", "kern.a.b"):
        assert student.run("emit_log_topic", key, "A message") == [f"[x] Sent {key}:A message"]
    assert kernel.line() == "[x] kern.critical:A message"
    assert critical.lines(2) == ["[x] kern.critical:A message", "[x] cron.critical:A message"]
    assert everything.lines(4)[-1] == "[x] kern.a.b:A message"
    assert [program.interrupt() for program in (kernel, critical, everything)] == [0, 0, 0]


def test_remote_procedure_calls(student: Student) -> None:
    server = student.start("rpc_server")
    assert student.run("rpc_client", "5", "10", "20") == [
        "[x] Requesting fib(5)",
        "[.] Got 5",
        "[x] Requesting fib(10)",
        "[.] Got 55",
        "[x] Requesting fib(20)",
        "[.] Got 6765",
    ]
    assert server.lines(3) == ["[.] fib(5)", "[.] fib(10)", "[.] fib(20)"]
    assert server.interrupt() == 0


def test_publisher_confirms(student: Student) -> None:
    assert student.run("publisher_confirms") == ["[x] 100 messages confirmed", "[!] Returned: NO_ROUTE"]

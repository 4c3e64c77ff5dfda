"""A broker as a child process: how the tests start, stop and kill the installed command.

`BrokerProcess` owns one data directory and one process at a time, reads the line that says where the broker
listens, and keeps what it wrote to stderr. It never looks inside the broker: only sockets, signals, output.
`AMQP_TEST_SERVE` replaces the command: a shell-like template with {port} and {data}, for any other broker.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
READY: Final = re.compile(
    r"^amqp-broker (?P<version>\S+) \((?P<build>compiled|pure Python)\) "
    r"listening on (?P<addresses>.+), data in (?P<data>.+)$"
)


class BrokerFailed(AssertionError):
    """The broker did not do what every test takes for granted: start, print its line, end in time."""


def reserved_port() -> tuple[int, int]:
    """A port of this machine that is given to nobody else who asks for any, and the descriptor that keeps it so.

    A socket that does not listen is bound to it, which keeps nobody from listening there who names it.
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        return reservation.getsockname()[1], reservation.detach()


def free_port() -> int:
    """A port that is reserved until the tests end."""
    port, _ = reserved_port()
    return port


def speaks_amqp(port: int) -> bool:
    """Whether something on that port answers the protocol header with a method frame."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as attempt:
            attempt.sendall(PROTOCOL_HEADER)
            return attempt.recv(1) == b"\x01"
    except OSError:
        return False


def installed_command() -> list[str]:
    """The command beside this interpreter, or the package as a module where it is not installed."""
    script = Path(sys.executable).with_name("amqp-broker")
    return [str(script)] if script.exists() else [sys.executable, "-m", "amqp_broker"]


class BrokerProcess:
    """One data directory and the process that serves it; `start` again after `stop` or `kill` to restart.

    The port is chosen before the first start and kept by the following ones, as an operator would have it. Until this
    object goes away nobody else is given it, which other tests that run at the same time would be, between two starts.
    """

    def __init__(self, data: Path, arguments: Sequence[str] = (), port: int = 0) -> None:
        self.data = data
        self.arguments = list(arguments)
        self.port = port
        self.ready_line = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data.with_name(data.name + ".stderr")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        self._log_start = 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        template = os.environ.get("AMQP_TEST_SERVE")
        if template:
            return [part.format(port=self.port, data=self.data) for part in shlex.split(template)]
        serve = ["serve", "--port", str(self.port), "--data-dir", str(self.data)]
        return [*installed_command(), *serve, *self.arguments]

    def start(self) -> BrokerProcess:
        """Start and return once the broker takes connections. Raises BrokerFailed when it does not."""
        self.launch()
        try:
            if "AMQP_TEST_SERVE" in os.environ:
                self._wait_until_it_answers()
            else:
                self._read_ready_line()
        except BaseException:
            self.kill()
            raise
        return self

    def launch(self) -> None:
        """Start the process and return at once, whether or not it will ever listen."""
        assert not self.running, "already running"
        foreign = "AMQP_TEST_SERVE" in os.environ
        if not self.port:
            self.port, reservation = reserved_port()
            weakref.finalize(self, os.close, reservation)
        self._log_start = self.log.stat().st_size
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log if foreign else subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not speaks_amqp(self.port):
            if not self.running or time.monotonic() > deadline:
                raise BrokerFailed(f"the broker did not open port {self.port}:\n{self.stderr()}")
            time.sleep(0.05)

    def _read_ready_line(self) -> None:
        process = self.process
        assert process is not None
        assert process.stdout is not None
        line, deadline = b"", time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise BrokerFailed(f"no line on stdout within {START_SECONDS} s:\n{self.stderr()}")
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    raise BrokerFailed(
                        f"ended with status {process.wait()} before its line:\n{self.stderr()}"
                    )
                line += piece
        self.ready_line = line.decode().rstrip("\n")
        found = READY.match(self.ready_line)
        if found is None:
            raise BrokerFailed(f"unexpected first line {self.ready_line!r}")
        self.port = int(found["addresses"].split(", ")[0].rpartition(":")[2])

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_ended(self, seconds: float = STOP_SECONDS) -> int:
        """The exit status, once the process has ended by itself. Raises BrokerFailed after `seconds`."""
        assert self.process is not None
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(f"still running after {seconds} s:\n{self.stderr()}") from None
        self._release()
        return status

    def writers(self) -> list[int]:
        """The processes that write for it; none where it writes by itself."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end and return its exit status."""
        self.send_signal(number)
        return self.wait_ended()

    def kill(self, whole_group: bool = True) -> None:
        """kill -9, of the broker and its children together or of the broker's own process alone."""
        if self.process is None:
            return
        if self.process.returncode is not None:
            self._release()
            return
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if whole_group else os.kill)(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._release()

    def _release(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def stderr(self) -> str:
        """What it wrote to stderr since the last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

"""A broker that commands administer: one that runs, or the data directory of one that does not."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pika
import pytest
import typer.main

from amqp_broker.build_info import NAME
from amqp_broker.cli.app import app
from amqp_broker.store.open import open_data_directory
from tests.server.broker_process import BrokerProcess
from tests.server.target import RunningBroker

# Made once: that takes longer than to run most of them.
COMMANDS: Final = typer.main.get_command(app)


class Ran:
    """How a command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def rows(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """Its one line on standard error."""
        assert (self.status, self.out) == (1, "")
        assert self.err.count("\n") == 1
        assert self.err.startswith("amqp-broker: error: ")
        return self.err.removeprefix("amqp-broker: error: ").rstrip("\n")


class Administered:
    """process: the broker, which may be running or not; both are administered by the same commands."""

    def __init__(self, process: BrokerProcess) -> None:
        self.process = process

    @property
    def data(self) -> Path:
        return self.process.data

    def run(self, *arguments: str, stdin: str = "") -> Ran:
        return command(*arguments, "--data-dir", str(self.data), stdin=stdin)

    def does(self, *arguments: str, stdin: str = "") -> str:
        """Its output; it succeeds and complains of nothing."""
        ran = self.run(*arguments, stdin=stdin)
        assert (ran.status, ran.err) == (0, "")
        return ran.out

    def lists(self, *arguments: str) -> Any:
        return self.run(*arguments, "--format", "json").rows

    def refuses(self, *arguments: str, stdin: str = "") -> str:
        return self.run(*arguments, stdin=stdin).refusal

    def connect(self, user: str = "guest", vhost: str = "/", password: str = "") -> pika.BlockingConnection:
        credentials = pika.PlainCredentials(user, password or user)
        return RunningBroker(self.process.port).connect(virtual_host=vhost, credentials=credentials)


def command(*arguments: str, stdin: str = "") -> Ran:
    """Run a command in this process."""
    out, err, given = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(stdin.encode()))
    kept = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = given, out, err
    try:
        COMMANDS(args=list(arguments), prog_name=NAME)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return Ran(end.code, out.getvalue(), err.getvalue())
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept
    raise AssertionError("a command ends with a status")


def make_store(data: Path) -> None:
    """What a broker that ran for a moment leaves."""
    open_data_directory(str(data), embedded=True).close()


@contextmanager
def administered(directory: Path, *, running: bool) -> Iterator[Administered]:
    process = BrokerProcess(directory / "data")
    if running:
        process.start()
    else:
        make_store(process.data)
    try:
        yield Administered(process)
        if running:
            assert process.running, process.stderr()
            assert process.stop() == 0
            assert "Traceback" not in process.stderr(), process.stderr()
            assert not (process.data / "control.sock").exists()
    finally:
        process.kill()


def is_open(connection: pika.BlockingConnection) -> bool:
    try:
        connection.process_data_events(0)
    except pika.exceptions.AMQPError:
        return False
    return bool(connection.is_open)


def ending_of(connection: pika.BlockingConnection) -> tuple[int, str]:
    """What the broker says to it when it closes it."""
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        while True:
            connection.process_data_events(10)
    return caught.value.reply_code, caught.value.reply_text

"""A broker whose standard descriptors were closed by who started it does not give their numbers to its files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from tests.server.broker_process import free_port, installed_command, speaks_amqp
from tests.server.secure import eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process, and its port."""
    port = free_port()
    config = tmp_path / "broker.toml"
    config.write_text(f'[log]\nfile = "{tmp_path / "log"}"\n')
    command = [*installed_command(), "serve", "--config", str(config)]
    command += ["--data-dir", str(tmp_path / "data"), "--port", str(port)]
    process = subprocess.Popen(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command])
    try:
        eventually(lambda: speaks_amqp(port), lambda: f"status {process.poll()}")
        yield process, port
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_nothing_else_has_their_numbers(broker: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = broker
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "q", b"m", pika.BasicProperties(delivery_mode=2))
        writers = children(process.pid)
        assert writers
        for owner in (process.pid, *writers):
            for number in range(3):
                found = os.readlink(f"/proc/{owner}/fd/{number}")
                # What a writer says is for the broker.
                expected = "pipe:" if owner in writers and number == 2 else "/dev/null"
                assert found.partition("[")[0] == expected, (owner, number)

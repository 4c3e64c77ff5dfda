"""Killed at any moment: what was confirmed is there, all else as whole batches or not at all."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from amqp_broker.store.environment import log_path
from amqp_broker.store.logged import LoggedWriter
from amqp_broker.store.open import DataDirectory, open_data_directory
from amqp_broker.store.writer import Writer

from .crashing import Contents, Load

PROGRAM = Path(__file__).with_name("crashing.py")


class Victim:
    """The program of `crashing`, running; sent, given, done: the last batches it spoke of."""

    def __init__(self, path: Path, seed: int, mode: str) -> None:
        self.sent = 0
        self.given = 0
        self.done = 0
        self.writer = 0
        arguments = [sys.executable, str(PROGRAM), str(path), str(seed), mode]
        self._process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self._note(self._lines.readline())

    def _note(self, line: str) -> None:
        word, number = line.split()
        if word == "start":
            self.writer = int(number)
        elif word == "sent":
            self.sent = int(number)
        elif word == "given":
            self.given = int(number)
        else:
            assert word == "done"
            self.done = int(number)

    def run_until(self, batches: int) -> None:
        """Let it run until it has confirmed so many batches."""
        while self.done < batches:
            self._note(self._lines.readline())

    def run_until_stuck(self) -> None:
        """Stop the writer, and let the broker run until it waits for the answer to one more batch."""
        os.kill(self.writer, signal.SIGSTOP)
        wait_for_state(self.writer, "T")
        wait_for_state(self._process.pid, "S")
        os.set_blocking(self._lines.fileno(), False)
        while line := self._lines.readline():
            self._note(line)
        os.set_blocking(self._lines.fileno(), True)
        assert self.given == self.sent > self.done

    def kill(self, whom: str, pause: float) -> None:
        """Kill "broker", "writer" or "both" a moment later, and hear its last words."""
        time.sleep(pause)
        if whom != "broker":
            os.kill(self.writer, signal.SIGKILL)
        if whom != "writer":
            self._process.kill()
        for line in self._lines:
            if line.endswith("\n"):
                self._note(line)
        self._process.wait()
        self._lines.close()


def wait_for_state(pid: int, state: str) -> None:
    """Until a process sleeps ("S") or is stopped ("T")."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != state:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def reopened(path: Path, mode: str) -> tuple[int, Contents]:
    """What a start finds: see `stored`. Without a log, it is found without a writer."""
    directory = open_data_directory(str(path), embedded=mode == "logged")
    if mode == "logged":
        LoggedWriter(Writer(directory.environment, str(path)), log_path(str(path))).close()
    found = stored(directory)
    directory.close()
    return found


def stored(directory: DataDirectory) -> tuple[int, Contents]:
    """The number of the last batch in the store, and everything in it."""
    found = directory.reader.scan()
    contents: Contents = {queue_id: {} for queue_id in range(1, 5)}
    for queue_id, held in contents.items():
        first = 0
        while run := directory.reader.read(queue_id, first, 1000):
            held.update({entry.seq: entry.body for entry in run})
            first = run[-1].seq + 1
        count = found.queues[queue_id].count if queue_id in found.queues else 0
        assert count == len(held)
    [definition] = found.definitions
    number = definition.value["number"]
    assert isinstance(number, int)
    return number, contents


@pytest.mark.parametrize("whom", ["broker", "writer", "both"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mode", ["direct", "logged"])
def test_killing_loses_nothing_confirmed_and_tears_nothing(
    tmp_path: Path, mode: str, whom: str, seed: int
) -> None:
    chance = random.Random(f"{whom} {seed}")
    victim = Victim(tmp_path, seed, mode)
    victim.run_until(chance.randint(1, 160))
    victim.kill(whom, chance.uniform(0, 0.003))
    number, contents = reopened(tmp_path, mode)
    assert victim.done <= number <= victim.sent
    expected = Load(seed)
    while expected.batch < number:
        expected.change()
    assert contents == expected.contents


@pytest.mark.parametrize("mode", ["direct", "logged"])
def test_an_orphaned_writer_finishes_what_it_was_sent(tmp_path: Path, mode: str) -> None:
    victim = Victim(tmp_path, 1, mode)
    victim.run_until(3)
    victim.run_until_stuck()
    victim.kill("broker", 0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.writer, signal.SIGCONT)
    directory = open_data_directory(str(tmp_path))
    number, _ = stored(directory)
    directory.close()
    assert number == victim.sent > victim.done

"""A machine that finds an image on its disk after the power came back: it starts, and what is there is looked at.

The store is opened as a broker opens it whose writer is a thread, and every message is read. `serve` has the command
itself do it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import anyio

from amqp_broker.server.verify import verify
from amqp_broker.store.errors import StoreError
from amqp_broker.store.open import DataDirectory, open_data_directory
from amqp_broker.store.reader import Reader
from amqp_broker.store.thread import ThreadCarrier
from tests.conversations.client import Client, TcpTransport
from tests.crash.ledger import Message, message_in
from tests.docs.pages import ROOT
from tests.lying_disk.disk import Image
from tests.lying_disk.load import is_intact
from tests.server.broker_process import BrokerFailed, BrokerProcess

_COMPARED: Final = 64 << 10
_AT_ONCE: Final = 1000


class Found:
    """queues: those that are there, with their messages. problems: what is wrong whatever was promised."""

    def __init__(self) -> None:
        self.queues: dict[str, list[Message]] = {}
        self.problems: list[str] = []


class Machine:
    """Its disk is a directory, which is used for one image after the other. `close` at the end.

    What a lying disk leaves may end the process that reads it, so that is another one.
    """

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.data = disk / "data"
        self._reader: subprocess.Popen[str] | None = None

    def show(self, image: Image) -> None:
        """Have the files of an image on the disk, and nothing else."""
        contents = image.contents()
        for directory, directories, files in os.walk(self.disk, topdown=False):
            for name in (*directories, *files):
                path = os.path.join(directory, name)
                if os.path.relpath(path, self.disk) not in contents:
                    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        for name, content in contents.items():
            path = os.path.join(self.disk, name)
            if content is None:
                os.makedirs(path, mode=0o700, exist_ok=True)
            else:
                _write_differences(path, content)

    def look(self, *, again: bool = False) -> Found:
        """Start, once or twice."""
        found = Found()
        reader = self._start_reader()
        assert reader.stdin is not None
        assert reader.stdout is not None
        print("again" if again else "once", file=reader.stdin, flush=True)
        answer = reader.stdout.readline()
        if answer:
            queues, found.problems = json.loads(answer)
            found.queues = {
                name: [(publisher, number) for publisher, number in messages]
                for name, messages in queues.items()
            }
        else:
            found.problems.append(f"the process that opened it ended with status {reader.wait()}")
            self.close()
        return found

    def close(self) -> None:
        if self._reader is not None:
            with self._reader as reader:
                assert reader.stdin is not None
                reader.stdin.close()
            self._reader = None

    def _start_reader(self) -> subprocess.Popen[str]:
        if self._reader is None:
            # The last place to look for packages, so that the broker's is the one that is installed.
            program = f"import sys; sys.path.append({str(ROOT)!r}); from {__name__} import main; main()"
            self._reader = subprocess.Popen(
                [sys.executable, "-c", program, str(self.data)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._reader

    def serve(self, queues: Iterable[str]) -> Found:
        """Start the command on what is there, take all messages of these queues and end it."""
        found = Found()
        broker = BrokerProcess(self.data)
        # Beside the data it would be part of the image.
        broker.log.unlink()
        broker.log = self.disk.with_name(self.disk.name + ".stderr")
        broker.log.touch()
        try:
            broker.start()
            client = Client(TcpTransport(broker.port)).handshake(heartbeat=0)
            channel = client.channel()
            for name in queues:
                found.queues[name] = [message_in(body.encode()) for body in channel.drain(name)]
            client.close()
            assert broker.stop() == 0, broker.stderr()
        except BrokerFailed as error:
            found.problems.append(str(error))
        finally:
            broker.kill()
        return found


def main() -> None:
    """Look at the same data directory each time that a line asks for it, and answer with a line."""
    for line in sys.stdin:
        found = look(sys.argv[1], again=line == "again\n")
        print(json.dumps([found.queues, found.problems]), flush=True)


def look(data: str, *, again: bool) -> Found:
    found = Found()
    try:
        # To go on with what is damaged may take for ever.
        if _is_sound(data, found, "before the start"):
            found.queues = _opened(data, found)
            _is_sound(data, found, "after the start")
            if again and _opened(data, found) != found.queues:
                found.problems.append("a second start finds something else")
    except StoreError as error:
        found.problems.append(f"it does not open: {error}")
    found.problems = [problem.replace(data, "data") for problem in found.problems]
    return found


def _is_sound(data: str, found: Found, when: str) -> bool:
    try:
        report = verify(data)
    except StoreError as error:
        # Before the first start has come to its end there is nothing yet that could be verified.
        if "there is no store in it" not in str(error):
            found.problems.append(f"verify {when}: {error}")
        return True
    found.problems += [f"verify {when}: {problem}" for problem in report.damage]
    return not report.damaged


def _opened(data: str, found: Found) -> dict[str, list[Message]]:
    directory = open_data_directory(data, embedded=True)
    try:
        anyio.run(_take_over, directory)
        return _contents(directory, found)
    finally:
        directory.close()


async def _take_over(directory: DataDirectory) -> None:
    """Have a writer begin and end, as a broker does: what stands in the log is in LMDB then."""
    carrier = ThreadCarrier(directory)
    try:
        await carrier.start()
    finally:
        await carrier.close()


def _contents(directory: DataDirectory, found: Found) -> dict[str, list[Message]]:
    reader = directory.reader
    queues: dict[str, list[Message]] = {}
    for definition in reader.scan().definitions:
        if definition.kind == "queue":
            name, queue_id = definition.value["name"], definition.value["store_id"]
            assert isinstance(name, str)
            assert isinstance(queue_id, int)
            queues[name] = _messages(reader, queue_id, f"{name}: a body is not what was published", found)
    return queues


def _messages(reader: Reader, queue_id: int, complaint: str, found: Found) -> list[Message]:
    messages: list[Message] = []
    first = 0
    while entries := reader.read(queue_id, first, _AT_ONCE):
        for entry in entries:
            if is_intact(entry.body):
                messages.append(message_in(entry.body))
            else:
                found.problems.append(f"{complaint}: {entry.body[:40]!r}")
        first = entries[-1].seq + 1
    return messages


def _write_differences(path: str, content: bytearray) -> None:
    """Have this in a file, of which most is nearly always there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(descriptor, len(content))
        for at in range(0, len(content), _COMPARED):
            wanted = content[at : at + _COMPARED]
            if os.pread(descriptor, _COMPARED, at) != wanted:
                os.pwrite(descriptor, wanted, at)
    finally:
        os.close(descriptor)

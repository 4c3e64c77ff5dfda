"""What a broker asked of its files, written down by `recorder.c`, and what its clients were told meanwhile.

A `Recorder` compiles that library and starts brokers with it; clients add marks to the same file. `read_trace` gives
both back, in the order in which they happened. Nothing here knows what the files mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.server.broker_process import BrokerProcess

SOURCE: Final = Path(__file__).with_name("recorder.c")
# As in recorder.c; MARK is ours.
MARK, DONE, CREATE, WRITE, TRUNCATE, EXTEND, SYNC, MKDIR, UNLINK, RMDIR, RENAME = range(11)
SYNCED, EMPTIED = 1, 2
# size, kind, call, flags, offset, result, size of the path; then the path and the data
_RECORD: Final = struct.Struct("<7q")
PATIENCE: Final = 30.0
_POLL: Final = 0.002
GONE: Final = ("Z", "")
STOPPED: Final = ("T", *GONE)


class NoCompiler(AssertionError):
    """There is nothing to compile the recorder with."""


class Operation:
    """A call. `result` is known once it has returned, -1 for a failure; None if it never did.

    path: below the recorded directory, "." for itself. offset: also the size of a TRUNCATE or EXTEND.
    """

    __slots__ = ("call", "data", "flags", "kind", "offset", "path", "result")

    def __init__(self, kind: int, call: int, path: str, flags: int, offset: int, data: bytes) -> None:
        self.kind = kind
        self.call = call
        self.path = path
        self.flags = flags
        self.offset = offset
        self.data = data
        self.result: int | None = None

    @property
    def synced(self) -> bool:
        """It is on disk when it has returned."""
        return bool(self.flags & SYNCED)


class Event:
    """Something of a trace. An operation that begins, or has returned (`done`), or what a client had to say."""

    __slots__ = ("done", "mark", "operation")

    def __init__(self, operation: Operation | None, *, done: bool = False, mark: Any = None) -> None:
        self.operation = operation
        self.done = done
        self.mark = mark


class Trace:
    """Reads a trace while it grows: `read` gives what has come since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._under_way: dict[int, Operation] = {}

    @property
    def under_way(self) -> bool:
        """A call was begun and has not returned."""
        return bool(self._under_way)

    def read(self) -> Iterator[Event]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            while len(head := file.read(_RECORD.size)) == _RECORD.size:
                size, kind, call, flags, offset, result, path_size = _RECORD.unpack(head)
                rest = file.read(size - _RECORD.size)
                # Each record is written whole, but a read may come in between.
                if len(rest) < size - _RECORD.size:
                    return
                self._at += size
                path, data = rest[:path_size].decode(), rest[path_size:]
                if kind == MARK:
                    yield Event(None, mark=json.loads(data))
                elif kind == DONE:
                    operation = self._under_way.pop(call)
                    operation.result = result
                    yield Event(operation, done=True)
                else:
                    operation = self._under_way[call] = Operation(kind, call, path, flags, offset, data)
                    yield Event(operation)

    def wait_for(self, path: str, kind: int, seconds: float = PATIENCE) -> bool:
        """Whether such a call returns before the time is over; what came earlier is passed over."""
        end = time.monotonic() + seconds
        for _ in self.read():
            continue
        while time.monotonic() < end:
            for event in self.read():
                operation = event.operation
                if event.done and operation is not None and (operation.path, operation.kind) == (path, kind):
                    return True
            time.sleep(_POLL)
        return False


def read_trace(path: Path) -> list[Event]:
    return list(Trace(path).read())


class Marks:
    """Adds to a trace what a client did or heard, at this very moment."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, *mark: Any) -> None:
        data = json.dumps(mark).encode()
        record = _RECORD.pack(_RECORD.size + len(data), MARK, 0, 0, 0, 0, 0) + data
        assert os.write(self._descriptor, record) == len(record)

    def close(self) -> None:
        os.close(self._descriptor)


def compile_recorder(directory: Path) -> Path:
    """The library. Raises NoCompiler."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise NoCompiler(
            "a C compiler is needed to record what the broker asks of its files, and neither cc nor gcc nor clang "
            "is found: on Debian and Ubuntu, apt install gcc libc6-dev"
        )
    library = directory / "recorder.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise NoCompiler(f"{' '.join(command)} failed:\n{ran.stderr}")
    return library


class RecordedBroker(BrokerProcess):
    """A broker whose files are under `directory`/disk, all of which is recorded in `trace`."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        directory = directory.resolve()
        self.disk = directory / "disk"
        self.disk.mkdir()
        self.trace = directory / "trace"
        self.trace.touch()
        config = directory / "settings.toml"
        config.write_text(settings)
        super().__init__(self.disk / "data", ["--config", str(config)])
        # Beside the data it would be recorded, too.
        self.log.unlink()
        self.log = directory / "stderr"
        self.log.touch()
        library = compile_recorder(directory)
        self._environment = [
            f"LD_PRELOAD={library}",
            f"LYING_DISK_ROOT={self.disk}",
            f"LYING_DISK_TRACE={self.trace}",
        ]

    def command(self) -> list[str]:
        return ["env", *self._environment, *super().command()]

    def kill_between_calls(self) -> None:
        """kill -9 of all of it, when no call is under way of which it would not be known what it did."""
        trace = Trace(self.trace)
        end = time.monotonic() + PATIENCE
        processes = [*self.writers(), self.pid]
        while time.monotonic() < end:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            _wait_until(processes, STOPPED)
            for _ in trace.read():
                continue
            if not trace.under_way:
                # The writer has a process group of its own.
                for process in processes:
                    os.kill(process, signal.SIGKILL)
                self.kill()
                _wait_until(processes, GONE)
                return
            for process in processes:
                os.kill(process, signal.SIGCONT)
            time.sleep(_POLL)
        raise AssertionError("there is always a call under way")


def _state(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _wait_until(processes: list[int], states: tuple[str, ...]) -> None:
    end = time.monotonic() + PATIENCE
    while any(_state(process) not in states for process in processes):
        assert time.monotonic() < end, f"some of {processes} go on"
        time.sleep(_POLL)

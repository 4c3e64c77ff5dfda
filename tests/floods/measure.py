"""One flood, measured: a broker, a flooder in another process, and a probe in this one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.floods.probe import Latencies, Probe
from tests.server.broker_process import READY, BrokerProcess

ROOT: Final = str(Path(__file__).parents[2])
MEBIBYTE: Final = 1 << 20
# How long memory and descriptors may take to come back once the flood is over.
SETTLE: Final = 3.0
TROUBLE: Final = ("Traceback", "internal error", "[ERROR]")


class Flooder:
    """The other process. Use it in a `with` block: `prepare`, `go`, `wait_over`."""

    def __init__(self, port: int, scale: float) -> None:
        # By its place, which a Python that looks for modules at safe paths alone needs to be told.
        begin = f"import sys; sys.path.insert(0, {ROOT!r}); from tests.floods.flooder import main; main()"
        command = [sys.executable, "-c", begin, str(port), str(scale)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def prepare(self, name: str, seconds: float) -> None:
        self._tell(f"{name} {seconds}")
        said = self._hear()
        assert said == "ready", f"the flood {name} cannot be prepared: {said!r}"

    def go(self) -> None:
        self._tell("go")

    def wait_over(self) -> tuple[int, int]:
        """Octets sent and received."""
        said = self._hear()
        assert said, "the flooder has died"
        sent, received = said.split()
        return int(sent), int(received)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Result(NamedTuple):
    """memory: MiB before, at most, and afterwards. descriptors: before and afterwards."""

    name: str
    build: str
    latencies: Latencies
    sent: int
    received: int
    memory: tuple[float, float, float]
    descriptors: tuple[int, int]
    trouble: str

    def row(self) -> str:
        found = self.latencies
        before, most, after = self.memory
        cells = [
            self.name.replace("-", " "),
            f"{self.sent / MEBIBYTE:,.1f}",
            f"{found.p50:.1f}",
            f"{found.p99:.1f}",
            f"{found.longest:.1f}",
            f"{before:.0f} / {most:.0f} / {after:.0f}",
            f"{self.descriptors[0]} / {self.descriptors[1]}",
        ]
        return "| " + " | ".join(cells) + " |"


def head(build: str) -> str:
    titles = ["flood", "MiB sent", "p50 ms", "p99 ms", "longest ms", "RSS MiB before / most / after"]
    titles += ["descriptors before / after"]
    return f"amqp-broker, {build}\n\n| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}"


def resident(pid: int, what: str = "VmRSS") -> float:
    """MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def trouble_in(log: str) -> str:
    """The first line of a broker's log that should not be there."""
    return next((line for line in log.splitlines() if any(sign in line for sign in TROUBLE)), "")


def measure(data: Path, name: str, seconds: float, scale: float) -> Result:
    broker = BrokerProcess(data, ["--log-level", "warning"])
    broker.start()
    try:
        ready = READY.match(broker.ready_line)
        with Probe(broker.port) as probe:
            before = resident(broker.pid)
            opened = descriptors(broker.pid)
            if name == "nothing":
                sent, received, latencies = _undisturbed(probe, seconds)
            else:
                sent, received, latencies = _flooded(broker.port, probe, name, seconds, scale)
            after, left = settled(broker.pid, before, opened)
            most = resident(broker.pid, "VmHWM")
        return Result(
            name,
            ready["build"] if ready else "",
            latencies,
            sent,
            received,
            (before, most, after),
            (opened, left),
            trouble_in(broker.stderr()),
        )
    finally:
        broker.kill()


def _undisturbed(probe: Probe, seconds: float) -> tuple[int, int, Latencies]:
    probe.start()
    time.sleep(seconds)
    return 0, 0, probe.stop()


def _flooded(port: int, probe: Probe, name: str, seconds: float, scale: float) -> tuple[int, int, Latencies]:
    with Flooder(port, scale) as flooder:
        flooder.prepare(name, seconds)
        probe.start()
        flooder.go()
        sent, received = flooder.wait_over()
        # What the end of the flood's connection costs others belongs to it.
        return sent, received, probe.stop()


def settled(pid: int, memory: float, opened: int, patience: float = SETTLE) -> tuple[float, int]:
    """What is left when both are back, or after a while."""
    deadline = time.monotonic() + patience
    while True:
        left = resident(pid), descriptors(pid)
        if (left[0] <= memory + 1 and left[1] <= opened) or time.monotonic() > deadline:
            return left
        time.sleep(0.05)

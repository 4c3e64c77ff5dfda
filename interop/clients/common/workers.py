"""Worker processes of the frameworks: started from this environment, ended with the program or by a scenario."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path


class Worker:
    """`python -m MODULE ...` in a group of its own; what it says is in `output`."""

    def __init__(self, *arguments: str) -> None:
        self.output = Path(tempfile.mkstemp(prefix="worker-")[1])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=Path(sys.argv[0]).resolve().parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                process_group=0,  # in the program's session, by which the runner finds what is left
            )
        atexit.register(self.end)

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """kill -9, with its children."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self.process.terminate()
        self.process.wait(30)

    def end(self) -> None:
        self.kill()
        self.output.unlink(missing_ok=True)

    def said(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""


class Notes:
    """A file that workers add lines to and scenarios read; `NOTES` in the environment names it."""

    def __init__(self) -> None:
        self.file = Path(os.environ.setdefault("NOTES", tempfile.mkstemp(prefix="notes-")[1]))

    def add(self, line: str) -> None:
        with self.file.open("a") as file:
            file.write(line + "\n")

    def lines(self, beginning: str = "") -> list[str]:
        text = self.file.read_text() if self.file.exists() else ""
        return [line for line in text.splitlines() if line.startswith(beginning)]

    def end(self) -> None:
        self.file.unlink(missing_ok=True)

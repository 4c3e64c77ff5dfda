"""The commands of docs/operations.md do what stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import ROOT, blocks
from tests.server.broker_process import BrokerProcess

OPERATIONS: Final = ROOT / "docs" / "operations.md"
DATA: Final = "/var/lib/amqp-broker"
BACKUPS: Final = "/var/backups/amqp-broker"
SHELL: Final = [content for language, content in blocks(OPERATIONS) if language == "sh"]


class Machine:
    """Runs what the page has for a shell, on directories of its own."""

    def __init__(self, path: Path) -> None:
        self.data = path / "data"
        self.backups = path / "backups"
        self.backups.mkdir()
        command = path / "bin" / "amqp-broker"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m amqp_broker "$@"\n')
        command.chmod(0o755)
        self._environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def run(self, shell: str) -> list[str]:
        """Its output, line by line."""
        program = shell.replace(DATA, str(self.data)).replace(BACKUPS, str(self.backups))
        ran = subprocess.run(
            ["sh", "-euc", program],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, ""), program
        return ran.stdout.splitlines()


def block_with(text: str) -> str:
    """The one block that contains it."""
    (block,) = [block for block in SHELL if text in block]
    return block


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A stopped broker's."""
    machine = Machine(tmp_path)
    broker = BrokerProcess(machine.data).start()
    try:
        assert broker.stop() == 0
    finally:
        broker.kill()
    return machine


def test_the_page_has_the_blocks_that_are_tested() -> None:
    assert len(SHELL) == 5


def test_backup_verify_and_restore_do_what_stands_there(machine: Machine) -> None:
    lines = machine.run(block_with("backup /var/backups/amqp-broker/today"))
    assert lines[0].endswith(f"copied from {machine.data}")
    assert lines[1].endswith("; sound")
    lines = machine.run(block_with("restore /var/backups/amqp-broker/today"))
    assert lines[0] == f"{machine.data}: what was there is in {machine.data}/replaced-1"
    assert "restored from" in lines[1]
    assert machine.run(f"amqp-broker verify {DATA}")[0].endswith("; sound")


def test_the_nightly_script_makes_a_backup_and_removes_old_ones_alone(machine: Machine) -> None:
    old, other, young = (machine.backups / name for name in ("2020-01-01", "mine", "2020-01-02"))
    for path in (old, other, young):
        path.mkdir()
        (path / "file").touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    machine.run(block_with("#!/bin/sh"))
    left = sorted(path.name for path in machine.backups.iterdir())
    assert left[:1] == ["2020-01-02"]
    assert left[2:] == ["mine"]
    assert (machine.backups / left[1] / "store" / "data.mdb").exists()


def test_space_is_given_back_as_it_stands_there(machine: Machine) -> None:
    machine.run(block_with("/replaced-1"))
    assert not list(machine.data.glob("replaced-*"))
    broker = BrokerProcess(machine.data).start()
    assert broker.stop() == 0

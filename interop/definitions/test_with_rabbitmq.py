"""Definitions there and back: what an installed RabbitMQ exports loads here, and what we export loads into one.

    .venv/bin/pytest interop/definitions

Two RabbitMQ are started in turn, with `interop/rabbitmq.py`; made with 3.10.8, Debian's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from rabbitmq import Node, running_node
from topology import COMMANDS, PLUGINS, comparable, declare


def control(node: Node, *arguments: str) -> None:
    result = node.control("--quiet", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr


def amqp_broker(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "amqp_broker", "definitions", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RabbitMQ's export of everything there can be."""
    file = tmp_path_factory.mktemp("definitions") / "theirs.json"
    with running_node(plugins=PLUGINS) as node:
        for command in COMMANDS:
            control(node, *command)
        declare(node.port)
        control(node, "export_definitions", str(file))
    return file


@pytest.mark.timeout(180)
def test_there_and_back(theirs: Path, tmp_path: Path) -> None:
    data, ours, again = str(tmp_path / "data"), tmp_path / "ours.json", tmp_path / "again.json"
    warnings = amqp_broker("import", str(theirs), "--data-dir", data).splitlines()
    transient = [line for line in warnings if "is transient" in line]
    assert len(transient) == 2
    assert warnings == transient
    amqp_broker("export", str(ours), "--data-dir", data)
    with running_node(plugins=PLUGINS) as node:
        control(node, "import_definitions", str(ours))
        control(node, "export_definitions", str(again))
    before, after = comparable(theirs.read_text()), comparable(again.read_text())
    kept = {key: {row for row in rows if not _is_transient(row)} for key, rows in before.items()}
    assert after == kept


def _is_transient(row: str) -> bool:
    return '"shop-auto"' in row or '"shop-transient"' in row

"""The README's commands and examples do what the README says they do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from amqp_broker import build_info
from tests.docs.pages import ROOT, TEST_COMMAND, block_after, blocks
from tests.server.broker_process import READY, BrokerProcess

README: Final = ROOT / "README.md"
GATE: Final = ROOT / ".ci" / "run"
ADDRESS: Final = "localhost:5672"
PATIENCE: Final = 30.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("readme") / "data").start()
    yield process
    process.kill()


def run_python(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def assert_example_prints(
    page: Path, heading: str, broker: BrokerProcess, directory: Path, preamble: str = ""
) -> None:
    """The Python block below a heading prints the text block below it, and nothing else.

    preamble: what it goes on from; the address stands once in both together.
    """
    program = preamble + block_after(page, heading, "python")
    assert program.count(ADDRESS) == 1
    ran = run_python(["-c", program.replace(ADDRESS, f"127.0.0.1:{broker.port}")], directory)
    assert (ran.stdout, ran.stderr) == (block_after(page, heading, "text"), "")
    assert ran.returncode == 0


@pytest.mark.parametrize("client", ["pika", "aio-pika"])
def test_an_example_prints_what_stands_below_it(broker: BrokerProcess, client: str, tmp_path: Path) -> None:
    assert_example_prints(README, f"Use it with {client}", broker, tmp_path)


def test_the_fixture_for_other_projects_tests_works(tmp_path: Path) -> None:
    test = tmp_path / "test_example.py"
    test.write_text(block_after(README, "Use it in your tests", "python"))
    ran = run_python(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(test)], tmp_path
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def first_screen() -> str:
    """What a reader sees before the first heading below the title."""
    return README.read_text().split("\n## ")[0]


def commands() -> list[str]:
    """The two commands: to run the broker, to run the tests."""
    shell = [content for language, content in blocks(README) if language == "sh"]
    assert all(content in first_screen() for content in shell)
    return shell


def test_each_of_the_two_commands_makes_its_own_environment_from_the_checkout() -> None:
    assert len(commands()) == 2
    for command in commands():
        steps = [shlex.split(step) for step in command.strip().split(" && ")]
        assert steps[0] == ["python3", "-m", "venv", ".venv"]
        assert steps[1][:2] == [".venv/bin/pip", "install"]
        assert steps[1][2] in {".", ".[test]"}
        assert all(step[0].startswith(".venv/bin/") for step in steps[1:])


def test_the_first_command_serves() -> None:
    assert shlex.split(commands()[0])[-2:] == [".venv/bin/amqp-broker", "serve"]


def test_the_line_that_is_shown_is_the_line_that_is_printed(broker: BrokerProcess) -> None:
    shown = [line for line in first_screen().splitlines() if READY.match(line)]
    assert len(shown) == 1
    found, printed = READY.match(shown[0]), READY.match(broker.ready_line)
    assert found is not None
    assert printed is not None
    assert found["version"] == printed["version"] == build_info.VERSION


def gates_test_command() -> str:
    """What the gate runs: its own function for finding it, asked."""
    script = GATE.read_text()
    function = re.search(r"^test_command\(\) \{\n.*?^\}\n", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    return subprocess.run(
        ["bash", "-c", f"checkout={shlex.quote(str(ROOT))}\n{function[0]}\ntest_command"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout


def test_the_gate_runs_the_second_command() -> None:
    text = README.read_text()
    assert text.count(TEST_COMMAND) == 1
    assert f"{TEST_COMMAND}\n```sh\n{commands()[1]}```" in text
    assert gates_test_command() == commands()[1]
    script = GATE.read_text()
    assert 'test_command > "$scratch/test-command"' in script
    assert 'bash -euo pipefail "$scratch/test-command"' in script

"""The command as it is run: its output, its exit status, and one line instead of a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from amqp_broker.build_info import VERSION, compiled

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AMQP_BROKER_")}


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m amqp_broker` with these arguments, or `python -c` with this code."""
    command = ["-c", code] if code else ["-m", "amqp_broker"]
    # -P: the working directory may be a checkout, whose package is not the one that is tested.
    return subprocess.run(
        [sys.executable, "-P", *command, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=ENVIRONMENT,
        check=False,
    )


def test_version_says_which_build_runs() -> None:
    result = run("--version")
    assert result.returncode == 0
    build = "compiled" if compiled() else "pure Python"
    assert result.stdout == f"amqp-broker {VERSION} ({build})\n"


def test_the_installed_command_is_the_same_program() -> None:
    command = Path(sys.executable).with_name("amqp-broker")
    result = subprocess.run(
        [command, "--version"], capture_output=True, text=True, timeout=30, env=ENVIRONMENT, check=True
    )
    assert result.stdout == run("--version").stdout


def test_version_is_found_among_other_arguments_too() -> None:
    assert run("--version", "serve").stdout == run("--version").stdout


def test_the_command_line_library_is_not_loaded_for_a_plain_serve() -> None:
    code = (
        "import sys\n"
        "from amqp_broker.cli.main import main\n"
        "assert main(['serve', '--config', '/nonexistent/broker.toml']) == 1\n"
        "assert main(['--version']) == 0\n"
        "print(sorted({'typer', 'click', 'rich', 'pydantic'} & set(sys.modules)))\n"
    )
    assert run(code=code).stdout.splitlines()[-1] == "[]"


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("serve", "check-config", "perf"))


def test_help_of_serve_names_every_flag() -> None:
    result = run("serve", "--help")
    assert result.returncode == 0
    assert all(
        flag in result.stdout for flag in ("--config", "--bind", "--port", "--data-dir", "--log-level")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("server",),
        ("serve", "--prot", "1"),
        ("serve", "extra"),
        ("check-config",),
    ],
)
def test_a_command_line_that_is_not_understood_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_check_config_accepts_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[log]\nlevel = 'debug'\n")
    result = run("check-config", str(path))
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{path}: ok\n", "")


def test_check_config_says_what_is_wrong_where(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[log]\nlevle = 'debug'\nformat = 'xml'\n")
    result = run("check-config", str(path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"{path}:2: log.levle: unknown key; did you mean log.level?",
        f'{path}:3: log.format = "xml": expected one of "text", "json"',
    ]


def test_check_config_says_that_a_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    result = run("check-config", str(path))
    assert result.returncode == 1
    assert result.stderr == f"{path}: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--log-level", "loud"), '--log-level: log.level = "loud": expected one of '),
        (("--log-level=loud",), '--log-level: log.level = "loud": expected one of '),
        (("--config", "/nonexistent/broker.toml"), "/nonexistent/broker.toml: cannot be read: No such file"),
        (("--port", "http"), "--port: http is not a port from 0 to 65535"),
        (("--bind", "localhost:5672"), '--bind: "localhost:5672" is not a host'),
    ],
)
def test_a_configuration_that_cannot_be_used_ends_serve_with_one_line(
    arguments: tuple[str, ...], line: str
) -> None:
    result = run("serve", *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"amqp-broker: error: {line}")
    assert result.stderr.count("\n") == 1

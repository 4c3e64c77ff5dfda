"""`amqp-broker definitions`: a file to a stopped broker's data directory and back, and what is said about mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.cli.main import main
from amqp_broker.store.open import open_data_directory

EXPORTS = Path(__file__).parents[1] / "definitions" / "exports"
EXPORT = EXPORTS / "rabbitmq-3.10.8-http.json"


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def written(tmp_path: Path, **rows: list[dict[str, Any]]) -> str:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(rows))
    return str(file)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `definitions` with these arguments."""
    capsys.readouterr()
    status = main(["definitions", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def exported(capsys: pytest.CaptureFixture[str], data: str) -> dict[str, Any]:
    status, out, err = run(capsys, "export", "-", "--data-dir", data)
    assert (status, err) == (0, "")
    content: dict[str, Any] = json.loads(out)
    return content


def names(content: dict[str, Any], key: str) -> set[str]:
    return {row["name"] for row in content[key]}


def test_what_is_imported_can_be_exported(
    data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, _ = run(capsys, "import", str(EXPORT), "--data-dir", data)
    assert status == 0
    assert out == (
        f"{EXPORT}: 3 virtual hosts, 4 users, 6 permissions, 5 parameters, 6 policies, 9 exchanges, "
        "12 queues and 11 bindings\n"
    )
    content = exported(capsys, data)
    assert names(content, "users") == {"alice", "bob", "carol", "guest"}
    assert names(content, "vhosts") == {"/", "empty", "shop"}
    assert names(content, "policies") == {"ae", "fed", "ha", "limits", "ttl"}
    assert "shop-quorum" in names(content, "queues")
    assert "shop-auto" not in names(content, "queues")
    file = tmp_path / "again.json"
    assert run(capsys, "export", str(file), "--data-dir", data) == (0, "", "")
    assert json.loads(file.read_text()) == content
    assert run(capsys, "check", str(file)) == (0, f"{file}: ok\n", "")


def test_an_import_says_what_it_passed_over(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "import", str(EXPORT), "--data-dir", data)
    lines = err.splitlines()
    assert all(line.startswith(f"{EXPORT}: warning: $.") for line in lines)
    assert [line for line in lines if "its name is reserved" in line]
    assert [line for line in lines if "'shop-auto' is transient: a start will not find it" in line]


def test_the_export_of_one_virtual_host_goes_into_the_one_named(
    data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    vhosts = written(tmp_path, vhosts=[{"name": "elsewhere"}])
    assert run(capsys, "import", vhosts, "--data-dir", data)[0] == 0
    file = str(EXPORTS / "rabbitmq-3.10.8-vhost.json")
    assert run(capsys, "import", file, "--data-dir", data, "--vhost", "elsewhere")[0] == 0
    queues = exported(capsys, data)["queues"]
    assert queues
    assert {row["vhost"] for row in queues} == {"elsewhere"}


def test_a_mistake_changes_nothing_and_is_told_with_its_place(
    data: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        vhosts=[{"name": "new"}],
        queues=[
            {"name": "q", "vhost": "/", "durable": True},
            {"name": "r", "vhost": "/", "arguments": {"x-expires": 0}},
            {"name": "s", "vhost": "nope"},
        ],
    )
    problems = [
        "$.queues[1].arguments: invalid arg 'x-expires' for queue 'r' in vhost '/': {value_zero,0}",
        "$.queues[2].vhost: vhost nope not found",
    ]
    status, out, err = run(capsys, "check", file)
    assert (status, out) == (1, "")
    assert err.splitlines() == [f"{file}: {problem}" for problem in problems]
    status, out, err = run(capsys, "import", file, "--data-dir", data)
    assert (status, out) == (1, "")
    assert err.splitlines() == [f"amqp-broker: error: {file}: {problem}" for problem in problems]
    content = exported(capsys, data)
    assert names(content, "vhosts") == {"/"}
    assert content["queues"] == []


def test_check_knows_the_configurations_user_and_virtual_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    permission = {"user": "admin", "vhost": "main", "configure": "", "write": "", "read": ""}
    file = written(tmp_path, permissions=[permission])
    assert run(capsys, "check", file)[0] == 1
    config = tmp_path / "broker.toml"
    config.write_text('[auth]\ndefault_user = "admin"\ndefault_vhost = "main"\n')
    assert run(capsys, "check", file, "--config", str(config)) == (0, f"{file}: ok\n", "")


def test_a_directory_that_is_in_use_is_said_to_be(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "import", str(EXPORT), "--data-dir", data)[0] == 0
    directory = open_data_directory(data, embedded=True)
    try:
        for command in (["export", "-"], ["import", str(EXPORT)]):
            status, out, err = run(capsys, *command, "--data-dir", data)
            assert (status, out) == (1, "")
            assert f"{data}: data directory is in use by another broker (pid " in err
            assert err.endswith(
                "; it does not answer on its control socket: it may be starting or stopping\n"
            )
    finally:
        directory.close()


def test_what_a_killed_broker_left_is_still_known_afterwards(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "import", str(EXPORT), "--data-dir", data)[0] == 0
    directory = open_data_directory(data, embedded=True)
    assert not directory.was_killed
    directory.close(in_order=False)
    exported(capsys, data)
    directory = open_data_directory(data, embedded=True)
    assert directory.was_killed
    directory.close()


@pytest.mark.parametrize("command", ["check", "import"])
def test_a_file_that_is_not_there_is_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "none.json")
    flags = ["--data-dir", str(tmp_path / "data")] if command == "import" else []
    assert run(capsys, command, file, *flags) == (
        1,
        "",
        f"amqp-broker: error: {file}: No such file or directory\n",
    )
    assert not (tmp_path / "data").exists()


def test_there_is_nothing_to_export_where_no_broker_was(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "export", "-", "--data-dir", data) == (
        1,
        "",
        f"amqp-broker: error: {data}: no broker runs here, and there are no data of one\n",
    )
    assert not Path(data).exists()

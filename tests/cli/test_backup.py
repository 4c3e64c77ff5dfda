"""`amqp-broker backup`, `restore` and `verify`: what they print, and with which status they end."""

from __future__ import annotations

import marshal
import os
import re
import shutil
from pathlib import Path

import pytest

from amqp_broker.cli.main import main
from amqp_broker.store import records
from amqp_broker.store.environment import PROCESS, log_path, open_environment
from amqp_broker.store.log import Log
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.writer import Writer

EXPORT = Path(__file__).parents[1] / "definitions" / "exports" / "rabbitmq-3.10.8-http.json"
SUMMARY = r"11 queues, 0 messages of 0 octets \(0 bodies shared\), \d+ definitions; sound\n"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a stopped broker, with definitions in it."""
    data = tmp_path_factory.mktemp("backup") / "data"
    assert main(["definitions", "import", str(EXPORT), "--data-dir", str(data)]) == 0
    return data


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def break_a_definition(data: Path) -> None:
    environment = open_environment(str(data), 1 << 30, PROCESS)
    definitions = environment.open_db(records.DEFINITIONS)
    with environment.begin(write=True, db=definitions) as txn:
        txn.put(b"kqueue\0?", b"\xff\xff")
    environment.close()


def exported(capsys: pytest.CaptureFixture[str], data: Path) -> str:
    status, out, _ = run(capsys, "definitions", "export", "-", "--data-dir", data)
    assert status == 0
    return out


def test_what_was_backed_up_can_be_verified_and_restored(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"
    status, out, err = run(capsys, "backup", copy, "--data-dir", data)
    assert (status, err) == (0, "")
    size = (copy / "store" / "data.mdb").stat().st_size
    assert out == f"{copy}: {size} octets, copied from {data}\n"
    status, out, err = run(capsys, "verify", copy)
    assert (status, err) == (0, "")
    assert re.fullmatch(re.escape(f"{copy}: ") + SUMMARY, out)
    status, out, err = run(capsys, "restore", copy, "--data-dir", new)
    assert (status, err) == (0, "")
    assert re.fullmatch(re.escape(f"{new}: restored from {copy}: ") + SUMMARY, out)
    assert exported(capsys, new) == exported(capsys, data)


def test_the_configuration_says_where_the_data_are(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broker.toml"
    config.write_text(f'[data]\ndirectory = "{data}"\n')
    assert run(capsys, "backup", tmp_path / "copy", "--config", config)[0] == 0
    status, _, err = run(capsys, "restore", tmp_path / "copy", "--config", config)
    assert status == 1
    assert err == (
        f"amqp-broker: error: {data}: is not empty: there is batches.log, store; "
        "--force sets aside what is there\n"
    )
    status, out, _ = run(capsys, "restore", tmp_path / "copy", "--config", config, "--force")
    assert status == 0
    assert out.splitlines()[0] == f"{data}: what was there is in {data}/replaced-1"


def test_batches_that_only_the_log_has_are_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = open_environment(str(data), 1 << 30, PROCESS)
    number = Writer(environment, str(data)).log_number()
    environment.close()
    log = Log(log_path(str(data)))
    log.append([(number + 1, marshal.dumps([records.COUNTER, [5000]], 2))])
    log.close()
    _, out, _ = run(capsys, "backup", tmp_path / "copy", "--data-dir", data)
    assert ", 1 batches of them in the log, copied from " in out
    _, out, _ = run(capsys, "verify", tmp_path / "copy")
    assert out.endswith(" definitions, 1 batches in the log that are not counted; sound\n")


def test_damage_is_status_1_and_a_line_for_each(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_a_definition(data)
    status, out, err = run(capsys, "verify", data)
    assert status == 1
    assert out.endswith("; damaged\n")
    assert err.startswith(f"{data}: definition b'kqueue\\x00?': makes no sense: ")
    assert err.count("\n") == 1


def test_a_warning_is_no_damage(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environment = open_environment(str(data), 1 << 30, PROCESS)
    with environment.begin(write=True, db=environment.open_db(records.META)) as txn:
        txn.put(b"colour", b"red")
    environment.close()
    status, out, err = run(capsys, "verify", data)
    assert (status, err) == (0, f"{data}: warning: meta: unknown row b'colour'\n")
    assert out.endswith("; sound\n")


def test_what_cannot_be_read_is_status_2(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = tmp_path / "none"
    assert run(capsys, "verify", none) == (
        2,
        "",
        f"amqp-broker: error: {none}: there is no store in it\n",
    )
    environment = open_environment(str(data), 1 << 30, PROCESS)
    with environment.begin(write=True, db=environment.open_db(records.META)) as txn:
        txn.put(records.SCHEMA_KEY, records.U64.pack(9))
    environment.close()
    status, out, err = run(capsys, "verify", data)
    assert (status, out) == (2, "")
    assert "its schema version is 9" in err


def test_a_damaged_backup_is_not_restored(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    break_a_definition(data)
    assert run(capsys, "backup", copy, "--data-dir", data)[0] == 0
    status, out, err = run(capsys, "restore", copy, "--data-dir", tmp_path / "new", "--force")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == f"amqp-broker: error: {copy}: the backup is damaged; nothing was changed"
    assert err.count("\n") == 2
    assert not (tmp_path / "new").exists()


def test_a_directory_that_is_in_use_is_said_to_be(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "backup", tmp_path / "copy", "--data-dir", data)[0] == 0
    directory = open_data_directory(str(data), embedded=True)
    try:
        status, out, err = run(capsys, "restore", tmp_path / "copy", "--data-dir", data, "--force")
    finally:
        directory.close()
    assert (status, out) == (1, "")
    assert err == (
        f"amqp-broker: error: {data}: data directory is in use by another broker (pid {os.getpid()})\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["backup", "{tmp}/copy", "--data-dir", "{tmp}/none"], "{tmp}/none: there is no store in it"),
        (["backup", "{tmp}", "--data-dir", "{tmp}/data"], "{tmp}: is there already, and is not empty"),
        (["restore", "{tmp}/none", "--data-dir", "{tmp}/new"], "{tmp}/none: there is no store in it"),
        (["backup", "{tmp}/copy", "--config", "{tmp}/none.toml"], "{tmp}/none.toml: cannot be read: No such"),
        (
            ["restore", "{tmp}/copy", "--config", "{tmp}/none.toml"],
            "{tmp}/none.toml: cannot be read: No such",
        ),
    ],
)
def test_what_the_operator_can_put_right_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    status, out, err = run(capsys, *(argument.format(tmp=tmp_path) for argument in arguments))
    assert (status, out) == (1, "")
    assert err.startswith("amqp-broker: error: " + line.format(tmp=tmp_path))
    assert err.count("\n") == 1


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help")
    assert all(f" {command} " in out for command in ("backup", "restore", "verify"))

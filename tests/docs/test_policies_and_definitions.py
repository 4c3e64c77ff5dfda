"""The examples of docs/policies.md and docs/definitions.md do what stands there, and the tables are not stale."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from amqp_broker.broker.argument_table import CONSUMER_ROWS, POLICY_KEYS, QUEUE_ROWS
from amqp_broker.broker.broker import Broker
from amqp_broker.config import load_config
from amqp_broker.definitions import check, load, read
from amqp_broker.definitions.__main__ import main
from amqp_broker.definitions.tables import with_tables
from amqp_broker.store.memory import MemoryStore
from tests.docs.pages import ROOT, block_after
from tests.docs.test_readme import ADDRESS, run_python
from tests.server.broker_process import BrokerProcess

QUEUES: Final = ROOT / "docs" / "queues.md"
POLICIES: Final = ROOT / "docs" / "policies.md"
DEFINITIONS: Final = ROOT / "docs" / "definitions.md"


def new_broker() -> Broker:
    broker = Broker(MemoryStore())
    broker.add_vhost("/")
    return broker


@pytest.mark.parametrize("page", [QUEUES, POLICIES], ids=lambda page: page.name)
def test_the_tables_are_not_stale(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(page)]) == 0, capsys.readouterr().err


def test_every_argument_and_key_stands_in_its_table() -> None:
    queues, policies = QUEUES.read_text(), POLICIES.read_text()
    assert all(f"| `{row.name}` |" in queues for row in (*QUEUE_ROWS, *CONSUMER_ROWS))
    assert all(f"| `{key}` |" in policies for key in POLICY_KEYS)


def test_a_stale_table_is_said_to_be_and_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin: policy keys -->\nold\n<!-- end: policy keys -->\nafter\n")
    assert main(["--check", str(page)]) == 1
    assert "stale" in capsys.readouterr().err
    assert main(["--write", str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines


def test_a_table_without_an_end_is_told() -> None:
    with pytest.raises(ValueError, match="begin: policy keys -->.* has no end"):
        with_tables("<!-- begin: policy keys -->\n")


def test_the_policy_in_the_example_does_what_stands_there(tmp_path: Path) -> None:
    file, config = tmp_path / "definitions.json", tmp_path / "broker.toml"
    file.write_text(block_after(POLICIES, "An example", "json"))
    config.write_text(f'[data]\nload_definitions = "{file}"\n')
    broker = BrokerProcess(tmp_path / "data", ["--config", str(config)]).start()
    try:
        program = block_after(POLICIES, "An example", "python")
        assert program.count(ADDRESS) == 1
        ran = run_python(["-c", program.replace(ADDRESS, f"127.0.0.1:{broker.port}")], tmp_path)
        assert (ran.stdout, ran.stderr) == (block_after(POLICIES, "An example", "text"), "")
    finally:
        broker.kill()


def test_the_operator_policy_in_the_example_loads() -> None:
    broker = new_broker()
    load(read(block_after(POLICIES, "Operator policies", "json")), broker)
    assert list(broker.vhosts["/"].policies.operator.by_name) == ["no queue grows for ever"]


def test_the_mistakes_in_the_example_are_told_as_they_stand_there() -> None:
    problems, _ = check(read(block_after(DEFINITIONS, "At the start", "json")), new_broker())
    expected = block_after(DEFINITIONS, "At the start", "text")
    assert "".join(f"{problem}\n" for problem in problems) == expected


def test_the_configuration_in_the_example_is_one(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(block_after(DEFINITIONS, "At the start", "toml"))
    config = load_config(file, environ={})
    assert config.data.load_definitions == "/etc/amqp-broker/definitions.json"

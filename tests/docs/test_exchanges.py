"""The examples of docs/exchanges.md print what stands below them, and no exchange type is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from amqp_broker.broker.exchange import EXCHANGE_TYPES
from tests.docs.pages import ROOT, block_after
from tests.docs.test_readme import ADDRESS, run_python
from tests.server.broker_process import BrokerProcess

PAGE: Final = ROOT / "docs" / "exchanges.md"
PREAMBLE: Final = "The examples"
SECTIONS: Final = [title for title in re.findall(r"^## (.+)$", PAGE.read_text(), re.M) if title != PREAMBLE]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("exchanges") / "data").start()
    yield process
    process.kill()


@pytest.mark.parametrize("section", SECTIONS)
def test_an_example_prints_what_stands_below_it(broker: BrokerProcess, section: str, tmp_path: Path) -> None:
    preamble = block_after(PAGE, PREAMBLE, "python")
    assert preamble.count(ADDRESS) == 1
    program = preamble.replace(ADDRESS, f"127.0.0.1:{broker.port}") + block_after(PAGE, section, "python")
    ran = run_python(["-c", program], tmp_path)
    assert (ran.stdout, ran.stderr) == (block_after(PAGE, section, "text"), "")
    assert ran.returncode == 0


def test_every_type_has_a_section() -> None:
    assert set(EXCHANGE_TYPES) - set(SECTIONS) == set()

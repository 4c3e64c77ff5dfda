"""The examples of docs/exchanges.md print what stands below them, and no exchange type is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from amqp_broker.broker.exchange import EXCHANGE_TYPES
from tests.docs.pages import ROOT, block_after, sections
from tests.docs.test_readme import assert_example_prints
from tests.server.broker_process import BrokerProcess

PAGE: Final = ROOT / "docs" / "exchanges.md"
PREAMBLE: Final = "The examples"
SECTIONS: Final = [title for title in sections(PAGE) if title != PREAMBLE]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("exchanges") / "data").start()
    yield process
    process.kill()


@pytest.mark.parametrize("section", SECTIONS)
def test_an_example_prints_what_stands_below_it(broker: BrokerProcess, section: str, tmp_path: Path) -> None:
    assert_example_prints(PAGE, section, broker, tmp_path, block_after(PAGE, PREAMBLE, "python"))


def test_every_type_has_a_section() -> None:
    assert set(EXCHANGE_TYPES) - set(SECTIONS) == set()

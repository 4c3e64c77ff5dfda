"""The examples of docs/queues.md print what stands below them; no feature is without one, no argument unexplained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from amqp_broker.broker.argument_table import CONSUMER_ROWS, QUEUE_ROWS
from tests.docs.pages import ROOT, block_after, prose, sections
from tests.docs.test_readme import assert_example_prints
from tests.server.broker_process import BrokerProcess

PAGE: Final = ROOT / "docs" / "queues.md"
PREAMBLE: Final = "The examples"
TABLES: Final = "All arguments"
FEATURES: Final = [title for title in sections(PAGE) if title not in {PREAMBLE, TABLES}]

# What a row of the tables says of an argument that changes nothing.
_WITHOUT_EFFECT: Final = ("Nothing", "For streams")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("queues") / "data").start()
    yield process
    process.kill()


@pytest.mark.parametrize("feature", FEATURES)
def test_an_example_prints_what_stands_below_it(broker: BrokerProcess, feature: str, tmp_path: Path) -> None:
    assert_example_prints(PAGE, feature, broker, tmp_path, block_after(PAGE, PREAMBLE, "python"))


def test_no_section_waits_to_be_written() -> None:
    assert "<!-- section:" not in PAGE.read_text()


def test_every_argument_with_an_effect_is_named_in_a_section_of_a_feature() -> None:
    effective = {
        row.name for row in (*QUEUE_ROWS, *CONSUMER_ROWS) if not row.effect.startswith(_WITHOUT_EFFECT)
    }
    parts = re.split(r"^## ", prose(PAGE), flags=re.MULTILINE)
    features = "".join(part for part in parts if part.startswith(tuple(f"{title}\n" for title in FEATURES)))
    assert effective
    assert {name for name in effective if f"`{name}`" not in features} == set()

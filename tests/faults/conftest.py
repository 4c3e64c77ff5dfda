"""Fixtures of the tests of faults: a broker of the test's own, and what holds at the end of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.faults import drop_all
from tests.server.broker_process import BrokerProcess


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Not started yet. Whatever happened to it, it left no traceback; killed if the test left it running."""
    process = BrokerProcess(tmp_path / "data")
    try:
        yield process
    finally:
        drop_all()
        process.kill()
    assert "Traceback" not in process.stderr(), process.stderr()

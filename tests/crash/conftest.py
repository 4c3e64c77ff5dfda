"""Fixtures of the crash tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.broker_process import BrokerProcess


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika is an asyncio library."""
    return "asyncio"


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker on data of its own, not started yet; killed at the end if the test left it running."""
    process = BrokerProcess(tmp_path / "data")
    yield process
    process.kill()

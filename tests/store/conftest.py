from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .harness import DURABLE, Subject


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "thread", "process", "thread-logged"])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each kind of store, open."""
    subject = Subject(request.param, tmp_path / "data")
    await subject.open()
    yield subject
    await subject.close()


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each kind of store that survives a restart, open."""
    subject = Subject(request.param, tmp_path / "data")
    await subject.open()
    yield subject
    await subject.close()


@pytest.fixture(params=["process", "process-logged"])
async def with_process(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """A store whose writer is a process."""
    subject = Subject(request.param, tmp_path / "data")
    await subject.open()
    yield subject
    await subject.close()

"""Fixtures for tests that talk to a running broker with real clients.

`broker` is one broker for the whole session: the one on port AMQP_TEST_PORT, or the installed command, whose
end is a test of its own: status 0 after SIGTERM and no traceback on stderr. `names` hands out names that no
other test has and removes what was declared under them. Tests that stop or kill a broker start their own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aio_pika
import pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection
from pika.adapters.blocking_connection import BlockingChannel

from tests.server.broker_process import BrokerProcess
from tests.server.service import Service
from tests.server.target import Names, RunningBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    existing = os.environ.get("AMQP_TEST_PORT")
    if existing:
        yield RunningBroker(int(existing))
        return
    process = BrokerProcess(tmp_path_factory.mktemp("broker") / "data").start()
    try:
        yield RunningBroker(process.port)
        assert process.running, f"the broker died during the tests:\n{process.stderr()}"
        assert process.stop() == 0
        assert "Traceback" not in process.stderr(), process.stderr()
    finally:
        process.kill()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker of the test's own, not started yet; killed at the end if the test left it running."""
    process = BrokerProcess(tmp_path / "data")
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture
def names(request: pytest.FixtureRequest, broker: RunningBroker) -> Iterator[Names]:
    handed_out = Names(request.node.name)
    yield handed_out
    handed_out.remove(broker)


@pytest.fixture
def connection(broker: RunningBroker) -> Iterator[pika.BlockingConnection]:
    opened = broker.connect()
    yield opened
    if opened.is_open:
        opened.close()


@pytest.fixture
def channel(connection: pika.BlockingConnection) -> BlockingChannel:
    return connection.channel()


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that says over HTTP who may do what."""
    with Service() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.goes_on.set()
        running.dribbles = False
        running.shutdown()
        thread.join()


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika is an asyncio library."""
    return "asyncio"


@pytest.fixture
async def aio_connection(broker: RunningBroker) -> AsyncIterator[AbstractConnection]:
    connection = await aio_pika.connect(broker.url)
    async with connection:
        yield connection


@pytest.fixture
async def aio_channel(aio_connection: AbstractConnection) -> AbstractChannel:
    return await aio_connection.channel()

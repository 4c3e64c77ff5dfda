"""The data directory of a broker that does not run: its model for as long as something is done to it.

Whoever changes a stopped broker comes through here: definitions files and the verbs of `control`. The lock of the
directory keeps brokers that start meanwhile waiting outside, and this out where one runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from amqp_broker import build_info
from amqp_broker.broker.broker import Broker
from amqp_broker.config import Config
from amqp_broker.control.node import Connected, Node
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.definitions import definitions_text
from amqp_broker.server.setup import add_default_user
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.thread import ThreadCarrier

if TYPE_CHECKING:
    from amqp_broker.control.request import Request


@asynccontextmanager
async def stopped_broker(config: Config) -> AsyncIterator[Broker]:
    """The model of a stopped broker; what is changed in it is durable at the end of the block.

    It is what time it is, for the dead letters that a new limit makes, but nothing falls due.
    """
    data = config.data
    directory = open_data_directory(
        str(data.directory), map_size=data.map_size, durability=data.durability, embedded=True
    )
    carrier = ThreadCarrier(directory)
    try:
        await carrier.start()
        store = JournalStore(directory.reader)
        broker = Broker(store)
        broker.clock.milliseconds = SystemClock().wall_ns() // 1_000_000
        broker.quorum_delivery_limit = config.limits.quorum_delivery_limit
        add_default_user(broker, config)
        broker.recover(was_killed=directory.was_killed)
        yield broker
        batch = store.seal(closing=True)
        if batch is not None:
            await carrier.commit(batch)
            store.committed(batch.number)
    finally:
        await carrier.close()
        # What a broker that was killed left is still to be told by the mark that it left, too.
        directory.close(in_order=not directory.was_killed)


class StoppedNode(Node):
    """Nobody is connected."""

    running = False

    def __init__(self, broker: Broker, config: Config) -> None:
        self.broker = broker
        self._config = config

    def connections(self) -> list[Connected]:
        return []

    def status(self) -> dict[str, object]:
        return {
            "running": self.running,
            "version": build_info.version_line(),
            "data_directory": str(self._config.data.directory),
        }

    def definitions(self) -> str:
        return definitions_text(self.broker, self._config)


def perform_stopped(config: Config, verb: str, arguments: Mapping[str, Any]) -> object:
    """What a verb comes to, its change durable. Raises Refused, and has changed nothing then, or StoreError."""
    from amqp_broker.control.request import read_request, write_request

    return anyio.run(_perform, config, read_request(write_request(verb, dict(arguments))))


async def _perform(config: Config, request: Request) -> object:
    async with stopped_broker(config) as broker:
        node = StoppedNode(broker, config)
        work = request.work(node)
        return request.run(node, None if work is None else work())

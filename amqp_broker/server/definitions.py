"""Definitions and the world: the file that is loaded, what is logged of it, and a stopped broker's data directory."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from amqp_broker import build_info
from amqp_broker.broker.broker import Broker
from amqp_broker.config import Config
from amqp_broker.definitions import InvalidDefinitions, Loaded, Problem, check, load, read, write
from amqp_broker.definitions.rows import ExchangeRow, QueueRow
from amqp_broker.server.setup import add_default_user
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.memory import MemoryStore
from amqp_broker.store.open import open_data_directory
from amqp_broker.store.thread import ThreadCarrier

_log = logging.getLogger(__name__)


def load_definitions(broker: Broker, config: Config) -> Loaded:
    """Load the configured file. Raises InvalidDefinitions or OSError, and has changed nothing then."""
    text = Path(config.data.load_definitions).expanduser().read_bytes()
    return load(read(text, config.auth.default_vhost), broker)


def log_loaded(config: Config, loaded: Loaded) -> None:
    for warning in loaded.warnings:
        _log.warning("definitions of %s: %s", config.data.load_definitions, warning)
    _log.info("loaded definitions of %s: %s", config.data.load_definitions, loaded)


def log_refused(config: Config, error: InvalidDefinitions | OSError) -> None:
    problems = error.problems if isinstance(error, InvalidDefinitions) else [error]
    for problem in problems:
        _log.error("definitions of %s: %s", config.data.load_definitions, problem)
    _log.error("loaded nothing of %s", config.data.load_definitions)


def definitions_text(broker: Broker, config: Config) -> str:
    return write(
        broker,
        version=config.protocol.version,
        product=build_info.NAME,
        product_version=build_info.VERSION,
    )


def check_text(config: Config, text: bytes, vhost: str) -> tuple[list[Problem], list[Problem]]:
    """What keeps a text from being loaded into a new broker, and what of it would be passed over."""
    broker = Broker(MemoryStore())
    add_default_user(broker, config)
    broker.add_vhost(vhost)
    try:
        return check(read(text, vhost), broker)
    except InvalidDefinitions as error:
        return error.problems, []


def export_stopped(config: Config) -> str:
    """The definitions in the data directory of a broker that does not run. Raises StoreError."""
    return anyio.run(_export, config)


def import_stopped(config: Config, text: bytes, vhost: str) -> Loaded:
    """Load definitions into such a directory, which is made if it is not there.

    Raises StoreError or InvalidDefinitions.
    """
    return anyio.run(_import, config, text, vhost)


async def _export(config: Config) -> str:
    async with _stopped(config) as broker:
        return definitions_text(broker, config)


async def _import(config: Config, text: bytes, vhost: str) -> Loaded:
    async with _stopped(config) as broker:
        document = read(text, vhost)
        loaded = load(document, broker)
    declared: list[ExchangeRow | QueueRow] = [*document.exchanges, *document.queues]
    for row in declared:
        if not row.durable:
            loaded.warnings.append(Problem(row.path, f"'{row.name}' is transient: a start will not find it"))
    return loaded


@asynccontextmanager
async def _stopped(config: Config) -> AsyncIterator[Broker]:
    """The model of a stopped broker; what is changed in it is durable at the end of the block.

    No time passes in it, so that nothing expires.
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

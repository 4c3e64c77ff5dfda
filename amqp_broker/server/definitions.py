"""Definitions and the world: the file that is loaded, what is logged of it, and who stands in an export."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from amqp_broker import build_info
from amqp_broker.broker.broker import Broker
from amqp_broker.config import Config
from amqp_broker.definitions import InvalidDefinitions, Loaded, Loading, Problem, check, load, read, write
from amqp_broker.server.setup import add_default_user
from amqp_broker.store.memory import MemoryStore

if TYPE_CHECKING:
    from amqp_broker.definitions.rows import Document
    from amqp_broker.server.portions import Portions

_log = logging.getLogger(__name__)


def load_definitions(broker: Broker, config: Config) -> Loaded:
    """Load the configured file. Raises InvalidDefinitions or OSError, and has changed nothing then."""
    return load(_read(config), broker)


async def load_definitions_again(broker: Broker, config: Config, portions: Portions) -> None:
    """The same while clients go on, and with the log for what comes of it. Raises StoreError."""
    try:
        document = await anyio.to_thread.run_sync(_read, config)
        loading = Loading(document, broker)
        await portions.run(loading.steps())
    except (InvalidDefinitions, OSError) as error:
        log_refused(config, error)
    else:
        log_loaded(config, loading.loaded)


def _read(config: Config) -> Document:
    text = Path(config.data.load_definitions).expanduser().read_bytes()
    return read(text, config.auth.default_vhost)


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

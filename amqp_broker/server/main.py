"""`run`: one broker in the foreground, from the configuration to the exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import anyio

from amqp_broker import build_info
from amqp_broker.config import Config
from amqp_broker.server.logs import log_unraisable, set_up_logging
from amqp_broker.server.server import Server
from amqp_broker.store.errors import StoreError

_log = logging.getLogger(__name__)


def run(config: Config, notes: Sequence[str] = ()) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status. SIGHUP loads definitions and certificates
    again.

    notes: what there is to log about how the configuration was read.

    Raises StoreError, OSError, ConfigError or InvalidDefinitions for what of the configuration cannot be used.
    """
    set_up_logging(config.log)
    sys.unraisablehook = log_unraisable
    for note in notes:
        _log.info("%s", note)
    return anyio.run(_serve, config, backend_options={"use_uvloop": _has_uvloop()})


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


async def _serve(config: Config) -> int:
    # Signals first: from here on a broker that is told to stop does so in good order.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        server = Server(config)
        try:
            await server.bind()
            await server.open()
            await server.listen()
            _announce(server, config)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_run_until_stopped, server.run, tasks.cancel_scope)
                stopping = False
                async for number in signals:
                    if number == signal.SIGHUP:
                        tasks.start_soon(server.reload_definitions)
                        server.reload_certificates()
                        continue
                    if stopping:
                        os._exit(128 + number)
                    stopping = True
                    _log.info("stopping: %s", signal.Signals(number).name)
                    server.stop()
        except BaseExceptionGroup as group:
            raise _first_store_error(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await server.close()
    return 0


async def _run_until_stopped(run_server: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
    await run_server()
    scope.cancel()


def _announce(server: Server, config: Config) -> None:
    addresses = ", ".join(server.addresses)
    print(
        f"{build_info.version_line()} listening on {addresses}, data in {config.data.directory}", flush=True
    )


def _first_store_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What an operator can act on, if that is what ended the broker; else the whole group."""
    found: BaseException | None = group.subgroup(StoreError)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return group if found is None else found

"""The broker as a running service: opens the data directory, recovers, listens, and stops in good order.

Everything that waits is here and in `client` and `commits`. What a method means is the session's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from typing import Any, Final

import anyio

from amqp_broker.broker.broker import Broker, Recovered
from amqp_broker.config import Config, ConfigError
from amqp_broker.server.address_limits import AddressLimits
from amqp_broker.server.admission import Admission, raise_descriptor_limit
from amqp_broker.server.alarms import Watch
from amqp_broker.server.authentication import Authentication
from amqp_broker.server.behind import Behind
from amqp_broker.server.blocks import Blocks
from amqp_broker.server.client import NOTHING_SENT, Client, TlsClient
from amqp_broker.server.clock import ServerClock, SystemClock
from amqp_broker.server.commits import Commits
from amqp_broker.server.control import Control
from amqp_broker.server.definitions import load_definitions, load_definitions_again, log_loaded
from amqp_broker.server.garbage import Garbage
from amqp_broker.server.listening import Listening, Origin, origin_of
from amqp_broker.server.portions import Portions
from amqp_broker.server.setup import add_default_user, session_settings
from amqp_broker.server.tls import peer_names
from amqp_broker.server.wakefulness import Wakefulness
from amqp_broker.session.connection import Connection
from amqp_broker.session.settings import Turn
from amqp_broker.store.carrier import Carrier
from amqp_broker.store.errors import StoreError
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.open import DataDirectory, open_data_directory
from amqp_broker.store.process import ProcessCarrier
from amqp_broker.store.spill import Spill
from amqp_broker.store.thread import ThreadCarrier

_log = logging.getLogger(__name__)

TICK: Final = 0.5
# How long a connection whose session has ended may take to accept the output that is left.
LINGER: Final = 3.0
SHUTDOWN_PATIENCE: Final = 4.0
# Congestion control for peers on this machine, where no packet is lost: any user may choose it on any Linux.
UNPACED: Final = b"reno"
NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)


class Server:
    """`bind`, `open`, `listen`, then `run` until `stop`; `close` in any case. addresses: where it listens.

    clock: all of its time; that of the machine unless another one is handed in.
    """

    def __init__(self, config: Config, clock: ServerClock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self._directory = self._open_directory()
        self._carrier: Carrier = self._new_carrier()
        self._carrier.spawn()
        self._spill = Spill(self._directory.path)
        self.store = JournalStore(self._directory.reader, self._spill)
        self.broker = Broker(self.store)
        self._settings = session_settings(config)
        self._settings.clock = self.clock.monotonic
        self._turn = Turn()
        self._commits = Commits(self.store, self._carrier, self._turn, self.broker, config.limits, self.clock)
        self.portions = Portions(self._commits, self.clock)
        self._authentication = Authentication(self.broker, self._commits, config, self.clock)
        self._settings.authenticator = self._authentication
        limits = config.limits
        self._address_limits = AddressLimits(
            limits.connections_per_address, limits.connection_rate_per_address
        )
        self._listening = Listening(
            config, self.clock, self._new_client, self._has_room, self._address_limits
        )
        self._stopping = anyio.Event()
        self._loading = anyio.Lock()
        self._garbage = Garbage()
        self.blocks = Blocks()
        self.behind = Behind()
        self.wakefulness = Wakefulness(config.listeners.busy_wait / 1_000_000, self.clock)
        self._admission = Admission(config.limits.connection_max)
        self._spill_failure = ""
        self._ended_in_order = False
        self._control = Control(self, self._commits)
        self._watch = Watch(
            self._directory.path, config.limits, self.blocks.give_up_all, self._directory.reader.reusable
        )

    @property
    def addresses(self) -> list[str]:
        return self._listening.addresses

    @property
    def clients(self) -> list[Client]:
        return list(self._commits.clients.values())

    def _open_directory(self) -> DataDirectory:
        data = self.config.data
        return open_data_directory(
            str(data.directory),
            map_size=data.map_size,
            durability=data.durability,
            embedded=data.writer == "thread",
        )

    def _new_carrier(self) -> Carrier:
        return (
            ThreadCarrier(self._directory)
            if self.config.data.writer == "thread"
            else ProcessCarrier(self._directory)
        )

    async def open(self) -> Recovered:
        """Bring back what was durable and load the configured definitions.

        Raises StoreError, InvalidDefinitions, or OSError for a file that cannot be read.
        """
        await self._carrier.start()
        self._directory.note_log()
        started = self._commits.timer.begin_turn()
        self.broker.quorum_delivery_limit = self.config.limits.quorum_delivery_limit
        add_default_user(self.broker, self.config)
        found = self.broker.recover(was_killed=self._directory.was_killed)
        _log.info(
            "recovered %d queues with %d messages, %d exchanges and %d bindings in %.2f s",
            found.queues,
            found.messages,
            found.exchanges,
            found.bindings,
            self.clock.monotonic() - started,
        )
        if self.config.data.load_definitions:
            log_loaded(self.config, load_definitions(self.broker, self.config))
        return found

    async def reload_definitions(self) -> None:
        """Load the file of definitions again, while clients go on. One with a mistake changes nothing."""
        if not self.config.data.load_definitions:
            _log.info("nothing to load again: data.load_definitions names no file")
            return
        # What is read later is loaded later.
        async with self._loading:
            try:
                await load_definitions_again(self.broker, self.config, self.portions)
            except StoreError:
                # The broker ends, and says why.
                return
            except Exception:
                _log.exception("definitions: internal error")

    def reload_certificates(self) -> None:
        """Read the files of certificates and keys again, for the connections that come from now on."""
        self._listening.reload_certificates()
        try:
            self._authentication.load_certificates()
        except ConfigError as error:
            _log.error("the certificates for the HTTP backend were not loaded again: %s", error)

    async def bind(self) -> None:
        """Take the configured addresses. Raises OSError or ConfigError naming what cannot be had."""
        self._authentication.load_certificates()
        await self._listening.bind()

    async def listen(self) -> None:
        """Accept connections from now on."""
        raise_descriptor_limit()
        asyncio.get_running_loop().set_exception_handler(self._failed_callback)
        await self._listening.listen()
        self._control.open()

    async def run(self) -> None:
        """Serve until `stop`, then close the connections, commit what is pending, and return."""
        self._garbage.take_over()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commits.run)
            async with anyio.create_task_group() as serving:
                serving.start_soon(self._keep_time)
                serving.start_soon(self._listening.run)
                serving.start_soon(self._control.run)
                await self._stopping.wait()
                serving.cancel_scope.cancel()
            self._control.close()
            self._listening.close()
            await self._close_clients()
            self._commits.close()
        self._ended_in_order = True

    def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        """Release the addresses and the data directory."""
        self._garbage.give_back()
        self._authentication.close()
        self._control.close()
        self._listening.close()
        try:
            await self._carrier.close()
        finally:
            self._directory.close(in_order=self._ended_in_order)
            self._watch.close()
            self._spill.close()

    # -- clients

    def _new_client(self, origin: Origin | None = None, secure: bool = False) -> Client:
        return (TlsClient if secure else Client)(self, self._commits, origin)

    def _has_room(self, descriptor: int) -> bool:
        connections = len(self._commits.clients) + self._listening.arriving
        return self._admission.admits(connections, descriptor, self.clock.monotonic())

    def admit(self, client: Client) -> Connection | None:
        """A session for a new client; None if there are too many already, or it is gone again."""
        transport = client.transport
        origin = client.origin or origin_of(transport)
        if origin is None:
            return None
        raw = transport.get_extra_info("socket")
        now = self.clock.monotonic()
        if not self._admission.admits(len(self._commits.clients), raw.fileno(), now):
            return None
        if origin.since is None and origin.host and not self._address_limits.enter(origin.host, now):
            return None
        try:
            connection = self._new_connection(client, origin, now)
        except BaseException:
            # Whoever has seen it in counts it down where nobody took it.
            if origin.since is None and origin.host:
                self._address_limits.leave(origin.host)
            raise
        origin.taken = True
        return connection

    def _new_connection(self, client: Client, origin: Origin, now: float) -> Connection:
        transport = client.transport
        client.origin = origin
        self._tune_socket(transport.get_extra_info("socket"), origin)
        name = origin.name
        connection = Connection(self.broker, self._settings, self._turn, name, origin.from_loopback, now)
        if origin.since is not None:
            # What came before AMQP was part of the handshake.
            connection.deadline = origin.since + self._settings.handshake_timeout
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            connection.peer_names = peer_names(tls.getpeercert())
        self._commits.clients[connection] = client
        return connection

    def _tune_socket(self, raw: socket.socket, origin: Origin) -> None:
        if not origin.is_tcp:
            return
        if not self.config.listeners.nodelay:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        if origin.from_loopback and sys.platform == "linux":
            # Where the system paces its senders (BBR), a fifth of transient_1m went into the timers for that.
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, UNPACED)

    def forget(self, client: Client) -> None:
        """A client's socket is closed."""
        connection = client.connection
        self._commits.forget(connection)
        if client.origin is not None and client.origin.host:
            self._address_limits.leave(client.origin.host)
        self._garbage.connection_closed()
        if connection.close_reason is NOTHING_SENT:
            _log.debug("closed connection %s: %s", connection.name, connection.close_reason)
        elif connection.close_reason is not None:
            _log.warning("closed connection %s: %s", connection.name, connection.close_reason)
        else:
            _log.info("closed connection %s", connection.name)

    def _failed_callback(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback of the event loop raised, or the loop has something to say."""
        error = context.get("exception")
        if isinstance(error, StoreError):
            self._commits.give_up(error)
        elif isinstance(error, OSError) and error.errno in NO_DESCRIPTOR:
            self._admission.none_left(error, self.clock.monotonic())
        elif isinstance(error, MemoryError):
            _log.error("no memory: %s", context["message"])
        elif isinstance(error, UnicodeDecodeError) and context["message"].startswith("SSL handshake failed"):
            # Of a client's certificate. Who saw it in says so.
            return
        else:
            _log.error("%s", context["message"], exc_info=error)

    async def _keep_time(self) -> None:
        """Let time pass for the sessions, and watch memory and disk."""
        while True:
            await self.clock.sleep(TICK)
            try:
                self._tick()
            except StoreError as error:
                self._commits.give_up(error)
                return

    def _tick(self) -> None:
        self._check_alarms()
        self._garbage.collect_if_due()
        now = self._commits.timer.begin_turn()
        self.blocks.give_up_idle(now)
        self._admission.tick(now)
        self._commits.memory.relieve()
        self._report_spill()
        for client in self.clients:
            client.connection.tick(now)
            if client.connection.finished:
                client.finished_at = client.finished_at or now
                if now - client.finished_at > LINGER:
                    client.transport.abort()
        self._commits.finish_turn()

    def _report_spill(self) -> None:
        failure = self.store.spill_failure
        if failure and not self._spill_failure:
            _log.warning(
                "messages cannot leave memory: %s (resident memory %d octets, publishers are blocked at %d)",
                failure,
                self._watch.resident(),
                self._watch.memory_limit,
            )
        elif self._spill_failure and not failure:
            _log.warning("messages can leave memory again")
        self._spill_failure = failure

    def _check_alarms(self) -> None:
        reasons = self._watch.reasons()
        if self._commits.failing is not None:
            reasons = [*reasons, self._commits.failing]
        had_alarms = bool(self.broker.alarms)
        self.broker.alarms = reasons
        for client in self.clients if had_alarms != bool(reasons) else ():
            if reasons:
                client.connection.alarm_begins()
            else:
                client.connection.alarm_cleared()
        self._commits.release_held_back()

    async def _close_clients(self) -> None:
        now = self._commits.timer.begin_turn()
        for client in self.clients:
            client.connection.shut_down("shutdown", now)
            client.go_on()
        self._commits.finish_turn()
        with anyio.CancelScope() as scope:
            patience = self.clock.call_later(SHUTDOWN_PATIENCE, scope.cancel)
            await self._commits.wait_no_clients()
        patience.cancel()
        for client in self.clients:
            client.transport.abort()
        try:
            # What clients have acknowledged is not to come back.
            self.broker.chores.finish()
        except StoreError as error:
            self._commits.give_up(error)
        except Exception:
            # What was confirmed is to be committed all the same.
            _log.exception("internal error while deliveries went back to their queues")

"""The broker as a running service: opens the data directory, recovers, listens, and stops in good order.

Everything that waits is here and in `client` and `commits`. What a method means is the session's business.
"""

from __future__ import annotations

import logging
import socket
from time import monotonic
from typing import Final

import anyio
from anyio.abc import Listener, SocketAttribute, SocketStream, TaskGroup

from amqp_broker.broker.broker import Broker, Recovered
from amqp_broker.config import Config
from amqp_broker.server.alarms import Watch
from amqp_broker.server.client import LINGER, Client
from amqp_broker.server.commits import Commits
from amqp_broker.server.setup import add_default_user, session_settings
from amqp_broker.session.connection import Connection
from amqp_broker.session.settings import Turn
from amqp_broker.store.carrier import Carrier
from amqp_broker.store.journal import JournalStore
from amqp_broker.store.open import DataDirectory, open_data_directory
from amqp_broker.store.process import ProcessCarrier
from amqp_broker.store.thread import ThreadCarrier

_log = logging.getLogger(__name__)

TICK: Final = 0.5
SHUTDOWN_PATIENCE: Final = 4.0


class Server:
    """`open`, `listen`, then `run` until `stop`; `close` in any case. addresses: where it listens."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.addresses: list[str] = []
        self._directory = self._open_directory()
        self._carrier: Carrier = self._new_carrier()
        self._carrier.spawn()
        self.store = JournalStore(self._directory.reader)
        self.broker = Broker(self.store)
        self._settings = session_settings(config)
        self._turn = Turn()
        self._commits = Commits(self.store, self._carrier, self._turn, config.limits.uncommitted_max)
        self._listeners: list[Listener[SocketStream]] = []
        self._stopping = anyio.Event()
        self._watch = Watch(self._directory.path, config.limits)

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
        """Bring back what was durable. Raises StoreError."""
        await self._carrier.start()
        started = monotonic()
        found = self.broker.recover()
        add_default_user(self.broker, self.config)
        _log.info(
            "recovered %d queues with %d messages, %d exchanges and %d bindings in %.2f s",
            found.queues,
            found.messages,
            found.exchanges,
            found.bindings,
            monotonic() - started,
        )
        return found

    async def listen(self) -> None:
        """Bind the configured addresses. Raises OSError naming the address that cannot be had."""
        for address in self.config.listeners.tcp:
            try:
                multi = await anyio.create_tcp_listener(
                    local_host=address.host, local_port=address.port, backlog=self.config.listeners.backlog
                )
            except OSError as error:
                raise OSError(
                    error.errno, f"cannot listen on {address}: {error.strerror or error}"
                ) from error
            for listener in multi.listeners:
                self._listeners.append(listener)
                self.addresses.append(_address_text(listener.extra(SocketAttribute.local_address)))

    async def run(self) -> None:
        """Serve until `stop`, then close the connections, commit what is pending, and return."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._commits.run)
            async with anyio.create_task_group() as serving:
                for listener in self._listeners:
                    serving.start_soon(self._accept, listener, tasks)
                serving.start_soon(self._keep_time, tasks)
                await self._stopping.wait()
                serving.cancel_scope.cancel()
            await self._close_clients(tasks)
            self._commits.close()

    def stop(self) -> None:
        self._stopping.set()

    async def close(self) -> None:
        """Release the addresses and the data directory."""
        for listener in self._listeners:
            await listener.aclose()
        try:
            await self._carrier.close()
        finally:
            self._directory.close()
            self._watch.close()

    async def _accept(self, listener: Listener[SocketStream], tasks: TaskGroup) -> None:
        async def accepted(stream: SocketStream) -> None:
            await self._serve(stream, tasks)

        await listener.serve(accepted, tasks)

    async def _serve(self, stream: SocketStream, tasks: TaskGroup) -> None:
        limit = self.config.limits.connection_max
        if limit and len(self._commits.clients) >= limit:
            _log.warning("refused a connection: there are %d already", limit)
            await anyio.aclose_forcefully(stream)
            return
        try:
            connection = self._new_connection(stream)
        except anyio.get_cancelled_exc_class():
            raise
        except OSError:
            # The peer was gone before its address could be asked for.
            await anyio.aclose_forcefully(stream)
            return
        client = Client(stream, connection, self._commits)
        self._commits.clients[connection] = client
        tasks.start_soon(client.write)
        try:
            await client.read()
        finally:
            connection.lost()
            del self._commits.clients[connection]
            client.wake()
            self._commits.finish_turn()
            if connection.close_reason is not None:
                _log.warning("closed connection %s: %s", connection.name, connection.close_reason)
            else:
                _log.info("closed connection %s", connection.name)

    def _new_connection(self, stream: SocketStream) -> Connection:
        peer = stream.extra(SocketAttribute.remote_address)
        here = stream.extra(SocketAttribute.local_address)
        if self.config.listeners.nodelay is False:
            stream.extra(SocketAttribute.raw_socket).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        name = f"{_address_text(peer)} -> {_address_text(here)}"
        _log.info("accepted connection %s", name)
        return Connection(self.broker, self._settings, self._turn, name, _is_loopback(peer), monotonic())

    async def _keep_time(self, tasks: TaskGroup) -> None:
        """Let time pass for the sessions, and watch memory and disk."""
        while True:
            await anyio.sleep(TICK)
            self._check_alarms()
            now = monotonic()
            for client in self.clients:
                client.connection.tick(now)
                if client.connection.finished:
                    client.finished_at = client.finished_at or now
                    if now - client.finished_at > LINGER:
                        tasks.start_soon(anyio.aclose_forcefully, client.stream)
            self._commits.finish_turn()

    def _check_alarms(self) -> None:
        reasons = self._watch.reasons()
        if self._commits.failing is not None:
            reasons = [*reasons, self._commits.failing]
        had_alarms = bool(self.broker.alarms)
        self.broker.alarms = reasons
        if had_alarms and not reasons:
            for client in self.clients:
                client.connection.alarm_cleared()
                client.resume()

    async def _close_clients(self, tasks: TaskGroup) -> None:
        now = monotonic()
        for client in self.clients:
            client.connection.shut_down("shutdown", now)
            client.resume()
        self._commits.finish_turn()
        with anyio.move_on_after(SHUTDOWN_PATIENCE):
            while self._commits.clients:
                await anyio.sleep(0.01)
        for client in self.clients:
            await anyio.aclose_forcefully(client.stream)


def _address_text(address: object) -> str:
    """host:port, with an IPv6 host in brackets."""
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(address: object) -> bool:
    host = address[0] if isinstance(address, tuple) else ""
    return host.startswith("127.") or host == "::1" or host.startswith("::ffff:127.")

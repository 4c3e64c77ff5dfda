"""The whole model: virtual hosts, users, alarms, and what a start brings back from the store.

Built by the server (or a test) around a store; everything a session does goes through it. It holds no sockets
and no clock.
"""

from __future__ import annotations

from amqp_broker.broker.access import Permission, User
from amqp_broker.broker.definitions import DefinitionWriter, restore_binding, restore_exchange, restore_queue
from amqp_broker.broker.ports import Definition, Store
from amqp_broker.broker.timetable import Clock, Timetable
from amqp_broker.broker.vhost import VirtualHost


class Recovered:
    """How much a start found."""

    __slots__ = ("bindings", "exchanges", "messages", "queues")

    def __init__(self) -> None:
        self.exchanges: int = 0
        self.queues: int = 0
        self.bindings: int = 0
        self.messages: int = 0


class Broker:
    """alarms: the reasons publishers are blocked for, in the order they arose ("low on memory", ...).

    clock: whoever runs a turn sets it; timetable: what falls due.
    """

    __slots__ = ("alarms", "clock", "definitions", "store", "timetable", "users", "vhosts")

    def __init__(self, store: Store) -> None:
        self.store: Store = store
        self.clock: Clock = Clock()
        self.timetable: Timetable = Timetable(self.clock)
        self.definitions: DefinitionWriter = DefinitionWriter(store)
        self.vhosts: dict[str, VirtualHost] = {}
        self.users: dict[str, User] = {}
        self.alarms: list[str] = []

    def add_vhost(self, name: str) -> VirtualHost:
        """The virtual host of that name, made if it is not there."""
        vhost = self.vhosts.get(name)
        if vhost is None:
            vhost = self.vhosts[name] = VirtualHost(name, self.store, self.definitions, self.timetable)
        return vhost

    def add_user(self, user: User) -> None:
        self.users[user.name] = user

    def permit(self, user: User, vhost: str, permission: Permission) -> None:
        user.permissions[vhost] = permission

    def recover(self, *, was_killed: bool = False) -> Recovered:
        """Bring back the durable topology and the queues' messages. Called once, before any session.

        was_killed: the last run did not end in good order, so any message may have been delivered by it without
        that being on record: all are redelivered, as RabbitMQ has it.
        """
        found = Recovered()
        definitions, stored = self.store.recover()
        if was_killed:
            for queue_found in stored.values():
                queue_found.watermark = queue_found.last_seq
        by_kind: dict[str, list[Definition]] = {"exchange": [], "queue": [], "binding": []}
        for definition in definitions:
            self.definitions.seen(definition.key)
            by_kind[definition.kind].append(definition)
        for definition in by_kind["exchange"]:
            restore_exchange(self._vhost_of(definition), definition, stored)
            found.exchanges += 1
        for definition in by_kind["queue"]:
            queue = restore_queue(self._vhost_of(definition), definition, stored)
            found.queues += 1
            found.messages += queue.ready_count()
        for definition in by_kind["binding"]:
            restore_binding(self._vhost_of(definition), definition)
            found.bindings += 1
        for store_id in stored:
            self.store.delete_queue(store_id)
        return found

    def _vhost_of(self, definition: Definition) -> VirtualHost:
        return self.add_vhost(str(definition.value["vhost"]))

"""The whole model: virtual hosts, users, alarms, and what a start brings back from the store.

Built by the server (or a test) around a store; everything a session does goes through it. It holds no sockets
and no clock.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.access import Permission, TopicPermission, User
from amqp_broker.broker.chores import Chores
from amqp_broker.broker.definitions import (
    DefinitionWriter,
    restore_binding,
    restore_dismissal,
    restore_exchange,
    restore_parameter,
    restore_permission,
    restore_policy,
    restore_queue,
    restore_user,
    restore_vhost,
)
from amqp_broker.broker.features import NO_LIMIT
from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.broker.parameters import Parameters
from amqp_broker.broker.passwords import PasswordHash
from amqp_broker.broker.ports import Definition, Store
from amqp_broker.broker.presence import expel_all, review
from amqp_broker.broker.timetable import Clock, Timetable
from amqp_broker.broker.vhost import VirtualHost

# Of definitions.
KINDS: Final = (
    "dismissal",
    "vhost",
    "user",
    "permission",
    "topic_permission",
    "parameter",
    "policy",
    "operator_policy",
    "exchange",
    "queue",
    "binding",
)


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

    clock: whoever runs a turn sets it; timetable: what falls due; chores: what is done a portion in a turn.
    parameters: those of the whole broker.
    quorum_delivery_limit: of quorum queues to which nothing gives another; set before there are any.

    configured: what the configuration makes at each start: ("vhost", name), ("user", name) and
    ("permission", user, vhost). dismissed: what of that was removed, and is so after a start, too.
    """

    __slots__ = (
        "alarms",
        "chores",
        "clock",
        "configured",
        "definitions",
        "dismissed",
        "parameters",
        "quorum_delivery_limit",
        "store",
        "timetable",
        "users",
        "vhosts",
    )

    def __init__(self, store: Store) -> None:
        self.store: Store = store
        self.clock: Clock = Clock()
        self.timetable: Timetable = Timetable(self.clock)
        self.chores: Chores = Chores(self.timetable)
        self.definitions: DefinitionWriter = DefinitionWriter(store)
        self.vhosts: dict[str, VirtualHost] = {}
        self.users: dict[str, User] = {}
        self.alarms: list[str] = []
        self.parameters: Parameters = Parameters(None, self.definitions)
        self.quorum_delivery_limit: int = NO_LIMIT
        self.configured: set[tuple[str, ...]] = set()
        self.dismissed: set[tuple[str, ...]] = set()

    def add_vhost(self, name: str) -> VirtualHost:
        """The virtual host of that name, made if it is not there."""
        vhost = self.vhosts.get(name)
        if vhost is None:
            vhost = self.vhosts[name] = VirtualHost(name, self.store, self.definitions, self.timetable)
            vhost.policies.quorum_delivery_limit = self.quorum_delivery_limit
        return vhost

    def put_vhost(self, name: str, metadata: VirtualHostMetadata) -> VirtualHost:
        """Have a virtual host that lasts, with this metadata."""
        vhost = self.add_vhost(name)
        vhost.metadata = metadata
        self.definitions.put_vhost(vhost)
        return vhost

    def add_user(self, user: User) -> None:
        """Have a user until the broker ends; the configuration's is made so at every start."""
        self.users[user.name] = user

    def permit(self, user: User, vhost: str, permission: Permission) -> None:
        """The same for a permission."""
        user.permissions[vhost] = permission

    def put_user(self, name: str, password: PasswordHash, tags: list[str], limits: dict[str, object]) -> User:
        """Make or change a user who lasts. Sessions of a user who is there go on with what is new."""
        user = self.users.get(name)
        if user is None:
            user = User(name, password, list(tags))
            self.add_user(user)
        if not user.password.stands_for(password):
            user.password = password
        if user.tags != tags:
            # The same list: rights that somebody else knows go by it, too.
            user.tags[:] = tags
            self._forget_verdicts(user)
        user.limits = limits
        self.definitions.put_user(user)
        return user

    def delete_user(self, name: str) -> bool:
        """Remove a user and close the connections of that user; whether there was one."""
        user = self.users.pop(name, None)
        if user is None:
            return False
        for vhost, permission in user.permissions.items():
            self._delete("permission", permission.key)
            self._dismiss(("permission", name, vhost))
        for topic_permission in user.topic_permissions.values():
            self._delete("topic_permission", topic_permission.key)
        user.permissions.clear()
        user.topic_permissions.clear()
        user.deleted = True
        self._delete("user", user.key)
        self._dismiss(("user", name))
        expel_all(list(user.presences), f"user '{name}' is deleted")
        return True

    def set_permission(self, user: User, vhost: VirtualHost, permission: Permission) -> None:
        """Let a user in, with these rights, for good; at once, also in open channels and for their consumers."""
        earlier = user.permissions.get(vhost.name)
        if earlier is not None:
            if earlier.key and earlier.says_the_same_as(permission):
                return
            permission.key = earlier.key
        user.permissions[vhost.name] = permission
        self.definitions.put_permission(user.name, vhost.name, permission)
        vhost.generation += 1
        review(user, vhost)

    def clear_permission(self, user: User, vhost: VirtualHost) -> bool:
        """Close a virtual host to a user, and the connections of that user to it; whether it was open."""
        permission = user.permissions.pop(vhost.name, None)
        if permission is None:
            return False
        self._delete("permission", permission.key)
        self._dismiss(("permission", user.name, vhost.name))
        vhost.generation += 1
        review(user, vhost)
        return True

    def set_topic_permission(
        self, user: User, vhost: VirtualHost, exchange: str, permission: TopicPermission
    ) -> None:
        """Restrict the routing keys that a user may use with a topic exchange; at once. Bindings stay."""
        earlier = user.topic_permissions.get((vhost.name, exchange))
        if earlier is not None:
            if earlier.key and earlier.says_the_same_as(permission):
                return
            permission.key = earlier.key
        user.topic_permissions[vhost.name, exchange] = permission
        self.definitions.put_topic_permission(user.name, vhost.name, exchange, permission)
        vhost.generation += 1

    def clear_topic_permission(self, user: User, vhost: VirtualHost, exchange: str) -> bool:
        """Allow every routing key again; whether any was forbidden."""
        permission = user.topic_permissions.pop((vhost.name, exchange), None)
        if permission is None:
            return False
        self._delete("topic_permission", permission.key)
        vhost.generation += 1
        return True

    def delete_vhost(self, name: str) -> bool:
        """Remove a virtual host with all that is in it, and close the connections to it; whether there was one."""
        vhost = self.vhosts.pop(name, None)
        if vhost is None:
            return False
        for user in self.users.values():
            permission = user.permissions.pop(name, None)
            if permission is not None:
                self._delete("permission", permission.key)
                self._dismiss(("permission", user.name, name))
            for place in [place for place in user.topic_permissions if place[0] == name]:
                self._delete("topic_permission", user.topic_permissions.pop(place).key)
        expel_all(list(vhost.presences), f"vhost '{name}' is deleted")
        vhost.delete_all()
        self._dismiss(("vhost", name))
        return True

    def _delete(self, kind: str, key: bytes) -> None:
        """Remove a definition, if it is in the store."""
        if key:
            self.definitions.delete(kind, key)

    def _dismiss(self, what: tuple[str, ...]) -> None:
        """If the configuration would bring it back: keep in mind that it was removed."""
        if what in self.configured and what not in self.dismissed:
            self.dismissed.add(what)
            self.definitions.put_dismissal(what)

    def _forget_verdicts(self, user: User) -> None:
        """What open channels found out for this user is void."""
        for presence in user.presences:
            presence.vhost.generation += 1

    def recover(self, *, was_killed: bool = False) -> Recovered:
        """Bring back the durable topology and the queues' messages. Called once, before any session.

        was_killed: the last run did not end in good order, so any message may have been delivered by it without
        that being on record: all are redelivered, as RabbitMQ has it.
        """
        found = Recovered()
        definitions, stored = self.store.recover()
        if was_killed:
            for queue_found in stored.values():
                queue_found.interrupted = True
        by_kind: dict[str, list[Definition]] = {kind: [] for kind in KINDS}
        for definition in definitions:
            self.definitions.seen(definition.key)
            by_kind[definition.kind].append(definition)
        self._recover_rules(by_kind)
        for definition in by_kind["exchange"]:
            restore_exchange(self._vhost_of(definition), definition, stored)
            found.exchanges += 1
        for vhost in self.vhosts.values():
            vhost.policies.apply_to_exchanges()
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

    def _recover_rules(self, by_kind: dict[str, list[Definition]]) -> None:
        """What has to be there before any queue or exchange."""
        for definition in by_kind["dismissal"]:
            restore_dismissal(self, definition)
        for definition in by_kind["vhost"]:
            restore_vhost(self._vhost_of(definition), definition)
        for definition in by_kind["user"]:
            restore_user(self, definition)
        for definition in by_kind["permission"] + by_kind["topic_permission"]:
            restore_permission(self, definition)
        for definition in by_kind["parameter"]:
            of_vhost = definition.value["vhost"] is not None
            parameters = self._vhost_of(definition).parameters if of_vhost else self.parameters
            restore_parameter(parameters, definition)
        for definition in by_kind["policy"] + by_kind["operator_policy"]:
            restore_policy(self._vhost_of(definition), definition)

    def _vhost_of(self, definition: Definition) -> VirtualHost:
        return self.add_vhost(str(definition.value["vhost"]))

"""A virtual host: its exchanges, queues and bindings, and the verbs that change them.

Sessions, the configuration and whatever else manages topology call the same verbs, which check names, arguments
and equivalence and make durable what is durable. Permissions are the caller's business. A route once found
stays right until `generation` changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import (
    check_deduplication,
    check_equivalent_arguments,
    check_equivalent_flag,
    check_queue_arguments,
    check_queue_properties,
    compared_arguments,
    inequivalent,
    name_argument,
    queue_type,
    with_default_type,
)
from amqp_broker.broker.dead_letter_publisher import DeadLetterPublisher
from amqp_broker.broker.dead_letters import further_keys
from amqp_broker.broker.exchange import EXCHANGE_TYPES, Binding, Exchange, Remembered, new_exchange
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags, VirtualHostMetadata
from amqp_broker.broker.host import QueueHost
from amqp_broker.broker.message import Message
from amqp_broker.broker.names import REPLY_PREFIX, check_deletable, check_not_reserved, generated_name
from amqp_broker.broker.parameters import Parameters
from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY, AppliedPolicies
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.queue_types import new_queue
from amqp_broker.broker.quorum_queue import check_conditional_delete, check_server_named
from amqp_broker.broker.routing import Routes
from amqp_broker.broker.timetable import Timetable
from amqp_broker.content.erlang import atom_term
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field
from amqp_broker.errors import (
    access_refused,
    command_invalid,
    exchange_in,
    no_exchange,
    no_queue,
    precondition_failed,
    queue_in,
    resource_locked,
)

if TYPE_CHECKING:
    from amqp_broker.broker.definitions import DefinitionWriter
    from amqp_broker.broker.policy import Policy
    from amqp_broker.broker.ports import Store
    from amqp_broker.broker.presence import Presence

PREDECLARED: Final = {
    "": "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.topic": "topic",
    "amq.rabbitmq.trace": "topic",
}
NO_KEYS: Final[list[str]] = []


class VirtualHost(QueueHost):
    """exclusive: the exclusive queues of each connection that has some, by name. definition: its key in the store, b""
    if it has none. presences: the connections that are open in it. reply_queues: how many of its queues are for direct
    replies, which no client has declared.
    """

    __slots__ = (
        "definition",
        "definitions",
        "exchanges",
        "exclusive",
        "letters",
        "metadata",
        "name",
        "parameters",
        "policies",
        "presences",
        "queues",
        "reply_queues",
        "routes",
        "store",
    )

    def __init__(self, name: str, store: Store, definitions: DefinitionWriter, timetable: Timetable) -> None:
        super().__init__(timetable)
        self.name: str = name
        self.store: Store = store
        self.definitions: DefinitionWriter = definitions
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        self.reply_queues: int = 0
        self.presences: dict[Presence, None] = {}
        self.exclusive: dict[object, dict[str, Queue]] = {}
        self.definition: bytes = b""
        self.metadata: VirtualHostMetadata = VirtualHostMetadata()
        self.parameters: Parameters = Parameters(name, definitions)
        self.policies: AppliedPolicies = AppliedPolicies(name, self.queues, self.exchanges, definitions)
        self.routes: Routes = Routes(self.exchanges, self.queues)
        self.letters: DeadLetterPublisher = DeadLetterPublisher(self.routes, timetable.clock)
        for exchange_name, kind in PREDECLARED.items():
            exchange = new_exchange(kind, exchange_name, name, {})
            exchange.durable = True
            exchange.internal = exchange_name == "amq.rabbitmq.trace"
            exchange.attach(self, store)
            self.exchanges[exchange_name] = exchange

    # -- looking up

    def exchange(self, name: str) -> Exchange:
        """Raises SoftError 404."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise no_exchange(name, self.name)
        return exchange

    def queue(self, name: str, connection: object) -> Queue:
        """A queue that `connection` may use. Raises SoftError 404; 405 for another connection's exclusive queue."""
        queue = self.queues.get(name)
        if queue is None or name.startswith(REPLY_PREFIX):  # or who is to reply could take what others reply
            raise no_queue(name, self.name)
        if queue.owner is not None and queue.owner is not connection:
            raise resource_locked(queue_in(name, self.name))
        return queue

    def route(
        self,
        exchange: Exchange,
        routing_key: str,
        header: ContentHeader,
        further_keys: list[str] = NO_KEYS,
        message: Message | None = None,
    ) -> list[Queue]:
        """The queues a message reaches, each once. Next step: `Queue.publish` for each.

        further_keys: from CC and BCC, or of a dead letter. message: what is being routed, for exchanges that take
        notice of it; without it nothing but the way is found out.
        """
        return self.routes.find(exchange, routing_key, header, further_keys, message)

    # -- what queues ask for

    def dead_letter(self, queue: Queue, messages: list[Message], reason: str) -> None:
        self.letters.publish(queue, messages, reason)

    def expired(self, queue: Queue) -> None:
        self.delete_queue(queue)

    def release(self, exchange: str, message: Message) -> None:
        source = self.exchanges.get(exchange)
        if source is None:
            return
        key = message.key_octets().decode("utf-8", "surrogateescape")
        keys = further_keys(message.header)
        for queue in self.routes.beyond(source, key, message.header, keys, message):
            queue.publish(message)

    def route_varies(self, exchange: Exchange) -> bool:
        """Whether a route from here depends on more than the routing key, so that it must not be kept."""
        return self.routes.varies(exchange)

    # -- exchanges

    def declare_exchange(
        self, name: str, kind: str, flags: ExchangeFlags, arguments: dict[str, Field]
    ) -> Exchange:
        """Create an exchange, or check that the one there is equivalent (type, flags, alternate exchange).

        Raises HardError 503 for an unknown type, SoftError 403 for a reserved name, 406 if inequivalent.
        """
        self.check_exchange_type(kind)
        self.refuse_default_exchange(name)
        resource = exchange_in(name, self.name)
        exchange = self.exchanges.get(name)
        if exchange is not None:
            if exchange.kind != kind:
                received, current = atom_term(kind), atom_term(exchange.kind)
                raise inequivalent("type", resource, f"'{received}'", f"'{current}'")
            check_equivalent_flag("durable", resource, flags.durable, exchange.durable)
            check_equivalent_flag("auto_delete", resource, flags.auto_delete, exchange.auto_delete)
            check_equivalent_flag("internal", resource, flags.internal, exchange.internal)
            check_equivalent_arguments(["alternate-exchange"], resource, arguments, exchange.arguments)
            return exchange
        check_not_reserved("exchange", name)
        name_argument("alternate-exchange", resource, arguments)
        exchange = new_exchange(kind, name, self.name, arguments)
        exchange.check_arguments()
        if not exchange.deduplicates:
            check_deduplication(resource, arguments)
        exchange.durable = flags.durable
        exchange.auto_delete = flags.auto_delete
        exchange.internal = flags.internal
        self.add_exchange(exchange)
        if exchange.holds is not None:
            # Also that of a transient one: its messages need not stay in memory. A start removes them.
            exchange.holds.store_id = self.store.next_queue_id()
        if exchange.durable:
            self.definitions.put_exchange(exchange)
        return exchange

    def delete_exchange(self, name: str, if_unused: bool) -> bool:
        """Delete an exchange and the bindings from and to it; whether anything durable changed.

        A missing exchange is no error. Raises SoftError 403 for a predeclared one, 406 if it is in use.
        """
        self.refuse_default_exchange(name)
        check_deletable(name, self.name)
        exchange = self.exchanges.get(name)
        if exchange is None:
            return False
        if if_unused and exchange.bindings:
            raise precondition_failed(exchange_in(name, self.name) + " in use")
        self._remove_exchange(exchange)
        return exchange.durable

    def check_exchange_type(self, kind: str) -> None:
        """Raises HardError 503 for a type that does not exist."""
        if kind not in EXCHANGE_TYPES:
            raise command_invalid(f"{'unknown' if kind else 'invalid'} exchange type '{kind}'")

    def refuse_default_exchange(self, name: str) -> None:
        """Raises SoftError 403 for the default exchange, which nobody may change."""
        if name == "":
            raise access_refused("operation not permitted on the default exchange")

    def add_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self.generation += 1
        exchange.attach(self, self.store)
        self.policies.apply_to_exchange(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        del self.exchanges[exchange.name]
        self.generation += 1
        for binding in list(exchange.bindings.values()):
            self._remove_binding(binding)
        self._remove_incoming(exchange.incoming)
        if exchange.definition:
            self.definitions.delete("exchange", exchange.definition)
        exchange.forget_values()
        held = exchange.holds
        if held is not None:
            if held.store_id:
                self.store.delete_queue(held.store_id)
            held.delete()

    # -- bindings

    def bind(
        self, source: Exchange, destination: Queue | Exchange, routing_key: str, arguments: dict[str, Field]
    ) -> bool:
        """Add a binding; one that is there already is no error. Whether anything durable changed.

        What the source remembers goes to the destination. Raises SoftError 406 for a key or arguments that the
        exchange's type cannot use.
        """
        binding = Binding(source, destination, routing_key, arguments)
        key = binding.key()
        if key in source.bindings:
            return False
        source.check_binding(routing_key, arguments)
        self.add_binding(binding)
        durable = source.durable and destination.durable and _is_kept(destination)
        if durable:
            self.definitions.put_binding(binding)
        for remembered in source.remembered():
            self._repeat(remembered, destination)
        return durable

    def _repeat(self, remembered: Remembered, destination: Queue | Exchange) -> None:
        """Publish to a new destination what went through its source earlier."""
        earlier = remembered.message
        # Another message, as the store has its own reference counts for each.
        message = Message(earlier.address, earlier.header, earlier.body, earlier.chunks)
        if isinstance(destination, Queue):
            destination.publish(message)
            return
        key, further_keys = remembered.routing_key, remembered.further_keys
        for queue in self.route(destination, key, message.header, further_keys, message):
            queue.publish(message)

    def unbind(
        self, source: Exchange, destination: Queue | Exchange, routing_key: str, arguments: dict[str, Field]
    ) -> bool:
        """Remove a binding; a missing one is no error. Whether anything durable changed."""
        binding = source.bindings.get(Binding(source, destination, routing_key, arguments).key())
        if binding is None:
            return False
        self._remove_binding(binding)
        self._delete_if_unused(source)
        return binding.definition != b""

    def is_bound(
        self, source: Exchange, destination: Queue | Exchange, routing_key: str, arguments: dict[str, Field]
    ) -> bool:
        return Binding(source, destination, routing_key, arguments).key() in source.bindings

    def add_binding(self, binding: Binding) -> None:
        binding.source.bindings[binding.key()] = binding
        binding.source.add(binding)
        binding.destination.incoming[binding] = None
        if isinstance(binding.destination, Exchange):
            binding.source.to_exchanges += 1
        self.generation += 1

    def _remove_binding(self, binding: Binding) -> None:
        del binding.destination.incoming[binding]
        del binding.source.bindings[binding.key()]
        binding.source.remove(binding)
        if isinstance(binding.destination, Exchange):
            binding.source.to_exchanges -= 1
        self.generation += 1
        if binding.definition:
            self.definitions.delete("binding", binding.definition)

    def _remove_incoming(self, incoming: dict[Binding, None]) -> None:
        """Remove the bindings to something that goes away, and the auto-delete exchanges it leaves unused."""
        sources: dict[str, Exchange] = {}
        for binding in list(incoming):
            self._remove_binding(binding)
            sources[binding.source.name] = binding.source
        for source in sources.values():
            self._delete_if_unused(source)

    def _delete_if_unused(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings and self.exchanges.get(exchange.name) is exchange:
            self._remove_exchange(exchange)

    # -- queues

    def declare_queue(
        self,
        name: str,
        flags: QueueFlags,
        arguments: dict[str, Field],
        connection: object,
        generated: bool = False,
    ) -> Queue:
        """Create a queue ("" has a name made up), or check that the one there is equivalent.

        generated: the name is one of `names.generated_name`. Raises SoftError 403 for a reserved name, 405 for another
        connection's exclusive queue, 406 if the arguments are invalid or inequivalent.
        """
        owner = connection if flags.exclusive else None
        durable = flags.durable and not flags.exclusive
        resource = queue_in(name, self.name)
        if not generated:
            check_not_reserved("queue", name)
        queue = self.queues.get(name) if name else None
        if durable and not flags.auto_delete:
            current = None if queue is None else queue.arguments
            arguments = with_default_type(arguments, self.metadata.default_queue_type, current)
        if queue is not None:
            if queue.owner is not owner:
                raise resource_locked(resource)
            check_equivalent_flag("durable", resource, durable, queue.durable)
            check_equivalent_flag("auto_delete", resource, flags.auto_delete, queue.auto_delete)
            names = compared_arguments(queue_type(queue.arguments))
            check_equivalent_arguments(names, resource, arguments, queue.arguments)
            queue.used()
            return queue
        if not name:
            check_server_named(arguments)
            name = generated_name(self.queues)
        name_argument("x-dead-letter-exchange", resource, arguments)
        resource = queue_in(name, self.name)
        check_queue_arguments(resource, arguments)
        kind = queue_type(arguments)
        check_queue_properties(kind, resource, flags.durable, flags.exclusive, flags.auto_delete)
        queue = new_queue(name, self.name, durable, arguments, self.store)
        queue.auto_delete = flags.auto_delete
        queue.owner = owner
        self.add_queue(queue)
        if owner is not None:
            self.exclusive.setdefault(owner, {})[name] = queue
        if queue.durable:
            queue.store_id = self.store.next_queue_id()
            self.definitions.put_queue(queue)
        return queue

    def delete_queue(self, queue: Queue, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue with its bindings and messages; how many messages were ready.

        Its consumers are cancelled. Raises SoftError 406 if in use or not empty, HardError 540 for a quorum queue.
        """
        check_conditional_delete(queue, if_unused, if_empty)
        resource = queue_in(queue.name, self.name)
        if if_empty and (queue.ready_count() or len(queue.retries)):
            raise precondition_failed(resource + " not empty")
        if if_unused and queue.consumers:
            raise precondition_failed(resource + " in use")
        count = queue.ready_count()
        del self.queues[queue.name]
        self.reply_queues -= queue.name.startswith(REPLY_PREFIX)
        self.generation += 1
        if queue.owner in self.exclusive:
            del self.exclusive[queue.owner][queue.name]
        self._remove_incoming(queue.incoming)
        if queue.definition:
            self.definitions.delete("queue", queue.definition)
            self.store.delete_queue(queue.store_id)
            if queue.seen_id:
                self.store.delete_queue(queue.seen_id)
        queue.delete()
        return count

    def consumer_gone(self, queue: Queue) -> None:
        """A consumer was cancelled or its channel closed: an auto-delete queue goes with its last consumer."""
        if queue.auto_delete and not queue.consumers and not queue.deleted:
            self.delete_queue(queue)

    def delete_exclusive(self, connection: object) -> None:
        """The connection is gone: delete its exclusive queues."""
        for queue in self.exclusive.pop(connection, {}).values():
            if not queue.deleted:
                self.delete_queue(queue)

    def delete_all(self) -> None:
        """The virtual host is deleted: nothing that was in it stays, neither here nor in the store."""
        for queue in list(self.queues.values()):
            if not queue.deleted:
                self.delete_queue(queue)
        for exchange in list(self.exchanges.values()):
            if self.exchanges.get(exchange.name) is exchange:
                self._remove_exchange(exchange)
        self.policies.delete_all()
        self.parameters.delete_all()
        if self.definition:
            self.definitions.delete("vhost", self.definition)

    def add_queue(self, queue: Queue) -> None:
        self.queues[queue.name] = queue
        self.reply_queues += queue.name.startswith(REPLY_PREFIX)
        self.generation += 1
        self.policies.apply_to_queue(queue)
        queue.join(self)

    # -- policies

    def set_policy(self, policy: Policy) -> None:
        """Add a policy or replace one; the queues and exchanges that it concerns follow it from now on."""
        self.policies.set(POLICY, policy)
        self.generation += 1

    def delete_policy(self, name: str) -> bool:
        """Whether there was one."""
        self.generation += 1
        return self.policies.delete(POLICY, name)

    def set_operator_policy(self, policy: Policy) -> None:
        self.policies.set(OPERATOR_POLICY, policy)
        self.generation += 1

    def delete_operator_policy(self, name: str) -> bool:
        self.generation += 1
        return self.policies.delete(OPERATOR_POLICY, name)


def _is_kept(destination: Queue | Exchange) -> bool:
    """Whether a durable destination is there after a restart: an exclusive queue is not."""
    return isinstance(destination, Exchange) or destination.definition != b""

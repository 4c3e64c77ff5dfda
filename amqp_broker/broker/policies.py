"""The policies and operator policies of a virtual host, and what its queues and exchanges get of them.

A change is durable, and followed at once by what it concerns; the rest is left alone. The virtual host's verbs call
this, and it owns neither queues nor exchanges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import queue_type
from amqp_broker.broker.effective import Effective, alternate_exchange, exchange_deduplication, features_of
from amqp_broker.broker.features import NO_LIMIT
from amqp_broker.broker.policy import Policies, Policy

if TYPE_CHECKING:
    from amqp_broker.broker.definitions import DefinitionWriter
    from amqp_broker.broker.exchange import Exchange
    from amqp_broker.broker.queue import Queue

POLICY: Final = "policy"
OPERATOR_POLICY: Final = "operator_policy"


class AppliedPolicies:
    """ordinary, operator: the two kinds. quorum_delivery_limit: of quorum queues to which nothing gives another."""

    __slots__ = (
        "definitions",
        "exchanges",
        "operator",
        "ordinary",
        "queues",
        "quorum_delivery_limit",
        "vhost_name",
    )

    def __init__(
        self,
        vhost_name: str,
        queues: dict[str, Queue],
        exchanges: dict[str, Exchange],
        definitions: DefinitionWriter,
    ) -> None:
        self.vhost_name: str = vhost_name
        self.queues: dict[str, Queue] = queues
        self.exchanges: dict[str, Exchange] = exchanges
        self.definitions: DefinitionWriter = definitions
        self.ordinary: Policies = Policies()
        self.operator: Policies = Policies()
        self.quorum_delivery_limit: int = NO_LIMIT

    def of_kind(self, kind: str) -> Policies:
        return self.operator if kind == OPERATOR_POLICY else self.ordinary

    def of_queue(self, queue: Queue) -> Effective:
        kind = queue_type(queue.arguments)
        return Effective(self.ordinary.for_queue(queue.name, kind), self.operator.for_queue(queue.name, kind))

    def of_exchange(self, exchange: Exchange) -> Effective:
        return Effective(self.ordinary.for_exchange(exchange.name), self.operator.for_exchange(exchange.name))

    def set(self, kind: str, policy: Policy) -> None:
        policies = self.of_kind(kind)
        earlier = policies.by_name.get(policy.name)
        if earlier is not None:
            if earlier.says_the_same_as(policy):
                return
            policy.key = earlier.key
        before_queues, before_exchanges = self._effects()
        policies.put(policy)
        self.definitions.put_policy(kind, self.vhost_name, policy)
        self._follow(before_queues, before_exchanges)

    def delete(self, kind: str, name: str) -> bool:
        """Whether there was one."""
        before_queues, before_exchanges = self._effects()
        policy = self.of_kind(kind).remove(name)
        if policy is None:
            return False
        self.definitions.delete(kind, policy.key)
        self._follow(before_queues, before_exchanges)
        return True

    def delete_all(self) -> None:
        for kind in (POLICY, OPERATOR_POLICY):
            for name in list(self.of_kind(kind).by_name):
                self.delete(kind, name)

    def apply_to_queue(self, queue: Queue) -> None:
        seen_id = queue.seen_id
        queue.apply(features_of(queue.arguments, self.of_queue(queue), self.quorum_delivery_limit))
        if queue.seen_id != seen_id and queue.definition:
            self.definitions.put_queue(queue)

    def apply_to_exchange(self, exchange: Exchange) -> None:
        effective = self.of_exchange(exchange)
        exchange.alternate = alternate_exchange(exchange.arguments, effective)
        if not exchange.name:
            # Messages do not come through the default exchange but go to its queues directly.
            return
        seen_id = exchange.seen_id
        exchange.deduplicate(exchange_deduplication(exchange.arguments, effective, exchange.deduplicates))
        if exchange.seen_id != seen_id and exchange.durable:
            self.definitions.put_exchange(exchange)

    def apply_to_exchanges(self) -> None:
        """To all: those that are always there are made before the policies are known."""
        for exchange in self.exchanges.values():
            self.apply_to_exchange(exchange)

    def _effects(self) -> tuple[dict[Queue, Effective], dict[Exchange, Effective]]:
        queues = {queue: self.of_queue(queue) for queue in self.queues.values()}
        return queues, {exchange: self.of_exchange(exchange) for exchange in self.exchanges.values()}

    def _follow(self, queues: dict[Queue, Effective], exchanges: dict[Exchange, Effective]) -> None:
        for exchange, effective in exchanges.items():
            if not effective.is_same(self.of_exchange(exchange)):
                self.apply_to_exchange(exchange)
        for queue, effective in queues.items():
            if not queue.deleted and not effective.is_same(self.of_queue(queue)):
                self.apply_to_queue(queue)

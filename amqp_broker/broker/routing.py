"""The way of one message through exchanges to queues.

Bindings between exchanges are followed, cycles ignored; an exchange that matches nothing passes the message to its
alternate exchange. What lies behind an exchange that deduplicates is found after everything else, so that a queue which
can be reached without it gets the message in any case. Nothing is published here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.gate import Admission
from amqp_broker.broker.queue import Queue
from amqp_broker.content.header import ContentHeader

if TYPE_CHECKING:
    from amqp_broker.broker.exchange import Exchange
    from amqp_broker.broker.message import Message


class Routes:
    """exchanges, queues: those of a virtual host, by name."""

    __slots__ = ("exchanges", "queues")

    def __init__(self, exchanges: dict[str, Exchange], queues: dict[str, Queue]) -> None:
        self.exchanges: dict[str, Exchange] = exchanges
        self.queues: dict[str, Queue] = queues

    def find(
        self,
        exchange: Exchange,
        routing_key: str,
        header: ContentHeader,
        further_keys: list[str],
        message: Message | None,
    ) -> list[Queue]:
        """See `VirtualHost.route`."""
        if exchange.name == "":
            named: dict[Queue, None] = {}
            for key in (routing_key, *further_keys) if further_keys else (routing_key,):
                queue = self.queues.get(key)
                if queue is not None:
                    named[queue] = None
            return list(named)
        goes_on = exchange.to_exchanges or exchange.alternate or further_keys
        if not (goes_on or exchange.notices or exchange.gate is not None):
            return [queue for queue in exchange.match(routing_key, header) if isinstance(queue, Queue)]
        return Way(self.exchanges, routing_key, header, further_keys, message).into(exchange)

    def beyond(
        self,
        exchange: Exchange,
        routing_key: str,
        header: ContentHeader,
        further_keys: list[str],
        message: Message,
    ) -> list[Queue]:
        """The queues that a message reaches that an exchange held back, and now lets go on."""
        return Way(self.exchanges, routing_key, header, further_keys, message).out_of(exchange)

    def varies(self, exchange: Exchange) -> bool:
        """Whether a route from an exchange depends on more than the routing key, so that it must not be kept."""
        seen: dict[str, None] = {}
        pending: list[Exchange] = [exchange]
        while pending:
            source = pending.pop()
            if source.name in seen:
                continue
            seen[source.name] = None
            if source.varies or source.gate is not None:
                return True
            if source.alternate is not None and source.alternate in self.exchanges:
                pending.append(self.exchanges[source.alternate])
            if source.to_exchanges:
                for binding in source.bindings.values():
                    if not isinstance(binding.destination, Queue):
                        pending.append(binding.destination)
        return False


class Way:
    """exchanges: of the virtual host. further_keys: from CC and BCC, or of a dead letter.

    message: what is being routed, for exchanges that take notice of it or deduplicate; without it nothing but the way
    is found out.
    """

    __slots__ = ("exchanges", "further_keys", "header", "message", "queues", "routing_key", "seen")

    def __init__(
        self,
        exchanges: dict[str, Exchange],
        routing_key: str,
        header: ContentHeader,
        further_keys: list[str],
        message: Message | None,
    ) -> None:
        self.exchanges: dict[str, Exchange] = exchanges
        self.routing_key: str = routing_key
        self.header: ContentHeader = header
        self.further_keys: list[str] = further_keys
        self.message: Message | None = message
        self.seen: dict[str, None] = {}
        self.queues: dict[Queue, None] = {}

    def into(self, exchange: Exchange) -> list[Queue]:
        """The queues that a message published to an exchange reaches, each once."""
        self.seen[exchange.name] = None
        if self.message is None or exchange.gate is None:
            return self.out_of(exchange)
        reached: list[Queue] = []
        self._through_gate(exchange, reached)
        return reached

    def out_of(self, exchange: Exchange) -> list[Queue]:  # noqa: C901  the hot path stands in one place
        """Those that it reaches once the exchange has let it in, without those that were reached before."""
        message = self.message
        self.seen[exchange.name] = None
        queues = self.queues
        reached: list[Queue] = []
        gated: list[Exchange] | None = None
        pending: list[Exchange] = [exchange]
        while pending:
            source = pending.pop()
            if (
                message is not None
                and source.notices
                and source.notice(message, self.routing_key, self.further_keys)
            ):
                continue
            destinations = source.match(self.routing_key, self.header)
            if self.further_keys and source.each_key:
                destinations = destinations.copy()
                for key in self.further_keys:
                    destinations.extend(source.match(key, self.header))
            if not destinations and source.alternate:
                alternate = self.exchanges.get(source.alternate)
                destinations = [] if alternate is None else [alternate]
            for destination in destinations:
                if isinstance(destination, Queue):
                    if destination not in queues:
                        queues[destination] = None
                        reached.append(destination)
                elif destination.name not in self.seen:
                    self.seen[destination.name] = None
                    if message is not None and destination.gate is not None:
                        gated = gated or []
                        gated.append(destination)
                    else:
                        pending.append(destination)
        if gated is not None:
            for behind in gated:
                self._through_gate(behind, reached)
        return reached

    def _through_gate(self, exchange: Exchange, reached: list[Queue]) -> None:
        """A duplicate stays in the gate, which so counts as reached; what leads nowhere is not remembered."""
        gate = exchange.gate
        message = self.message
        assert gate is not None
        assert message is not None
        if gate.knows(message):
            reached.append(gate)
            return
        behind = self.out_of(exchange)
        if behind and gate.tells_apart(message):
            reached.append(gate.admission(behind))
        else:
            reached.extend(behind)


def without_circles(queues: list[Queue], visited: set[bytes]) -> list[Queue]:
    """Of the queues that a dead letter reaches, those that it may go to. visited: the others, in octets."""
    if not visited:
        return queues
    kept: list[Queue] = []
    for queue in queues:
        if isinstance(queue, Admission):
            behind = without_circles(queue.queues, visited)
            if behind:
                kept.append(queue.gate.admission(behind))
        elif queue.name.encode("utf-8", "surrogateescape") not in visited:
            kept.append(queue)
    return kept

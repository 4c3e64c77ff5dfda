"""x-delayed-message: an exchange of another type that routes a message only when its time has come.

`x-delayed-type` names the type it routes by. A message with a positive `x-delay` (milliseconds), or an `x-deliver-at`
in the future (milliseconds since the epoch), goes to a queue of the exchange's own (`broker.delays`) and is routed when
it is due, by the bindings of that moment; every other message is routed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.delays import DelayQueue, due_at
from amqp_broker.broker.exchanges.base import Binding, Exchange, Remembered
from amqp_broker.broker.timetable import Clock
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field
from amqp_broker.errors import precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.host import QueueHost
    from amqp_broker.broker.message import Message
    from amqp_broker.broker.ports import Store
    from amqp_broker.broker.queue import Queue

TYPE_ARGUMENT: Final = "x-delayed-type"


def delayed_type(arguments: dict[str, Field]) -> str:
    """The type that a delayed exchange is to route by, "" if the arguments name none."""
    field = arguments.get(TYPE_ARGUMENT)
    if field is None or not isinstance(field.value, bytes):
        return ""
    return field.value.decode("utf-8", "replace")


class DelayedExchange(Exchange):
    """inner: of the type it routes by, None if that does not exist. delays: None outside of a virtual host."""

    kind = "x-delayed-message"
    __slots__ = ("clock", "delays", "inner")

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.varies = True
        self.inner: Exchange | None = None
        self.delays: DelayQueue | None = None
        self.clock: Clock = Clock()

    def route_by(self, inner: Exchange) -> None:
        self.inner = inner
        self.each_key = inner.each_key
        self.notices = inner.notices
        self.deduplicates = inner.deduplicates

    def attach(self, host: QueueHost, store: Store) -> None:
        super().attach(host, store)
        self.clock = host.timetable.clock
        self.delays = DelayQueue(self.name, self.vhost_name, self.durable, store)
        self.delays.join(host)
        self.holds = self.delays

    def check_arguments(self) -> None:
        if self.inner is None:
            raise precondition_failed(
                f"Invalid argument, '{TYPE_ARGUMENT}' must be an existing exchange type"
            )
        self.inner.check_arguments()

    def check_binding(self, routing_key: str, arguments: dict[str, Field]) -> None:
        if self.inner is not None:
            self.inner.check_binding(routing_key, arguments)

    def add(self, binding: Binding) -> None:
        if self.inner is not None:
            self.inner.add(binding)

    def remove(self, binding: Binding) -> None:
        if self.inner is not None:
            self.inner.remove(binding)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        if self.delays is not None and due_at(header, self.clock.milliseconds):
            return [self.delays]
        return [] if self.inner is None else self.inner.match(routing_key, header)

    def notice(self, message: Message, routing_key: str, further_keys: list[str]) -> bool:
        if self.inner is None or due_at(message.header, self.clock.milliseconds):
            return False
        return self.inner.notice(message, routing_key, further_keys)

    def remembered(self) -> list[Remembered]:
        return super().remembered() if self.inner is None else self.inner.remembered()

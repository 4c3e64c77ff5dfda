"""The exchange types, by the names that clients declare them with.

Each type is a module of `exchanges/`; what they have in common is `exchanges.base`, whose names can be had from
here too. Nothing else in the broker asks for a particular type.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.exchanges.base import Binding, BindingKey, Exchange, Remembered
from amqp_broker.broker.exchanges.consistent_hash import ConsistentHashExchange
from amqp_broker.broker.exchanges.deduplicating import DeduplicatingExchange
from amqp_broker.broker.exchanges.delayed import DelayedExchange, delayed_type
from amqp_broker.broker.exchanges.direct import DirectExchange
from amqp_broker.broker.exchanges.fanout import FanoutExchange
from amqp_broker.broker.exchanges.headers import HeadersExchange
from amqp_broker.broker.exchanges.modulus_hash import ModulusHashExchange
from amqp_broker.broker.exchanges.recent_history import RecentHistoryExchange
from amqp_broker.broker.exchanges.topic import TopicExchange
from amqp_broker.broker.exchanges.x_random import RandomExchange
from amqp_broker.content.table import Field

__all__ = ["EXCHANGE_TYPES", "Binding", "BindingKey", "Exchange", "Remembered", "new_exchange"]

EXCHANGE_TYPES: Final[dict[str, type[Exchange]]] = {
    "direct": DirectExchange,
    "fanout": FanoutExchange,
    "headers": HeadersExchange,
    "topic": TopicExchange,
    "x-consistent-hash": ConsistentHashExchange,
    "x-delayed-message": DelayedExchange,
    "x-message-deduplication": DeduplicatingExchange,
    "x-modulus-hash": ModulusHashExchange,
    "x-random": RandomExchange,
    "x-recent-history": RecentHistoryExchange,
}


def new_exchange(kind: str, name: str, vhost_name: str, arguments: dict[str, Field]) -> Exchange:
    """An exchange of a type in EXCHANGE_TYPES, its arguments not checked yet."""
    exchange = EXCHANGE_TYPES[kind](name, vhost_name, arguments)
    if isinstance(exchange, DelayedExchange):
        inner = delayed_type(arguments)
        if inner in EXCHANGE_TYPES and inner != kind:
            exchange.route_by(EXCHANGE_TYPES[inner](name, vhost_name, arguments))
    return exchange

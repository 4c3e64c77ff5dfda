"""A virtual host with queues to spread messages over, for tests of the exchange types that pick one binding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import ExchangeFlags, QueueFlags, VirtualHost
from amqp_broker.content.header import build_header
from amqp_broker.content.table import table_of
from tests.broker.ledger_store import LedgerStore

NO_PROPERTIES = build_header(0, {})


def new_vhost() -> VirtualHost:
    return Broker(LedgerStore()).add_vhost("/")


def declare(vhost: VirtualHost, kind: str, name: str = "x", **arguments: object) -> Exchange:
    table = table_of({key.replace("_", "-"): value for key, value in arguments.items()})
    return vhost.declare_exchange(name, kind, ExchangeFlags(False, False, False), table)


def queue(vhost: VirtualHost, name: str) -> Queue:
    return vhost.declare_queue(name, QueueFlags(False, False, False), {}, None)


def bind_all(vhost: VirtualHost, exchange: Exchange, keys: Mapping[str, str]) -> None:
    """Bind new queues: routing keys by name of the queue."""
    for name, key in keys.items():
        vhost.bind(exchange, queue(vhost, name), key, {})


def placed(vhost: VirtualHost, exchange: Exchange, keys: Iterable[str]) -> dict[str, str]:
    """The one queue that each key goes to."""
    found: dict[str, str] = {}
    for key in keys:
        (target,) = vhost.route(exchange, key, NO_PROPERTIES)
        found[key] = target.name
    return found


def shares(placement: Mapping[str, str]) -> dict[str, float]:
    """The part of the keys that each queue has."""
    counts: dict[str, int] = {}
    for name in placement.values():
        counts[name] = counts.get(name, 0) + 1
    return {name: count / len(placement) for name, count in counts.items()}

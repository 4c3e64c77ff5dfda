"""The exchange, queues and bindings of a run, declared once before any producer or consumer starts.

With `predeclared`, what exists is used as it is and only what is missing is declared. Nothing is deleted
afterwards: queues go by themselves if they are auto-delete, and stay if they are not.
"""

from __future__ import annotations

from amqp_broker.perf import methods
from amqp_broker.perf.connection import ChannelRefused, Connection
from amqp_broker.perf.settings import Settings

NOT_FOUND = 404


def queue_flags(settings: Settings) -> int:
    return (methods.DURABLE_BIT if settings.durable else 0) | (
        methods.AUTO_DELETE_BIT if settings.auto_delete else 0
    )


async def declare_topology(connection: Connection, settings: Settings) -> None:
    """Declare the exchange and the named queues, and bind them. Raises PerfFailure."""
    channel = (await connection.open_channel()).number
    if not settings.default_exchange and not settings.exchange.startswith("amq."):
        exchange = methods.pack_exchange_declare(settings.exchange, settings.exchange_type, 0)
        passive = methods.pack_exchange_declare(
            settings.exchange, settings.exchange_type, methods.PASSIVE_BIT
        )
        if not settings.predeclared or not await exists(connection, passive, methods.EXCHANGE_DECLARE_OK):
            await connection.call(channel, exchange, methods.EXCHANGE_DECLARE_OK)
    for name in settings.queue_names:
        queue = methods.pack_queue_declare(name, queue_flags(settings), settings.queue_arguments)
        passive = methods.pack_queue_declare(name, methods.PASSIVE_BIT, methods.NO_ARGUMENTS)
        if not settings.predeclared or not await exists(connection, passive, methods.QUEUE_DECLARE_OK):
            await connection.call(channel, queue, methods.QUEUE_DECLARE_OK)
        await bind(connection, channel, name, settings)


async def declare_own_queue(connection: Connection, channel: int, settings: Settings) -> str:
    """Declare and bind a queue that the broker names; returns the name."""
    queue = methods.pack_queue_declare("", queue_flags(settings), settings.queue_arguments)
    name = methods.read_name(await connection.call(channel, queue, methods.QUEUE_DECLARE_OK))
    await bind(connection, channel, name, settings)
    return name


async def bind(connection: Connection, channel: int, queue: str, settings: Settings) -> None:
    if settings.default_exchange or settings.skip_binding:
        return
    key = queue if settings.queue_per_key else settings.routing_key
    await connection.call(
        channel, methods.pack_queue_bind(queue, settings.exchange, key), methods.QUEUE_BIND_OK
    )


async def exists(connection: Connection, passive_declare: bytes, reply: int) -> bool:
    """Whether a passive declare succeeds, asked on a channel of its own: a refusal costs the channel."""
    channel = (await connection.open_channel()).number
    try:
        await connection.call(channel, passive_declare, reply)
    except ChannelRefused as refused:
        if refused.code == NOT_FOUND:
            return False
        raise
    await connection.close_channel(channel)
    return True

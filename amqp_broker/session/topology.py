"""exchange.* and queue.*: permissions and replies around the verbs of the virtual host.

A reply that says something durable came to be, or is gone, is held until that is on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pamqp import commands
from pamqp.base import Frame as Method

from amqp_broker.broker.access import CONFIGURE, READ, TOPIC, WRITE
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.broker.limits import check_new_queue
from amqp_broker.broker.names import REPLY_PREFIX, check_deletable, check_not_reserved
from amqp_broker.broker.quorum_queue import check_server_named
from amqp_broker.content.table import Field
from amqp_broker.errors import no_queue
from amqp_broker.session.properties import REPLY_QUEUE

if TYPE_CHECKING:
    from amqp_broker.session.channel import Channel
    from amqp_broker.session.consumer import ChannelConsumer


def clean_name(name: str | None) -> str:
    """A name without the carriage returns and line feeds that RabbitMQ strips."""
    return (name or "").replace("\r", "").replace("\n", "")


def _reply(channel: Channel, method: Method, nowait: bool, durable: bool) -> None:
    if nowait:
        return
    if durable:
        channel.reply_when_durable(method)
    else:
        channel.reply(method)


# -- exchanges


def exchange_declare(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Exchange.Declare)
    vhost, rights = channel.vhost, channel.rights
    name = clean_name(method.exchange)
    arguments = cast("dict[str, Field]", method.arguments)
    durable = False
    if method.passive:
        vhost.refuse_default_exchange(name)
        vhost.exchange(name)
    else:
        vhost.check_exchange_type(method.exchange_type)
        vhost.refuse_default_exchange(name)
        rights.check_exchange(CONFIGURE, name, vhost.name)
        alternate = arguments.get("alternate-exchange")
        if alternate is not None and isinstance(alternate.value, bytes) and name not in vhost.exchanges:
            check_not_reserved("exchange", name)
            rights.check_exchange(READ, name, vhost.name)
            rights.check_exchange(WRITE, alternate.value.decode("utf-8", "surrogateescape"), vhost.name)
        flags = ExchangeFlags(bool(method.durable), bool(method.auto_delete), bool(method.internal))
        exchange = vhost.declare_exchange(name, method.exchange_type, flags, arguments)
        durable = exchange.durable
    _reply(channel, commands.Exchange.DeclareOk(), bool(method.nowait), durable)


def exchange_delete(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Exchange.Delete)
    name = clean_name(method.exchange)
    channel.vhost.refuse_default_exchange(name)
    check_deletable(name, channel.vhost.name)
    channel.rights.check_exchange(CONFIGURE, name, channel.vhost.name)
    durable = channel.vhost.delete_exchange(name, bool(method.if_unused))
    _reply(channel, commands.Exchange.DeleteOk(), bool(method.nowait), durable)


def exchange_bind(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Exchange.Bind)
    source, destination = _exchanges_to_bind(channel, method.source, method.destination, method.routing_key)
    arguments = cast("dict[str, Field]", method.arguments)
    durable = channel.vhost.bind(
        channel.vhost.exchange(source), channel.vhost.exchange(destination), method.routing_key, arguments
    )
    _reply(channel, commands.Exchange.BindOk(), bool(method.nowait), durable)


def exchange_unbind(channel: Channel, method: Method) -> None:
    """A missing exchange or binding is no error."""
    assert isinstance(method, commands.Exchange.Unbind)
    source_name, destination_name = _exchanges_to_bind(
        channel, method.source, method.destination, method.routing_key
    )
    source = channel.vhost.exchanges.get(source_name)
    destination = channel.vhost.exchanges.get(destination_name)
    arguments = cast("dict[str, Field]", method.arguments)
    durable = False
    if source is not None and destination is not None:
        durable = channel.vhost.unbind(source, destination, method.routing_key, arguments)
    _reply(channel, commands.Exchange.UnbindOk(), bool(method.nowait), durable)


def _exchanges_to_bind(
    channel: Channel, source_name: str | None, destination_name: str | None, routing_key: str
) -> tuple[str, str]:
    source, destination = clean_name(source_name), clean_name(destination_name)
    vhost = channel.vhost
    channel.rights.check_exchange(WRITE, destination, vhost.name)
    vhost.refuse_default_exchange(destination)
    vhost.refuse_default_exchange(source)
    _check_source(channel, source, routing_key)
    return source, destination


def _check_source(channel: Channel, name: str, routing_key: str) -> None:
    """Raises SoftError 403 unless the user may bind to this exchange, and with this key if it is a topic exchange."""
    vhost, rights = channel.vhost, channel.rights
    rights.check_exchange(READ, name, vhost.name)
    exchange = vhost.exchanges.get(name)
    if exchange is not None and exchange.kind == TOPIC:
        rights.check_topic(READ, routing_key, name, vhost.name)


# -- queues


def queue_declare(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Queue.Declare)
    vhost = channel.vhost
    name = clean_name(method.queue)
    durable = False
    if name == REPLY_QUEUE:
        # How clients ask whether there is direct reply-to.
        channel.last_queue = name
        _reply(channel, _declared(name, 0, 1), bool(method.nowait), durable=False)
        return
    if name.startswith(REPLY_PREFIX):
        if name not in vhost.queues:
            raise no_queue(name, vhost.name)
        queue = vhost.queues[name]
    elif method.passive:
        queue = vhost.queue(name, channel.connection)
        queue.used()
    else:
        arguments = cast("dict[str, Field]", method.arguments)
        generated = name == ""
        if generated:
            check_server_named(arguments)
            name = channel.rights.new_queue_name(vhost)
        else:
            check_not_reserved("queue", name)
        channel.rights.check_queue(CONFIGURE, name, vhost.name)
        if name not in vhost.queues:
            check_new_queue(vhost, name)
            channel.connection.settings.node_limits.check_new_queue(channel.connection.broker, name)
            _check_dead_letter_rights(channel, name, arguments.get("x-dead-letter-exchange"))
        flags = QueueFlags(bool(method.durable), bool(method.exclusive), bool(method.auto_delete))
        queue = vhost.declare_queue(name, flags, arguments, channel.connection, generated)
        durable = queue.definition != b""
    channel.last_queue = queue.name
    ok = _declared(queue.name, queue.ready_count(), len(queue.consumers))
    _reply(channel, ok, bool(method.nowait), durable)


def _declared(name: str, messages: int, consumers: int) -> commands.Queue.DeclareOk:
    ok = commands.Queue.DeclareOk()
    ok.queue = name
    ok.message_count = messages
    ok.consumer_count = consumers
    return ok


def _check_dead_letter_rights(channel: Channel, name: str, exchange: Field | None) -> None:
    """Who has a queue's messages published elsewhere must be allowed to read them here and to write them there."""
    if exchange is not None and isinstance(exchange.value, bytes):
        vhost = channel.vhost.name
        channel.rights.check_queue(READ, name, vhost)
        channel.rights.check_exchange(WRITE, exchange.value.decode("utf-8", "surrogateescape"), vhost)


def queue_bind(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Queue.Bind)
    arguments = cast("dict[str, Field]", method.arguments)
    name, exchange_name, key = _queue_to_bind(channel, method.queue, method.exchange, method.routing_key)
    vhost = channel.vhost
    exchange = vhost.exchange(exchange_name)
    durable = vhost.bind(exchange, vhost.queue(name, channel.connection), key, arguments)
    _reply(channel, commands.Queue.BindOk(), bool(method.nowait), durable)


def queue_unbind(channel: Channel, method: Method) -> None:
    """A missing queue, exchange or binding is no error."""
    assert isinstance(method, commands.Queue.Unbind)
    arguments = cast("dict[str, Field]", method.arguments)
    name, exchange_name, key = _queue_to_bind(channel, method.queue, method.exchange, method.routing_key)
    exchange = channel.vhost.exchanges.get(exchange_name)
    durable = False
    queue = channel.vhost.queues.get(name)
    if exchange is not None and queue is not None and channel.vhost.is_bound(exchange, queue, key, arguments):
        channel.vhost.queue(name, channel.connection)
        durable = channel.vhost.unbind(exchange, queue, key, arguments)
    _reply(channel, commands.Queue.UnbindOk(), nowait=False, durable=durable)


def _queue_to_bind(
    channel: Channel, queue: str | None, exchange: str | None, routing_key: str
) -> tuple[str, str, str]:
    """Queue, exchange and key; with neither queue nor key given, both are the queue declared last."""
    given = clean_name(queue)
    name = channel.queue_name(given)
    if not given and not routing_key:
        routing_key = name
    exchange_name = clean_name(exchange)
    channel.rights.check_queue(WRITE, name, channel.vhost.name)
    channel.vhost.refuse_default_exchange(exchange_name)
    _check_source(channel, exchange_name, routing_key)
    return name, exchange_name, routing_key


def queue_purge(channel: Channel, method: Method) -> None:
    assert isinstance(method, commands.Queue.Purge)
    name = channel.queue_name(clean_name(method.queue))
    channel.rights.check_queue(READ, name, channel.vhost.name)
    queue = channel.vhost.queue(name, channel.connection)
    ok = commands.Queue.PurgeOk()
    ok.message_count = queue.purge()
    _reply(channel, ok, bool(method.nowait), queue.store_id != 0)


def queue_delete(channel: Channel, method: Method) -> None:
    """A missing queue is no error: it held no messages."""
    assert isinstance(method, commands.Queue.Delete)
    vhost = channel.vhost
    name = clean_name(channel.queue_name(method.queue or ""))
    channel.rights.check_queue(CONFIGURE, name, vhost.name)
    ok = commands.Queue.DeleteOk()
    ok.message_count = 0
    durable = False
    own: list[ChannelConsumer] = []
    if name in vhost.queues and not name.startswith(REPLY_PREFIX):
        queue = vhost.queue(name, channel.connection)
        durable = queue.definition != b""
        own = [consumer for consumer in channel.consumers.values() if consumer.queue is queue]
        channel.deleting = queue
        try:
            ok.message_count = vhost.delete_queue(queue, bool(method.if_unused), bool(method.if_empty))
        finally:
            channel.deleting = None
    _reply(channel, ok, bool(method.nowait), durable)
    # As in RabbitMQ: who deletes a queue learns that it is gone before it learns what that means for its consumers.
    for consumer in own:
        consumer.tell_cancelled()

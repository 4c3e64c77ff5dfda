"""Whether a broker's books balance: what its queues, exchanges, users and channels say of each other.

`check` reads what the model shows and raises `Illegal` for the first two things that contradict each other; it changes
nothing. `check_deserted` is for a broker whose connections are all gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.session.connection import Connection
from amqp_broker.wire.reader import MOST_HEADERS_KNOWN, MOST_HELD, MOST_PUBLISHES_KNOWN, FrameReader
from tests.broker.ledger_store import LedgerStore
from tests.fuzz.judge import Illegal

# Octets that a connection may keep beside its messages: half a frame and what came after it.
SPARE = 600_000


def _balance(what: str, one: object, other: object) -> None:
    if one != other:
        raise Illegal(f"{what}: {one!r} and {other!r}")


def check(broker: Broker, connections: Collection[Connection]) -> None:
    """All that has to hold between two turns."""
    # One that ended by itself keeps what it has until its socket is closed.
    live = [connection for connection in connections if connection.presence is not None]
    for connection in live:
        check_connection(connection, idle=isinstance(broker.store, LedgerStore) and broker.store.idle)
    for connection in connections:
        if connection.user is None and len(connection.reader.rest) > MOST_HELD:
            raise Illegal(
                f"{len(connection.reader.rest)} octets are kept of {connection.name}, who is not in"
            )
    for user in broker.users.values():
        channels = [
            channel
            for connection in live
            if connection.user is user
            for channel in connection.channels.values()
            if channel.open
        ]
        _balance(f"channels of {user.name}", user.channels, len(channels))
        theirs = {id(connection.presence) for connection in live if connection.user is user}
        _balance(f"presences of {user.name}", {id(presence) for presence in user.presences}, theirs)
    for vhost in broker.vhosts.values():
        check_vhost(vhost, [connection for connection in live if connection.vhost is vhost])


def check_connection(connection: Connection, *, idle: bool = False) -> None:
    """What is counted is what is there, and what is kept of its input is bounded. idle: nothing waits for the store."""
    name = connection.name
    held = sum(
        len(piece) for channel in connection.channels.values() for _, out in channel.held for piece in out
    )
    if connection.held_size < held or (idle and connection.held_size):
        # A channel that its client has closed may hold something, too, until it is durable.
        raise Illegal(f"{name}: held_size is {connection.held_size}, of which {held} is accounted for")
    waiting = sum(map(len, connection.output))
    _balance(f"{name}: output_size", connection.output_size, waiting + connection.held_size)
    for channel in connection.channels.values():
        if channel.confirmed > channel.confirm_seq:
            raise Illegal(f"{name}: {channel.confirmed} publishes are confirmed of {channel.confirm_seq}")
        if not channel.open:
            continue
        consumers = Counter(
            entry.consumer for entry in channel.unacked.values() if entry.consumer is not None
        )
        if channel.transaction is not None:
            for settlement in channel.transaction.settlements:
                if settlement.entry.consumer is not None:
                    consumers[settlement.entry.consumer] += 1
        _balance(f"{name}: prefetched of channel {channel.channel_id}", channel.prefetched, consumers.total())
        for consumer in channel.consumers.values():
            _balance(f"{name}: unacked of consumer {consumer.tag}", consumer.unacked, consumers[consumer])
    check_reader(connection.reader)


def check_reader(reader: FrameReader) -> None:
    if len(reader.rest) > max(MOST_HELD, reader.frame_max + SPARE):
        raise Illegal(f"a reader keeps {len(reader.rest)} octets")
    if len(reader.publishes) > MOST_PUBLISHES_KNOWN or len(reader.headers) > MOST_HEADERS_KNOWN:
        raise Illegal(f"a reader knows {len(reader.publishes)} publishes, {len(reader.headers)} headers")
    for content in reader.contents.values():
        kept = sum(map(len, content.chunks)) + len(content.loose or b"")
        if content.header is None:
            _balance("octets of a body whose header has not come", kept, 0)
        elif content.refused:
            _balance("octets of a refused body", kept, 0)
        elif kept > content.header.body_size:
            raise Illegal(f"{kept} octets of a body of {content.header.body_size}")


def check_vhost(vhost: VirtualHost, connections: list[Connection]) -> None:
    channels = [channel for each in connections for channel in each.channels.values() if channel.open]
    _balance("presences", {id(each) for each in vhost.presences}, {id(each.presence) for each in connections})
    _balance(
        "channels that hold deliveries",
        {id(each) for each in vhost.unsettled},
        {id(each) for each in channels},
    )
    unacked: Counter[Queue] = Counter()
    consumers: Counter[Queue] = Counter()
    for channel in channels:
        unacked.update(entry.queue for entry in channel.unacked.values())
        if channel.transaction is not None:
            unacked.update(settlement.entry.queue for settlement in channel.transaction.settlements)
        consumers.update(consumer.queue for consumer in channel.consumers.values())
    replies = 0
    for name, queue in vhost.queues.items():
        _balance("the name of a queue", name, queue.name)
        check_queue(queue, unacked.pop(queue, 0), consumers.pop(queue, 0))
        if queue.owner is not None and queue.owner not in connections:
            raise Illegal(f"the exclusive queue {name!r} has outlived its connection")
        replies += name.startswith("amq.rabbitmq.reply-to")
    _balance("queues for direct replies", vhost.reply_queues, replies)
    if consumers:
        raise Illegal(f"consumers of queues that are not there: {[queue.name for queue in consumers]}")
    if any(not queue.deleted for queue in unacked):
        raise Illegal("deliveries of queues that are neither there nor deleted")
    for owner, queues in vhost.exclusive.items():
        if queues and owner not in connections:
            raise Illegal(f"exclusive queues {list(queues)} of a connection that is gone")
        for name, queue in queues.items():
            if vhost.queues.get(name) is not queue:
                raise Illegal(f"the exclusive queue {name!r} is not among the queues")
    check_bindings(vhost)


def check_queue(queue: Queue, unacked: int, consumers: int) -> None:
    found = queue.statistics()
    _balance(f"unacked of {queue.name!r}", found.unacked, unacked)
    _balance(f"consumers of {queue.name!r}", found.consumers, consumers)
    resident = queue.resident()
    _balance(f"ready in {queue.name!r}", found.ready, len(resident) + queue.away_count())
    octets = sum(entry.message.header.body_size for entry in resident)
    _balance(f"octets ready in {queue.name!r}", queue.resident_octets(), octets)
    for waiting in queue.active:
        if not waiting.waiting:
            raise Illegal(f"consumer {waiting.tag!r} of {queue.name!r} stands in line without knowing")
    if resident and not queue.overdue and any(not consumer.blocked for consumer in queue.active):
        raise Illegal(f"{len(resident)} messages in {queue.name!r} wait although a consumer has room")


def check_bindings(vhost: VirtualHost) -> None:
    for exchange in vhost.exchanges.values():
        for key, binding in exchange.bindings.items():
            _balance("the key of a binding", key, binding.key())
            destination = binding.destination
            there = vhost.exchanges if isinstance(destination, Exchange) else vhost.queues
            if there.get(destination.name) is not destination:
                raise Illegal(f"{exchange.name!r} is bound to {destination.name!r}, which is gone")
            if binding not in destination.incoming or binding.source is not exchange:
                raise Illegal(f"{destination.name!r} does not know that {exchange.name!r} is bound to it")
        count = sum(isinstance(binding.destination, Exchange) for binding in exchange.bindings.values())
        _balance(f"exchanges bound to {exchange.name!r}", exchange.to_exchanges, count)
    for destination in [*vhost.queues.values(), *vhost.exchanges.values()]:
        for binding in destination.incoming:
            if binding.source.bindings.get(binding.key()) is not binding:
                raise Illegal(f"{destination.name!r} thinks that {binding.source.name!r} is bound to it")


def check_deserted(broker: Broker) -> None:
    """Nobody is connected, so nobody holds anything."""
    check(broker, [])
    for vhost in broker.vhosts.values():
        if any(vhost.exclusive.values()) or vhost.presences or vhost.unsettled or vhost.reply_queues:
            raise Illegal("something of a connection is left though all are gone")


def check_restart(broker: Broker, store: LedgerStore) -> None:
    """A start from what is durable finds the durable queues with their persistent messages, and what binds them."""
    again = Broker(store.survivor())
    again.recover()
    for name, vhost in broker.vhosts.items():
        found = again.vhosts.get(name)
        durable = [queue for queue in vhost.queues.values() if queue.definition]
        queues = {queue.name: kept_of(queue, store) for queue in durable}
        exchanges = {exchange.name for exchange in vhost.exchanges.values() if exchange.definition}
        bindings = {
            (exchange.name, key)
            for exchange in vhost.exchanges.values()
            for key, binding in exchange.bindings.items()
            if binding.definition
        }
        if found is None:
            if queues or exchanges:
                raise Illegal(f"virtual host {name!r} is not there after a restart")
            continue
        _balance(
            "queues after a restart",
            {each.name: each.ready_count() for each in found.queues.values()},
            queues,
        )
        kept = {exchange.name for exchange in found.exchanges.values() if exchange.definition}
        _balance("exchanges after a restart", kept, exchanges)
        bound = {(exchange.name, key) for exchange in found.exchanges.values() for key in exchange.bindings}
        _balance("bindings after a restart", bound, bindings)


def kept_of(queue: Queue, store: LedgerStore) -> int:
    """How many messages of a durable queue a restart has to find; the broker has no connections."""
    stored = len(store.disk.entries.get(queue.store_id, {}))
    if not queue.away_count():
        # What is in memory knows whether it is stored.
        kept = sum(entry.batch >= 0 for entry in [*queue.resident(), *queue.retries.entries()])
        _balance(f"messages of {queue.name!r} that are stored", kept, stored)
    return stored

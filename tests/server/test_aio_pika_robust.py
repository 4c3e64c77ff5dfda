"""aio-pika: connections that restore themselves: after a lost socket, a deleted queue, a restarted broker."""

from __future__ import annotations

import asyncio

import aio_pika
import pytest
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractRobustConnection

from tests.server.broker_process import BrokerProcess
from tests.server.target import Names, RunningBroker
from tests.server.test_aio_pika_consume import Inbox

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


async def connect(port: int) -> AbstractRobustConnection:
    return await aio_pika.connect_robust(f"amqp://guest:guest@127.0.0.1:{port}/", reconnect_interval=0.1)


class Reconnected:
    """Set each time the connection has come back with its topology."""

    def __init__(self, connection: AbstractRobustConnection) -> None:
        self._event = asyncio.Event()
        connection.reconnect_callbacks.add(self._on_reconnect)

    async def _on_reconnect(self, _connection: AbstractRobustConnection | None) -> None:
        self._event.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self._event.wait(), PATIENCE)


async def publish(port: int, queue: str, body: bytes) -> None:
    """Publish, confirmed, over a connection that had no part in what was lost."""
    async with await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{port}/") as connection:
        channel = await connection.channel(on_return_raises=True)
        await channel.default_exchange.publish(Message(body, delivery_mode=DeliveryMode.PERSISTENT), queue)


async def test_a_consumer_goes_on_after_its_socket_is_lost(broker: RunningBroker, names: Names) -> None:
    async with await connect(broker.port) as connection:
        reconnected = Reconnected(connection)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue(names.queue(), auto_delete=False)
        inbox = Inbox()
        await queue.consume(inbox.put)
        await publish(broker.port, queue.name, b"before")
        (message,) = await inbox.take(1)
        assert connection.transport is not None
        await connection.transport.connection.close(ConnectionResetError())
        await reconnected.wait()
        (again,) = await inbox.take(1)
        assert (again.body, again.redelivered) == (message.body, True)
        await again.ack()
        await publish(broker.port, queue.name, b"after")
        (message,) = await inbox.take(1)
        assert message.body == b"after"
        await message.ack()


async def test_a_consumer_goes_on_when_its_queue_is_deleted_and_declared_again(
    broker: RunningBroker, names: Names
) -> None:
    name = names.queue()
    async with await connect(broker.port) as connection, await aio_pika.connect(broker.url) as other:
        channel, deleter = await connection.channel(), await other.channel()
        queue = await channel.declare_queue(name)
        inbox = Inbox()
        await queue.consume(inbox.put, no_ack=True)
        await deleter.queue_delete(name)
        again = await deleter.declare_queue(name)
        await deleter.default_exchange.publish(Message(b"after the deletion"), name)
        (message,) = await inbox.take(1)
        assert message.body == b"after the deletion"
        assert again.name == name


@pytest.mark.parametrize("ending", ["terminated", "killed"])
async def test_topology_and_consumers_are_recovered_after_a_restart(
    own_broker: BrokerProcess, ending: str
) -> None:
    own_broker.start()
    async with await connect(own_broker.port) as connection:
        reconnected = Reconnected(connection)
        channel = await connection.channel()
        exchange = await channel.declare_exchange("logs", ExchangeType.TOPIC)
        transient = await channel.declare_queue("transient", auto_delete=True)
        await transient.bind(exchange, "log.#")
        exclusive = await channel.declare_queue("exclusive", exclusive=True)
        await exclusive.bind(exchange, "log.error")
        durable = await channel.declare_queue("durable", durable=True)
        heard, errors, work = Inbox(), Inbox(), Inbox()
        await transient.consume(heard.put, no_ack=True)
        await exclusive.consume(errors.put, no_ack=True)
        await durable.consume(work.put)
        await publish(own_broker.port, "durable", b"delivered, not acknowledged")
        await work.take(1)

        if ending == "terminated":
            await asyncio.to_thread(own_broker.stop)
        else:
            await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)
        await reconnected.wait()

        (held,) = await work.take(1)
        assert held.body == b"delivered, not acknowledged"
        await held.ack()
        await exchange.publish(Message(b"disk full"), "log.error")
        await exchange.publish(Message(b"all is well"), "log.info")
        assert [message.body for message in await heard.take(2)] == [b"disk full", b"all is well"]
        assert [message.body for message in await errors.take(1)] == [b"disk full"]
        await channel.default_exchange.publish(Message(b"more work"), "durable")
        assert [message.body for message in await work.take(1)] == [b"more work"]


async def test_a_publisher_retries_until_the_broker_is_back(own_broker: BrokerProcess) -> None:
    own_broker.start()
    async with await connect(own_broker.port) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("jobs", durable=True)
        well_under_way = asyncio.Event()

        async def publish_all() -> None:
            for number in range(300):
                body = b"%d" % number
                while True:
                    try:
                        message = Message(body, delivery_mode=DeliveryMode.PERSISTENT)
                        await channel.default_exchange.publish(message, "jobs")
                        break
                    except aio_pika.exceptions.CONNECTION_EXCEPTIONS:
                        await asyncio.sleep(0.02)
                if number == 100:
                    well_under_way.set()

        publishing = asyncio.create_task(publish_all())
        await asyncio.wait_for(well_under_way.wait(), PATIENCE)
        await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)
        await asyncio.wait_for(publishing, PATIENCE)
        received: list[bytes] = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            received.append(message.body)
        first_seen = list(dict.fromkeys(received))
        assert first_seen == [b"%d" % number for number in range(300)]

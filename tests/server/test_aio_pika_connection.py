"""aio-pika: opening, refusing and closing connections and channels, and what the client raises."""

from __future__ import annotations

import asyncio

import aio_pika
import aiormq
import pytest
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelInvalidStateError, InvalidFrameError, ProbableAuthenticationError

from tests.server.target import Names, RunningBroker

pytestmark = pytest.mark.anyio


async def test_a_client_connects_opens_channels_and_closes(broker: RunningBroker) -> None:
    connection = await aio_pika.connect(broker.url)
    first, second = await connection.channel(), await connection.channel()
    assert (first.number, second.number) == (1, 2)
    await first.close()
    assert first.is_closed
    assert not second.is_closed
    await connection.close()
    assert connection.is_closed


@pytest.mark.parametrize("connect", [aio_pika.connect, aio_pika.connect_robust])
async def test_wrong_credentials_are_refused_with_403(broker: RunningBroker, connect: object) -> None:
    with pytest.raises(ProbableAuthenticationError) as refusal:
        await connect(f"amqp://guest:wrong@127.0.0.1:{broker.port}/")  # type: ignore[operator]
    (text,) = refusal.value.args
    assert text == (
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
        "For details see the broker logfile."
    )


@pytest.mark.parametrize("connect", [aio_pika.connect, aio_pika.connect_robust])
async def test_an_unknown_vhost_is_refused_by_a_close(broker: RunningBroker, connect: object) -> None:
    with pytest.raises(InvalidFrameError) as refusal:
        await connect(f"amqp://guest:guest@127.0.0.1:{broker.port}/nowhere")  # type: ignore[operator]
    assert str(refusal.value).startswith(
        "Expected one of ['Connection.OpenOk'], got <Connection.Close object"
    )


async def test_a_secret_can_be_updated_on_an_open_connection(aio_connection: AbstractConnection) -> None:
    await aio_connection.update_secret("guest", reason="rotated")
    channel = await aio_connection.channel()
    await channel.declare_queue(exclusive=True)


async def test_an_idle_connection_with_a_short_heartbeat_lives(broker: RunningBroker) -> None:
    """For longer than two intervals, after which a client that says nothing is cut off."""
    async with await aio_pika.connect(f"{broker.url}?heartbeat=1") as connection:
        closed = asyncio.ensure_future(connection.closed())
        done, _ = await asyncio.wait([closed], timeout=2.6)
        assert not done
        channel = await connection.channel()
        await channel.declare_queue(exclusive=True)
        closed.cancel()


async def test_a_channel_error_closes_one_channel_only(aio_connection: AbstractConnection) -> None:
    calm, failing = await aio_connection.channel(), await aio_connection.channel()
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await failing.declare_queue("missing", passive=True)
    assert failing.is_closed
    with pytest.raises(ChannelInvalidStateError):
        await failing.declare_queue(exclusive=True)
    await calm.declare_queue(exclusive=True)


async def test_two_hundred_channels_work_side_by_side(
    aio_connection: AbstractConnection, names: Names
) -> None:
    async def round_trip(number: int) -> bytes:
        channel = await aio_connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), queue.name)
        message = await queue.get(no_ack=True)
        await channel.close()
        return message.body

    bodies = await asyncio.gather(*(round_trip(number) for number in range(200)))
    assert bodies == [b"%d" % number for number in range(200)]


async def test_many_connections_are_served_at_once(broker: RunningBroker) -> None:
    connections = await asyncio.gather(*(aio_pika.connect(broker.url) for _ in range(50)))
    channels = await asyncio.gather(*(connection.channel() for connection in connections))
    queues = await asyncio.gather(*(channel.declare_queue(exclusive=True) for channel in channels))
    assert len({queue.name for queue in queues}) == 50
    await asyncio.gather(*(connection.close() for connection in connections))


async def test_a_pool_of_connections_and_channels_works(broker: RunningBroker, names: Names) -> None:
    name = names.queue()

    async def open_connection() -> AbstractConnection:
        return await aio_pika.connect_robust(broker.url)

    connections: aio_pika.pool.Pool[AbstractConnection] = aio_pika.pool.Pool(open_connection, max_size=2)

    async def open_channel() -> aio_pika.abc.AbstractChannel:
        async with connections.acquire() as connection:
            return await connection.channel()

    channels: aio_pika.pool.Pool[aio_pika.abc.AbstractChannel] = aio_pika.pool.Pool(open_channel, max_size=10)

    async def publish(number: int) -> None:
        async with channels.acquire() as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"%d" % number), name)

    async with connections, channels:
        async with channels.acquire() as channel:
            queue = await channel.declare_queue(name)
        await asyncio.gather(*(publish(number) for number in range(50)))
        async with channels.acquire() as channel:
            queue = await channel.get_queue(name)
            bodies = {(await queue.get(no_ack=True)).body for _ in range(50)}
    assert bodies == {b"%d" % number for number in range(50)}

"""aio-pika: what asyncio programs do with the features of queues."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import DeliveryError

from tests.server.target import Names

pytestmark = pytest.mark.anyio
WAIT_SECONDS = 30.0


async def next_of(queue: AbstractQueue) -> AbstractIncomingMessage:
    """The next message, as soon as there is one."""
    found: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()

    async def take(message: AbstractIncomingMessage) -> None:
        if not found.done():
            found.set_result(message)

    tag = await queue.consume(take)
    message = await asyncio.wait_for(found, WAIT_SECONDS)
    await queue.cancel(tag)
    return message


async def send(channel: AbstractChannel, queue: AbstractQueue, body: bytes, **properties: Any) -> None:
    await channel.default_exchange.publish(Message(body, **properties), queue.name)


async def test_failed_jobs_end_in_a_dead_letter_queue(aio_channel: AbstractChannel, names: Names) -> None:
    exchange = await aio_channel.declare_exchange(names.exchange(), ExchangeType.TOPIC)
    dead = await aio_channel.declare_queue(names.queue(), durable=True)
    await dead.bind(exchange, "failed.#")
    arguments: Any = {"x-dead-letter-exchange": exchange.name, "x-dead-letter-routing-key": "failed.jobs"}
    jobs = await aio_channel.declare_queue(names.queue(), durable=True, arguments=arguments)
    await send(aio_channel, jobs, b"job", delivery_mode=DeliveryMode.PERSISTENT)
    with pytest.raises(ZeroDivisionError):
        async with (await next_of(jobs)).process():
            raise ZeroDivisionError
    letter = await next_of(dead)
    deaths: Any = letter.headers["x-death"]
    assert (deaths[0]["reason"], deaths[0]["queue"]) == ("rejected", jobs.name)
    assert letter.routing_key == "failed.jobs"
    await letter.ack()


async def test_an_expiration_in_seconds_is_kept(aio_channel: AbstractChannel, names: Names) -> None:
    dead = await aio_channel.declare_queue(names.queue())
    arguments: Any = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
    queue = await aio_channel.declare_queue(names.queue(), arguments=arguments)
    await send(aio_channel, queue, b"short", expiration=0.05)
    letter = await next_of(dead)
    deaths: Any = letter.headers["x-death"]
    assert (letter.body, deaths[0]["original-expiration"]) == (b"short", "50")
    await letter.ack()


async def test_a_publish_to_a_full_queue_fails(aio_channel: AbstractChannel, names: Names) -> None:
    arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = await aio_channel.declare_queue(names.queue(), arguments=arguments)
    await send(aio_channel, queue, b"1")
    with pytest.raises(DeliveryError):
        await send(aio_channel, queue, b"2")
    await (await next_of(queue)).ack()


async def test_urgent_messages_overtake(aio_channel: AbstractChannel, names: Names) -> None:
    queue = await aio_channel.declare_queue(names.queue(), arguments={"x-max-priority": 5})
    for body, priority in ((b"low", 1), (b"high", 5), (b"none", None)):
        await send(aio_channel, queue, body, priority=priority)
    bodies = []
    for _ in range(3):
        message = await queue.get()
        assert message is not None
        bodies.append(message.body)
        await message.ack()
    assert bodies == [b"high", b"low", b"none"]


async def test_a_quorum_queue_counts_deliveries(aio_channel: AbstractChannel, names: Names) -> None:
    arguments: Any = {"x-queue-type": "quorum", "x-delivery-limit": 5}
    queue = await aio_channel.declare_queue(names.queue(), durable=True, arguments=arguments)
    await send(aio_channel, queue, b"1", delivery_mode=DeliveryMode.PERSISTENT)
    for times in range(3):
        message = await next_of(queue)
        assert message.headers.get("x-delivery-count", 0) == times
        assert message.redelivered == (times > 0)
        await message.nack(requeue=True)


async def test_a_message_sent_twice_is_kept_once(aio_channel: AbstractChannel, names: Names) -> None:
    arguments: Any = {"x-message-deduplication": True, "x-cache-size": 100}
    queue = await aio_channel.declare_queue(names.queue(), arguments=arguments)
    for body in (b"1", b"2"):
        await send(aio_channel, queue, body, headers={"x-deduplication-header": "order 17"})
    message = await next_of(queue)
    assert message.body == b"1"
    await message.ack()
    await send(aio_channel, queue, b"3", headers={"x-deduplication-header": "order 17"})
    assert await queue.get(fail=False) is None

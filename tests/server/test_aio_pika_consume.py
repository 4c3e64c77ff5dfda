"""aio-pika: callbacks, iterators, acknowledgements, prefetch, and the ends of consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from pamqp.commands import Basic

from tests.server.target import Names
from tests.server.test_aio_pika_topology import drain

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


class Inbox:
    """Messages in the order they came, waited for one by one."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def put(self, message: AbstractIncomingMessage) -> None:
        await self._messages.put(message)

    async def take(self, count: int) -> list[AbstractIncomingMessage]:
        return [await asyncio.wait_for(self._messages.get(), PATIENCE) for _ in range(count)]

    @property
    def waiting(self) -> int:
        return self._messages.qsize()


async def publish(channel: AbstractChannel, queue: AbstractQueue, *bodies: bytes) -> None:
    for body in bodies:
        await channel.default_exchange.publish(Message(body), queue.name)


@pytest.fixture
async def queue(aio_channel: AbstractChannel, names: Names) -> AbstractQueue:
    return await aio_channel.declare_queue(names.queue())


async def test_a_callback_gets_what_is_there_and_what_comes(
    aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    await publish(aio_channel, queue, b"before")
    inbox = Inbox()
    await queue.consume(inbox.put)
    await publish(aio_channel, queue, b"after")
    messages = await inbox.take(2)
    assert [(m.body, m.delivery_tag, m.redelivered) for m in messages] == [
        (b"before", 1, False),
        (b"after", 2, False),
    ]
    for message in messages:
        await message.ack()


async def test_the_iterator_yields_and_process_acknowledges(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    await publish(aio_channel, queue, *(b"%d" % number for number in range(10)))
    channel = await aio_connection.channel()
    await channel.set_qos(prefetch_count=1)
    seen = []
    async with (await channel.get_queue(queue.name)).iterator() as messages:
        async for message in messages:
            async with message.process():
                seen.append(message.body)
            if len(seen) == 10:
                break
    await channel.close()
    assert seen == [b"%d" % number for number in range(10)]
    assert await drain(queue) == []


async def test_the_iterator_gives_back_what_it_had_not_yielded(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    await publish(aio_channel, queue, b"1", b"2", b"3", b"4")
    channel = await aio_connection.channel()
    async with (await channel.get_queue(queue.name)).iterator() as messages:
        async for message in messages:
            await message.ack()
            break
    await channel.close()
    assert await drain(queue) == [b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("settle", "left"),
    [
        (lambda message: message.ack(), []),
        (lambda message: message.ack(multiple=True), []),
        (lambda message: message.nack(requeue=False), []),
        (lambda message: message.reject(requeue=False), []),
        (lambda message: message.nack(requeue=True), [b"m"]),
        (lambda message: message.reject(requeue=True), [b"m"]),
    ],
    ids=["ack", "ack multiple", "nack", "reject", "nack requeue", "reject requeue"],
)
async def test_a_message_is_settled_as_asked(
    aio_connection: AbstractConnection,
    aio_channel: AbstractChannel,
    queue: AbstractQueue,
    settle: Callable[[AbstractIncomingMessage], Awaitable[None]],
    left: list[bytes],
) -> None:
    await publish(aio_channel, queue, b"m")
    channel = await aio_connection.channel()
    message = await (await channel.get_queue(queue.name)).get()
    await settle(message)
    await channel.close()
    assert await drain(queue) == left


async def test_a_failed_process_block_rejects_or_requeues(
    aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    await publish(aio_channel, queue, b"fragile")
    message = await queue.get()
    with pytest.raises(ZeroDivisionError):
        async with message.process(requeue=True):
            raise ZeroDivisionError
    again = await queue.get()
    assert again.redelivered is True
    with pytest.raises(ZeroDivisionError):
        async with again.process():
            raise ZeroDivisionError
    assert await queue.get(fail=False) is None


async def test_prefetch_bounds_what_is_outstanding(aio_connection: AbstractConnection, names: Names) -> None:
    publisher, consumer = await aio_connection.channel(), await aio_connection.channel()
    await consumer.set_qos(prefetch_count=2)
    queue = await consumer.declare_queue(names.queue())
    await publish(publisher, queue, *(b"%d" % number for number in range(6)))
    inbox = Inbox()
    await queue.consume(inbox.put)
    first = await inbox.take(2)
    await consumer.declare_queue(queue.name)
    await consumer.declare_queue(queue.name)
    assert inbox.waiting == 0
    await first[0].ack()
    third = await inbox.take(1)
    assert third[0].body == b"2"
    await third[0].ack(multiple=True)
    assert [message.body for message in await inbox.take(2)] == [b"3", b"4"]


async def test_global_prefetch_is_shared(aio_connection: AbstractConnection, names: Names) -> None:
    publisher, consumer = await aio_connection.channel(), await aio_connection.channel()
    await consumer.set_qos(prefetch_count=3, global_=True)
    queue = await consumer.declare_queue(names.queue())
    await publish(publisher, queue, *(b"%d" % number for number in range(6)))
    inbox = Inbox()
    await queue.consume(inbox.put)
    await queue.consume(inbox.put)
    messages = await inbox.take(3)
    await consumer.declare_queue(queue.name)
    await consumer.declare_queue(queue.name)
    assert inbox.waiting == 0
    await messages[2].ack(multiple=True)
    assert len(await inbox.take(3)) == 3


async def test_an_exclusive_consumer_is_alone(
    aio_connection: AbstractConnection, queue: AbstractQueue
) -> None:
    await queue.consume(Inbox().put, exclusive=True)
    other = await aio_connection.channel()
    with pytest.raises(ChannelAccessRefused) as refused:
        await (await other.get_queue(queue.name)).consume(Inbox().put)
    assert refused.value.args == (f"ACCESS_REFUSED - queue '{queue.name}' in vhost '/' in exclusive use",)


async def test_a_cancelled_consumer_gets_nothing_more(
    aio_connection: AbstractConnection, queue: AbstractQueue
) -> None:
    publisher = await aio_connection.channel()
    inbox = Inbox()
    tag = await queue.consume(inbox.put)
    await queue.cancel(tag)
    await publish(publisher, queue, b"later")
    assert await drain(queue) == [b"later"]
    assert inbox.waiting == 0


async def test_deleting_the_queue_cancels_its_consumer(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    cancelled: asyncio.Queue[str | None] = asyncio.Queue()
    underlay = await aio_channel.get_underlay_channel()

    async def on_cancel(frame: Basic.Cancel) -> None:
        cancelled.put_nowait(frame.consumer_tag)

    underlay.on_consumer_cancel_callbacks.add(on_cancel)
    tag = await queue.consume(Inbox().put)
    deleter = await aio_connection.channel()
    await deleter.queue_delete(queue.name)
    assert await asyncio.wait_for(cancelled.get(), PATIENCE) == tag
    await aio_channel.declare_queue(queue.name)


async def test_acknowledging_twice_is_406_on_the_channel(
    aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    await publish(aio_channel, queue, b"m")
    message = await queue.get()
    await message.ack()
    underlay = await aio_channel.get_underlay_channel()
    assert message.delivery_tag is not None
    await underlay.basic_ack(message.delivery_tag)
    with pytest.raises(ChannelPreconditionFailed) as refused:
        await aio_channel.declare_queue(queue.name)
    assert refused.value.args == ("PRECONDITION_FAILED - unknown delivery tag 1",)


async def test_two_consumers_share_the_work(aio_connection: AbstractConnection, names: Names) -> None:
    publisher = await aio_connection.channel()
    queue = await publisher.declare_queue(names.queue())
    inboxes = []
    for _ in range(2):
        channel = await aio_connection.channel()
        inboxes.append(Inbox())
        await (await channel.get_queue(queue.name)).consume(inboxes[-1].put, no_ack=True)
    await publish(publisher, queue, *(b"%d" % number for number in range(10)))
    shares = [[message.body for message in await inbox.take(5)] for inbox in inboxes]
    assert shares == [[b"0", b"2", b"4", b"6", b"8"], [b"1", b"3", b"5", b"7", b"9"]]


async def test_closing_the_channel_gives_everything_back_in_order(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, queue: AbstractQueue
) -> None:
    await publish(aio_channel, queue, *(b"%d" % number for number in range(50)))
    channel = await aio_connection.channel()
    inbox = Inbox()
    await (await channel.get_queue(queue.name)).consume(inbox.put)
    await inbox.take(50)
    await channel.close()
    again = [await queue.get(no_ack=True) for _ in range(50)]
    assert [message.body for message in again] == [b"%d" % number for number in range(50)]
    assert all(message.redelivered for message in again)

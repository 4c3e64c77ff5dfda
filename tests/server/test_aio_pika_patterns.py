"""aio-pika: its ready-made patterns over the broker: RPC, master and worker, topic logs."""

from __future__ import annotations

import asyncio

import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import MessageProcessError
from aio_pika.patterns import RPC, Master, NackMessage

from tests.server.target import Names

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


async def test_rpc_calls_answer_with_results_and_exceptions(
    aio_connection: AbstractConnection, names: Names
) -> None:
    method = names.queue("rpc")

    async def divide(*, numerator: int, denominator: int) -> float:
        return numerator / denominator

    server = await RPC.create(await aio_connection.channel())
    await server.register(method, divide, auto_delete=True)
    client = await RPC.create(await aio_connection.channel())
    calls = [client.call(method, {"numerator": number, "denominator": 4}) for number in range(30)]
    assert await asyncio.wait_for(asyncio.gather(*calls), PATIENCE) == [number / 4 for number in range(30)]
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(client.call(method, {"numerator": 1, "denominator": 0}), PATIENCE)
    await client.close()
    await server.close()


async def test_calling_a_method_nobody_serves_is_returned(aio_connection: AbstractConnection) -> None:
    client = await RPC.create(await aio_connection.channel())
    with pytest.raises(MessageProcessError):
        await asyncio.wait_for(client.call("nobody-serves-this", {}), PATIENCE)
    await client.close()


async def test_a_hand_written_rpc_uses_reply_to_and_correlation_id(
    aio_connection: AbstractConnection,
) -> None:
    server, client = await aio_connection.channel(), await aio_connection.channel()
    requests = await server.declare_queue(exclusive=True)
    replies = await client.declare_queue(exclusive=True)

    async def on_request(message: AbstractIncomingMessage) -> None:
        assert message.reply_to is not None
        answer = Message(message.body[::-1], correlation_id=message.correlation_id)
        await server.default_exchange.publish(answer, message.reply_to)
        await message.ack()

    await requests.consume(on_request)
    answered: dict[str | None, bytes] = {}
    done = asyncio.Event()

    async def on_reply(message: AbstractIncomingMessage) -> None:
        answered[message.correlation_id] = message.body
        if len(answered) == 10:
            done.set()

    await replies.consume(on_reply, no_ack=True)
    for number in range(10):
        request = Message(b"request %d" % number, correlation_id=str(number), reply_to=replies.name)
        await client.default_exchange.publish(request, requests.name)
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert answered == {str(number): (b"request %d" % number)[::-1] for number in range(10)}


async def test_master_hands_tasks_to_workers(aio_connection: AbstractConnection, names: Names) -> None:
    name = names.queue("tasks")
    done: asyncio.Queue[int] = asyncio.Queue()
    refused: set[int] = set()

    async def work(*, task_id: int) -> None:
        if task_id % 3 == 0 and task_id not in refused:
            refused.add(task_id)
            raise NackMessage(requeue=True)
        done.put_nowait(task_id)

    channel = await aio_connection.channel()
    await channel.set_qos(prefetch_count=1)
    master = Master(channel)
    worker = await master.create_worker(name, work, auto_delete=True)
    for number in range(12):
        await master.create_task(name, {"task_id": number})
    finished = [await asyncio.wait_for(done.get(), PATIENCE) for _ in range(12)]
    assert sorted(finished) == list(range(12))
    assert refused == {0, 3, 6, 9}
    await worker.close()


async def test_topic_subscribers_get_their_part(aio_channel: AbstractChannel, names: Names) -> None:
    exchange = await aio_channel.declare_exchange(names.exchange("logs"), ExchangeType.TOPIC)
    heard: dict[str, asyncio.Queue[str]] = {}
    for pattern in ("kern.*", "*.critical", "#"):
        queue = await aio_channel.declare_queue(exclusive=True)
        await queue.bind(exchange, pattern)
        keys: asyncio.Queue[str] = asyncio.Queue()

        async def hear(message: AbstractIncomingMessage, keys: asyncio.Queue[str] = keys) -> None:
            keys.put_nowait(message.routing_key or "")

        await queue.consume(hear, no_ack=True)
        heard[pattern] = keys
    for key in ("kern.info", "kern.critical", "cron.critical", "cron.info", "kern"):
        await exchange.publish(Message(key.encode()), key)
    expected = {
        "kern.*": ["kern.info", "kern.critical"],
        "*.critical": ["kern.critical", "cron.critical"],
        "#": ["kern.info", "kern.critical", "cron.critical", "cron.info", "kern"],
    }
    for pattern, keys_expected in expected.items():
        assert [
            await asyncio.wait_for(heard[pattern].get(), PATIENCE) for _ in keys_expected
        ] == keys_expected
        assert heard[pattern].empty()

"""Exercise 6: ask for a Fibonacci number and wait for the answer."""

from __future__ import annotations

import asyncio
import sys
import uuid

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from connecting import connect


class FibonacciRpcClient:
    def __init__(self, channel: AbstractChannel, callback_queue: AbstractQueue) -> None:
        self.channel = channel
        self.callback_queue = callback_queue
        self.waiting: dict[str | None, asyncio.Future[int]] = {}

    async def on_response(self, message: AbstractIncomingMessage) -> None:
        answered = self.waiting.pop(message.correlation_id, None)
        if answered is not None:
            answered.set_result(int(message.body))

    async def call(self, number: int) -> int:
        correlation_id = str(uuid.uuid4())
        answered = asyncio.get_running_loop().create_future()
        self.waiting[correlation_id] = answered
        question = Message(
            str(number).encode(), correlation_id=correlation_id, reply_to=self.callback_queue.name
        )
        await self.channel.default_exchange.publish(question, routing_key="rpc_queue")
        return await answered


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        client = FibonacciRpcClient(channel, await channel.declare_queue(exclusive=True))
        await client.callback_queue.consume(client.on_response, no_ack=True)
        for argument in sys.argv[1:] or ["20"]:
            print(f" [x] Requesting fib({argument})")
            print(f" [.] Got {await client.call(int(argument))}", flush=True)


asyncio.run(main())

"""Exercise 1: put one message into a queue."""

from __future__ import annotations

import asyncio

from aio_pika import Message
from connecting import connect


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("hello")
        await channel.default_exchange.publish(Message(b"Hello World!"), routing_key=queue.name)
        print(" [x] Sent 'Hello World!'")


asyncio.run(main())

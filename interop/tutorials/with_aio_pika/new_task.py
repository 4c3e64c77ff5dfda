"""Exercise 2: hand out a task; every dot in its text is a tenth of a second of work."""

from __future__ import annotations

import asyncio
import sys

from aio_pika import DeliveryMode, Message
from connecting import connect


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("task_queue", durable=True)
        text = " ".join(sys.argv[1:]) or "Hello World!"
        message = Message(text.encode(), delivery_mode=DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=queue.name)
        print(f" [x] Sent {text}")


asyncio.run(main())

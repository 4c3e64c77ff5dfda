"""Exercise 7: know that the broker has taken responsibility, many at a time, and hear what nobody wanted."""

from __future__ import annotations

import asyncio

from aio_pika import DeliveryMode, Message
from aio_pika.exceptions import DeliveryError
from connecting import connect


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await channel.declare_queue(exclusive=True)

        async def publish(number: int) -> None:
            message = Message(f"message {number}".encode(), delivery_mode=DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key=queue.name, timeout=5)

        await asyncio.gather(*(publish(number) for number in range(100)))
        print(" [x] 100 messages confirmed")

        try:
            await channel.default_exchange.publish(Message(b"lost"), routing_key="no such queue")
        except DeliveryError as error:
            print(f" [!] Returned: {error.args[0]}")


asyncio.run(main())

"""Exercise 2: do tasks one at a time and acknowledge each when it is done."""

from __future__ import annotations

import asyncio

from aio_pika.abc import AbstractIncomingMessage
from connecting import connect, run_until_interrupted


async def on_message(message: AbstractIncomingMessage) -> None:
    async with message.process():
        print(f" [x] Received {message.body.decode()}", flush=True)
        await asyncio.sleep(message.body.count(b".") / 10)
        print(" [x] Done", flush=True)


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        # Without this a slow worker would be given tasks that an idle one could do.
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue("task_queue", durable=True)
        await queue.consume(on_message)
        print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
        await asyncio.Future()


run_until_interrupted(main())

"""Exercise 1: print what comes into a queue, until interrupted."""

from __future__ import annotations

import asyncio

from aio_pika.abc import AbstractIncomingMessage
from connecting import connect, run_until_interrupted


async def on_message(message: AbstractIncomingMessage) -> None:
    print(f" [x] Received {message.body.decode()}", flush=True)


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("hello")
        await queue.consume(on_message, no_ack=True)
        print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
        await asyncio.Future()


run_until_interrupted(main())

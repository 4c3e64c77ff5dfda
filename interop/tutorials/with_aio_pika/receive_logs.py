"""Exercise 3: listen, from now on, with a queue of one's own."""

from __future__ import annotations

import asyncio

from aio_pika import ExchangeType
from aio_pika.abc import AbstractIncomingMessage
from connecting import connect, run_until_interrupted


async def on_message(message: AbstractIncomingMessage) -> None:
    async with message.process():
        print(f" [x] {message.body.decode()}", flush=True)


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        logs = await channel.declare_exchange("logs", ExchangeType.FANOUT)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(logs)
        await queue.consume(on_message)
        print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
        await asyncio.Future()


run_until_interrupted(main())

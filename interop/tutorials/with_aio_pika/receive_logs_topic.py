"""Exercise 5: listen to the patterns given on the command line."""

from __future__ import annotations

import asyncio
import sys

from aio_pika import ExchangeType
from aio_pika.abc import AbstractIncomingMessage
from connecting import connect, run_until_interrupted


async def on_message(message: AbstractIncomingMessage) -> None:
    async with message.process():
        print(f" [x] {message.routing_key}:{message.body.decode()}", flush=True)


async def main() -> None:
    binding_keys = sys.argv[1:]
    if not binding_keys:
        sys.exit(f"Usage: {sys.argv[0]} [binding_key]...")
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        logs = await channel.declare_exchange("topic_logs", ExchangeType.TOPIC)
        queue = await channel.declare_queue(exclusive=True)
        for binding_key in binding_keys:
            await queue.bind(logs, routing_key=binding_key)
        await queue.consume(on_message)
        print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
        await asyncio.Future()


run_until_interrupted(main())

"""Exercise 4: listen to the severities named on the command line."""

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
    severities = sys.argv[1:]
    if not severities:
        sys.exit(f"Usage: {sys.argv[0]} [info] [warning] [error]")
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        logs = await channel.declare_exchange("direct_logs", ExchangeType.DIRECT)
        queue = await channel.declare_queue(exclusive=True)
        for severity in severities:
            await queue.bind(logs, routing_key=severity)
        await queue.consume(on_message)
        print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
        await asyncio.Future()


run_until_interrupted(main())

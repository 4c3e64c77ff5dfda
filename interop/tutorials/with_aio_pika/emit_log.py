"""Exercise 3: tell everybody who listens."""

from __future__ import annotations

import asyncio
import sys

from aio_pika import ExchangeType, Message
from connecting import connect


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        logs = await channel.declare_exchange("logs", ExchangeType.FANOUT)
        text = " ".join(sys.argv[1:]) or "info: Hello World!"
        await logs.publish(Message(text.encode()), routing_key="")
        print(f" [x] Sent {text}")


asyncio.run(main())

"""Exercise 5: tell those whose pattern matches."""

from __future__ import annotations

import asyncio
import sys

from aio_pika import ExchangeType, Message
from connecting import connect


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        logs = await channel.declare_exchange("topic_logs", ExchangeType.TOPIC)
        routing_key = sys.argv[1] if len(sys.argv) > 1 else "anonymous.info"
        text = " ".join(sys.argv[2:]) or "Hello World!"
        # Nobody may be listening, and that is no error.
        await logs.publish(Message(text.encode()), routing_key=routing_key, mandatory=False)
        print(f" [x] Sent {routing_key}:{text}")


asyncio.run(main())

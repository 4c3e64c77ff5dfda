"""Exercise 4: tell those who asked for this severity."""

from __future__ import annotations

import asyncio
import sys

from aio_pika import ExchangeType, Message
from connecting import connect


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        logs = await channel.declare_exchange("direct_logs", ExchangeType.DIRECT)
        severity = sys.argv[1] if len(sys.argv) > 1 else "info"
        text = " ".join(sys.argv[2:]) or "Hello World!"
        # Nobody may be listening, and that is no error.
        await logs.publish(Message(text.encode()), routing_key=severity, mandatory=False)
        print(f" [x] Sent {severity}:{text}")


asyncio.run(main())

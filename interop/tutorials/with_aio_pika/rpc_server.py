"""Exercise 6: compute Fibonacci numbers for whoever asks."""

from __future__ import annotations

from aio_pika import Message
from connecting import connect, run_until_interrupted


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


async def main() -> None:
    connection = await connect()
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("rpc_queue")
        print(" [x] Awaiting RPC requests", flush=True)
        async with queue.iterator() as requests:
            async for request in requests:
                async with request.process(requeue=False):
                    assert request.reply_to is not None
                    number = int(request.body)
                    print(f" [.] fib({number})", flush=True)
                    answer = Message(str(fib(number)).encode(), correlation_id=request.correlation_id)
                    await channel.default_exchange.publish(answer, routing_key=request.reply_to)


run_until_interrupted(main())

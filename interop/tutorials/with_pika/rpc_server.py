"""Exercise 6: compute Fibonacci numbers for whoever asks."""

from __future__ import annotations

from typing import Any

import pika
from connecting import connect

connection = connect()
channel = connection.channel()

channel.queue_declare(queue="rpc_queue")


def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def on_request(this: Any, method: Any, properties: Any, body: bytes) -> None:
    number = int(body)
    print(f" [.] fib({number})", flush=True)
    this.basic_publish(
        exchange="",
        routing_key=properties.reply_to,
        properties=pika.BasicProperties(correlation_id=properties.correlation_id),
        body=str(fib(number)).encode(),
    )
    this.basic_ack(delivery_tag=method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)

print(" [x] Awaiting RPC requests", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()

"""Exercise 1: print what comes into a queue, until interrupted."""

from __future__ import annotations

from typing import Any

from connecting import connect

connection = connect()
channel = connection.channel()

# Either side may be started first, so both declare the queue.
channel.queue_declare(queue="hello")


def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
    print(f" [x] Received {body.decode()}", flush=True)


channel.basic_consume(queue="hello", on_message_callback=callback, auto_ack=True)

print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()

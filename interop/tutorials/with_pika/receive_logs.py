"""Exercise 3: listen, from now on, with a queue of one's own."""

from __future__ import annotations

from typing import Any

from connecting import connect

connection = connect()
channel = connection.channel()

channel.exchange_declare(exchange="logs", exchange_type="fanout")

result = channel.queue_declare(queue="", exclusive=True)
queue_name = result.method.queue
channel.queue_bind(exchange="logs", queue=queue_name)


def callback(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
    print(f" [x] {body.decode()}", flush=True)


channel.basic_consume(queue=queue_name, on_message_callback=callback, auto_ack=True)

print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()

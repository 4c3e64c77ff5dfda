"""Exercise 5: listen to the patterns given on the command line."""

from __future__ import annotations

import sys
from typing import Any

from connecting import connect

binding_keys = sys.argv[1:]
if not binding_keys:
    sys.exit(f"Usage: {sys.argv[0]} [binding_key]...")

connection = connect()
channel = connection.channel()

channel.exchange_declare(exchange="topic_logs", exchange_type="topic")

result = channel.queue_declare(queue="", exclusive=True)
queue_name = result.method.queue
for binding_key in binding_keys:
    channel.queue_bind(exchange="topic_logs", queue=queue_name, routing_key=binding_key)


def callback(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
    print(f" [x] {method.routing_key}:{body.decode()}", flush=True)


channel.basic_consume(queue=queue_name, on_message_callback=callback, auto_ack=True)

print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()

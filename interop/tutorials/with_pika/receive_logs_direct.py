"""Exercise 4: listen to the severities named on the command line."""

from __future__ import annotations

import sys
from typing import Any

from connecting import connect

severities = sys.argv[1:]
if not severities:
    sys.exit(f"Usage: {sys.argv[0]} [info] [warning] [error]")

connection = connect()
channel = connection.channel()

channel.exchange_declare(exchange="direct_logs", exchange_type="direct")

result = channel.queue_declare(queue="", exclusive=True)
queue_name = result.method.queue
for severity in severities:
    channel.queue_bind(exchange="direct_logs", queue=queue_name, routing_key=severity)


def callback(_channel: Any, method: Any, _properties: Any, body: bytes) -> None:
    print(f" [x] {method.routing_key}:{body.decode()}", flush=True)


channel.basic_consume(queue=queue_name, on_message_callback=callback, auto_ack=True)

print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()

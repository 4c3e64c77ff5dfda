"""Exercise 2: hand out a task; every dot in its text is a tenth of a second of work."""

from __future__ import annotations

import sys

import pika
from connecting import connect

connection = connect()
channel = connection.channel()

channel.queue_declare(queue="task_queue", durable=True)

message = " ".join(sys.argv[1:]) or "Hello World!"
channel.basic_publish(
    exchange="",
    routing_key="task_queue",
    body=message.encode(),
    properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
)
print(f" [x] Sent {message}")
connection.close()

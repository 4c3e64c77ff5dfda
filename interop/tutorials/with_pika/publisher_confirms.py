"""Exercise 7: know that the broker has taken responsibility, one by one, and hear what nobody wanted."""

from __future__ import annotations

import pika
from connecting import connect

connection = connect()
channel = connection.channel()

queue = channel.queue_declare(queue="", exclusive=True).method.queue
channel.confirm_delivery()

confirmed = 0
for number in range(100):
    try:
        channel.basic_publish(
            exchange="",
            routing_key=queue,
            body=f"message {number}".encode(),
            properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
            mandatory=True,
        )
        confirmed += 1
    except pika.exceptions.UnroutableError:
        print(" [!] A message was returned")
print(f" [x] {confirmed} messages confirmed")

try:
    channel.basic_publish(exchange="", routing_key="no such queue", body=b"lost", mandatory=True)
except pika.exceptions.UnroutableError as error:
    print(f" [!] Returned: {error.messages[0].method.reply_text}")

connection.close()

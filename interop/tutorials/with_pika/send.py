"""Exercise 1: put one message into a queue."""

from __future__ import annotations

from connecting import connect

connection = connect()
channel = connection.channel()

channel.queue_declare(queue="hello")

channel.basic_publish(exchange="", routing_key="hello", body=b"Hello World!")
print(" [x] Sent 'Hello World!'")
connection.close()

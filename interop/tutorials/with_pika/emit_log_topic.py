"""Exercise 5: tell those whose pattern matches."""

from __future__ import annotations

import sys

from connecting import connect

connection = connect()
channel = connection.channel()

channel.exchange_declare(exchange="topic_logs", exchange_type="topic")

routing_key = sys.argv[1] if len(sys.argv) > 1 else "anonymous.info"
message = " ".join(sys.argv[2:]) or "Hello World!"
channel.basic_publish(exchange="topic_logs", routing_key=routing_key, body=message.encode())
print(f" [x] Sent {routing_key}:{message}")
connection.close()

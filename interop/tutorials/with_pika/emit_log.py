"""Exercise 3: tell everybody who listens."""

from __future__ import annotations

import sys

from connecting import connect

connection = connect()
channel = connection.channel()

channel.exchange_declare(exchange="logs", exchange_type="fanout")

message = " ".join(sys.argv[1:]) or "info: Hello World!"
channel.basic_publish(exchange="logs", routing_key="", body=message.encode())
print(f" [x] Sent {message}")
connection.close()

"""Exercise 4: tell those who asked for this severity."""

from __future__ import annotations

import sys

from connecting import connect

connection = connect()
channel = connection.channel()

channel.exchange_declare(exchange="direct_logs", exchange_type="direct")

severity = sys.argv[1] if len(sys.argv) > 1 else "info"
message = " ".join(sys.argv[2:]) or "Hello World!"
channel.basic_publish(exchange="direct_logs", routing_key=severity, body=message.encode())
print(f" [x] Sent {severity}:{message}")
connection.close()

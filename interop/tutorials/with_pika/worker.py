"""Exercise 2: do tasks one at a time and acknowledge each when it is done."""

from __future__ import annotations

import time
from typing import Any

from connecting import connect

connection = connect()
channel = connection.channel()

channel.queue_declare(queue="task_queue", durable=True)


def callback(this: Any, method: Any, _properties: Any, body: bytes) -> None:
    print(f" [x] Received {body.decode()}", flush=True)
    time.sleep(body.count(b".") / 10)
    print(" [x] Done", flush=True)
    this.basic_ack(delivery_tag=method.delivery_tag)


# Without this a slow worker would be given tasks that an idle one could do.
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="task_queue", on_message_callback=callback)

print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()

"""Exercise 6: ask for a Fibonacci number and wait for the answer."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import pika
from connecting import connect


class FibonacciRpcClient:
    def __init__(self) -> None:
        self.connection = connect()
        self.channel = self.connection.channel()
        result = self.channel.queue_declare(queue="", exclusive=True)
        self.callback_queue = result.method.queue
        self.channel.basic_consume(
            queue=self.callback_queue, on_message_callback=self.on_response, auto_ack=True
        )
        self.response: bytes | None = None
        self.correlation_id = ""

    def on_response(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        # An answer to an earlier question may still come.
        if properties.correlation_id == self.correlation_id:
            self.response = body

    def call(self, number: int) -> int:
        self.response = None
        self.correlation_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="",
            routing_key="rpc_queue",
            properties=pika.BasicProperties(reply_to=self.callback_queue, correlation_id=self.correlation_id),
            body=str(number).encode(),
        )
        while self.response is None:
            self.connection.process_data_events(time_limit=1)
        return int(self.response)


client = FibonacciRpcClient()
for argument in sys.argv[1:] or ["20"]:
    print(f" [x] Requesting fib({argument})")
    print(f" [.] Got {client.call(int(argument))}", flush=True)
client.connection.close()

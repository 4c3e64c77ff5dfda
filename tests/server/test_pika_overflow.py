"""pika: a queue that is full and refuses, the one way a client comes to see a nack."""

from __future__ import annotations

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError

from tests.server.blocking import drain
from tests.server.target import Names


def test_a_publish_that_a_full_queue_rejects_raises_nack_error(
    channel: BlockingChannel, names: Names
) -> None:
    queue = names.queue()
    channel.queue_declare(queue, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"one")
    channel.basic_publish("", queue, b"two")
    with pytest.raises(NackError):
        channel.basic_publish("", queue, b"three")
    assert drain(channel, queue) == [b"one", b"two"]

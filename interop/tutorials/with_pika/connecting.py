"""Where the tutorials find their broker."""

from __future__ import annotations

import os

import pika


def connect() -> pika.BlockingConnection:
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/")
    return pika.BlockingConnection(pika.URLParameters(url))

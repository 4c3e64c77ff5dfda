"""Names that mean something to the broker itself, so that clients may not give them to what they declare."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Container
from typing import Final

from amqp_broker.errors import access_refused, exchange_in

RESERVED_PREFIX: Final = "amq."
# What the names of queues for direct replies begin with.
REPLY_PREFIX: Final = "amq.rabbitmq.reply-to."


def check_not_reserved(kind: str, name: str) -> None:
    """Raises SoftError 403 for a name that clients may not give. kind: "queue" or "exchange"."""
    if name.startswith(RESERVED_PREFIX):
        raise access_refused(f"{kind} name '{name}' contains reserved prefix '{RESERVED_PREFIX}*'")


def check_deletable(name: str, vhost: str) -> None:
    """Raises SoftError 403 for an exchange that is always there."""
    if name.startswith(RESERVED_PREFIX):
        raise access_refused(f"deletion of system {exchange_in(name, vhost)} not allowed")


def generated_name(taken: Container[str]) -> str:
    """A name for a queue that is to have none of its own, and that nobody can guess."""
    while True:
        name = "amq.gen-" + urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        if name not in taken:
            return name

"""Names the broker makes up for clients."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode


def generated_id() -> str:
    """22 characters that nobody else has and nobody can guess."""
    return urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")


def generated_tag() -> str:
    """A consumer tag in RabbitMQ's form."""
    return "amq.ctag-" + generated_id()

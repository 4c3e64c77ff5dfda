"""Names the broker makes up for clients."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode


def generated_tag() -> str:
    """A consumer tag nobody else has, in RabbitMQ's form."""
    return "amq.ctag-" + urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")

"""Every property of a message there and back, and those that the broker looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "properties"

SETS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "all": {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "headers": {"a": 1},
        "delivery_mode": 2,
        "priority": 9,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": 1,
        "message_type": "t",
        "user_id": "guest",
        "app_id": "a",
        "cluster_id": "cl",
    },
    "empty-texts": {"content_type": "", "reply_to": "", "message_id": "", "app_id": ""},
    "long-texts": {"content_type": "é" * 127, "correlation_id": b"\xff" * 255},
    "empty-headers": {"headers": {}},
    "delivery-mode-0": {"delivery_mode": 0},
    "delivery-mode-255": {"delivery_mode": 255},
    "priority-255": {"priority": 255},
    "timestamp-0": {"timestamp": 0},
    "timestamp-most": {"timestamp": 2**64 - 1},
    "timestamp-2-to-63": {"timestamp": 2**63},
    "user-of-another": {"user_id": "other"},
    "no-user": {"user_id": ""},
    "own-user": {"user_id": "guest"},
    "cluster": {"cluster_id": "x"},
    "headers-twice": {"headers": [("k", 1), ("k", 2)]},
}


def conversations() -> Iterator[Conversation]:
    for name, properties in SETS.items():
        for user in ("guest", "actor"):
            if user == "actor" and "user" not in name:
                continue
            conversation = Conversation(f"{GROUP}/{name}-as-{user}")
            if user != "guest":
                conversation.connect(response=f"\0{user}\0{user}")
            conversation.declare()
            conversation.publish("~q", "to the queue", **properties)
            conversation.publish("~none", "to nobody", mandatory=True, **properties)
            conversation.get()
            conversation.reject(1, requeue=True)
            conversation.consume()
            yield conversation

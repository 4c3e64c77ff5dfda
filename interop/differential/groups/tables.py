"""Every type of value in a field table, there and back to the octet, in messages and in arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from ..codec import Typed
from ..script import Conversation

GROUP: Final = "tables"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"t": value}
    return value


def nested_array(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES: Final[dict[str, Any]] = {
    "true": True,
    "false": False,
    "truth-of-2": Typed("t", 2),
    "int8": [Typed("b", n) for n in (-128, -1, 0, 127)],
    "uint8": [Typed("B", n) for n in (0, 255)],
    "int16": [Typed("s", n) for n in (-32768, 32767)],
    "uint16": [Typed("u", n) for n in (0, 65535)],
    "int32": [Typed("I", n) for n in (-(2**31), 2**31 - 1)],
    "uint32": [Typed("i", n) for n in (0, 2**32 - 1)],
    "int64": [Typed("l", n) for n in (-(2**63), 2**63 - 1)],
    "int64-as-L": Typed("L", 5),
    "single": [Typed("f", n) for n in (0.0, -0.0, 1.5, 3.4e38)],
    "double": [0.0, -0.0, 1.1, 1.7e308, 5e-324],
    "not-a-number": math.nan,
    "infinity": math.inf,
    "single-infinity": Typed("f", -math.inf),
    "decimal": [Typed("D", pair) for pair in ((0, 0), (2, 314), (255, 2**32 - 1))],
    "text": ["", "é", "x" * 300],
    "text-not-utf-8": Typed("S", b"\xff\xfe"),
    "octets": [b"", b"\x00\xff"],
    "timestamp": [Typed("T", n) for n in (0, 1, 2**63, 2**64 - 1)],
    "table": {"a": 1, "b": {"c": []}},
    "empty-table": {},
    "array": [1, "a", [True, None], {"k": 1.5}],
    "empty-array": [],
    "void": None,
    "20-tables": nested(20),
    "200-arrays": nested_array(200),
    "unknown-type": Typed("Z", b""),
    "unknown-type-with-octets": Typed("q", b"\0\0\0\1"),
    "many": {f"key-{n}": n for n in range(200)},
}
KEYS: Final[dict[str, Any]] = {
    "empty": "",
    "long": "k" * 255,
    "not-ascii": "é",
    "not-utf-8": b"\xff\xfe",
    "with-nul": "a\0b",
}


def conversations() -> Iterator[Conversation]:
    for name, value in VALUES.items():
        conversation = Conversation(f"{GROUP}/headers/{name}")
        conversation.declare()
        conversation.publish("~q", "m", headers={"before": 1, "value": value, "after": "z"})
        conversation.get()
        conversation.nack(1, requeue=True)
        conversation.consume()
        yield conversation
        conversation = Conversation(f"{GROUP}/dead-letters/{name}")
        conversation.declare("~end")
        conversation.declare(
            args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end", "x-max-length": 0}
        )
        conversation.publish("~q", "m", headers={"before": 1, "value": value, "after": "z"})
        conversation.drain("~end")
        yield conversation
        conversation = Conversation(f"{GROUP}/arguments/{name}")
        conversation.declare(args={"before": 1, "value": value, "after": "z"})
        conversation.declare(args={"before": 1, "value": value, "after": "z"})
        conversation.consume(args={"value": value})
        yield conversation
    for name, key in KEYS.items():
        conversation = Conversation(f"{GROUP}/keys/{name}")
        conversation.declare(args={key: 1})
        conversation.publish("~q", "m", headers={key: 1})
        conversation.get()
        yield conversation

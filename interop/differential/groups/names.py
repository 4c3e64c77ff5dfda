"""Names of every kind, for queues, exchanges and keys: empty, long, reserved, of odd octets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "names"

NAMES: Final[dict[str, Any]] = {
    "empty": "",
    "space": "~ ",
    "long": "~" + "n" * 248,
    "not-ascii": "~é漢😀",
    "nul": "~\0n",
    "cr-lf": "~\r\nn\r",
    "only-cr-lf": "\r\n",
    "reserved": "amq.~n",
    "reserved-upper-case": "AMQ.~n",
    "almost-reserved": "amq_~n",
    "slash": "~/n%2F",
    "wildcards": "~*.#",
    "not-utf-8": b"@@@@@@@\xff\xfe",
    "half-a-character": b"@@@@@@@\xc3",
    "surrogate": b"@@@@@@@\xed\xa0\x80",
    "quote": "~'n\"",
    "dots": "~...",
    "reply-to": "amq.rabbitmq.reply-to",
    "reply-to-with-more": "amq.rabbitmq.reply-to.nothing",
}


def conversations() -> Iterator[Conversation]:
    for name, value in NAMES.items():
        for passive in (False, True):
            conversation = Conversation(f"{GROUP}/queue/{name}{'-passive' * passive}")
            conversation.declare(value, passive=passive)
            conversation.publish(value, "to it", mandatory=True)
            conversation.get(value, no_ack=True)
            conversation.send("queue.delete", queue=value)
            yield conversation
            conversation = Conversation(f"{GROUP}/exchange/{name}{'-passive' * passive}")
            conversation.exchange(value, passive=passive)
            conversation.publish("k", exchange=value, mandatory=True)
            conversation.send("exchange.delete", exchange=value)
            yield conversation
        conversation = Conversation(f"{GROUP}/key/{name}")
        conversation.exchange()
        conversation.declare()
        conversation.bind("~q", "~x", value)
        conversation.publish(value, exchange="~x", mandatory=True)
        conversation.drain()
        yield conversation
        conversation = Conversation(f"{GROUP}/tag/{name}")
        conversation.declare()
        conversation.consume("~q", value)
        conversation.publish("~q", "m")
        conversation.cancel(value)
        yield conversation
    for method, argument in (
        ("queue.bind", "queue"),
        ("queue.purge", "queue"),
        ("queue.delete", "queue"),
        ("basic.consume", "queue"),
        ("basic.get", "queue"),
        ("exchange.delete", "exchange"),
    ):
        for name in ("amq.direct", "amq.~none", "~none", "amq.rabbitmq.trace", "amq.rabbitmq.reply-to"):
            conversation = Conversation(f"{GROUP}/{method}/{name.strip('~')}")
            extra = {"exchange": "amq.direct"} if method == "queue.bind" else {}
            conversation.send(method, **{argument: name}, **extra)
            yield conversation
    for exchange in (
        "amq.direct",
        "amq.fanout",
        "amq.topic",
        "amq.headers",
        "amq.match",
        "amq.rabbitmq.trace",
    ):
        conversation = Conversation(f"{GROUP}/predeclared/{exchange}")
        conversation.declare()
        conversation.bind("~q", exchange, "~k", {"x-match": "all", "~h": 1})
        conversation.publish("~k", "to it", exchange=exchange, mandatory=True, headers={"~h": 1})
        conversation.send("exchange.delete", exchange=exchange, if_unused=True)
        yield conversation

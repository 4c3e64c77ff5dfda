"""Times to live, priorities and lengths, each and together; and how long queues themselves live."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "limits"

OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx")
LIMITS: Final[dict[str, dict[str, Any]]] = {
    "0": {"x-max-length": 0},
    "1": {"x-max-length": 1},
    "3": {"x-max-length": 3},
    "bytes-0": {"x-max-length-bytes": 0},
    "bytes-8": {"x-max-length-bytes": 8},
    "both": {"x-max-length": 3, "x-max-length-bytes": 8},
}
BODIES: Final = ("one", "two", "three", "", "five5", "six")


def lengths() -> Iterator[Conversation]:
    for overflow, limit in itertools.product(OVERFLOWS, LIMITS):
        for priorities in (0, 3):
            for consumer in ("none", "acks", "no-ack", "prefetch-1"):
                arguments = (
                    LIMITS[limit]
                    | {"x-overflow": overflow}
                    | {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end"}
                )
                if priorities:
                    arguments["x-max-priority"] = priorities
                name = f"{overflow}-{limit}-{'priorities' if priorities else 'plain'}-{consumer}"
                conversation = Conversation(f"{GROUP}/length/{name}")
                conversation.declare("~end")
                conversation.declare(args=arguments)
                reader = conversation.on(1, 2)
                if consumer != "none":
                    reader.qos(1 if consumer == "prefetch-1" else 0)
                    reader.consume(no_ack=consumer == "no-ack")
                conversation.send("confirm.select")
                for at, body in enumerate(BODIES):
                    extra: dict[str, Any] = {"priority": at * 7 % 5} if priorities else {}
                    conversation.publish("~q", body, mandatory=True, **extra)
                reader.close_channel()
                conversation.settle()
                conversation.drain()
                conversation.drain("~end")
                yield conversation


def priorities() -> Iterator[Conversation]:
    for highest in (0, 1, 3, 10, 255):
        conversation = Conversation(f"{GROUP}/priority/up-to-{highest}")
        conversation.declare(args={"x-max-priority": highest})
        for priority in (None, 0, 1, 2, 3, 4, 9, 10, 11, 254, 255, 1, None):
            extra: dict[str, Any] = {} if priority is None else {"priority": priority}
            conversation.publish("~q", f"of {priority}", **extra)
        for _ in range(4):
            conversation.get()
        conversation.nack(3, multiple=True, requeue=True)
        conversation.publish("~q", "late", priority=2)
        conversation.drain()
        conversation.close_channel()
        conversation.drain()
        yield conversation
    for prefetch in (1, 2, 5):
        conversation = Conversation(f"{GROUP}/priority/consumer-with-prefetch-{prefetch}")
        conversation.declare(args={"x-max-priority": 5})
        reader = conversation.on(1, 2)
        reader.qos(prefetch)
        reader.consume()
        for priority in (1, 5, 3, 2, 4, 5):
            conversation.publish("~q", f"of {priority}", priority=priority)
        for tag in range(1, 7):
            reader.ack(tag)
        yield conversation


def times() -> Iterator[Conversation]:
    expirations: dict[str, dict[str, Any]] = {
        "0": {"expiration": "0"},
        "5": {"expiration": "5"},
        "text": {"expiration": "soon"},
        "empty": {"expiration": ""},
        "with-unit": {"expiration": "5ms"},
        "negative": {"expiration": "-1"},
        "plus": {"expiration": "+5"},
        "float": {"expiration": "5.0"},
        "space": {"expiration": " 5"},
        "zeros": {"expiration": "0005"},
        "longest": {"expiration": "315360000000"},
        "longer": {"expiration": "315360000001"},
        "enormous": {"expiration": "9" * 40},
        "hex": {"expiration": "0x5"},
        "not-ascii": {"expiration": "५"},
    }
    for name, properties in expirations.items():
        for where in ("queue", "nobody"):
            conversation = Conversation(f"{GROUP}/expiration/{name}-to-{where}")
            conversation.declare("~q")
            conversation.send("confirm.select")
            conversation.publish("~q" if where == "queue" else "~none", "short", **properties)
            conversation.settle()
            if name in ("0", "5", "plus", "zeros"):
                conversation.until("~q", 0)
            conversation.drain()
            yield conversation
    pairs: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ("behind-a-longer-one", {}, {"expiration": "60000"}, {"expiration": "5"}),
        ("before-a-longer-one", {}, {"expiration": "5"}, {"expiration": "60000"}),
        ("before-one-without", {}, {"expiration": "5"}, {}),
        ("queue-shorter", {"x-message-ttl": 5}, {"expiration": "60000"}, {}),
        ("queue-longer", {"x-message-ttl": 60000}, {"expiration": "5"}, {}),
        ("queue-0", {"x-message-ttl": 0}, {}, {"expiration": "1000"}),
        ("priorities-high-first", {"x-max-priority": 3}, {"priority": 3}, {"expiration": "5"}),
    ]
    for name, arguments, first, second in pairs:
        conversation = Conversation(f"{GROUP}/time/{name}")
        conversation.declare("~end")
        conversation.declare(
            args=arguments | {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end"}
        )
        conversation.publish("~q", "first", **first)
        conversation.publish("~q", "second", **second)
        conversation.pause(40)
        conversation.until(
            "~end",
            {"behind-a-longer-one": 0, "queue-shorter": 2, "queue-0": 2, "priorities-high-first": 0}.get(
                name, 1
            ),
        )
        conversation.drain()
        conversation.drain("~end")
        yield conversation
    for settle in ("requeue", "reject", "ack", "close"):
        conversation = Conversation(f"{GROUP}/time/expired-while-unacked-then-{settle}")
        conversation.declare("~end")
        conversation.declare(args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end"})
        conversation.consume()
        conversation.on(1, 2).publish("~q", "short", expiration="20")
        conversation.cancel()
        conversation.pause(60)
        if settle == "close":
            conversation.close_channel()
        elif settle == "ack":
            conversation.ack(1)
        else:
            conversation.reject(1, requeue=settle == "requeue")
        conversation.until("~end", 0 if settle == "ack" else 1)
        conversation.drain()
        conversation.drain("~end")
        yield conversation
    for arguments in ({"x-message-ttl": 0}, {"x-message-ttl": 0, "x-max-priority": 2}):
        conversation = Conversation(
            f"{GROUP}/time/0-to-a-waiting-consumer{'-priorities' * (len(arguments) - 1)}"
        )
        conversation.declare(args=arguments)
        conversation.consume(no_ack=True)
        conversation.on(1, 2).publish("~q", "at once")
        conversation.on(1, 2).publish("~q", "at once too", expiration="0")
        conversation.cancel()
        conversation.on(1, 2).publish("~q", "too late")
        conversation.until("~q", 0)
        conversation.drain()
        yield conversation


def together() -> Iterator[Conversation]:
    for overflow in OVERFLOWS:
        for ttl in (None, 60000):
            arguments = {
                "x-max-length": 3,
                "x-max-priority": 3,
                "x-overflow": overflow,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "~end",
            } | ({} if ttl is None else {"x-message-ttl": ttl})
            conversation = Conversation(f"{GROUP}/together/{overflow}-ttl-{ttl}")
            conversation.declare("~end")
            conversation.declare(args=arguments)
            conversation.send("confirm.select")
            for at, priority in enumerate((1, 3, 0, 2, 3, 1)):
                conversation.publish("~q", f"m{at} of {priority}", priority=priority, expiration="60000")
            conversation.on(1, 2).get()
            conversation.on(1, 2).get()
            for priority in (3, 0):
                conversation.publish("~q", f"late of {priority}", priority=priority)
            conversation.on(1, 2).nack(0, multiple=True, requeue=True)
            conversation.settle()
            conversation.drain()
            conversation.drain("~end")
            yield conversation


def lives() -> Iterator[Conversation]:
    for name in ("unused", "consumed", "got", "passive", "redeclared"):
        conversation = Conversation(f"{GROUP}/expires/{name}", watched=False)
        conversation.declare(args={"x-expires": 60 if name == "unused" else 60000})
        if name == "consumed":
            conversation.consume()
            conversation.cancel()
        elif name == "got":
            conversation.get()
        elif name in ("passive", "redeclared"):
            conversation.declare(args={"x-expires": 60000}, passive=name == "passive")
        else:
            conversation.pause(300)
        conversation.send("queue.declare", queue="~q", passive=True)
        yield conversation
    for how in ("cancel", "close-channel", "drop", "delete"):
        for count in (1, 2):
            conversation = Conversation(f"{GROUP}/auto-delete/{how}-{count}")
            conversation.on(2, 1).declare("~q", auto_delete=True)
            conversation.publish("~q", "never read")
            reader = conversation.on(2, 1)
            for at in range(count):
                reader.consume("~q", f"c{at}", no_ack=True)
            if how == "cancel":
                reader.cancel("c0")
            elif how == "close-channel":
                reader.close_channel()
            elif how == "drop":
                reader.drop()
            else:
                conversation.send("queue.delete", queue="~q")
            if count == 1 or how != "cancel":
                conversation.gone("~q")
            conversation.send("queue.declare", queue="~q", passive=True)
            yield conversation


def conversations() -> Iterator[Conversation]:
    yield from lengths()
    yield from priorities()
    yield from times()
    yield from together()
    yield from lives()

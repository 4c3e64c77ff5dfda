"""What is unroutable: mandatory or not, with alternate exchanges, in confirm mode and in transactions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "returns"

# the alternate exchange of ~x, and what is there
ALTERNATES: Final = {
    "none": None,
    "missing": "~nowhere",
    "with-queue": "~ae",
    "without-queue": "~empty",
    "chain": "~chain",
    "itself": "~x",
    "circle": "~circle",
    "internal": "~internal",
    "default": "",
    "headers": "~headers",
}
MODES: Final = ("plain", "confirm", "tx")


def furnished(conversation: Conversation, alternate: str | None) -> None:
    conversation.declare()
    conversation.declare("~caught")
    conversation.exchange("~ae", "fanout")
    conversation.bind("~caught", "~ae")
    conversation.exchange("~empty", "fanout")
    conversation.exchange("~chain", "topic", args={"alternate-exchange": "~ae"})
    conversation.exchange("~circle", "direct", args={"alternate-exchange": "~x"})
    conversation.exchange("~internal", "fanout", internal=True)
    conversation.bind("~caught", "~internal")
    conversation.exchange("~headers", "headers")
    conversation.bind("~caught", "~headers", "", {"x-match": "any", "h": 1})
    conversation.exchange(args={} if alternate is None else {"alternate-exchange": alternate})
    conversation.bind("~q", "~x", "k")


def conversations() -> Iterator[Conversation]:
    for (name, alternate), mode, mandatory in itertools.product(ALTERNATES.items(), MODES, (False, True)):
        conversation = Conversation(f"{GROUP}/alternate-{name}/{mode}{'-mandatory' * mandatory}")
        furnished(conversation, alternate)
        if mode == "confirm":
            conversation.send("confirm.select")
        elif mode == "tx":
            conversation.send("tx.select")
        for key in ("k", "other", "~q"):
            conversation.publish(
                key, f"to {key}", exchange="~x", mandatory=mandatory, headers={"h": 1}, message_id="i"
            )
        if mode == "tx":
            conversation.send("tx.commit")
        conversation.drain("~q")
        conversation.drain("~caught")
        yield conversation
    for size in (0, 1, 4088, 131064, 131065, 400000):
        conversation = Conversation(f"{GROUP}/body/{size}")
        conversation.declare()
        conversation.send("confirm.select")
        conversation.publish("~none", b"b" * size, mandatory=True)
        conversation.publish("~q", b"b" * size, mandatory=True)
        conversation.drain()
        yield conversation
    for frame_max in (4096, 8192):
        conversation = Conversation(f"{GROUP}/body/frames-of-{frame_max}")
        conversation.connect(tune={"frame_max": frame_max})
        conversation.declare()
        for size in (frame_max - 8, frame_max - 7, 3 * frame_max):
            conversation.publish("~none", b"b" * size, mandatory=True)
            conversation.publish("~q", b"b" * size, headers={"h": "x" * 1000})
        conversation.drain()
        yield conversation
    for count in (1, 5):
        conversation = Conversation(f"{GROUP}/confirms/some-of-{count}-fail")
        conversation.declare(args={"x-max-length": 1, "x-overflow": "reject-publish"})
        conversation.declare("~open")
        conversation.exchange(kind="fanout")
        conversation.bind("~q", "~x")
        conversation.bind("~open", "~x")
        conversation.send("confirm.select")
        for at in range(count):
            conversation.publish("", f"both {at}", exchange="~x")
            conversation.publish("~open", f"one {at}", delivery_mode=2)
        conversation.send("confirm.select")
        conversation.publish("~none", "unroutable", mandatory=True)
        conversation.publish("", "no such exchange", exchange="~none")
        conversation.send("confirm.select")
        conversation.publish("~open", "again from one")
        conversation.drain()
        conversation.drain("~open")
        yield conversation
    for durable, delivery_mode in itertools.product((False, True), (None, 0, 1, 2, 3, 255)):
        conversation = Conversation(f"{GROUP}/confirms/durable-{durable}-mode-{delivery_mode}")
        conversation.declare(durable=durable)
        conversation.send("confirm.select")
        extra: dict[str, Any] = {} if delivery_mode is None else {"delivery_mode": delivery_mode}
        conversation.publish("~q", "m", mandatory=True, **extra)
        conversation.publish("~q", "m", **extra)
        conversation.drain()
        conversation.send("queue.delete", queue="~q")
        conversation.publish("~q", "m", **extra)
        yield conversation

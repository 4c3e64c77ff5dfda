"""Quorum queues as one node has them: what they refuse, how they count deliveries, where returns go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "quorum"

QUORUM: Final = {"x-queue-type": "quorum"}
ARGUMENTS: Final[dict[str, Any]] = {
    "x-expires": 60000,
    "x-message-ttl": 60000,
    "x-max-length": 5,
    "x-max-length-bytes": 1000,
    "x-max-priority": 3,
    "x-dead-letter-exchange": "amq.direct",
    "x-dead-letter-strategy": "at-most-once",
    "x-single-active-consumer": True,
    "x-delivery-limit": 2,
    "x-quorum-initial-group-size": 1,
    "x-max-in-memory-length": 5,
    "x-max-in-memory-bytes": 5,
    "x-queue-leader-locator": "client-local",
    "x-queue-mode": "lazy",
    "x-queue-version": 2,
    "x-queue-master-locator": "client-local",
    "x-max-age": "1D",
    "x-something": 1,
}
OVERFLOWS: Final = ("drop-head", "reject-publish", "reject-publish-dlx", "nothing")


def declared(name: str, **arguments: Any) -> Conversation:
    conversation = Conversation(f"{GROUP}/{name}")
    conversation.declare(durable=True, args=QUORUM | arguments)
    return conversation


def conversations() -> Iterator[Conversation]:
    for flags in range(8):
        said = {
            flag: bool(flags >> at & 1) for at, flag in enumerate(("durable", "exclusive", "auto_delete"))
        }
        name = "+".join(flag for flag, on in said.items() if on) or "plain"
        conversation = Conversation(f"{GROUP}/flags/{name}")
        conversation.declare(args=QUORUM, **said)
        conversation.declare(args=QUORUM, **said)
        conversation.declare(**said)
        yield conversation
    for argument, value in ARGUMENTS.items():
        for way, given in (("fits", value), ("text", "text"), ("negative", -1)):
            conversation = declared(f"arguments/{argument}-{way}", **{argument: given})
            conversation.declare(durable=True, args=QUORUM)
            yield conversation
    for overflow in OVERFLOWS:
        conversation = declared(f"overflow/{overflow}", **{"x-max-length": 2, "x-overflow": overflow})
        yield conversation
    for name, method, arguments in (
        ("delete-if-empty", "queue.delete", {"queue": "~q", "if_empty": True}),
        ("delete-if-unused", "queue.delete", {"queue": "~q", "if_unused": True}),
        ("delete", "queue.delete", {"queue": "~q"}),
        ("purge", "queue.purge", {"queue": "~q"}),
        ("passive", "queue.declare", {"queue": "~q", "passive": True}),
        ("exclusive-consumer", "basic.consume", {"queue": "~q", "exclusive": True, "consumer_tag": "c"}),
    ):
        conversation = declared(f"methods/{name}")
        conversation.send("confirm.select")
        conversation.publish("~q", "one")
        conversation.send(method, **arguments)
        yield conversation
    conversation = declared("methods/shared-prefetch")
    conversation.qos(2, shared=True)
    conversation.consume()
    conversation.declare("~classic")
    conversation.consume("~classic", "d")
    yield conversation
    conversation = declared("methods/get-beside-single-active", **{"x-single-active-consumer": True})
    conversation.get()
    yield conversation
    for limit in (None, 1, 2):
        for way in ("reject", "nack", "recover", "close"):
            arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end"}
            conversation = Conversation(f"{GROUP}/returns/{way}-limit-{limit}")
            conversation.declare("~end")
            conversation.declare(
                durable=True,
                args=QUORUM | arguments | ({} if limit is None else {"x-delivery-limit": limit}),
            )
            conversation.send("confirm.select")
            conversation.publish("~q", "comes back", headers={"a": 1})
            for at in range(3):
                reader = conversation.on(1, 2)
                if limit is None or at <= limit:
                    conversation.until("~q", 1)
                reader.get()
                if limit is not None and at > limit:
                    continue
                if way == "reject":
                    reader.reject(at + 1, requeue=True)
                elif way == "nack":
                    reader.nack(at + 1, requeue=True)
                elif way == "recover":
                    reader.send("basic.recover", requeue=True)
                else:
                    reader.close_channel()
            conversation.until("~end", 0 if limit is None or limit > 2 else int(limit < 3))
            conversation.drain("~end")
            yield conversation

"""Policies and operator policies where a client meets them: definitions.json has those that both brokers load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "policies"


def filled(name: str, queue: str, arguments: dict[str, Any], count: int = 5) -> Conversation:
    conversation = Conversation(f"{GROUP}/{name}")
    conversation.declare(queue, args=arguments)
    conversation.send("confirm.select")
    for at in range(count):
        conversation.publish(queue, f"m{at}-----", mandatory=True)
    conversation.drain(queue)
    return conversation


ARGUMENTS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "lower": {"x-max-length": 1},
    "higher": {"x-max-length": 4},
    "other-overflow": {"x-overflow": "reject-publish"},
    "bytes": {"x-max-length-bytes": 9},
    "priority": {"x-max-priority": 2},
    "time": {"x-message-ttl": 50000},
}


def conversations() -> Iterator[Conversation]:
    for queue in ("plen", "prej", "oper", "pall", "pbyte", "oper-plen", "oper-prej"):
        for name, arguments in ARGUMENTS.items():
            conversation = filled(f"{queue}/{name}", f"~{queue}", arguments)
            conversation.declare(f"~{queue}", args=arguments)
            conversation.declare(f"~{queue}", args={"x-max-length": 3})
            yield conversation
    for name, arguments in {
        "none": {},
        "own-exchange": {"x-dead-letter-exchange": "~dlx"},
        "own-key": {"x-dead-letter-exchange": "~dlx", "x-dead-letter-routing-key": "own"},
    }.items():
        conversation = Conversation(f"{GROUP}/dead-letters/{name}")
        conversation.exchange("~dlx", "fanout")
        conversation.declare("~end")
        conversation.bind("~end", "~dlx")
        conversation.declare("~pdead", args=arguments)
        for at in range(3):
            conversation.publish("~pdead", f"m{at}")
        conversation.get("~pdead")
        conversation.reject(1)
        conversation.drain("~end")
        yield conversation
    conversation = Conversation(f"{GROUP}/time/by-policy", watched=False)
    conversation.declare("~pttl")
    conversation.publish("~pttl", "short")
    conversation.until("~pttl", 0)
    yield conversation
    for exchange in ("palt", "pall"):
        for name, arguments in {"none": {}, "own": {"alternate-exchange": "~ae"}}.items():
            conversation = Conversation(f"{GROUP}/alternate-exchange/{exchange}-{name}")
            conversation.exchange("~ae", "fanout")
            conversation.declare("~caught")
            conversation.bind("~caught", "~ae")
            conversation.bind("~caught", "amq.headers", "", {"x-match": "all", "~h": 1})
            conversation.bind("~caught", "amq.match", "", {"x-match": "all", "~h": 1})
            conversation.exchange(f"~{exchange}", "direct", args=arguments)
            conversation.publish("k", exchange=f"~{exchange}", mandatory=True, headers={"~h": 1})
            conversation.publish("k", exchange=f"~{exchange}", mandatory=True, headers={"~h": 2})
            conversation.drain("~caught")
            yield conversation

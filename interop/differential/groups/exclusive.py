"""Exclusive queues as their own connection and as another one sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "exclusive"

ATTEMPTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "declare": ("queue.declare", {"queue": "~q", "exclusive": True}),
    "declare-not-exclusive": ("queue.declare", {"queue": "~q"}),
    "declare-durable": ("queue.declare", {"queue": "~q", "exclusive": True, "durable": True}),
    "declare-other-arguments": (
        "queue.declare",
        {"queue": "~q", "exclusive": True, "arguments": {"x-max-length": 1}},
    ),
    "declare-passive": ("queue.declare", {"queue": "~q", "passive": True}),
    "bind": ("queue.bind", {"queue": "~q", "exchange": "amq.direct", "routing_key": "~k"}),
    "unbind": ("queue.unbind", {"queue": "~q", "exchange": "amq.direct", "routing_key": "~k"}),
    "unbind-what-is-not": ("queue.unbind", {"queue": "~q", "exchange": "amq.direct", "routing_key": "~n"}),
    "consume": ("basic.consume", {"queue": "~q", "consumer_tag": "other"}),
    "consume-exclusive": ("basic.consume", {"queue": "~q", "consumer_tag": "other", "exclusive": True}),
    "get": ("basic.get", {"queue": "~q"}),
    "purge": ("queue.purge", {"queue": "~q"}),
    "delete": ("queue.delete", {"queue": "~q"}),
    "delete-if-unused": ("queue.delete", {"queue": "~q", "if_unused": True}),
}


def conversations() -> Iterator[Conversation]:
    for who, link in (("itself", 1), ("another", 2)):
        for state in ("idle", "consuming"):
            for attempt, (method, arguments) in ATTEMPTS.items():
                conversation = Conversation(f"{GROUP}/{state}/{attempt}-by-{who}")
                conversation.declare(exclusive=True)
                conversation.bind("~q", "amq.direct", "~k")
                if state == "consuming":
                    conversation.consume()
                conversation.on(2, 1).publish("~k", "from outside", exchange="amq.direct", mandatory=True)
                conversation.on(2, 1).publish("~q", "from outside", mandatory=True)
                conversation.on(link, 2).send(method, **arguments)
                conversation.send("queue.declare", queue="~q", passive=True)
                yield conversation
    for end in ("hang_up", "drop"):
        for flags in ({}, {"durable": True}, {"auto_delete": True}):
            conversation = Conversation(f"{GROUP}/{end}/{'-'.join(flags) or 'plain'}")
            conversation.on(2, 1).declare("~q", exclusive=True, **flags)
            conversation.on(2, 1).bind("~q", "amq.direct", "~k")
            conversation.publish("~q", "lost")
            conversation.on(2, 1).drop() if end == "drop" else conversation.on(2, 1).hang_up()
            conversation.gone("~q")
            conversation.publish("~k", "nobody there", exchange="amq.direct", mandatory=True)
            conversation.declare(exclusive=True)
            yield conversation
    conversation = Conversation(f"{GROUP}/dead-letters-survive")
    conversation.declare("~end")
    owner = conversation.on(2, 1)
    owner.declare(
        "~q", exclusive=True, args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "~end"}
    )
    conversation.publish("~q", "one")
    conversation.publish("~q", "two")
    owner.get()
    owner.reject(1)
    owner.get()
    owner.drop()
    conversation.gone("~q")
    conversation.until("~end", 1)
    conversation.drain("~end")
    yield conversation
    conversation = Conversation(f"{GROUP}/server-named")
    conversation.declare("", exclusive=True)
    conversation.publish("x")
    conversation.bind("", "amq.direct", "")
    conversation.send("basic.consume", queue="", consumer_tag="")
    conversation.on(1, 2).get("")
    conversation.send("queue.purge", queue="")
    conversation.send("queue.delete", queue="")
    conversation.send("queue.delete", queue="")
    yield conversation
    for method in ("queue.bind", "queue.unbind", "queue.purge", "queue.delete", "basic.get", "basic.consume"):
        conversation = Conversation(f"{GROUP}/no-previously-declared/{method}")
        extra = {"exchange": "amq.direct"} if "bind" in method else {}
        conversation.send(method, queue="", **extra)
        conversation.declare()
        conversation.send(method, queue="", **extra)
        conversation.on(1, 2).send(method, queue="", **extra)
        yield conversation

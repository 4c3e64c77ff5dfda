"""What a user may do: every method under permissions that allow it and that do not, and topic permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..script import Conversation

GROUP: Final = "permissions"

# The user narrow may configure names with conf, write those with writ, read those with read; and all three, all.
KINDS: Final = ("conf", "writ", "read", "all", "none")


def conversations() -> Iterator[Conversation]:
    attempts: dict[str, tuple[str, dict[str, Any]]] = {}
    for kind in KINDS:
        queue, exchange = f"~q.{kind}", f"~x.{kind}"
        attempts |= {
            f"queue.declare/{kind}": ("queue.declare", {"queue": queue, "arguments": {"a": 1}}),
            f"queue.declare/new-{kind}": ("queue.declare", {"queue": f"~new.{kind}"}),
            f"queue.declare/passive-{kind}": ("queue.declare", {"queue": queue, "passive": True}),
            f"queue.declare/dead-letters-{kind}": (
                "queue.declare",
                {"queue": "~new.all", "arguments": {"x-dead-letter-exchange": f"~{kind}"}},
            ),
            f"queue.declare/dead-letters-of-{kind}": (
                "queue.declare",
                {"queue": f"~new.conf.{kind}", "arguments": {"x-dead-letter-exchange": "~all"}},
            ),
            f"queue.delete/{kind}": ("queue.delete", {"queue": queue}),
            f"queue.purge/{kind}": ("queue.purge", {"queue": queue}),
            f"basic.get/{kind}": ("basic.get", {"queue": queue}),
            f"basic.consume/{kind}": ("basic.consume", {"queue": queue, "consumer_tag": "c"}),
            f"exchange.declare/{kind}": (
                "exchange.declare",
                {"exchange": exchange, "exchange_type": "topic"},
            ),
            f"exchange.declare/new-{kind}": (
                "exchange.declare",
                {"exchange": f"~new.{kind}", "exchange_type": "topic"},
            ),
            f"exchange.declare/alternate-{kind}": (
                "exchange.declare",
                {
                    "exchange": "~new.all",
                    "exchange_type": "topic",
                    "arguments": {"alternate-exchange": f"~{kind}"},
                },
            ),
            f"exchange.declare/alternate-of-{kind}": (
                "exchange.declare",
                {
                    "exchange": f"~new.conf.{kind}",
                    "exchange_type": "topic",
                    "arguments": {"alternate-exchange": "~all"},
                },
            ),
            f"exchange.delete/{kind}": ("exchange.delete", {"exchange": exchange}),
        }
        for other in KINDS:
            for method in ("queue.bind", "queue.unbind"):
                attempts[f"{method}/{kind}-to-{other}"] = (
                    method,
                    {"queue": queue, "exchange": f"~x.{other}", "routing_key": "k"},
                )
            attempts[f"exchange.bind/{kind}-to-{other}"] = (
                "exchange.bind",
                {"destination": exchange, "source": f"~x.{other}", "routing_key": "k"},
            )
    for name, (method, arguments) in attempts.items():
        conversation = Conversation(f"{GROUP}/{name}")
        for kind in KINDS:
            if f"~q.{kind}" in arguments.values() or f"~x.{kind}" in arguments.values():
                conversation.declare(f"~q.{kind}", args={"a": 1})
                conversation.exchange(f"~x.{kind}", "topic")
        conversation.on(2, 1).connect(response="\0narrow\0narrow")
        conversation.on(2, 1).send(method, **arguments)
        yield conversation
    for kind in KINDS:
        conversation = Conversation(f"{GROUP}/basic.publish/{kind}")
        conversation.exchange(f"~x.{kind}", "topic")
        conversation.on(2, 1).connect(response="\0narrow\0narrow")
        conversation.on(2, 1).publish("k", exchange=f"~x.{kind}", mandatory=True)
        conversation.on(2, 1).publish(f"~q.{kind}", mandatory=True)
        conversation.on(2, 1).publish("k", exchange=f"~gone.{kind}", mandatory=True)
        yield conversation
    for key in ("w.a", "r.a", "x", "", "w.", "r."):
        conversation = Conversation(f"{GROUP}/topic/{key or 'empty'}")
        conversation.declare()
        conversation.exchange(kind="topic")
        voice = conversation.on(2, 1)
        voice.connect(response="\0topical\0topical")
        for exchange in ("amq.topic", "~x", "amq.direct"):
            voice.publish(key, exchange=exchange, mandatory=True)
            voice.bind("~q", exchange, key)
            voice.send("queue.unbind", queue="~q", exchange=exchange, routing_key=key)
        yield conversation
    for method, arguments in (
        ("queue.declare", {"queue": "", "exclusive": True}),
        ("exchange.declare", {"exchange": "amq.topic", "exchange_type": "topic", "durable": True}),
        ("exchange.delete", {"exchange": "amq.topic"}),
        ("queue.delete", {"queue": "~nowhere"}),
        ("queue.delete", {"queue": "~nowhere.all"}),
        ("basic.get", {"queue": "~nowhere"}),
        ("basic.get", {"queue": "~nowhere.all"}),
        ("basic.consume", {"queue": "amq.rabbitmq.reply-to", "no_ack": True}),
    ):
        conversation = Conversation(
            f"{GROUP}/others/{method}-{str(next(iter(arguments.values()))).strip('~')}"
        )
        conversation.connect(response="\0narrow\0narrow")
        conversation.send(method, **arguments)
        yield conversation
    for user in ("guest", "single"):
        conversation = Conversation(f"{GROUP}/limits/queues-of-a-virtual-host-as-{user}")
        conversation.connect(virtual_host="full" if user == "guest" else "/", response=f"\0{user}\0{user}")
        conversation.declare("~q")
        conversation.declare("", exclusive=True)
        yield conversation

"""Queues and exchanges declared again with each property changed, added or left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..codec import Typed
from ..script import Conversation

GROUP: Final = "redeclaring"

ARGUMENTS: Final[dict[str, tuple[Any, Any]]] = {
    "x-expires": (60000, 70000),
    "x-message-ttl": (60000, 0),
    "x-max-length": (10, 20),
    "x-max-length-bytes": (1000, 10),
    "x-max-priority": (5, 6),
    "x-overflow": ("drop-head", "reject-publish"),
    "x-dead-letter-exchange": ("amq.direct", ""),
    "x-single-active-consumer": (True, False),
    "x-queue-mode": ("lazy", "default"),
    "x-queue-version": (1, 2),
    "x-queue-type": ("classic", "quorum"),
    "x-unknown": (1, "two"),
}
QUEUE_FLAGS: Final = ("durable", "exclusive", "auto_delete")
EXCHANGE_FLAGS: Final = ("durable", "auto_delete", "internal")


def of_queue_arguments() -> Iterator[Conversation]:
    for argument, (first, second) in ARGUMENTS.items():
        ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "changed": ({argument: first}, {argument: second}),
            "left-out": ({argument: first}, {}),
            "added": ({}, {argument: first}),
            "to-text": ({argument: first}, {argument: str(first)}),
            "with-another": ({argument: first}, {argument: first, "x-other": 1}),
        }
        if isinstance(first, int) and not isinstance(first, bool):
            ways["wider"] = ({argument: first}, {argument: Typed("l", first)})
            ways["unsigned"] = ({argument: first}, {argument: Typed("i", first)})
            ways["double"] = ({argument: first}, {argument: float(first)})
            ways["wider-and-changed"] = ({argument: first}, {argument: Typed("l", first + 1)})
        for way, (before, after) in ways.items():
            conversation = Conversation(f"{GROUP}/queue/{argument}/{way}")
            conversation.declare(args=before)
            conversation.publish("~q", "kept")
            conversation.declare(args=after)
            conversation.declare(args=after, nowait=True)
            conversation.declare(args=after, passive=True, durable=True)
            conversation.drain()
            yield conversation


def of_queue_flags() -> Iterator[Conversation]:
    for first in range(8):
        for second in range(8):
            before = {flag: bool(first >> at & 1) for at, flag in enumerate(QUEUE_FLAGS)}
            after = {flag: bool(second >> at & 1) for at, flag in enumerate(QUEUE_FLAGS)}
            conversation = Conversation(f"{GROUP}/queue-flags/{first:03b}-then-{second:03b}")
            conversation.declare(**before)
            conversation.publish("~q", "kept")
            conversation.declare(**after)
            conversation.on(2, 1).declare(**after)
            yield conversation


def of_exchanges() -> Iterator[Conversation]:
    for first in range(8):
        for second in range(8):
            before: dict[str, Any] = {flag: bool(first >> at & 1) for at, flag in enumerate(EXCHANGE_FLAGS)}
            after: dict[str, Any] = {flag: bool(second >> at & 1) for at, flag in enumerate(EXCHANGE_FLAGS)}
            conversation = Conversation(f"{GROUP}/exchange-flags/{first:03b}-then-{second:03b}")
            conversation.exchange(**before)
            conversation.exchange(**after)
            conversation.exchange(kind="fanout", **after)
            conversation.exchange(kind="fanout", passive=True)
            yield conversation
    for first_kind in ("direct", "fanout", "topic", "headers"):
        for second_kind in ("direct", "fanout", "topic", "headers"):
            conversation = Conversation(f"{GROUP}/exchange-type/{first_kind}-then-{second_kind}")
            conversation.exchange(kind=first_kind)
            conversation.exchange(kind=second_kind)
            conversation.exchange(kind=second_kind, durable=True, args={"alternate-exchange": "a"})
            yield conversation
    ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "changed": ({"alternate-exchange": "a"}, {"alternate-exchange": "b"}),
        "left-out": ({"alternate-exchange": "a"}, {}),
        "added": ({}, {"alternate-exchange": "a"}),
        "same": ({"alternate-exchange": "a"}, {"alternate-exchange": "a"}),
        "unknown": ({"x-unknown": 1}, {"x-unknown": "a"}),
    }
    for way, (before_arguments, after_arguments) in ways.items():
        conversation = Conversation(f"{GROUP}/exchange-arguments/{way}")
        conversation.exchange(args=before_arguments)
        conversation.exchange(args=after_arguments)
        conversation.exchange(args=after_arguments, nowait=True)
        yield conversation
    for name, kind in {
        "": "direct",
        "amq.direct": "direct",
        "amq.fanout": "fanout",
        "amq.topic": "topic",
        "amq.headers": "headers",
        "amq.match": "headers",
        "amq.rabbitmq.trace": "topic",
    }.items():
        for flag in (None, "passive", "durable", "internal", "auto_delete"):
            conversation = Conversation(f"{GROUP}/predeclared/{name or 'default'}/{flag or 'plain'}")
            flags = {} if flag is None else {flag: True}
            conversation.send("exchange.declare", exchange=name, exchange_type=kind, **flags)
            conversation.send(
                "exchange.declare",
                exchange=name,
                exchange_type=kind,
                durable=True,
                **({} if flag == "durable" else flags),
            )
            conversation.send("exchange.declare", exchange=name, exchange_type="nothing", passive=True)
            yield conversation


def conversations() -> Iterator[Conversation]:
    yield from of_queue_arguments()
    yield from of_queue_flags()
    yield from of_exchanges()

"""The order of messages through requeues, recoveries, closes and cancels, and what is marked redelivered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

from ..script import Conversation, Voice

GROUP: Final = "orders"

Way = Callable[[Voice], None]


def ack_2_then_close(voice: Voice) -> None:
    voice.ack(2)
    voice.close_channel()


def drop_2_then_requeue(voice: Voice) -> None:
    voice.nack(2)
    voice.nack(0, multiple=True, requeue=True)


# How messages 1 to 4 of 5, all unacknowledged, come back.
RETURNS: Final[dict[str, Way]] = {
    "nack-all": lambda c: c.nack(0, multiple=True, requeue=True),
    "nack-3-and-before": lambda c: c.nack(3, multiple=True, requeue=True),
    "nack-2": lambda c: c.nack(2, requeue=True),
    "reject-4": lambda c: c.reject(4, requeue=True),
    "recover": lambda c: c.send("basic.recover", requeue=True),
    "recover-async": lambda c: c.send("basic.recover-async", requeue=True),
    "close-channel": lambda c: c.close_channel(),
    "channel-error": lambda c: c.ack(99),
    "ack-2-then-close": ack_2_then_close,
    "ack-all": lambda c: c.ack(0, multiple=True),
    "ack-3-and-before": lambda c: c.ack(3, multiple=True),
    "drop-2-then-requeue": drop_2_then_requeue,
}


def filled(conversation: Conversation, count: int = 5, **arguments: int) -> None:
    conversation.declare(args=arguments)
    for at in range(1, count + 1):
        conversation.publish("~q", f"m{at}")


def got() -> Iterator[Conversation]:
    for name, way in RETURNS.items():
        for later in (False, True):
            conversation = Conversation(f"{GROUP}/got/{name}{'-and-more-published' * later}")
            filled(conversation)
            for _ in range(4):
                conversation.on(1, 2).get()
            if later:
                conversation.publish("~q", "m6")
            way(conversation.on(1, 2))
            conversation.until("~q", 1 + later + READY[name])
            conversation.get()
            conversation.reject(1, requeue=True)
            conversation.drain()
            conversation.on(1, 2).close_channel()
            conversation.until("~q", max(0, 4 - READY[name] - SETTLED.get(name, 0)))
            conversation.drain()
            yield conversation


READY: Final = {
    "nack-all": 4,
    "nack-3-and-before": 3,
    "nack-2": 1,
    "reject-4": 1,
    "recover": 4,
    "recover-async": 4,
    "close-channel": 4,
    "channel-error": 4,
    "ack-2-then-close": 3,
    "ack-all": 0,
    "ack-3-and-before": 0,
    "drop-2-then-requeue": 3,
}
SETTLED: Final = {"ack-2-then-close": 1, "ack-all": 4, "ack-3-and-before": 3, "drop-2-then-requeue": 1}


def consumed() -> Iterator[Conversation]:
    for name, way in RETURNS.items():
        for prefetch in (0, 2, 4):
            conversation = Conversation(f"{GROUP}/consumed/{name}-prefetch-{prefetch}")
            filled(conversation)
            reader = conversation.on(1, 2)
            reader.qos(prefetch)
            reader.consume()
            if prefetch == 2 and name in ("nack-3-and-before", "reject-4", "ack-3-and-before"):
                continue
            if name not in ("close-channel", "channel-error", "ack-2-then-close"):
                reader.cancel()
            way(reader)
            conversation.settle()
            conversation.on(1, 2).close_channel()
            conversation.settle()
            conversation.drain()
            yield conversation
    for name in ("nack-all", "nack-2", "recover", "reject-4", "nack-3-and-before"):
        conversation = Conversation(f"{GROUP}/comes-back-to-its-consumer/{name}")
        filled(conversation)
        reader = conversation.on(1, 2)
        reader.qos(4)
        reader.consume()
        RETURNS[name](reader)
        reader.ack(0, multiple=True)
        reader.ack(0, multiple=True)
        yield conversation


def orders_of_return() -> Iterator[Conversation]:
    for order in itertools.permutations((1, 2, 3)):
        conversation = Conversation(f"{GROUP}/requeued-as/{''.join(map(str, order))}")
        filled(conversation, 4)
        for _ in range(3):
            conversation.get()
        for tag in order:
            conversation.reject(tag, requeue=True)
        conversation.drain()
        yield conversation
        conversation = Conversation(f"{GROUP}/requeued-by-two/{''.join(map(str, order))}")
        filled(conversation, 5)
        for _ in range(2):
            conversation.on(1, 2).get()
            conversation.on(1, 3).get()
        conversation.on(1, 1 + min(order[0], 2)).close_channel()
        conversation.until("~q", 3)
        for channel in order:
            conversation.on(1, channel).close_channel()
            conversation.settle()
        conversation.drain()
        yield conversation


def of_two_consumers() -> Iterator[Conversation]:
    """What two consumers of one channel, or one and a basic.get, give back at once."""
    for how in ("recover", "nack-all", "close-channel"):
        for second in ("consumer", "get"):
            conversation = Conversation(f"{GROUP}/two-takers/{how}-{second}")
            conversation.declare()
            reader = conversation.on(1, 2)
            if second == "get":
                filled(conversation, 3)
                reader.get()
            reader.qos(3)
            reader.consume("~q", "a")
            if second == "consumer":
                reader.consume("~q", "b")
            filled(conversation, 3)
            RETURNS[how](reader)
            conversation.settle()
            conversation.drain()
            yield conversation
    for how in ("ack", "recover"):
        conversation = Conversation(f"{GROUP}/same-tag-again/{how}")
        filled(conversation, 4)
        conversation.qos(1)
        conversation.consume()
        conversation.cancel()
        conversation.consume()
        if how == "ack":
            conversation.ack(1)
        else:
            conversation.send("basic.recover", requeue=True)
        conversation.settle()
        yield conversation


def errors() -> Iterator[Conversation]:
    for method in ("basic.ack", "basic.nack", "basic.reject"):
        for name, tag in (("0", 0), ("1-twice", 1), ("2", 2), ("99", 99), ("huge", 2**64 - 1)):
            for multiple in (False, True):
                if method == "basic.reject" and multiple:
                    continue
                conversation = Conversation(f"{GROUP}/tags/{method}-{name}{'-multiple' * multiple}")
                filled(conversation, 2)
                conversation.get()
                extra = {} if method == "basic.reject" else {"multiple": multiple}
                conversation.send(method, delivery_tag=tag, **extra)
                conversation.send(method, delivery_tag=tag, **extra)
                conversation.settle()
                conversation.drain()
                yield conversation
    conversation = Conversation(f"{GROUP}/tags/of-another-channel")
    filled(conversation, 2)
    conversation.on(1, 2).get()
    conversation.on(1, 3).ack(1)
    conversation.on(1, 2).ack(1)
    conversation.drain()
    yield conversation
    conversation = Conversation(f"{GROUP}/tags/no-ack-takes-some")
    filled(conversation, 4)
    conversation.get(no_ack=True)
    conversation.get()
    conversation.consume(no_ack=True)
    conversation.ack(1)
    conversation.settle()
    conversation.get()
    yield conversation
    conversation = Conversation(f"{GROUP}/tags/multiple-up-to-one-that-is-settled")
    filled(conversation, 4)
    for _ in range(3):
        conversation.get()
    conversation.ack(2)
    conversation.ack(2, multiple=True)
    conversation.drain()
    yield conversation


def conversations() -> Iterator[Conversation]:
    yield from got()
    yield from consumed()
    yield from orders_of_return()
    yield from of_two_consumers()
    yield from errors()

"""Who gets which message: several consumers, priorities, prefetch, exclusive ones and single active ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from ..script import Conversation

GROUP: Final = "consumers"


def many(conversation: Conversation, count: int, *, first: int = 0) -> None:
    for at in range(first, first + count):
        conversation.on(1, 9).publish("~q", f"m{at}")


def round_robin() -> Iterator[Conversation]:
    for readers, prefetch in itertools.product((1, 2, 3), (0, 1, 2)):
        conversation = Conversation(f"{GROUP}/round-robin/{readers}-with-prefetch-{prefetch}")
        conversation.declare()
        for at in range(readers):
            conversation.on(1, 2 + at).qos(prefetch)
            conversation.on(1, 2 + at).consume("~q", f"c{at}")
        many(conversation, 7)
        conversation.on(1, 2).ack(1)
        conversation.on(1, 1 + readers).ack(1)
        conversation.on(1, 2).cancel("c0")
        many(conversation, 3, first=7)
        conversation.on(1, 2).close_channel()
        conversation.settle()
        conversation.drain()
        yield conversation
    for readers in (2, 3):
        conversation = Conversation(f"{GROUP}/one-channel/{readers}-consumers")
        conversation.declare()
        for at in range(readers):
            conversation.qos(at)
            conversation.consume("~q", f"c{at}")
        many(conversation, 6)
        conversation.ack(2)
        conversation.ack(4, multiple=True)
        conversation.cancel("c1")
        many(conversation, 3, first=6)
        conversation.cancel("c1")
        yield conversation


def priorities() -> Iterator[Conversation]:
    for ranks in ((1, 0), (0, 5), (2, 2), (-1, 0), (3, 2, 1), (1, 2, 2)):
        for prefetch in (0, 1, 2):
            name = "-".join(map(str, ranks))
            conversation = Conversation(f"{GROUP}/priorities/{name}-with-prefetch-{prefetch}")
            conversation.declare()
            for at, rank in enumerate(ranks):
                conversation.on(1, 2 + at).qos(prefetch)
                conversation.on(1, 2 + at).consume("~q", f"c{at}", args={"x-priority": rank})
            many(conversation, 5)
            for at in range(len(ranks)):
                conversation.on(1, 2 + at).ack(0, multiple=True)
            conversation.on(1, 2).cancel("c0")
            many(conversation, 3, first=5)
            yield conversation


def shared_prefetch() -> Iterator[Conversation]:
    for shared, own in itertools.product((0, 1, 3), (0, 1, 2)):
        conversation = Conversation(f"{GROUP}/prefetch/shared-{shared}-own-{own}")
        conversation.declare()
        reader = conversation.on(1, 2)
        reader.qos(own)
        reader.qos(shared, shared=True)
        reader.consume("~q", "a")
        reader.consume("~q", "b")
        many(conversation, 8)
        reader.ack(1)
        reader.qos(5, shared=True)
        reader.qos(2, shared=True)
        reader.ack(0, multiple=True)
        reader.get()
        reader.qos(0, shared=True)
        reader.ack(0, multiple=True)
        yield conversation
    for name in ("no-ack", "get", "lowered", "raised-own"):
        conversation = Conversation(f"{GROUP}/prefetch/{name}")
        conversation.declare()
        reader = conversation.on(1, 2)
        reader.qos(1)
        if name == "get":
            many(conversation, 2)
            reader.get()
        reader.consume("~q", "a", no_ack=name == "no-ack")
        many(conversation, 4, first=2)
        if name == "lowered":
            reader.qos(1, shared=True)
        elif name == "raised-own":
            reader.qos(3)
            reader.consume("~q", "b")
        reader.send("basic.qos", prefetch_count=65535)
        reader.send("basic.qos", prefetch_size=1)
        reader.drain()
        yield conversation


def exclusive() -> Iterator[Conversation]:
    for first, second in itertools.product((False, True), repeat=2):
        for link in (1, 2):
            for single in (False, True):
                name = f"{'exclusive' if first else 'shared'}-then-{'exclusive' if second else 'shared'}"
                where = "same-connection" if link == 1 else "other-connection"
                conversation = Conversation(f"{GROUP}/exclusive/{name}-{where}{'-single-active' * single}")
                conversation.declare(args={"x-single-active-consumer": True} if single else {})
                conversation.on(1, 2).consume("~q", "first", exclusive=first)
                conversation.on(link, 3).consume("~q", "second", exclusive=second)
                many(conversation, 2)
                conversation.on(1, 2).cancel("first")
                conversation.on(link, 3).consume("~q", "third", exclusive=True)
                many(conversation, 2, first=2)
                conversation.drain()
                yield conversation


def single_active() -> Iterator[Conversation]:
    leaving = ("cancel", "close-channel", "drop", "hang-up", "error")
    for leave, prefetch in itertools.product(leaving, (0, 1)):
        conversation = Conversation(f"{GROUP}/single-active/{leave}-prefetch-{prefetch}")
        conversation.declare(args={"x-single-active-consumer": True})
        first, second, third = conversation.on(2, 1), conversation.on(3, 1), conversation.on(1, 3)
        for name, voice in (("a", first), ("b", second), ("c", third)):
            voice.qos(prefetch)
            voice.consume("~q", name)
        many(conversation, 3)
        if leave == "cancel":
            first.cancel("a")
        elif leave == "close-channel":
            first.close_channel()
        elif leave == "drop":
            first.drop("~q", prefetch * 2, 2)
        elif leave == "hang-up":
            first.hang_up("~q", prefetch * 2, 2)
        else:
            first.ack(99)
        conversation.settle()
        many(conversation, 2, first=3)
        second.ack(0, multiple=True)
        second.cancel("b")
        third.ack(0, multiple=True)
        conversation.settle()
        yield conversation
    for ranks in ((0, 1), (1, 0)):
        conversation = Conversation(f"{GROUP}/single-active/priorities-{ranks[0]}-{ranks[1]}")
        conversation.declare(args={"x-single-active-consumer": True})
        for at, rank in enumerate(ranks):
            conversation.on(1, 2 + at).consume("~q", f"c{at}", args={"x-priority": rank})
        many(conversation, 3)
        conversation.on(1, 2).cancel("c0")
        many(conversation, 2, first=3)
        conversation.on(1, 2).send("basic.recover", requeue=True)
        conversation.on(1, 3).ack(0, multiple=True)
        yield conversation
    conversation = Conversation(f"{GROUP}/single-active/recover")
    conversation.declare(args={"x-single-active-consumer": True})
    conversation.on(1, 2).consume("~q", "a")
    conversation.on(1, 3).consume("~q", "b")
    many(conversation, 3)
    conversation.on(1, 2).send("basic.recover", requeue=True)
    conversation.on(1, 2).nack(4, requeue=True)
    conversation.on(1, 2).cancel("a")
    conversation.on(1, 2).send("basic.recover", requeue=True)
    conversation.on(1, 3).ack(0, multiple=True)
    yield conversation


def endings() -> Iterator[Conversation]:
    for capable in (True, False):
        for count in (1, 3):
            conversation = Conversation(f"{GROUP}/queue-deleted/{count}-{'told' if capable else 'not-told'}")
            conversation.on(2, 1).connect(capabilities={"consumer_cancel_notify": capable})
            conversation.declare()
            for at in range(count):
                conversation.on(2, 1 + at).consume("~q", f"c{at}")
            many(conversation, 3)
            conversation.send("queue.delete", queue="~q")
            conversation.on(2, 1).ack(0, multiple=True)
            conversation.on(2, 1).cancel("c0")
            conversation.on(2, 1).consume("~q", "c0")
            yield conversation
    conversation = Conversation(f"{GROUP}/queue-deleted/by-its-only-consumer")
    conversation.declare()
    conversation.consume("~q", "a")
    conversation.consume("~q", "b")
    conversation.send("queue.delete", queue="~q")
    conversation.declare()
    conversation.consume("~q", "a")
    yield conversation
    for tag in ("", "c", "c" * 255, "amq.ctag-x", "é", "c d"):
        conversation = Conversation(f"{GROUP}/tags/{tag[:10] or 'none'}")
        conversation.declare()
        conversation.consume("~q", tag)
        conversation.on(1, 2).consume("~q", tag)
        many(conversation, 2)
        conversation.cancel(tag)
        conversation.consume("~q", tag)
        conversation.consume("~q", tag)
        yield conversation
    for nowait in (False, True):
        conversation = Conversation(f"{GROUP}/nowait/{nowait}")
        conversation.declare(nowait=nowait)
        many(conversation, 2)
        conversation.consume("~q", "c", nowait=nowait)
        conversation.cancel("c", nowait=nowait)
        conversation.cancel("nobody", nowait=nowait)
        conversation.consume("~none", "d", nowait=nowait)
        conversation.drain()
        yield conversation


def conversations() -> Iterator[Conversation]:
    yield from round_robin()
    yield from priorities()
    yield from shared_prefetch()
    yield from exclusive()
    yield from single_active()
    yield from endings()

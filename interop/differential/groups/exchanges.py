"""The exchange types of RabbitMQ's plugins, as far as what they do does not hang on a hash function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..script import Conversation

GROUP: Final = "exchanges"


def conversations() -> Iterator[Conversation]:
    for kind in ("x-consistent-hash", "x-random", "x-modulus-hash"):
        for key in ("1", "0", "ten", "", "-1", "1.5"):
            conversation = Conversation(f"{GROUP}/{kind}/weight-{key or 'none'}")
            conversation.exchange(kind=kind)
            conversation.declare()
            conversation.bind("~q", "~x", key)
            conversation.publish("anything", exchange="~x", mandatory=True)
            conversation.publish("", exchange="~x", mandatory=True)
            conversation.send("queue.unbind", queue="~q", exchange="~x", routing_key=key)
            conversation.publish("anything", exchange="~x", mandatory=True)
            conversation.drain()
            yield conversation
        conversation = Conversation(f"{GROUP}/{kind}/nothing-bound")
        conversation.exchange(kind=kind)
        conversation.publish("k", exchange="~x", mandatory=True)
        conversation.exchange(kind=kind, durable=True)
        yield conversation
    for length in (None, 1, 3):
        conversation = Conversation(f"{GROUP}/x-recent-history/length-{length}")
        conversation.exchange(
            kind="x-recent-history", args={} if length is None else {"x-recent-history-length": length}
        )
        conversation.declare("~first")
        conversation.bind("~first", "~x")
        for at in range(4):
            conversation.publish(f"k{at}", f"m{at}", exchange="~x", headers={"n": at})
        conversation.publish("k", "not kept", exchange="~x", headers={"x-recent-history-no-store": True})
        conversation.declare("~late")
        conversation.bind("~late", "~x")
        conversation.drain("~first")
        conversation.drain("~late")
        yield conversation

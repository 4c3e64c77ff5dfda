"""tx: what is held and what is not, with acknowledgements, returns, errors, and beside confirms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

from ..script import Conversation

GROUP: Final = "transactions"

ENDINGS: Final = ("commit", "rollback", "close", "error", "drop", "hang-up")
SAID: Final = ("publish", "ack", "nack", "requeue", "reject", "unroutable", "both", "ack-all", "recover")


def begin(conversation: Conversation) -> None:
    conversation.declare()
    conversation.exchange("~dlx", "fanout")
    conversation.declare("~end")
    conversation.bind("~end", "~dlx")
    conversation.declare("~dead", args={"x-dead-letter-exchange": "~dlx"})
    for body in ("one", "two", "three"):
        conversation.publish("~dead", body)


def end(conversation: Conversation, ending: str) -> None:
    voice = conversation.on(2, 1)
    if ending in ("commit", "rollback"):
        voice.send(f"tx.{ending}")
    elif ending == "close":
        voice.close_channel()
    elif ending == "error":
        voice.ack(99)
    elif ending == "drop":
        voice.drop()
    else:
        voice.hang_up()


def say(conversation: Conversation, said: str) -> None:
    voice = conversation.on(2, 1)
    if said in ("publish", "both"):
        voice.publish("~q", "held", headers={"a": 1})
    if said in ("ack", "both"):
        voice.ack(1)
    if said == "ack-all":
        voice.ack(0, multiple=True)
    elif said == "nack":
        voice.nack(1)
    elif said == "requeue":
        voice.nack(2, multiple=True, requeue=True)
    elif said == "reject":
        voice.reject(2)
    elif said == "unroutable":
        voice.publish("~none", "returned", mandatory=True)
        voice.publish("~none", "dropped")
        voice.publish("~q", "fine", mandatory=True)
    elif said == "recover":
        voice.send("basic.recover", requeue=True)


def held() -> Iterator[Conversation]:
    for said, ending in itertools.product(SAID, ENDINGS):
        conversation = Conversation(f"{GROUP}/{said}/{ending}")
        begin(conversation)
        voice = conversation.on(2, 1)
        voice.send("tx.select")
        voice.get("~dead")
        voice.get("~dead")
        say(conversation, said)
        conversation.send("queue.declare", queue="~q", passive=True)
        conversation.send("queue.declare", queue="~dead", passive=True)
        conversation.send("queue.declare", queue="~end", passive=True)
        end(conversation, ending)
        if ending in ("drop", "hang-up"):
            conversation.until("~dead", LEFT.get(said, 3))
        else:
            voice.ack(0, multiple=True)
            voice.send("tx.select")
            voice.send("tx.commit")
        for queue in ("~q", "~dead", "~end"):
            conversation.drain(queue)
        yield conversation


LEFT: Final[dict[str, int]] = {}


def consumed() -> Iterator[Conversation]:
    for ending in ("commit", "rollback"):
        for prefetch in (0, 1):
            conversation = Conversation(f"{GROUP}/consumer/{ending}-prefetch-{prefetch}")
            begin(conversation)
            conversation.send("tx.select")
            conversation.qos(prefetch)
            conversation.consume("~dead")
            conversation.ack(1)
            conversation.settle()
            conversation.send(f"tx.{ending}")
            conversation.ack(1)
            conversation.send("tx.commit")
            conversation.on(1, 2).drain("~dead")
            yield conversation


def errors() -> Iterator[Conversation]:
    for name, first, second in (
        ("commit-without", None, "tx.commit"),
        ("rollback-without", None, "tx.rollback"),
        ("confirm-after-tx", "tx.select", "confirm.select"),
        ("tx-after-confirm", "confirm.select", "tx.select"),
        ("tx-twice", "tx.select", "tx.select"),
        ("commit-twice", "tx.select", "tx.commit"),
        ("rollback-of-nothing", "tx.select", "tx.rollback"),
        ("commit-on-confirm", "confirm.select", "tx.commit"),
    ):
        conversation = Conversation(f"{GROUP}/errors/{name}")
        conversation.declare()
        if first is not None:
            conversation.send(first)
        conversation.send(second)
        conversation.send(second)
        conversation.publish("~q")
        conversation.drain()
        yield conversation
    for name in ("missing-exchange", "unknown-tag", "internal", "bad-expiration", "immediate"):
        conversation = Conversation(f"{GROUP}/errors/{name}")
        conversation.declare()
        conversation.exchange("~in", internal=True)
        conversation.send("tx.select")
        conversation.publish("~q", "before")
        if name == "unknown-tag":
            conversation.ack(5)
        elif name == "bad-expiration":
            conversation.publish("~q", "bad", expiration="x")
        else:
            exchange = {"missing-exchange": "~none", "internal": "~in"}.get(name, "")
            conversation.publish("~q", "bad", exchange=exchange, immediate=name == "immediate")
        conversation.send("tx.select")
        conversation.send("tx.commit")
        conversation.drain()
        yield conversation
    for limit in ("reject-publish", "drop-head"):
        conversation = Conversation(f"{GROUP}/limits/{limit}")
        conversation.declare(args={"x-max-length": 2, "x-overflow": limit})
        conversation.send("tx.select")
        for body in ("one", "two", "three", "four"):
            conversation.publish("~q", body)
        conversation.send("tx.commit")
        conversation.publish("~q", "five")
        conversation.send("tx.rollback")
        conversation.on(1, 2).drain()
        yield conversation
    for name in ("deleted", "unbound", "deleted-exchange"):
        conversation = Conversation(f"{GROUP}/changed-before-commit/{name}")
        conversation.declare()
        conversation.exchange()
        conversation.bind("~q", "~x", "k")
        conversation.on(1, 2).send("tx.select")
        conversation.on(1, 2).publish("k", "routed before", exchange="~x", mandatory=True)
        if name == "deleted":
            conversation.send("queue.delete", queue="~q")
            conversation.declare()
        elif name == "unbound":
            conversation.send("queue.unbind", queue="~q", exchange="~x", routing_key="k")
        else:
            conversation.send("exchange.delete", exchange="~x")
        conversation.on(1, 2).send("tx.commit")
        conversation.drain()
        yield conversation


def conversations() -> Iterator[Conversation]:
    yield from held()
    yield from consumed()
    yield from errors()

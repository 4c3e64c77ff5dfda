"""Direct reply-to: who may consume, what the reply address does, and when it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..script import Conversation

GROUP: Final = "replies"

PSEUDO: Final = "amq.rabbitmq.reply-to"


def conversations() -> Iterator[Conversation]:
    conversation = Conversation(f"{GROUP}/there-and-back")
    conversation.declare("~rpc")
    conversation.consume(PSEUDO, "answers", no_ack=True)
    conversation.publish("~rpc", "question", reply_to=PSEUDO, correlation_id="1")
    conversation.on(2, 1).get("~rpc", no_ack=True)
    conversation.on(2, 1).publish("$reply-to", "answer", correlation_id="1")
    conversation.on(2, 1).send("queue.declare", queue="$reply-to", passive=True)
    conversation.on(2, 1).send("queue.declare", queue="$reply-to")
    conversation.on(2, 1).publish("$reply-to", "mind you", exchange="amq.direct", mandatory=True)
    conversation.cancel("answers")
    conversation.on(2, 1).publish("$reply-to", "too late", mandatory=True)
    conversation.on(2, 1).send("queue.declare", queue="$reply-to", passive=True)
    yield conversation
    for name, flags in {
        "with-acks": {},
        "exclusive": {"no_ack": True, "exclusive": True},
        "no-local": {"no_ack": True, "no_local": True},
        "nowait": {"no_ack": True, "nowait": True},
    }.items():
        conversation = Conversation(f"{GROUP}/consume-{name}")
        conversation.consume(PSEUDO, "c", **flags)
        conversation.consume(PSEUDO, "d", **flags)
        conversation.cancel("c")
        conversation.consume(PSEUDO, "d", **flags)
        yield conversation
    for tag in ("", "c"):
        conversation = Conversation(f"{GROUP}/tag-{tag or 'generated'}")
        conversation.declare("~rpc")
        conversation.consume(PSEUDO, tag, no_ack=True)
        conversation.publish("~rpc", "q", reply_to=PSEUDO)
        conversation.on(1, 2).get("~rpc", no_ack=True)
        conversation.on(1, 2).publish("$reply-to", "a")
        conversation.on(1, 2).publish("$reply-to", "a", headers={"CC": ["~rpc"]})
        conversation.drain("~rpc")
        yield conversation
    for ending in ("close_channel", "hang_up", "drop"):
        conversation = Conversation(f"{GROUP}/gone-by-{ending}")
        conversation.declare("~rpc")
        conversation.on(2, 1).consume(PSEUDO, "c", no_ack=True)
        conversation.on(2, 1).publish("~rpc", "q", reply_to=PSEUDO)
        conversation.get("~rpc", no_ack=True)
        getattr(conversation.on(2, 1), ending)()
        conversation.gone("$reply-to")
        conversation.publish("$reply-to", "nobody", mandatory=True)
        yield conversation
    for name, method, arguments in (
        ("publish-without-consumer", "", {}),
        ("other-channel", "other", {}),
        ("get", "basic.get", {"queue": PSEUDO}),
        ("purge", "queue.purge", {"queue": PSEUDO}),
        ("delete", "queue.delete", {"queue": PSEUDO}),
        ("bind", "queue.bind", {"queue": PSEUDO, "exchange": "amq.direct", "routing_key": "~k"}),
        ("declare", "queue.declare", {"queue": PSEUDO}),
        ("declare-passive", "queue.declare", {"queue": PSEUDO, "passive": True}),
        ("declare-durable", "queue.declare", {"queue": PSEUDO, "durable": True}),
        ("declare-odd", "queue.declare", {"queue": PSEUDO + ".odd", "passive": True}),
    ):
        for consuming in (False, True):
            conversation = Conversation(f"{GROUP}/{name}{'-consuming' * consuming}")
            conversation.declare("~rpc")
            if consuming:
                conversation.on(1, 2 if method == "other" else 1).consume(PSEUDO, "c", no_ack=True)
            if method in ("", "other"):
                conversation.publish("~rpc", "q", reply_to=PSEUDO)
                conversation.publish(PSEUDO, "to the name itself", mandatory=True)
            else:
                conversation.send(method, **arguments)
            yield conversation
    conversation = Conversation(f"{GROUP}/other-reply-to")
    conversation.declare("~rpc")
    conversation.publish("~rpc", "q", reply_to="~elsewhere")
    conversation.publish("~rpc", "q", reply_to=PSEUDO + ".forged")
    conversation.drain("~rpc")
    conversation.publish(PSEUDO + ".forged", "a", mandatory=True)
    yield conversation

"""Every method that a client may send, with every combination of its flags, in every state of a channel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from .. import codec
from ..script import Conversation

GROUP: Final = "methods"


class Call(NamedTuple):
    """A method with arguments that fit what `furnished` makes, and the flags that are to be varied."""

    method: str
    arguments: dict[str, Any]
    flags: tuple[str, ...]


CALLS: Final = [
    Call("queue.declare", {"queue": "~q"}, ("passive", "durable", "exclusive", "auto_delete", "nowait")),
    Call("queue.delete", {"queue": "~q"}, ("if_unused", "if_empty", "nowait")),
    Call("queue.purge", {"queue": "~q"}, ("nowait",)),
    Call("queue.bind", {"queue": "~q", "exchange": "~x", "routing_key": "other"}, ("nowait",)),
    Call("queue.unbind", {"queue": "~q", "exchange": "~x", "routing_key": "key"}, ()),
    Call(
        "exchange.declare",
        {"exchange": "~x", "exchange_type": "direct"},
        ("passive", "durable", "auto_delete", "internal", "nowait"),
    ),
    Call("exchange.delete", {"exchange": "~x"}, ("if_unused", "nowait")),
    Call("exchange.bind", {"destination": "amq.fanout", "source": "~x", "routing_key": "e"}, ("nowait",)),
    Call("exchange.unbind", {"destination": "amq.fanout", "source": "~x", "routing_key": "e"}, ("nowait",)),
    Call("basic.qos", {"prefetch_count": 1}, ("global_",)),
    Call(
        "basic.consume", {"queue": "~q", "consumer_tag": "c2"}, ("no_local", "no_ack", "exclusive", "nowait")
    ),
    Call("basic.cancel", {"consumer_tag": "c"}, ("nowait",)),
    Call("basic.get", {"queue": "~q"}, ("no_ack",)),
    Call("basic.ack", {"delivery_tag": 1}, ("multiple",)),
    Call("basic.reject", {"delivery_tag": 1}, ("requeue",)),
    Call("basic.nack", {"delivery_tag": 1}, ("multiple", "requeue")),
    Call("basic.recover", {}, ("requeue",)),
    Call("basic.recover-async", {}, ("requeue",)),
    Call("confirm.select", {}, ("nowait",)),
    Call("tx.select", {}, ()),
    Call("tx.commit", {}, ()),
    Call("tx.rollback", {}, ()),
    Call("channel.open", {}, ()),
    Call("channel.flow", {}, ("active",)),
    Call("channel.close", {"reply_code": 200, "reply_text": "bye"}, ()),
    Call("access.request", {"realm": "/data"}, ("exclusive", "passive", "active", "write", "read")),
]
# what only a broker says, or what is said out of turn
OUT_OF_TURN: Final = [
    *("channel.open-ok", "channel.flow-ok", "channel.close-ok", "access.request-ok", "exchange.declare-ok"),
    *("exchange.delete-ok", "exchange.bind-ok", "exchange.unbind-ok", "queue.declare-ok", "queue.bind-ok"),
    *("queue.unbind-ok", "queue.purge-ok", "queue.delete-ok", "basic.qos-ok", "basic.consume-ok"),
    *("basic.cancel-ok", "basic.return", "basic.deliver", "basic.get-ok", "basic.get-empty"),
    *("basic.recover-ok", "confirm.select-ok", "tx.select-ok", "tx.commit-ok", "tx.rollback-ok"),
    *("connection.start", "connection.start-ok", "connection.secure", "connection.secure-ok"),
    *("connection.tune", "connection.tune-ok", "connection.open", "connection.open-ok"),
    *("connection.close-ok", "connection.blocked", "connection.unblocked", "connection.update-secret-ok"),
]


def furnished(conversation: Conversation) -> None:
    """A queue with two messages, bound to an exchange, and a channel with one message unacknowledged."""
    conversation.declare()
    conversation.exchange()
    conversation.bind("~q", "~x", "key")
    conversation.publish("~q", "first")
    conversation.publish("~q", "second")
    conversation.get()


def bare(_conversation: Conversation) -> None:
    """Nothing is there."""


def in_tx(conversation: Conversation) -> None:
    furnished(conversation)
    conversation.send("tx.select")
    conversation.publish("~q", "held")


def in_confirm(conversation: Conversation) -> None:
    furnished(conversation)
    conversation.send("confirm.select")


def consuming(conversation: Conversation) -> None:
    conversation.declare()
    conversation.exchange()
    conversation.consume()
    conversation.publish("~q", "first")


def cancelled(conversation: Conversation) -> None:
    consuming(conversation)
    conversation.cancel()


def after_an_error(conversation: Conversation) -> None:
    """The channel has been closed once, and opened again."""
    furnished(conversation)
    conversation.declare("~q", durable=True)


def bound_on_both_sides(conversation: Conversation) -> None:
    """The exchange has a source as well as a destination, and an alternate exchange."""
    conversation.declare()
    conversation.exchange(args={"alternate-exchange": "amq.fanout"}, durable=True)
    conversation.bind("~q", "~x", "key")
    conversation.send("exchange.bind", destination="~x", source="amq.topic", routing_key="~#")


STATES: Final[dict[str, Callable[[Conversation], None]]] = {
    "furnished": furnished,
    "bare": bare,
    "in-tx": in_tx,
    "in-confirm": in_confirm,
    "consuming": consuming,
    "cancelled": cancelled,
    "after-an-error": after_an_error,
    "bound": bound_on_both_sides,
}
ALL_FLAGS: Final = ("furnished", "bare")


def look_around(conversation: Conversation) -> None:
    """What is left afterwards, to be seen by another channel and by the same."""
    other = conversation.on(2, 1)
    other.send("queue.declare", queue="~q", passive=True)
    other.send("exchange.declare", exchange="~x", passive=True)
    other.publish("key", "probe", exchange="~x", mandatory=True)
    conversation.publish("~q", "last", mandatory=True)
    conversation.on(1, 3).drain("~q")
    conversation.close_channel()
    conversation.on(1, 3).drain("~q")


def flag_name(flags: dict[str, bool]) -> str:
    return "+".join(name.rstrip("_") for name, on in flags.items() if on) or "plain"


def combinations(call: Call, state: str) -> list[dict[str, bool]]:
    if state in ALL_FLAGS and call.method != "access.request":
        chosen = itertools.product((False, True), repeat=len(call.flags))
        return [dict(zip(call.flags, flags, strict=True)) for flags in chosen]
    none = dict.fromkeys(call.flags, False)
    return [none, *(none | {flag: True} for flag in call.flags)] if state in ALL_FLAGS else [none]


def in_states() -> Iterator[Conversation]:
    for call in CALLS:
        for state, prepare in STATES.items():
            for flags in combinations(call, state):
                conversation = Conversation(f"{GROUP}/{call.method}/{state}/{flag_name(flags)}")
                prepare(conversation)
                conversation.send(call.method, **call.arguments, **flags)
                look_around(conversation)
                yield conversation


def published() -> Iterator[Conversation]:
    for state, prepare in STATES.items():
        for mandatory, immediate in itertools.product((False, True), repeat=2):
            for exchange, key in (("", "~q"), ("", "~nobody"), ("~x", "key"), ("~x", "no"), ("~none", "key")):
                flags = flag_name({"mandatory": mandatory, "immediate": immediate})
                place = f"{exchange.strip('~') or 'default'}-{key.strip('~')}"
                conversation = Conversation(f"{GROUP}/basic.publish/{state}/{place}/{flags}")
                prepare(conversation)
                conversation.publish(
                    key, "probe", exchange=exchange, mandatory=mandatory, immediate=immediate
                )
                conversation.on(1, 3).drain("~q")
                yield conversation


def out_of_place() -> Iterator[Conversation]:
    for call in CALLS:
        conversation = Conversation(f"{GROUP}/{call.method}/unopened")
        conversation.on(1, 1).declare()
        conversation.on(1, 7).blurt(call.method, **call.arguments)
        conversation.settle()
        yield conversation

        conversation = Conversation(f"{GROUP}/{call.method}/channel-0")
        conversation.declare()
        conversation.on(1, 0).send(call.method, **call.arguments)
        conversation.settle()
        yield conversation

        conversation = Conversation(f"{GROUP}/{call.method}/where-a-header-is-due")
        conversation.declare()
        conversation.blurt("basic.publish", routing_key="~q")
        conversation.blurt(call.method, **call.arguments)
        conversation.settle()
        conversation.drain()
        yield conversation

        conversation = Conversation(f"{GROUP}/{call.method}/where-a-body-is-due")
        conversation.declare()
        conversation.blurt("basic.publish", routing_key="~q")
        conversation.frame(codec.HEADER, codec.encode_header(5, {}))
        conversation.blurt(call.method, **call.arguments)
        conversation.settle()
        conversation.drain()
        yield conversation
    for method in OUT_OF_TURN:
        for channel in (0, 1, 7):
            conversation = Conversation(f"{GROUP}/{method}/out-of-turn-on-{channel}")
            conversation.declare()
            conversation.on(1, channel).blurt(method)
            conversation.settle()
            yield conversation


def conversations() -> Iterator[Conversation]:
    yield from in_states()
    yield from published()
    yield from out_of_place()

"""Which queues a message reaches: every type of exchange, with keys and headers that match and that do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..codec import Typed
from ..script import Conversation

GROUP: Final = "routing"

PATTERNS: Final = [
    *("", "#", "*", "#.#", "*.*", "a", "a.b", "a.*", "*.b", "a.#", "#.b", "a.*.c", "a.#.c", "#.b.#", "*.#"),
    *("#.*", "*.*.*", "a..b", "a.", ".a", ".", "..", "#.", ".#", "a#", "*a", "a.b#", "#.#.#", "*.#.*"),
    *("#.a.#.b.#", "a.*.#", "lazy.#", "*.orange.*", "A.B", "é.*", "a b", "a.#.#", "k" * 255),
]
KEYS: Final = [
    *(
        "",
        "a",
        "b",
        "a.b",
        "a.c",
        "a.b.c",
        "a.x.c",
        "a.x.y.c",
        "b.a",
        "a..b",
        "a.",
        ".a",
        ".",
        "..",
        "#",
        "*",
    ),
    *("a#", "A.B", "a.b.c.d", "x.a.y.b.z", "quick.orange.rabbit", "lazy.orange.male.rabbit", "é.a", "a b"),
    "k" * 255,
]

Sets = dict[str, dict[str, Any]]
BINDING_SETS: Final[Sets] = {
    "none": {},
    "only-match": {"x-match": "all"},
    "only-any": {"x-match": "any"},
    "one": {"a": 1},
    "two-all": {"x-match": "all", "a": 1, "b": "two"},
    "two-any": {"x-match": "any", "a": 1, "b": "two"},
    "void": {"x-match": "all", "a": None},
    "void-any": {"x-match": "any", "a": None, "c": None},
    "float": {"a": 1.0},
    "text-1": {"a": "1"},
    "true": {"a": True},
    "octets": {"b": b"two"},
    "timestamp": {"a": Typed("T", 1)},
    "decimal": {"a": Typed("D", (1, 10))},
    "decimal-0": {"a": Typed("D", (0, 1))},
    "int64": {"a": Typed("l", 1)},
    "int8": {"a": Typed("b", 1)},
    "single": {"a": Typed("f", 1.5)},
    "table": {"t": {"x": 1, "y": 2}},
    "table-otherwise": {"t": {"y": 2, "x": 1}},
    "table-wide": {"t": {"x": Typed("l", 1), "y": 2}},
    "array": {"l": [1, "a"]},
    "no-table": {"t": {}},
    "no-array": {"l": []},
    "with-x": {"x-match": "all-with-x", "a": 1, "x-b": 2},
    "any-with-x": {"x-match": "any-with-x", "a": 9, "x-b": 2},
    "x-ignored": {"x-match": "all", "a": 1, "x-b": 3},
    "x-only": {"x-match": "any", "x-b": 2},
    "x-only-all": {"x-b": 7},
    "no-text": {"b": ""},
    "many": {"x-match": "all", "a": 1, "b": "two", "c": 3, "d": 4},
}
MESSAGE_SETS: Final[Sets] = {
    "nothing": {},
    "one": {"a": 1},
    "one-64": {"a": Typed("l", 1)},
    "one-float": {"a": 1.0},
    "one-single": {"a": Typed("f", 1.0)},
    "one-text": {"a": "1"},
    "one-true": {"a": True},
    "one-decimal": {"a": Typed("D", (0, 1))},
    "one-decimal-10": {"a": Typed("D", (1, 10))},
    "one-time": {"a": Typed("T", 1)},
    "half": {"a": 1.5},
    "void": {"a": None},
    "two": {"a": 1, "b": "two"},
    "two-octets": {"b": b"two"},
    "one-of-two": {"a": 2, "b": "two"},
    "x": {"a": 1, "x-b": 2},
    "x-alone": {"x-b": 2},
    "table": {"t": {"x": 1, "y": 2}},
    "array": {"l": [1, "a"]},
    "no-table": {"t": {}},
    "no-array": {"l": []},
    "no-text": {"b": ""},
    "four": {"a": 1, "b": "two", "c": 3, "d": 4},
    "twice": {"a": 2, "c": 3},
}


def topics() -> Iterator[Conversation]:
    for pattern in PATTERNS:
        conversation = Conversation(f"{GROUP}/topic/{pattern[:20] or 'empty'}")
        conversation.exchange(kind="topic")
        conversation.declare()
        conversation.bind("~q", "~x", pattern)
        for key in KEYS:
            conversation.publish(key, key[:30], exchange="~x")
        conversation.drain()
        conversation.send("queue.unbind", queue="~q", exchange="~x", routing_key=pattern)
        conversation.publish("a", exchange="~x", mandatory=True)
        yield conversation
    conversation = Conversation(f"{GROUP}/topic/many-patterns-one-copy")
    conversation.exchange(kind="topic")
    conversation.declare("~q")
    conversation.declare("~other")
    for pattern in ("#", "a.*", "*.b", "a.b"):
        conversation.bind("~q", "~x", pattern)
    conversation.bind("~other", "~x", "a.b")
    for pattern in ("#", "a.*", "*.b", "a.b"):
        conversation.publish("a.b", exchange="~x")
        conversation.send("queue.unbind", queue="~q", exchange="~x", routing_key=pattern)
    conversation.publish("a.b", exchange="~x")
    conversation.drain("~q")
    conversation.drain("~other")
    yield conversation


def simple_types() -> Iterator[Conversation]:
    for kind in ("direct", "fanout"):
        for bound in ("", "a", "A", "a.b", "#", "é", "k" * 255):
            conversation = Conversation(f"{GROUP}/{kind}/{bound[:10] or 'empty'}")
            conversation.exchange(kind=kind)
            conversation.declare("~q")
            conversation.declare("~other")
            conversation.bind("~q", "~x", bound)
            conversation.bind("~q", "~x", bound)
            conversation.bind("~other", "~x", "a")
            for key in ("", "a", "A", "a.b", "#", "é", "k" * 255):
                conversation.publish(key, key[:9], exchange="~x", mandatory=True)
            conversation.drain("~q")
            conversation.drain("~other")
            yield conversation
    conversation = Conversation(f"{GROUP}/direct/key-of-any-octets")
    conversation.exchange()
    conversation.declare()
    conversation.bind("~q", "~x", b"\xff\x00\xfe")  # type: ignore[arg-type]
    conversation.publish(b"\xff\x00\xfe", exchange="~x", mandatory=True)  # type: ignore[arg-type]
    conversation.drain()
    yield conversation


def headers() -> Iterator[Conversation]:
    for name, arguments in BINDING_SETS.items():
        conversation = Conversation(f"{GROUP}/headers/{name}")
        conversation.exchange(kind="headers")
        conversation.declare()
        conversation.bind("~q", "~x", "ignored", arguments)
        conversation.publish("no headers at all", "bare", exchange="~x")
        for message, table in MESSAGE_SETS.items():
            conversation.publish("", message, exchange="~x", headers=table)
        conversation.drain()
        yield conversation


def to_exchanges() -> Iterator[Conversation]:
    conversation = Conversation(f"{GROUP}/exchanges/chain")
    for name, kind in (("~x1", "direct"), ("~x2", "topic"), ("~x3", "fanout")):
        conversation.exchange(name, kind)
    conversation.send("exchange.bind", source="~x1", destination="~x2", routing_key="a.b")
    conversation.send("exchange.bind", source="~x2", destination="~x3", routing_key="a.*")
    conversation.declare()
    conversation.bind("~q", "~x3")
    for key in ("a.b", "a.c", "b"):
        conversation.publish(key, key, exchange="~x1", mandatory=True)
    conversation.send("exchange.unbind", source="~x2", destination="~x3", routing_key="a.*")
    conversation.publish("a.b", exchange="~x1", mandatory=True)
    conversation.send("exchange.delete", exchange="~x2")
    conversation.publish("a.b", exchange="~x1", mandatory=True)
    conversation.drain()
    yield conversation

    conversation = Conversation(f"{GROUP}/exchanges/ring")
    for name in ("~x1", "~x2", "~x3"):
        conversation.exchange(name, "fanout")
    for source, destination in (("~x1", "~x2"), ("~x2", "~x3"), ("~x3", "~x1"), ("~x1", "~x1")):
        conversation.send("exchange.bind", source=source, destination=destination)
    conversation.declare()
    for name in ("~x1", "~x2", "~x3"):
        conversation.bind("~q", name)
    conversation.publish("once", exchange="~x2", mandatory=True)
    conversation.drain()
    yield conversation

    for if_unused in (False, True):
        for side in ("source", "destination", "queue"):
            conversation = Conversation(f"{GROUP}/exchanges/delete-{side}{'-if-unused' * if_unused}")
            conversation.exchange("~a", "fanout")
            conversation.exchange("~b", "fanout")
            if side == "queue":
                conversation.declare()
                conversation.bind("~q", "~a")
            else:
                conversation.send("exchange.bind", source="~a", destination="~b")
            conversation.send(
                "exchange.delete", exchange="~b" if side == "destination" else "~a", if_unused=if_unused
            )
            conversation.exchange("~a", "fanout", passive=True)
            conversation.exchange("~b", "fanout", passive=True)
            yield conversation

    for last in ("unbind", "delete-queue", "delete-exchange"):
        conversation = Conversation(f"{GROUP}/exchanges/auto-delete-by-{last}")
        conversation.exchange("~a", "fanout", auto_delete=True)
        conversation.exchange("~b", "fanout", auto_delete=True)
        conversation.declare()
        conversation.send("exchange.bind", source="~a", destination="~b")
        conversation.bind("~q", "~b")
        conversation.bind("~q", "~b", "second")
        if last == "unbind":
            conversation.send("queue.unbind", queue="~q", exchange="~b")
            conversation.exchange("~b", passive=True)
            conversation.send("queue.unbind", queue="~q", exchange="~b", routing_key="second")
        elif last == "delete-queue":
            conversation.send("queue.delete", queue="~q")
        else:
            conversation.send("exchange.delete", exchange="~b")
        conversation.exchange("~b", passive=True)
        conversation.exchange("~a", passive=True)
        yield conversation

    for wrong in ("source", "destination", "default-source", "default-destination", "queue-name"):
        for method in ("exchange.bind", "exchange.unbind"):
            conversation = Conversation(f"{GROUP}/exchanges/{method}-wrong-{wrong}")
            conversation.exchange()
            conversation.declare()
            ends = {"source": "~x", "destination": "~x"}
            ends |= {
                "source": {"source": "~none"},
                "destination": {"destination": "~none"},
                "default-source": {"source": ""},
                "default-destination": {"destination": ""},
                "queue-name": {"destination": "~q"},
            }[wrong]
            conversation.send(method, routing_key="k", **ends)
            yield conversation


def bindings() -> Iterator[Conversation]:
    for method in ("queue.bind", "queue.unbind"):
        for wrong, changes in {
            "queue": {"queue": "~none"},
            "exchange": {"exchange": "~none"},
            "both": {"queue": "~none", "exchange": "~none"},
            "default": {"exchange": ""},
            "default-and-no-queue": {"exchange": "", "queue": "~none"},
            "key": {"routing_key": "other"},
            "no-queue-name": {"queue": ""},
            "neither-queue-nor-key": {"queue": "", "routing_key": ""},
            "cr-lf": {"queue": "~q\r\n", "exchange": "\r~x\n"},
        }.items():
            conversation = Conversation(f"{GROUP}/bindings/{method}-{wrong}")
            conversation.exchange()
            conversation.declare()
            conversation.bind("~q", "~x", "k")
            given = {"queue": "~q", "exchange": "~x", "routing_key": "k"} | changes
            conversation.send(method, **given)
            for key in ("k", "other", "", "~q"):
                conversation.publish(key, exchange="~x", mandatory=True)
            conversation.close_channel()
            conversation.send(method, **given)
            conversation.drain()
            yield conversation


def copies() -> Iterator[Conversation]:
    tables: Sets = {
        "CC": {"CC": ["~a", "~b"]},
        "BCC": {"BCC": ["~a"]},
        "both": {"CC": ["~a"], "BCC": ["~b"]},
        "self": {"CC": ["~q", "~q"]},
        "nobody": {"CC": ["~none"]},
        "empty": {"CC": []},
        "text": {"CC": "~a"},
        "number": {"CC": 5},
        "BCC-text": {"BCC": "~a"},
        "mixed": {"CC": ["~a", 5]},
        "table-in-it": {"CC": [{"a": 1}]},
        "lower-case": {"cc": ["~a"]},
        "void": {"CC": None},
        "octets": {"CC": [b"~a"]},
    }
    for name, table in tables.items():
        for key in ("~q", "~nobody"):
            conversation = Conversation(f"{GROUP}/copies/{name}-to-{key.strip('~')}")
            for queue in ("~q", "~a", "~b"):
                conversation.declare(queue)
            conversation.send("confirm.select")
            conversation.publish(key, "copied", mandatory=True, headers=table | {"other": 1})
            for queue in ("~q", "~a", "~b"):
                conversation.drain(queue)
            yield conversation


def conversations() -> Iterator[Conversation]:
    yield from topics()
    yield from simple_types()
    yield from headers()
    yield from to_exchanges()
    yield from bindings()
    yield from copies()

"""Every argument that RabbitMQ knows, of queues, exchanges, consumers and bindings, with values right and wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..codec import Typed
from ..script import Conversation

GROUP: Final = "arguments"

VALUES: Final[dict[str, Any]] = {
    "int8": Typed("b", 5),
    "uint8": Typed("B", 200),
    "int16": Typed("s", 7),
    "uint16": Typed("u", 7),
    "int32": Typed("I", 10),
    "uint32": Typed("i", 10),
    "int64": Typed("l", 10),
    "one": 1,
    "zero": 0,
    "negative": -1,
    "negative-8": Typed("b", -5),
    "2-to-8": 256,
    "2-to-32": Typed("l", 2**32),
    "longest-time": Typed("l", 315_360_000_000),
    "longer-time": Typed("l", 315_360_000_001),
    "2-to-63-less-1": Typed("l", 2**63 - 1),
    "least": Typed("l", -(2**63)),
    "float": Typed("f", 1.5),
    "double": 10.0,
    "decimal": Typed("D", (2, 1000)),
    "digits": "10",
    "text": "text",
    "no-text": "",
    "long-text": "t" * 300,
    "octets": b"text",
    "true": True,
    "false": False,
    "void": None,
    "timestamp": Typed("T", 1000),
    "table": {"a": 1},
    "no-table": {},
    "array": [1, 2],
    "no-array": [],
}
QUEUE: Final = (
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-master-locator",
    "x-queue-leader-locator",
    "x-delivery-limit",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-max-age",
    "x-initial-cluster-size",
    "x-quorum-initial-group-size",
    "x-something-else",
)
# words that RabbitMQ knows as values of these
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx", "Drop-Head"),
    "x-queue-mode": ("default", "lazy", "eager"),
    "x-queue-type": ("classic", "Classic", "rabbit_classic_queue", "rabbit_quorum_queue"),
    "x-queue-master-locator": ("min-masters", "client-local", "random"),
    "x-queue-leader-locator": ("client-local", "balanced", "least-leaders", "random"),
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
    "x-max-age": ("1D", "1h", "10"),
}
TIMES: Final = ("x-expires", "x-message-ttl")
# where one answer to every value is known to be different
SELDOM: Final[dict[str, tuple[str, ...]]] = {
    "x-queue-master-locator": ("int32", "text", "void", *WORDS["x-queue-master-locator"]),
    "x-delivery-limit": ("int32", "zero", "negative", "text", "true"),
}
PAIRS: Final[dict[str, dict[str, Any]]] = {
    "key-without-exchange": {"x-dead-letter-routing-key": "k"},
    "key-and-exchange": {"x-dead-letter-routing-key": "k", "x-dead-letter-exchange": "~dlx"},
    "priority-and-wrong-ttl": {"x-max-priority": 5, "x-message-ttl": "x"},
    "two-wrong": {"x-message-ttl": -1, "x-expires": 0},
    "two-wrong-otherwise": {"x-expires": "a", "x-max-length": -1},
    "type-first": {"x-queue-type": "nothing", "x-expires": 0},
    "single-and-priority": {"x-single-active-consumer": True, "x-max-priority": 3},
    "length-and-overflow": {"x-max-length": 1, "x-overflow": "reject-publish"},
    "dlx-overflow-without-dlx": {"x-max-length": 1, "x-overflow": "reject-publish-dlx"},
    "lazy-priority": {"x-queue-mode": "lazy", "x-max-priority": 2},
    "all-of-them": {
        "x-expires": 60000,
        "x-message-ttl": 60000,
        "x-max-length": 10,
        "x-max-length-bytes": 1000,
        "x-max-priority": 5,
        "x-overflow": "drop-head",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "~d",
        "x-single-active-consumer": True,
    },
}


KINDS: Final[dict[str, str]] = {
    "empty": "",
    "upper-case": "DIRECT",
    "with-a-space": "direct ",
    "a-word-of-erlang": "nothing",
    "of-no-plugin": "x-nothing",
    "not-ascii": "é",
    "long": "k" * 255,
    "name-of-an-exchange": "amq.direct",
    "nul": "\x00",
}


def of_queues() -> Iterator[Conversation]:
    for argument in QUEUE:
        values = VALUES | {word: word for word in WORDS.get(argument, ())}
        for name, value in values.items():
            if argument in SELDOM and name not in SELDOM[argument]:
                continue
            conversation = Conversation(f"{GROUP}/queue/{argument}/{name}", watched=argument not in TIMES)
            conversation.declare(args={argument: value})
            if argument in TIMES:  # what is small may be over before the next word
                yield conversation
                continue
            conversation.declare(args={argument: value})
            conversation.declare()
            conversation.publish("~q", "one")
            conversation.publish("~q", "two", priority=3)
            conversation.send("queue.declare", queue="~q", passive=True, arguments={argument: "anything"})
            yield conversation
    for name, arguments in PAIRS.items():
        conversation = Conversation(f"{GROUP}/queue/together/{name}")
        conversation.declare(args=arguments)
        conversation.declare(args=arguments)
        conversation.publish("~q", "one")
        conversation.get()
        yield conversation


def of_exchanges() -> Iterator[Conversation]:
    for kind in ("direct", "fanout", "topic", "headers"):
        for name in ("text", "no-text", "int32", "true", "void", "table", "octets", "array"):
            value = VALUES[name]
            conversation = Conversation(f"{GROUP}/exchange/{kind}/alternate-exchange/{name}")
            conversation.exchange(kind=kind, args={"alternate-exchange": value})
            conversation.exchange(kind=kind, args={"alternate-exchange": value})
            conversation.exchange(kind=kind)
            conversation.publish("k", exchange="~x", mandatory=True)
            yield conversation
    for name, kind in KINDS.items():
        conversation = Conversation(f"{GROUP}/exchange/type/{name}")
        conversation.exchange(kind=kind)
        conversation.exchange(kind=kind)
        yield conversation
        conversation = Conversation(f"{GROUP}/exchange/type-of-one-that-is-there/{name}")
        conversation.exchange()
        conversation.exchange(kind=kind)
        conversation.exchange(kind=kind, passive=True)
        yield conversation
    for kind in ("x-consistent-hash", "x-random", "x-modulus-hash", "x-recent-history"):
        for name, arguments in {
            "none": {},
            "hash-header": {"hash-header": "h"},
            "hash-property": {"hash-property": "message_id"},
            "both": {"hash-header": "h", "hash-property": "message_id"},
            "wrong-property": {"hash-property": "nothing"},
            "length": {"x-recent-history-length": 2},
            "length-0": {"x-recent-history-length": 0},
            "length-text": {"x-recent-history-length": "a"},
        }.items():
            conversation = Conversation(f"{GROUP}/exchange/{kind}/{name}")
            conversation.exchange(kind=kind, args=arguments)
            conversation.declare()
            conversation.bind("~q", "~x", "1")
            conversation.publish("k", exchange="~x", mandatory=True, headers={"h": "a"}, message_id="i")
            conversation.drain()
            yield conversation


def of_consumers() -> Iterator[Conversation]:
    for argument in ("x-priority", "x-cancel-on-ha-failover", "x-stream-offset", "x-something"):
        for name, value in VALUES.items():
            conversation = Conversation(f"{GROUP}/consumer/{argument}/{name}")
            conversation.declare()
            conversation.publish("~q", "one")
            conversation.consume(args={argument: value})
            conversation.ack(1)
            yield conversation


def of_bindings() -> Iterator[Conversation]:
    for name, value in VALUES.items():
        conversation = Conversation(f"{GROUP}/binding/x-match/{name}")
        conversation.declare()
        conversation.exchange(kind="headers")
        conversation.bind("~q", "~x", "", {"x-match": value, "a": 1})
        conversation.publish(exchange="~x", mandatory=True, headers={"a": 1})
        conversation.publish(exchange="~x", mandatory=True, headers={"a": 2})
        conversation.send("queue.unbind", queue="~q", exchange="~x", arguments={"x-match": value, "a": 1})
        conversation.publish(exchange="~x", mandatory=True, headers={"a": 1})
        conversation.drain()
        yield conversation
    for word in ("all", "any", "all-with-x", "any-with-x", "ALL", "none", "any "):
        conversation = Conversation(f"{GROUP}/binding/x-match-word/{word}")
        conversation.declare()
        conversation.exchange(kind="headers")
        conversation.bind("~q", "~x", "", {"x-match": word, "a": 1, "x-b": 2})
        conversation.publish(exchange="~x", mandatory=True, headers={"a": 1})
        conversation.publish(exchange="~x", mandatory=True, headers={"a": 1, "x-b": 2})
        conversation.publish(exchange="~x", mandatory=True, headers={"x-b": 2})
        conversation.drain()
        yield conversation
    for kind in ("direct", "fanout", "topic"):
        for name, value in VALUES.items():
            conversation = Conversation(f"{GROUP}/binding/{kind}/{name}")
            conversation.declare()
            conversation.exchange(kind=kind)
            conversation.bind("~q", "~x", "k", {"a": value})
            conversation.bind("~q", "~x", "k")
            conversation.publish("k", exchange="~x", mandatory=True)
            conversation.send("queue.unbind", queue="~q", exchange="~x", routing_key="k", arguments={})
            conversation.publish("k", exchange="~x", mandatory=True)
            conversation.send(
                "queue.unbind", queue="~q", exchange="~x", routing_key="k", arguments={"a": value}
            )
            conversation.publish("k", exchange="~x", mandatory=True)
            conversation.drain()
            yield conversation


def conversations() -> Iterator[Conversation]:
    yield from of_queues()
    yield from of_exchanges()
    yield from of_consumers()
    yield from of_bindings()

"""Names, numbers, field tables and properties as clients send them, and as they should not.

`Values` draws everything from one `random.Random`, so a seed repeats it. What it returns are octets, ready for the
wire; names come from a small pool, because only what is named twice leads anywhere.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Final, TypeVar

from tests.conversations.codec import PROPERTIES

Value = TypeVar("Value")

U16: Final = struct.Struct(">H").pack
U32: Final = struct.Struct(">I").pack
U64: Final = struct.Struct(">Q").pack

LONG_NAME: Final = b"n" * 255
QUEUES: Final = (b"q0", b"q1", b"q2", b"q3", b"durable", b"quorum", b"dead")
ODD_QUEUES: Final = (
    b"", b"amq.rabbitmq.reply-to", b"amq.rabbitmq.reply-to.x", b"amq.gen-x", b"amq.", b"q\r\n0", b"\x00", b"\xff\xfe",
    "w\u00fcrfel \u202e".encode(), LONG_NAME, b"no such queue", b"'; --", b"{username}", b"%s%n",
)  # fmt: skip
# Those that clients declare, and the type that each of them usually has.
DECLARED: Final[dict[bytes, bytes]] = {
    b"e0": b"direct", b"e1": b"topic", b"e2": b"fanout", b"e3": b"headers", b"delayed": b"x-delayed-message",
    b"history": b"x-recent-history", b"hash": b"x-consistent-hash", b"once": b"x-message-deduplication",
}  # fmt: skip
EXCHANGES: Final = (
    b"", b"amq.direct", b"amq.fanout", b"amq.topic", b"amq.headers", b"amq.match", *DECLARED,
)  # fmt: skip
# The arguments that a queue or an exchange has with everybody who declares it as it is meant.
USUAL: Final[dict[bytes, bytes]] = {
    b"quorum": b"\x0cx-queue-typeS\0\0\0\6quorum\x10x-delivery-limitI\0\0\0\2",
    b"q1": b"\x16x-dead-letter-exchangeS\0\0\0\0\x19x-dead-letter-routing-keyS\0\0\0\4dead",
    b"q3": b"\x0ex-max-priorityI\0\0\0\5",
    b"once": b"\x0cx-cache-sizeI\0\0\0\5",
    b"delayed": b"\x0ex-delayed-typeS\0\0\0\5topic",
}
DURABLE: Final = frozenset((*DECLARED, b"durable", b"quorum", b"dead", b"q2"))
ODD_EXCHANGES: Final = (
    b"amq.default",
    b"amq.rabbitmq.trace",
    b"amq.mine",
    b"e\r0",
    b"\xc3\x28",
    LONG_NAME,
    b"no such exchange",
    b"\x00e",
)
KEYS: Final = (
    b"q0", b"q1", b"q2", b"q3", b"durable", b"quorum", b"dead", b"", b"a", b"a.b", b"a.b.c", b"1", b"7",
    b"amq.rabbitmq.reply-to",
)  # fmt: skip
PATTERNS: Final = (
    b"#",
    b"*",
    b"a.*",
    b"a.#",
    b"#.b",
    b"#.#",
    b"*.*.#",
    b"a",
    b"1",
    b"10",
    b"0",
    b"-1",
    b"q0",
    b"",
)
ODD_KEYS: Final = (
    b"a." * 127,
    b".",
    b"..",
    b"\xff.\xfe",
    LONG_NAME,
    b"#.#.#.#.#.#.#.#",
    b"99999999999999999999",
    b"1e9",
)
KINDS: Final = (
    b"direct", b"fanout", b"topic", b"headers", b"x-consistent-hash", b"x-delayed-message",
    b"x-message-deduplication", b"x-modulus-hash", b"x-random", b"x-recent-history",
)  # fmt: skip
ODD_KINDS: Final = (b"", b"Direct", b"x-unknown", b"\xff", LONG_NAME)
TAGS: Final = (b"t0", b"t1", b"t2", b"t3", b"", b"", b"", b"amq.ctag-x")
ODD_TAGS: Final = (LONG_NAME, b"\xff", b"\x00")
HOSTS: Final = (b"/", b"/", b"/", b"/", b"other", b"nobody's", b"", b"no such host", b"\xff", LONG_NAME)
TEXTS: Final = (
    b"",
    b"a",
    b"text/plain",
    "\u00e4\u20ac\U0001f407".encode(),
    b"\xff\xfe\x00",
    b"\r\n\x1b[2J",
    b"x" * 255,
)
EXPIRATIONS: Final = (
    b"0", b"1", b"100", b"60000", b"", b"abc", b"12ms", b"-1", b"+5", b"99999999999999999999", b"9" * 255, b" 1",
    "\u0661".encode(), b"1_000", b"315360000000",
)  # fmt: skip

# Arguments that mean something, by name: values that are right, and some that nearly are.
QUEUE_ARGUMENTS: Final[dict[bytes, tuple[bytes, ...]]] = {}
EXCHANGE_ARGUMENTS: Final[dict[bytes, tuple[bytes, ...]]] = {}
BINDING_ARGUMENTS: Final[dict[bytes, tuple[bytes, ...]]] = {}
CONSUMER_ARGUMENTS: Final[dict[bytes, tuple[bytes, ...]]] = {}
HEADERS: Final[dict[bytes, tuple[bytes, ...]]] = {}


def short(octets: bytes) -> bytes:
    return bytes((min(len(octets), 255),)) + octets[:255]


def long(octets: bytes) -> bytes:
    return U32(len(octets)) + octets


def text(*values: bytes) -> tuple[bytes, ...]:
    return tuple(b"S" + long(value) for value in values)


def number(*values: int) -> tuple[bytes, ...]:
    """Each in the widths that it fits, as clients differ in them."""
    found = []
    for value in values:
        for tag, form in ((b"l", ">q"), (b"I", ">i"), (b"s", ">h"), (b"b", ">b"), (b"B", ">B"), (b"i", ">I")):
            try:
                found.append(tag + struct.pack(form, value))
            except struct.error:
                continue
    return tuple(found)


def table(entries: dict[bytes, bytes]) -> bytes:
    return long(b"".join(short(name) + value for name, value in entries.items()))


TRUTH: Final = (b"t\x01", b"t\x00", b"t\x02")
NUMBERS: Final = number(
    0, 1, 2, 5, 255, 256, 1000, -1, 2**31 - 1, 2**40, 315_360_000_001, 2**63 - 1, -(2**63)
)
ANY: Final = (
    b"V", b"D\x02\x00\x00\x01\x00", b"d\x7f\xf0\x00\x00\x00\x00\x00\x00", b"d\x7f\xf8\x00\x00\x00\x00\x00\x01",
    b"f\x7f\x80\x00\x01", b"T\xff\xff\xff\xff\xff\xff\xff\xff", b"x" + long(b"\x00\xff"), b"F" + long(b""),
    b"A" + long(b""), b"A" + long(b"S" + long(b"q0") + b"V" + b"t\x01"), b"F" + table({b"a": b"V", b"": b"I\0\0\0\1"}),
    *text(b"", b"x", b"\xff\xfe", b"x" * 300), *TRUTH, *number(0, 1, -1, 2**63 - 1),
)  # fmt: skip


def _fill() -> None:
    queue = QUEUE_ARGUMENTS
    for name in (b"x-expires", b"x-message-ttl", b"x-cache-ttl", b"x-consumer-timeout"):
        queue[name] = number(0, 1, 50, 1000, 60_000, -1, 2**40)
    for name in (b"x-max-length", b"x-max-length-bytes", b"x-max-in-memory-length", b"x-cache-size"):
        queue[name] = number(0, 1, 2, 5, 100, -1)
    for name in (b"x-delayed-retry-min", b"x-delayed-retry-max", b"x-delayed-retry-multiplier"):
        queue[name] = number(0, 1, 2, 100, 2**40)
    queue[b"x-delayed-retry-jitter"] = number(0, 50, 100, 101)
    queue[b"x-delayed-retry-type"] = text(b"all", b"failed", b"returned", b"disabled", b"?")
    queue[b"x-delivery-limit"] = number(0, 1, 2, 5, -1)
    queue[b"x-dead-letter-exchange"] = text(*EXCHANGES, b"no such exchange", b"\xff")
    queue[b"x-dead-letter-routing-key"] = text(*KEYS, b"x" * 256, b"\xff")
    queue[b"x-dead-letter-strategy"] = text(b"at-most-once", b"at-least-once")
    queue[b"x-max-priority"] = number(0, 1, 5, 10, 255, 256, -1)
    queue[b"x-overflow"] = text(b"drop-head", b"reject-publish", b"reject-publish-dlx", b"?")
    queue[b"x-queue-mode"] = text(b"lazy", b"default")
    queue[b"x-queue-version"] = number(1, 2, 3)
    queue[b"x-single-active-consumer"] = TRUTH
    queue[b"x-queue-type"] = text(b"classic", b"classic", b"quorum", b"quorum", b"stream", b"?")
    queue[b"x-message-deduplication"] = TRUTH
    queue[b"x-deduplication-header"] = text(b"x-deduplication-header", b"k", b"")
    queue[b"x-max-age"] = text(b"1D", b"x")
    queue[b"x-quorum-initial-group-size"] = number(0, 1, 3)
    exchange = EXCHANGE_ARGUMENTS
    exchange[b"alternate-exchange"] = text(*EXCHANGES, b"no such exchange", b"\xff")
    exchange[b"x-delayed-type"] = text(*KINDS, b"?")
    exchange[b"hash-header"] = text(b"k", b"", b"CC")
    exchange[b"hash-property"] = text(b"message_id", b"correlation_id", b"timestamp", b"?")
    exchange[b"x-recent-history-length"] = number(0, 1, 3, 2**40, -1)
    exchange[b"x-cache-persistence"] = text(b"disk", b"memory", b"?")
    for name in (b"x-message-deduplication", b"x-deduplication-header", b"x-cache-size", b"x-cache-ttl"):
        exchange[name] = queue[name]
    BINDING_ARGUMENTS[b"x-match"] = text(b"all", b"any", b"all-with-x", b"any-with-x", b"?")
    for name in (b"k", b"a", b"x-k", b""):
        BINDING_ARGUMENTS[name] = ANY
    CONSUMER_ARGUMENTS[b"x-priority"] = number(0, 1, 5, -3, 2**63 - 1)
    CONSUMER_ARGUMENTS[b"x-stream-offset"] = (*text(b"first"), *number(1))
    CONSUMER_ARGUMENTS[b"x-cancel-on-ha-failover"] = TRUTH
    headers = HEADERS
    lists = (
        b"A" + long(b"".join(text(*some))) for some in ((b"q0",), (b"q1", b"q1", b"dead"), (), (b"\xff", b""))
    )
    headers[b"CC"] = headers[b"BCC"] = (*lists, b"A" + long(b"VI\0\0\0\1"), *text(b"q0"))
    deaths = [
        table({b"queue": one, b"reason": other, b"count": count})
        for one in (*text(b"q0", b"dead"), b"V")
        for other in text(b"expired", b"rejected", b"maxlen")
        for count in (*number(1, 2**63 - 1, -1), b"V", *text(b"5"))
    ]
    headers[b"x-death"] = (
        *(b"A" + long(b"F" + death) for death in deaths),
        b"A" + long(b"".join(b"F" + death for death in deaths)),
        b"A" + long(b"VVV"), b"V", *text(b"x"),
    )  # fmt: skip
    headers[b"x-delay"] = number(0, 1, 1000, -1000, 2**40, 2**63 - 1)
    headers[b"x-deduplication-header"] = headers[b"k"] = (*text(b"1", b"2"), *number(1), *ANY)
    headers[b"x-cache-ttl"] = number(0, 1, 1000, -1)
    headers[b"x-delivery-count"] = number(0, 3)
    headers[b"x-first-death-queue"] = headers[b"a"] = headers[b"x-k"] = headers[b""] = ANY


_fill()


class Values:
    """Draws. Each `odd_` method returns what no client should send; `chance` and `one` are for everybody."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.random = rng.random

    def chance(self, share: float) -> bool:
        return self.random() < share

    def below(self, end: int) -> int:
        return int(self.random() * end)

    def one(self, among: Sequence[Value]) -> Value:
        return among[int(self.random() * len(among))]

    def octets(self, size: int) -> bytes:
        return self.rng.randbytes(size)

    def queue(self) -> bytes:
        draw = self.random()
        if draw < 0.96:
            return self.one(QUEUES)
        return b"" if draw < 0.975 else self.one(ODD_QUEUES)

    def exchange(self) -> bytes:
        return self.one(EXCHANGES[1:]) if self.random() < 0.98 else self.one(ODD_EXCHANGES)

    def key(self) -> bytes:
        return self.one(KEYS) if self.random() < 0.95 else self.one(ODD_KEYS)

    def pattern(self) -> bytes:
        return (
            self.one(PATTERNS if self.random() < 0.6 else KEYS)
            if self.random() < 0.98
            else self.one(ODD_KEYS)
        )

    def arguments(self, known: dict[bytes, tuple[bytes, ...]], share: float = 0.5) -> bytes:
        """A table with its length. share: how often there is anything in it."""
        if self.random() >= share:
            return b"\0\0\0\0"
        names = tuple(known)
        parts = []
        for _ in range(1 + self.below(3)):
            name = self.one(names)
            value = self.one(known[name]) if self.random() < 0.9 else self.one(ANY)
            parts.append(short(name) + value)
        return long(b"".join(parts))

    def headers(self) -> bytes:
        return self.arguments(HEADERS, 0.95)

    def properties(self) -> bytes:
        """Property flags and the properties, right ones for the most part."""
        draw = self.random()
        if draw < 0.25:
            return b"\0\0"
        if draw < 0.5:
            return b"\x10\0\2" if draw < 0.4 else b"\x10\0\1"
        flags, parts = 0, []
        for position, (name, kind) in enumerate(PROPERTIES.items()):
            if self.random() >= (0.5 if name in ("headers", "delivery_mode") else 0.12):
                continue
            flags |= 1 << 15 - position
            parts.append(self._property(name, kind))
        return U16(flags) + b"".join(parts)

    def _property(self, name: str, kind: str) -> bytes:
        if kind == "F":
            return self.headers()
        if kind == "Q":
            return U64(self.one((0, 1, 1_700_000_000, 2**63, 2**64 - 1)))
        if kind == "B":
            right = (1, 2) if name == "delivery_mode" else (0, 1, 5, 9)
            return bytes((self.one(right) if self.random() < 0.95 else self.below(256),))
        if name == "expiration":
            return short(self.one(EXPIRATIONS[:4]) if self.random() < 0.8 else self.one(EXPIRATIONS))
        if name == "user_id":
            return short(b"guest" if self.random() < 0.8 else self.one(TEXTS))
        if name == "reply_to":
            return short(self.one((b"amq.rabbitmq.reply-to", b"q0")))
        return short(self.one(TEXTS))

    def odd_table(self) -> bytes:
        """A table that is wrong somewhere, or of a shape that nobody is prepared for."""
        draw = self.below(9)
        if draw == 0:
            depth = self.one((2, 20, 200, 2000))
            inside = b""
            for _ in range(min(depth, 200)):
                inside = b"\x01nF" + long(inside)
            return long(inside * max(1, depth // 200))
        if draw == 1:
            return long(b"\x01a" + b"A" * self.one((1, 5, 50)) + U32(self.below(99)))
        if draw == 2:
            return U32(self.one((1, 5, 1 << 16, 1 << 31, (1 << 32) - 1))) + self.octets(self.below(20))
        if draw == 3:
            return long(short(self.one(TEXTS)) + self.octets(1) + self.octets(self.below(12)))
        if draw == 4:
            return long(b"\x01a" * self.one((1, 2, 300)))
        if draw == 5:
            return long((b"\x01kt\x01" + short(b"k") + self.one(ANY)) * self.one((2, 40, 400)))
        if draw == 6:
            return long(
                b"".join(short(b"%d" % number) + self.one(ANY) for number in range(self.one((10, 300))))
            )
        octets = bytearray(self.arguments(HEADERS if draw == 7 else QUEUE_ARGUMENTS, 1.0))
        for _ in range(1 + self.below(3)):
            octets[self.below(len(octets))] = self.below(256)
        return bytes(octets)

    def garbled(self, octets: bytes) -> bytes:
        """The same octets, but for some that are changed, gone, come twice or are new."""
        changed = bytearray(octets)
        for _ in range(1 + self.below(3)):
            at = self.below(len(changed) + 1)
            draw = self.below(6)
            if draw == 0:
                del changed[at:]
            elif draw == 1:
                changed[at:at] = self.octets(1 + self.below(4))
            elif draw == 2:
                del changed[at : at + 1 + self.below(4)]
            elif draw == 3:
                changed[at:at] = changed[at : at + 1 + self.below(16)]
            elif at < len(changed):
                changed[at] = (
                    self.one((0, 1, 0x7F, 0x80, 0xFE, 0xFF, self.below(256)))
                    if draw == 4
                    else changed[at] ^ (1 << self.below(8))
                )
        return bytes(changed)

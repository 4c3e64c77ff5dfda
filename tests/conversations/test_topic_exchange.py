"""Topic exchanges: words, `*` and `#`, and the edges of both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .client import Channel

Declare = Callable[..., str]

MATCHES: dict[str, tuple[list[str], list[str]]] = {
    # pattern: (keys it matches, keys it does not)
    "a.b.c": (["a.b.c"], ["a.b", "a.b.c.d", "a.b.C", "a.b.", ".a.b.c", "a..c", ""]),
    # an empty key has no words, and a point has an empty one on each side
    "": ([""], ["a", ".", ".."]),
    "a": (["a"], ["", "a.", ".a", "aa", "*", "#"]),
    "*": (["a", "long-word", "a b", "*", "#"], ["", "a.b", ".", "a.", ".a"]),
    "#": (["", "a", "a.b", "a.b.c", ".", "..", "a.", "#", "*"], []),
    "*.*": (["a.b", ".", "a.", ".b"], ["a", "", "a.b.c", ".."]),
    "a.*": (["a.b", "a."], ["a", "a.b.c", "b.b", ".a", ""]),
    "*.a": (["b.a", ".a"], ["a", "a.b", "b.c.a"]),
    "a.#": (["a", "a.", "a.b", "a.b.c.d", "a..", "a.#"], ["", "b", "b.a", "aa", "aa.b"]),
    "#.a": (["a", "b.a", "c.b.a", ".a", "a.a"], ["", "a.b", "a.", "ba"]),
    "#.a.#": (["a", "a.a", "b.a.c", "x.y.a.z.z", ".a.", "a."], ["", "b", "b.c", "aa", "b.aa.c"]),
    "*.#": (["a", "a.b", ".", "a.b.c"], [""]),
    "#.*": (["a", "a.b", ".", "a.b.c"], [""]),
    "#.#": (["", "a", "a.b", "."], []),
    "#.*.#": (["a", "a.b", "a.b.c"], [""]),
    "*.#.*": (["a.b", "a.b.c", ".", ".."], ["a", ""]),
    "a.*.c": (["a.b.c", "a..c"], ["a.c", "a.b.b.c"]),
    "a.#.c": (["a.c", "a.b.c", "a.b.b.c", "a..c", "a.c.c"], ["a", "c", "a.b", "b.c", "a.c.b"]),
    "a.#.b.#.c": (
        ["a.b.c", "a.x.b.c", "a.b.x.c", "a.x.x.b.y.y.c", "a.b.b.c"],
        ["a.c", "a.b", "b.c", "a.x.c"],
    ),
    "a.*.#": (["a.b", "a.b.c", "a."], ["a", "b.b"]),
    "a.#.*": (["a.b", "a.b.c", "a."], ["a", "b.b"]),
    "a*": (["a*"], ["a", "ab", "a.b"]),
    "a#": (["a#"], ["a", "ab", "a.b"]),
    "*a.b": (["*a.b"], ["a.b", "xa.b"]),
    "a..b": (["a..b"], ["a.b", "a.x.b"]),
    "a.": (["a."], ["a", "a.b", "a.."]),
    ".": (["."], ["", "a", "a.", ".."]),
    "\u00fc.*": (["\u00fc.\u4e2d"], ["u.x"]),
    "##": (["##"], ["", "a", "a.b"]),
    "**": (["**"], ["", "a", "a.b"]),
}


@pytest.mark.parametrize("pattern", MATCHES)
def test_a_pattern_matches_what_it_should_and_nothing_else(
    channel: Channel, exchange: Declare, queue: str, pattern: str
) -> None:
    name = exchange("topic")
    channel.bind(queue, name, pattern)
    wanted, unwanted = MATCHES[pattern]
    for key in wanted + unwanted:
        channel.publish(key, exchange=name, routing_key=key)
    assert channel.drain(queue) == wanted


def test_many_patterns_that_match_bring_one_copy(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("topic")
    for pattern in ("a.b.c", "a.#", "#", "*.*.*", "#.c", "a.*.c"):
        channel.bind(queue, name, pattern)
    channel.publish("m", exchange=name, routing_key="a.b.c")
    assert channel.drain(queue) == ["m"]


def test_taking_one_pattern_away_leaves_the_others(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("topic")
    patterns = ["a", "a.b", "a.*", "a.#", "*.b", "#.b"]
    for pattern in patterns:
        channel.bind(queue, name, pattern)
    left = set(patterns)
    for pattern in patterns:
        channel.call("queue.unbind", queue=queue, exchange=name, routing_key=pattern)
        left.discard(pattern)
        channel.publish("m", exchange=name, routing_key="a.b")
        assert len(channel.drain(queue)) == bool(left - {"a"})


def test_a_key_of_many_words_is_matched(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("topic")
    channel.bind(queue, name, "#.z")
    channel.publish("m", exchange=name, routing_key="a." * 126 + "z")
    channel.publish("no", exchange=name, routing_key="a." * 126 + "y")
    assert channel.drain(queue) == ["m"]


def test_a_pattern_of_many_hashes_does_not_take_forever(
    channel: Channel, exchange: Declare, queue: str
) -> None:
    name = exchange("topic")
    channel.bind(queue, name, "#.a." * 6 + "b")
    channel.publish("no", exchange=name, routing_key=".".join("a" * 20))
    channel.publish("m", exchange=name, routing_key=".".join("a" * 20) + ".b")
    assert channel.drain(queue) == ["m"]


def test_hundreds_of_patterns_find_their_queues(channel: Channel, exchange: Declare, queue: str) -> None:
    name = exchange("topic")
    for number in range(300):
        channel.send("queue.bind", queue=queue, exchange=name, routing_key=f"k{number}.*", nowait=True)
    for number in (0, 150, 299, 300):
        channel.publish(str(number), exchange=name, routing_key=f"k{number}.x")
    assert channel.drain(queue) == ["0", "150", "299"]

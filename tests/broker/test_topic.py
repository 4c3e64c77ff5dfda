"""Topic routing: which keys a pattern matches, in what order, and at what cost."""

from __future__ import annotations

import itertools
import re
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from amqp_broker.broker.exchanges import topic
from amqp_broker.broker.exchanges.topic import TopicRouter, canonical_words

WORDS = ["a", "b", "", "a#", "**"]
PATTERNS = st.lists(st.sampled_from([*WORDS, "*", "#"]), max_size=6).map(".".join)
KEYS = st.lists(st.sampled_from([*WORDS, "*", "#"]), max_size=6).map(".".join)


def router_of(*bindings: tuple[str, str]) -> TopicRouter[str]:
    router: TopicRouter[str] = TopicRouter()
    for pattern, destination in bindings:
        router.bind(pattern, destination)
    return router


def matches(pattern: str, key: str) -> bool:
    """The rule as a regular expression over words that each end in a newline."""
    word = "[^\n]*\n"
    parts = {"*": word, "#": f"(?:{word})*"}
    expression = "".join(parts.get(part, re.escape(part + "\n")) for part in pattern.split(".") if pattern)
    text = "".join(part + "\n" for part in key.split(".") if key)
    return re.fullmatch(expression, text) is not None


# What RabbitMQ 3.10.8 answered for each of these.
@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", [""], [".", "a"]),
        ("#", ["", ".", "a", "a.b.c"], []),
        ("#.#", ["", "a", "a.b"], []),
        ("*", ["a", "*", "#"], ["", ".", "a.b"]),
        ("*.*", [".", "a.b", "a."], ["", "a", "a.b.c"]),
        ("*.#", ["a", ".", "a.b.c"], [""]),
        ("#.*", ["a", ".", "a.b.c"], [""]),
        ("#.*.#", ["a", "a.b"], [""]),
        ("#.b", ["b", "a.b", ".b", "a.a.b"], ["", "b.a"]),
        ("b.#", ["b", "b.", "b.a.a"], ["", "a.b"]),
        ("a.#.b", ["a.b", "a..b", "a.b.a.b"], ["a", "b", "a.b.a"]),
        ("a.*.b", ["a..b", "a.x.b"], ["a.b", "a.x.x.b"]),
        ("a..b", ["a..b"], ["a.b", "a.x.b"]),
        (".", ["."], ["", "a", ".."]),
        ("a#", ["a#"], ["a", "ab", "a.b"]),
        ("**", ["**"], ["a", "a.b"]),
    ],
)
def test_a_pattern_matches_by_words(pattern: str, matching: list[str], others: list[str]) -> None:
    router = router_of((pattern, "q"))
    assert [key for key in matching + others if router.match(key)] == matching
    assert [key for key in matching + others if matches(pattern, key)] == matching


def test_without_bindings_nothing_matches() -> None:
    assert router_of().match("a") == []
    assert router_of().match("") == []


def test_destinations_come_once_and_in_the_order_of_their_first_binding() -> None:
    router = router_of(
        ("#", "late"), ("x", "never"), ("a.b", "q"), ("a.*", "q"), ("#.b", "r"), ("*.b", "late")
    )
    assert router.match("a.b") == ["late", "q", "r"]


def test_a_destination_that_lost_all_bindings_goes_to_the_end() -> None:
    router = router_of(("a", "q"), ("a", "r"))
    router.unbind("a", "q")
    router.bind("#", "q")
    assert router.match("a") == ["r", "q"]


def test_a_binding_made_twice_is_there_until_it_is_removed_twice() -> None:
    router = router_of(("a", "q"), ("a", "q"))
    router.unbind("a", "q")
    assert router.match("a") == ["q"]
    router.unbind("a", "q")
    assert router.match("a") == []


def test_removing_a_binding_that_is_not_there_changes_nothing() -> None:
    router = router_of(("a.b", "q"))
    for pattern, destination in [("a.b", "other"), ("a", "q"), ("a.b.c", "q"), ("x", "q"), ("#", "q")]:
        router.unbind(pattern, destination)
    assert router.match("a.b") == ["q"]


def test_a_remembered_result_does_not_outlive_a_change_of_bindings() -> None:
    router = router_of(("a", "q"))
    assert router.match("a") == ["q"]
    router.bind("#", "r")
    assert router.match("a") == ["q", "r"]
    router.unbind("a", "q")
    assert router.match("a") == ["r"]


def test_a_result_is_remembered() -> None:
    router = router_of(("a", "q"))
    assert router.match("a") is router.match("a")


def test_remembered_results_are_bounded() -> None:
    router = router_of(*((f"#.{number % 3}", f"q{number}") for number in range(300)))
    tracemalloc.start()
    try:
        for number in range(30_000):
            assert len(router.match(f"{number}.1")) == 100
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20 * topic.CACHE_LIMIT


@given(st.lists(PATTERNS, max_size=8), KEYS)
def test_routing_agrees_with_regular_expressions(patterns: list[str], key: str) -> None:
    router: TopicRouter[int] = TopicRouter()
    for number, pattern in enumerate(patterns):
        router.bind(pattern, number)
    assert router.match(key) == [number for number, pattern in enumerate(patterns) if matches(pattern, key)]


def test_the_canonical_form_of_a_pattern_matches_the_same_keys() -> None:
    alphabet = ["a", "*", "#"]
    keys = [".".join(words) for length in range(5) for words in itertools.product(["a", "b"], repeat=length)]
    for length in range(5):
        for words in itertools.product(alphabet, repeat=length):
            pattern = ".".join(words)
            canonical = ".".join(canonical_words(pattern))
            assert "#.#" not in canonical
            assert "#.*" not in canonical
            assert [matches(pattern, key) for key in keys] == [matches(canonical, key) for key in keys]


class TopicBindings(RuleBasedStateMachine):
    """Binds and unbinds in any order, against a plain list of bindings."""

    def __init__(self) -> None:
        super().__init__()
        self.router: TopicRouter[int] = TopicRouter()
        self.bindings: list[tuple[str, int]] = []

    @rule(pattern=PATTERNS, destination=st.integers(0, 3))
    def bind(self, pattern: str, destination: int) -> None:
        self.router.bind(pattern, destination)
        self.bindings.append((pattern, destination))

    @precondition(lambda self: self.bindings)
    @rule(data=st.data())
    def unbind(self, data: st.DataObject) -> None:
        binding = data.draw(st.sampled_from(self.bindings))
        self.bindings.remove(binding)
        self.router.unbind(*binding)

    @rule(key=KEYS)
    def route(self, key: str) -> None:
        expected = {destination for pattern, destination in self.bindings if matches(pattern, key)}
        found = self.router.match(key)
        assert set(found) == expected
        assert len(found) == len(expected)

    @invariant()
    def the_trie_has_no_more_than_its_patterns_need(self) -> None:
        beginnings = {
            tuple(words[:length])
            for words in (canonical_words(pattern) for pattern, _ in self.bindings)
            for length in range(1, len(words) + 1)
        }
        assert self.router.node_count() == 1 + len(beginnings)


TestTopicBindings = TopicBindings.TestCase


# Cost


def test_twenty_thousand_bindings_leave_nothing_behind() -> None:
    router: TopicRouter[int] = TopicRouter()
    patterns = [f"{number % 100}.*.{number}.#.x{number % 7}" for number in range(20_000)]
    for number, pattern in enumerate(patterns):
        router.bind(pattern, number % 1000)
    assert router.node_count() > 20_000
    for number, pattern in enumerate(patterns):
        router.unbind(pattern, number % 1000)
    assert router.node_count() == 1


def seconds_to_route(router: TopicRouter[int], keys: list[str]) -> float:
    best = 1e9
    for attempt in range(3):
        router.bind("nowhere", -attempt)  # so that no result is remembered
        started = time.process_time()
        for key in keys:
            router.match(key)
        best = min(best, time.process_time() - started)
    return best


def router_with(count: int) -> TopicRouter[int]:
    router: TopicRouter[int] = TopicRouter()
    for number in range(count):
        router.bind(f"{number}.*.#.x", number)
        router.bind(f"#.y{number}", number)
    return router


def test_a_key_costs_by_its_words_and_not_by_the_number_of_bindings() -> None:
    keys = [f"{number % 50}.b.c.y{number}" for number in range(2000)]
    few, many = router_with(50), router_with(50_000)
    # A scan would take a thousand times as long.
    assert seconds_to_route(many, keys) < 30 * seconds_to_route(few, keys)


def test_many_wildcards_do_not_multiply() -> None:
    router = router_of(
        ("#.#.#.a", "q"),
        (".".join(["#", "b"] * 60) + ".a", "r"),
        (".".join(["#", "*"] * 60) + ".a", "s"),
    )
    assert router.match(".".join(["b"] * 127)) == []
    assert router.match(".".join(["b"] * 126) + ".a") == ["q", "r", "s"]


class Unlucky(str):
    """A word that there is no memory to look up."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise MemoryError


@pytest.mark.parametrize("pattern", ["a", "*", "a.#", "#.a", "#.a.#"])
def test_a_search_that_broke_off_leaves_nothing_behind(pattern: str) -> None:
    router = router_of((pattern, "q"), ("a.b.c", "other"), ("*.b.c", "other"), ("#.a.b.c", "other"))
    with pytest.raises(MemoryError):
        router._find(["a", Unlucky("b"), "c"])
    assert router.match("a") == ["q"]
    assert "other" in router.match("a.b.c")

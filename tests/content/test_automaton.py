"""A pattern that `re` might take long over is searched for by an automaton, which finds it where `re` finds it."""

from __future__ import annotations

import random
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.content.automaton import MOST_HELD, MOST_STATES, MOST_STEPS, Automaton, automaton_of
from amqp_broker.content.patterns import compile_pattern

# For `re` these take hours, or longer than the universe has been there.
EXPLOSIVE = [
    "^(a+)+$",
    "^(a|a)+$",
    "^(a|aa)+$",
    "^(a*)*$",
    "^(a?){60}a{60}$",
    "^" + "a?" * 60 + "a" * 60 + "$",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    r"^(\w+\s?)*$",
    ".*.*.*.*.*.*.*!$",
    "(a.*)*b(a.*)*b!",
    "^((ab*)*)*$",
]


@pytest.mark.parametrize("pattern", EXPLOSIVE)
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    for end in ("!~", "é", "~\n\n", "-"):
        assert not compiled.found_in(b"a" * 253 + end.encode())


@pytest.mark.parametrize("pattern", [".*", r"^amq\.", r"^(amq\.gen.*|amq\.default)$", "^team-[a-z]+$", "^$"])
def test_what_cannot_take_long_is_left_to_re(pattern: str) -> None:
    assert automaton_of(pattern.encode()) is None


@pytest.mark.parametrize("pattern", [rb"(a+)+\1", rb"((?=ab)(a|b)+)+", rb"(?>(a|b)+)+x", rb"(?m)(^a+)+"])
def test_what_is_no_regular_language_is_left_to_re(pattern: bytes) -> None:
    assert automaton_of(pattern) is None
    assert compile_pattern(pattern.decode()).found_in(b"aabaabx")


@pytest.mark.parametrize("pattern", ["((a{1,99}){1,99}){1,99}", "(a|bc){5000,}"])
def test_one_that_would_need_too_much_room_is_refused(pattern: str) -> None:
    with pytest.raises(re.error, match="it repeats too much"):
        compile_pattern(pattern)


# Never found, and enough that whatever stands beside it is not left to `re`.
NEVER = rb"(?:[^\x00-\xff]*)*(?!)"


def forced(pattern: bytes) -> Automaton | None:
    return automaton_of(b"(?:" + pattern + b")|" + NEVER)


ATOMS = [b"a", b"b", b".", b"[ab]", b"[^a]", rb"[^a-b\n]", rb"\d", rb"\W", rb"\n", b"^", b"$", rb"\Z", b""]
LOOKS = [b"(?=b)", b"(?!a)", b"(?<=a)", b"(?<![ab])", rb"(?=\n?\Z)", b"(?i:A)", b"(?s:.)", b"(?i:[^A])"]
REPEATS = [b"*", b"+", b"?", b"*?", b"+?", b"{2}", b"{0,2}", b"{1,}", b"{9,12}"]


def larger(patterns: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return (
        st.builds(lambda one, other: one + other, patterns, patterns)
        | st.builds(lambda one, other: b"(?:" + one + b"|" + other + b")", patterns, patterns)
        | st.builds(lambda one, times: b"(?:" + one + b")" + times, patterns, st.sampled_from(REPEATS))
        | st.builds(lambda one: b"(" + one + b")", patterns)
    )


@given(
    st.recursive(st.sampled_from(ATOMS + LOOKS), larger, max_leaves=7),
    st.lists(st.lists(st.sampled_from(b"abB1\n\xe9"), max_size=7).map(bytes), min_size=1, max_size=6),
)
def test_whatever_is_searched_for_is_found_where_re_finds_it(pattern: bytes, texts: list[bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expression = re.compile(pattern)
        automaton = forced(pattern)
    assert automaton is not None
    for text in texts:
        assert automaton.finds(text) is (expression.search(text) is not None), text


def test_what_is_remembered_of_steps_is_bounded() -> None:
    automaton = automaton_of(rb"c.{40}d|" + NEVER)
    assert automaton is not None
    expression = re.compile(rb"c.{40}d")
    chance = random.Random(1)
    sizes = []
    for _ in range(150):
        text = bytes(chance.choices(b"cx", k=200)) + b"d"
        assert automaton.finds(text) is (expression.search(text) is not None)
        sizes.append(len(automaton.steps))
    assert max(sizes) <= MOST_STEPS
    assert sizes != sorted(sizes), "there was room for all"


def test_so_are_the_states_behind_them() -> None:
    pattern = rb"c.{200}d|(c.{1,200}){2}e|"
    automaton = automaton_of(pattern + NEVER)
    assert automaton is not None
    expression = re.compile(pattern[:-1])
    chance = random.Random(2)
    held = []
    for _ in range(12):
        text = bytes(chance.choices(b"cx", k=250)) + chance.choice((b"d", b"x"))
        assert automaton.finds(text) is (expression.search(text) is not None)
        held.append(sum(map(len, automaton.sets)))
        assert automaton.held == held[-1]
    assert max(held) <= MOST_HELD + MOST_STATES
    assert held != sorted(held), "there was room for all"

"""A search for a regular expression whose time is bounded by the length of what is searched, whatever the expression.

Python's `re` tries one way after the other, which for `^(a+)+$` and a name of thirty octets takes hours. Here all ways
are gone at once, octet by octet, and what one octet leads to is found out once. It says whether there is a match, and
not where. What is no regular language (references to groups, longer looks ahead or behind, atomic groups) is left to
`re`, and so is what `re` cannot take long over.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Final

# States of an automaton, steps that are remembered, and states in the sets that those lead to: some 50 octets each.
MOST_STATES: Final = 4096
MOST_STEPS: Final = 20_000
MOST_HELD: Final = 131_072
# Repetitions and alternatives beside each other that `re` may try one after the other.
FEW_CHOICES: Final = 8

# kinds of states
OCTET: Final = 0  # goes on with an octet of its mask
SPLIT: Final = 1
BEGIN: Final = 2
END: Final = 3  # before a line feed at the end, too
VERY_END: Final = 4
BEHIND: Final = 5  # an octet of its mask comes before
NOT_BEHIND: Final = 6
AHEAD: Final = 7
NOT_AHEAD: Final = 8
FOUND: Final = 9

# Beside octets, and above them: nothing more follows; a line feed, and then nothing. As octet before: none.
NOTHING: Final = 256
LAST_FEED: Final = 257
SYMBOLS: Final = 258
FEED: Final = 10

_ALL: Final = bytes([1]) * 256
_NONE: Final = bytes(256)
_UNBOUNDED: Final = 256
_PLACES: Final = {
    "AT_BEGINNING": BEGIN,
    "AT_BEGINNING_STRING": BEGIN,
    "AT_END": END,
    "AT_END_STRING": VERY_END,
}
_CATEGORIES: Final = {
    "CATEGORY_DIGIT": rb"\d",
    "CATEGORY_NOT_DIGIT": rb"\D",
    "CATEGORY_SPACE": rb"\s",
    "CATEGORY_NOT_SPACE": rb"\S",
    "CATEGORY_WORD": rb"\w",
    "CATEGORY_NOT_WORD": rb"\W",
}
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT")


class NotRegular(Exception):
    """It cannot be said by an automaton."""


def automaton_of(pattern: bytes) -> Automaton | None:
    """For a pattern that `re` accepts and might take long over; None if it cannot, or has to be left to it.

    Raises re.error for one that would be too large.
    """
    parser = import_module("re._parser")
    tree = parser.parse(pattern)
    if not _may_take_long(tree):
        return None
    try:
        return Automaton(tree, int(tree.state.flags))
    except (NotRegular, RecursionError):
        return None


def _may_take_long(tree: Any) -> bool:
    ways = _Ways()
    ways.look(tree, in_loop=False)
    return ways.multiply or ways.loops > 1 or ways.choices > FEW_CHOICES


class _Ways:
    """What `re` may do in several ways. multiply: there is a choice within a loop."""

    __slots__ = ("choices", "loops", "multiply")

    def __init__(self) -> None:
        self.choices: int = 0
        self.loops: int = 0
        self.multiply: bool = False

    def look(self, tree: Any, in_loop: bool) -> None:
        for kind, value in tree:
            name = str(kind)
            is_loop = False
            if name in _REPEATS or name == "POSSESSIVE_REPEAT":
                is_loop = int(value[1]) > FEW_CHOICES
                self.loops += is_loop
                if value[1] != value[0]:
                    self._choice(in_loop)
            elif name == "BRANCH":
                self._choice(in_loop)
            for part in _parts(name, value):
                self.look(part, in_loop or is_loop)

    def _choice(self, in_loop: bool) -> None:
        self.choices += 1
        self.multiply = self.multiply or in_loop


def _parts(name: str, value: Any) -> list[Any]:
    """The expressions that one item is made of."""
    if name in _REPEATS or name == "POSSESSIVE_REPEAT":
        return [value[2]]
    if name == "BRANCH":
        return list(value[1])
    if name == "SUBPATTERN":
        return [value[3]]
    if name == "ATOMIC_GROUP":
        return [value]
    if name == "ASSERT" or name == "ASSERT_NOT":
        return [value[1]]
    return [part for part in value[1:] if part is not None] if name == "GROUPREF_EXISTS" else []


class Automaton:
    """States by number: kind, mask of the octets it is about, and one or two that follow (-1 for none).

    sets: those of states that the search has been in, by number; held: how many states these have altogether.
    steps: from one and a symbol to the next.
    """

    __slots__ = ("first", "held", "ids", "kinds", "looks_behind", "masks", "others", "outs", "sets", "steps")

    def __init__(self, tree: Any, flags: int) -> None:
        self.kinds: list[int] = []
        self.masks: list[bytes] = []
        self.outs: list[int] = []
        self.others: list[int] = []
        self.looks_behind: bool = False
        self.first: int = self._sequence(tree, flags, self._add(FOUND, b"", -1))
        self.sets: list[frozenset[int]] = []
        self.held: int = 0
        self.ids: dict[frozenset[int], int] = {}
        self.steps: dict[int, int] = {}

    def finds(self, octets: bytes) -> bool:
        """Whether the pattern is found anywhere in them."""
        here = self._id(frozenset())
        last = len(octets)
        before = NOTHING
        for place in range(last + 1):
            if place == last:
                symbol = NOTHING
            else:
                symbol = octets[place]
                if symbol == FEED and place == last - 1:
                    symbol = LAST_FEED
            key = (here * SYMBOLS + symbol) * SYMBOLS + before
            following = self.steps.get(key, -2)
            if following == -2:
                following = self._step(key, self.sets[here], symbol, before)
            if following == -1:
                return True
            here = following
            before = 0
            if self.looks_behind and place < last:
                before = octets[place]
        return False

    def _step(self, key: int, states: frozenset[int], symbol: int, before: int) -> int:
        """Where the symbol leads from there, or from the beginning; -1 if a match ends before it."""
        octet = FEED if symbol == LAST_FEED else symbol
        seen: set[int] = set()
        following: set[int] = set()
        stack = list(states)
        stack.append(self.first)
        while stack:
            state = stack.pop()
            if state in seen:
                continue
            seen.add(state)
            kind = self.kinds[state]
            if kind == FOUND:
                return self._remember(key, -1)
            if kind == OCTET:
                if octet != NOTHING and self.masks[state][octet]:
                    following.add(self.outs[state])
            elif self._holds(kind, state, symbol, before):
                stack.append(self.outs[state])
                if self.others[state] >= 0:
                    stack.append(self.others[state])
        if len(self.steps) >= MOST_STEPS or self.held > MOST_HELD:
            self.steps.clear()
            self.sets.clear()
            self.ids.clear()
            self.held = 0
            # What the key begins with is another one's number from now on.
            return self._id(frozenset(following))
        return self._remember(key, self._id(frozenset(following)))

    def _holds(self, kind: int, state: int, symbol: int, before: int) -> bool:
        """Whether a state that takes no octet may be passed here."""
        if kind == SPLIT:
            return True
        if kind == BEGIN:
            return before == NOTHING
        if kind == END:
            return symbol >= NOTHING
        if kind == VERY_END:
            return symbol == NOTHING
        if kind in (BEHIND, NOT_BEHIND):
            is_there = before != NOTHING and self.masks[state][before] != 0
            return is_there == (kind == BEHIND)
        octet = FEED if symbol == LAST_FEED else symbol
        is_there = octet != NOTHING and self.masks[state][octet] != 0
        return is_there == (kind == AHEAD)

    def _remember(self, key: int, following: int) -> int:
        self.steps[key] = following
        return following

    def _id(self, states: frozenset[int]) -> int:
        found = self.ids.get(states)
        if found is None:
            found = self.ids[states] = len(self.sets)
            self.sets.append(states)
            self.held += len(states)
        return found

    # -- from the tree

    def _add(self, kind: int, mask: bytes, out: int, other: int = -1) -> int:
        if len(self.kinds) >= MOST_STATES:
            raise re.error("it repeats too much")
        self.kinds.append(kind)
        self.masks.append(mask)
        self.outs.append(out)
        self.others.append(other)
        return len(self.kinds) - 1

    def _sequence(self, tree: Any, flags: int, out: int) -> int:
        """The first state of these items, the last of which leads to `out`."""
        if flags & (re.MULTILINE | re.LOCALE):
            raise NotRegular
        items: list[Any] = list(tree)
        for at in range(len(items) - 1, -1, -1):
            kind, value = items[at]
            out = self._item(str(kind), value, flags, out)
        return out

    def _item(self, name: str, value: Any, flags: int, out: int) -> int:
        if name in _REPEATS:
            return self._repeat(value[0], value[1], value[2], flags, out)
        if name == "BRANCH":
            firsts = [self._sequence(each, flags, out) for each in value[1]]
            first: int = firsts[len(firsts) - 1]
            for other in firsts[:-1]:
                first = self._add(SPLIT, b"", other, first)
            return first
        if name == "SUBPATTERN":
            return self._sequence(value[3], (flags | int(value[1])) & ~int(value[2]), out)
        if name == "AT":
            place = _PLACES.get(str(value))
            if place is None:
                raise NotRegular
            return self._add(place, b"", out)
        if name == "ASSERT" or name == "ASSERT_NOT":
            return self._look(name == "ASSERT", value[0] > 0, list(value[1]), flags, out)
        return self._add(OCTET, _mask(name, value, flags), out)

    def _repeat(self, least: Any, most: Any, repeated: Any, flags: int, out: int) -> int:
        if int(most) >= _UNBOUNDED:
            # Names are not longer than that, so it may as well go on for ever.
            split = self._add(SPLIT, b"", -1, out)
            self.outs[split] = self._sequence(repeated, flags, split)
            out = split
        else:
            end = out
            for _ in range(int(most) - int(least)):
                out = self._add(SPLIT, b"", self._sequence(repeated, flags, out), end)
        for _ in range(int(least)):
            out = self._sequence(repeated, flags, out)
        return out

    def _look(self, positive: bool, ahead: bool, items: list[Any], flags: int, out: int) -> int:
        names = [str(kind) for kind, _ in items]
        if positive and ahead and names == ["MAX_REPEAT", "AT"] and _is_a_feed_and_the_end(items):
            return self._add(END, b"", out)
        if not items:
            return out if positive else self._add(OCTET, _NONE, out)
        if len(items) != 1:
            raise NotRegular
        mask = _mask(names[0], items[0][1], flags)
        if ahead:
            return self._add(AHEAD if positive else NOT_AHEAD, mask, out)
        self.looks_behind = True
        return self._add(BEHIND if positive else NOT_BEHIND, mask, out)


def _is_a_feed_and_the_end(items: list[Any]) -> bool:
    least, most, repeated = items[0][1]
    is_feed = [(str(kind), value) for kind, value in repeated] == [("LITERAL", FEED)]
    return is_feed and (int(least), int(most)) == (0, 1) and str(items[1][1]) == "AT_END_STRING"


def _mask(name: str, value: Any, flags: int) -> bytes:
    """Which octets one item takes: 1 for each that it does. Raises NotRegular for what takes something else."""
    if name == "ANY":
        return _ALL if flags & re.DOTALL else bytes([octet != FEED for octet in range(256)])
    negated = name == "NOT_LITERAL"
    taken: set[int] = set()
    if name == "LITERAL" or name == "NOT_LITERAL":
        taken.add(int(value))
    elif name == "IN":
        for kind, item in value:
            negated = _take(str(kind), item, taken) or negated
    elif name != "FAILURE":
        # That one is what later versions of Python make of `(?!)`.
        raise NotRegular
    if flags & re.IGNORECASE:
        taken |= {
            ord(swapped) for octet in taken if octet < 128 and (swapped := chr(octet).swapcase()).isascii()
        }
    return bytes([(octet in taken) != negated for octet in range(256)])


def _take(kind: str, item: Any, taken: set[int]) -> bool:
    """Add what one item of a set takes; returns whether it negates the set."""
    if kind == "NEGATE":
        return True
    if kind == "LITERAL":
        taken.add(int(item))
    elif kind == "RANGE":
        taken.update(range(int(item[0]), int(item[1]) + 1))
    elif str(item) in _CATEGORIES:
        category = re.compile(_CATEGORIES[str(item)])
        taken.update(octet for octet in range(256) if category.match(bytes((octet,))))
    else:
        raise NotRegular
    return False

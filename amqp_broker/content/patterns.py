"""Regular expressions in permissions and policies: compiled so that they mean what they mean to RabbitMQ.

RabbitMQ gives them to PCRE, which sees octets and not characters and searches anywhere in a name. Python's `re` agrees
with it on most of the language; what it reads differently is put into its words here, and what it cannot say is
refused, so that no pattern silently allows something else than it does there. What matches means what is not said here.
"""

from __future__ import annotations

import re
import warnings
from typing import Final

from amqp_broker.content.automaton import Automaton, automaton_of

NO_VARIABLES: Final[dict[bytes, bytes]] = {}

# What stands between brackets for letters and for other classes: to Erlang's PCRE an octet is a letter of Latin-1.
_UPPER: Final = rb"A-Z\xc0-\xd6\xd8-\xde"
_LOWER: Final = rb"a-z\xaa\xb5\xba\xdf-\xf6\xf8-\xff"
_LETTERS: Final = _UPPER + _LOWER
_WORD: Final = rb"0-9_" + _LETTERS
_POSIX: Final[dict[bytes, bytes]] = {
    b"alnum": rb"0-9" + _LETTERS,
    b"alpha": _LETTERS,
    b"ascii": rb"\x00-\xff",
    b"blank": rb"\t ",
    b"cntrl": rb"\x00-\x1f\x7f-\x9f",
    b"digit": rb"0-9",
    b"graph": rb"!-~\xa0-\xff",
    b"lower": _LOWER,
    b"print": rb" -~\xa0-\xff",
    b"punct": rb"!-/:-@\[-`{-~\xa0-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7",
    b"space": rb"\t-\r ",
    b"upper": _UPPER,
    b"word": _WORD,
    b"xdigit": rb"0-9A-Fa-f",
}
# Beginning and end of a word, and where neither is.
_BEFORE: Final = rb"(?<=[" + _WORD + rb"])"
_NOT_BEFORE: Final = rb"(?<![" + _WORD + rb"])"
_AFTER: Final = rb"(?=[" + _WORD + rb"])"
_NOT_AFTER: Final = rb"(?![" + _WORD + rb"])"


def _all_but(octets: bytes) -> bytes:
    """What stands between brackets for all octets that the given ones do not mean."""
    others = re.compile(b"[^" + octets + b"]", re.DOTALL)
    return b"".join([b"\\x%02x" % octet for octet in range(256) if others.match(bytes((octet,))) is not None])


# Escapes that mean something else to Python, or nothing: outside of brackets, and within.
_ESCAPES: Final[dict[int, bytes]] = {
    ord("B"): b"(?:" + _BEFORE + _AFTER + b"|" + _NOT_BEFORE + _NOT_AFTER + b")",
    ord("E"): b"",
    ord("H"): rb"[^\t \xa0]",
    ord("N"): rb"[^\n]",
    ord("R"): rb"(?>\r\n|[\n-\r\x85])",
    ord("V"): rb"[^\n-\r\x85]",
    ord("W"): b"[^" + _WORD + b"]",
    ord("Z"): rb"(?=\n?\Z)",
    ord("b"): b"(?:" + _BEFORE + _NOT_AFTER + b"|" + _NOT_BEFORE + _AFTER + b")",
    ord("e"): rb"\x1b",
    ord("h"): rb"[\t \xa0]",
    ord("v"): rb"[\n-\r\x85]",
    ord("w"): b"[" + _WORD + b"]",
    ord("z"): rb"\Z",
}
_ESCAPES_IN_SET: Final[dict[int, bytes]] = {
    ord("E"): b"",
    ord("H"): _all_but(rb"\t \xa0"),
    ord("V"): _all_but(rb"\n-\r\x85"),
    ord("W"): _all_but(_WORD),
    ord("e"): rb"\x1b",
    ord("h"): rb"\t \xa0",
    ord("v"): rb"\n-\r\x85",
    ord("w"): _WORD,
}
_HEXADECIMAL: Final = re.compile(rb"\\x\{0*([0-9A-Fa-f]{1,2})\}")
_POSIX_NAME: Final = re.compile(rb"\[:(\^?)([a-z]+):\]")
# What is found in everything.
_ALL: Final = "(?:)"
_NAMED_GROUP: Final = re.compile(rb"\(\?<(?=[A-Za-z_])")


class Pattern:
    """A regular expression to be searched for. Octets come from clients, so how long that takes is bounded."""

    __slots__ = ("_automaton", "_expression")

    def __init__(self, expression: bytes) -> None:
        """Raises re.error, OverflowError or RecursionError."""
        self._expression: re.Pattern[bytes] = re.compile(expression)
        self._automaton: Automaton | None = automaton_of(expression)

    def found_in(self, octets: bytes) -> bool:
        if self._automaton is not None:
            return self._automaton.finds(octets)
        return self._expression.search(octets) is not None


def compile_pattern(pattern: str, variables: dict[bytes, bytes] = NO_VARIABLES) -> Pattern:
    """The regular expression of a permission, to be searched for in a name's octets; "" is found in "" alone.

    variables: what `{name}` in the pattern stands for, to be taken literally. Raises re.error.
    """
    octets = (pattern or "^$").encode("utf-8", "surrogateescape")
    try:
        with warnings.catch_warnings():
            # Python announces that it may read brackets within brackets differently one day.
            warnings.simplefilter("ignore")
            return Pattern(_Translation(octets, variables).whole())
    except (OverflowError, RecursionError) as error:
        raise re.error(str(error)) from None


def compile_policy_pattern(pattern: str) -> Pattern:
    """The same for a policy, where "" is found in every name. Raises re.error."""
    return compile_pattern(pattern or _ALL)


class _Translation:
    """From left to right through a pattern. at: the octet that is looked at; out: what it says in Python's words."""

    __slots__ = ("at", "out", "pattern", "variables")

    def __init__(self, pattern: bytes, variables: dict[bytes, bytes]) -> None:
        self.pattern: bytes = pattern
        self.variables: dict[bytes, bytes] = variables
        self.at: int = 0
        self.out: list[bytes] = []

    def whole(self) -> bytes:
        pattern = self.pattern
        while self.at < len(pattern):
            octet = pattern[self.at]
            if octet == 0x5C:  # backslash
                self._escape(_ESCAPES)
            elif octet == 0x5B:  # [
                self._set()
            elif octet == 0x7B:  # {
                self._brace()
            elif octet == 0x28:  # (
                self._parenthesis()
            else:
                self._take(1)
        return b"".join(self.out)

    def _take(self, count: int) -> None:
        """Octets that mean the same to Python."""
        self.out.append(self.pattern[self.at : self.at + count])
        self.at += count

    def _put(self, text: bytes, count: int) -> None:
        """This for the next `count` octets."""
        self.out.append(text)
        self.at += count

    def _escape(self, escapes: dict[int, bytes]) -> None:
        if self.pattern.startswith(b"\\Q", self.at):
            self._literal()
            return
        hexadecimal = _HEXADECIMAL.match(self.pattern, self.at)
        if hexadecimal is not None:
            self._put(b"\\x" + hexadecimal.group(1).zfill(2), len(hexadecimal.group()))
            return
        said = escapes.get(self.pattern[self.at + 1]) if self.at + 1 < len(self.pattern) else None
        if said is None:
            self._take(2)
        else:
            self._put(said, 2)

    def _literal(self) -> None:
        """What stands between backslash Q and backslash E, or the end."""
        start = self.at + 2
        end = self.pattern.find(b"\\E", start)
        if end < 0:
            end = len(self.pattern)
        at = start
        while at < end:
            name = self._variable(at)
            if name:
                self.out.append(re.escape(self.variables[name]))
                at += len(name)
            else:
                self.out.append(re.escape(self.pattern[at : at + 1]))
                at += 1
        self.at = end + 2

    def _variable(self, at: int) -> bytes:
        """The variable whose name, with its braces, stands there; b"" if none does."""
        for name in self.variables:
            if self.pattern.startswith(name, at):
                return name
        return b""

    def _brace(self) -> None:
        name = self._variable(self.at)
        if name:
            self._put(re.escape(self.variables[name]), len(name))
        elif self.pattern.startswith(b"{,", self.at):
            # To PCRE a repetition begins with a number.
            self._put(b"\\{", 1)
        else:
            self._take(1)

    def _parenthesis(self) -> None:
        if self.pattern.startswith(b"(?#", self.at):
            end = self.pattern.find(b")", self.at)
            if end < 0:
                raise re.error("missing ), unterminated comment")
            self.at = end + 1
        elif _NAMED_GROUP.match(self.pattern, self.at) is not None:
            self._put(b"(?P<", 3)
        else:
            self._take(1)

    def _set(self) -> None:
        """A set in brackets, up to its end; one without an end is left for Python to complain about."""
        if _POSIX_NAME.match(self.pattern, self.at) is not None:
            raise re.error("POSIX named classes are supported only within a set")
        self._take(1)
        if self.pattern.startswith(b"^", self.at):
            self._take(1)
        if self.pattern.startswith(b"]", self.at):
            self._put(b"\\]", 1)
        while self.at < len(self.pattern):
            octet = self.pattern[self.at]
            if octet == 0x5D:  # ]
                self._take(1)
                return
            if octet == 0x5C:
                self._escape(_ESCAPES_IN_SET)
            elif octet == 0x5B:
                self._bracket_in_set()
            elif octet == 0x7B and self._variable(self.at):
                self._brace()
            else:
                self._take(1)

    def _bracket_in_set(self) -> None:
        found = _POSIX_NAME.match(self.pattern, self.at)
        if found is None:
            if self.pattern[self.at + 1 : self.at + 2] in (b".", b"="):
                raise re.error("POSIX collating elements are not supported")
            self._put(b"\\[", 1)
            return
        octets = _POSIX.get(found.group(2))
        if octets is None:
            raise re.error(f"unknown POSIX class name {found.group(2).decode()}")
        if found.group(1):
            octets = _all_but(octets)
        self._put(octets, len(found.group()))

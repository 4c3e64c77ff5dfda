"""Patterns of permissions mean what they mean to PCRE, octet by octet: each of these was put to Erlang's `re`."""

from __future__ import annotations

import re

import pytest

from amqp_broker.content.patterns import compile_pattern

# Pattern, what it is found in, and what it is not found in.
MEANINGS: list[tuple[str, list[str], list[str]]] = [
    ("a", ["a", "bab"], ["b", "", "A"]),
    ("", [""], ["q", " "]),
    ("^$", ["", "\n"], ["q", "\nq"]),
    ("^a$", ["a", "a\n"], ["a\n\n", "b\na"]),
    (r"^a\z", ["a"], ["a\n"]),
    (r"\Aa\Z", ["a", "a\n"], ["a\n\n", "ba"]),
    ("a.b", ["axb"], ["a\nb", "ab"]),
    # Octets, not characters.
    ("^.$", ["a"], ["é", ""]),
    ("^..$", ["é", "ab"], ["a"]),
    ("^[é]$", [], ["é"]),
    ("^[é]+$", ["é", "éé"], ["e"]),
    ("^é+$", ["é"], ["éé", "e"]),
    ("(?i)^É$", ["É"], ["é"]),
    # An octet is a letter if it is one in Latin-1.
    (r"^\w+$", ["a_1", "ê"], ["é", "a-b"]),
    (r"^\W+$", ["-."], ["a", "ê"]),
    (r"^[\W]+$", ["-."], ["a", "ê"]),
    ("^[[:alpha:]]+$", ["ê"], ["é", "1"]),
    (r"a\b", ["a", "xa", "a-b"], ["ab", "aê"]),
    (r"^\B$", [""], ["a"]),
    (r"a\B", ["ab", "aê"], ["a", "a-b"]),
    # What Python reads differently, or not at all.
    ("^[[:alnum:]]+$", ["a1Z"], ["a:", "[a", "é"]),
    ("^[[:alpha:][:digit:]_]+$", ["a1_"], ["-", ":"]),
    ("^[[:^digit:]]+$", ["abc", "é"], ["a1", ""]),
    ("^[^[:space:]]+$", ["ab"], ["a b", "a\tb", "a\vb"]),
    ("^[[:punct:]]+$", ["[]^`{|}~", "!/:@"], ["a", " "]),
    ("^[[:xdigit:]-]+$", ["fF0-9"], ["g"]),
    ("^[[:word:].]+$", ["a_.b"], ["a-b"]),
    ("^[[a]+$", ["[a", "aa"], ["]", "b"]),
    ("^[]a]+$", ["]a"], ["[a"]),
    ("^[^]a]+$", ["bc"], ["]", "a"]),
    ("^[a&&b]+$", ["a&b"], ["c"]),
    ("^[a||b~~]+$", ["a|b~"], ["c"]),
    ("^a{2}$", ["aa"], ["a", "a{2}"]),
    ("^a{2,}$", ["aa", "aaa"], ["a"]),
    ("^a{,2}$", ["a{,2}"], ["", "a", "aa"]),
    ("^a{,}$", ["a{,}"], ["", "a"]),
    ("^a{b}$", ["a{b}"], ["a", "ab"]),
    ("^{vhost}$", ["{vhost}"], ["vhost"]),
    (r"^a\hb$", ["a b", "a\tb"], ["a\nb", "ahb"]),
    (r"^a\vb$", ["a\nb", "a\vb", "a\rb"], ["a b", "avb"]),
    (r"^[\v]$", ["\n", "\v", "\r"], ["v"]),
    (r"^[\V]+$", ["v", "a b"], ["\n", "\v"]),
    (r"^[\H]+$", ["a", "\n"], ["a b", "\t"]),
    (r"^a\Rb$", ["a\r\nb", "a\nb"], ["a\n\nb", "ab"]),
    (r"^a\Nb$", ["axb"], ["a\nb"]),
    (r"^\x61\x{62}$", ["ab"], ["x"]),
    (r"^\e$", ["\x1b"], ["e"]),
    (r"^\Qa.b*\E.$", ["a.b*c"], ["axb*c", "a.bbc"]),
    (r"^\Qa+", ["a+", "a+b"], ["aa"]),
    (r"^[\Q^]\E]+$", ["^]"], ["a", "\\"]),
    (r"^a\_\-\.b$", ["a_-.b"], ["a_-xb"]),
    (r"^(?<name>a)\1$", ["aa"], ["a"]),
    (r"^(?P<name>a)(?P=name)$", ["aa"], ["a"]),
    ("^a(?#[)b$", ["ab"], ["a[b"]),
    ("^(?>a+)b$", ["aab"], ["aa"]),
    ("^a++b$", ["aab"], ["a"]),
    ("^(?!amq)", ["q", ""], ["amq.gen"]),
    ("(?<!x)a$", ["a", "ya"], ["xa"]),
    ("^(?:a|b)?c", ["c", "ac"], ["xc"]),
    ("^(a|b)$", ["a", "b"], ["ab", ""]),
    ("^a|b$", ["ax", "xb"], ["xa", "bx"]),
]

# What PCRE can and Python cannot, or what neither can: refused, by name.
REFUSED = [
    *(
        "(",
        "a)",
        "[a",
        "*",
        "a**",
        "^*",
        "(?R)",
        r"\pL",
        r"a\Kb",
        r"\G",
        r"\g{1}",
        "[[:letters:]]",
        "[[.a.]]",
    ),
    *("[[=a=]]", "(?|a|b)", "(*UTF8)a", "a{99999999999}", "\\", r"[\R]", "(?#", "a(?i)b", "[:alpha:]"),
]


@pytest.mark.parametrize(("pattern", "names", "others"), MEANINGS)
def test_a_pattern_is_found_in_what_pcre_finds_it_in(
    pattern: str, names: list[str], others: list[str]
) -> None:
    compiled = compile_pattern(pattern)
    found = [name for name in names + others if compiled.found_in(name.encode())]
    assert found == names


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_cannot_be_said_is_refused(pattern: str) -> None:
    with pytest.raises(re.error):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("^{username}$", "a.b", "axb"),
        ("^{username}-{vhost}$", "a.b-{username}", "a.b-a.b"),
        (r"^\Q{username}\E\.", "a.b.", "a.b"),
        ("^[{username}]+$", "b.a", "a-b"),
        ("^({username}){2}$", "a.ba.b", "a.b"),
        ("^{client_id}$", "{client_id}", "a.b"),
    ],
)
def test_a_variable_stands_for_its_value_to_the_letter(pattern: str, found: str, not_found: str) -> None:
    """A user named `.*` does not get what others have."""
    compiled = compile_pattern(pattern, {b"{username}": b"a.b", b"{vhost}": b"{username}"})
    assert compiled.found_in(found.encode())
    assert not compiled.found_in(not_found.encode())


def test_a_pattern_with_odd_brackets_warns_nobody() -> None:
    assert compile_pattern("[[]").found_in(b"[")

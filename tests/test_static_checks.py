"""What the static checks of pyproject.toml leave to be said: why something is let pass, and what asserts are for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "amqp_broker").rglob("*.py"))
# A rule of flake8-bandit that is switched off for a line, with what stands behind it.
_LET_PASS = re.compile(r"# noqa:((?: ?[A-Z]+\d+,?)+)(.*)$")


def decides_something(assertion: ast.Assert) -> bool:
    """Whether an assert is more than a word to the type checker: Python's option -O leaves asserts out."""
    tested = assertion.test
    if isinstance(tested, ast.Call) and isinstance(tested.func, ast.Name):
        return tested.func.id != "isinstance"
    if isinstance(tested, ast.Compare) and len(tested.ops) == 1 and isinstance(tested.ops[0], ast.IsNot):
        compared = tested.comparators[0]
        return not (isinstance(compared, ast.Constant) and compared.value is None)
    return True


def asserts(source: str) -> list[ast.Assert]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]


def let_pass_silently(source: str) -> list[str]:
    """Lines on which a security rule is switched off without a reason."""
    found = []
    for line in source.splitlines():
        match = _LET_PASS.search(line)
        if match is not None and re.search(r"\bS\d{3}\b", match[1]) and len(match[2].split()) < 2:
            found.append(line)
    return found


def test_no_assert_of_the_broker_decides_anything() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{found.lineno}"
        for file in SOURCES
        for found in asserts(file.read_text())
        if decides_something(found)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    ["assert user.may(name)", "assert a == b", "assert a is not b", "assert password", "assert x is None"],
)
def test_an_assert_that_decides_is_noticed(source: str) -> None:
    assert [decides_something(found) for found in asserts(source)] == [True]


def test_a_security_rule_is_switched_off_with_a_reason() -> None:
    silent = [line for file in SOURCES for line in let_pass_silently(file.read_text())]
    assert silent == []


@pytest.mark.parametrize(
    ("line", "silent"), [("x()  # noqa: S603", 1), ("x()  # noqa: S603  our own program", 0)]
)
def test_a_missing_reason_is_noticed(line: str, silent: int) -> None:
    assert len(let_pass_silently(line)) == silent

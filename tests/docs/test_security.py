"""What docs/security.md says of attempts and of known weaknesses is what there are tests for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, links
from tests.penetration.listing import BEGIN, END, PAGE, attempts, files, with_listing

TABLE = "## Known weaknesses of AMQP brokers"
LEAST = 60
_TEST = re.compile(r"`(test_\w+)`")
_IDENTIFIER = re.compile(r"\b(CVE-\d{4}-\d{4,7}|GHSA(-[0-9a-z]{4}){3})\b")


def rows(page: str) -> list[list[str]]:
    """The rows of the tables below the heading, without their heads; each is a list of cells."""
    section = page.partition(f"{TABLE}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    heads = {number - 1 for number, row in enumerate(cells) if set("".join(row)) == {"-"}}
    return [row for number, row in enumerate(cells) if number not in heads and number - 1 not in heads]


def functions(file: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE))


def test_the_list_of_attempts_is_current() -> None:
    page = PAGE.read_text()
    assert page.count(BEGIN) == page.count(END) == 1
    assert with_listing(page) == page, "run python -m tests.penetration"


def test_there_are_as_many_attempts_as_promised() -> None:
    names = [name for file in files() for name in attempts(file)]
    assert len(names) == len(set(names))
    assert len(names) >= LEAST
    found = re.search(r"(\d+) attempts", PAGE.read_text())
    assert found is not None
    assert int(found[1]) == len(names)


def test_every_known_weakness_names_tests_that_exist() -> None:
    found = rows(PAGE.read_text())
    assert len(found) >= 30
    for row in found:
        assert len(row) == 4, row
        assert _TEST.search(row[3]) or row[3] == "–", row
    by_file: dict[Path, set[str]] = {}
    named = [(text, target) for text, target in links(PAGE) if _TEST.fullmatch(text)]
    assert named
    for text, target in named:
        file = (PAGE.parent / target).resolve()
        assert file.is_relative_to(ROOT / "tests")
        assert text.strip("`") in by_file.setdefault(file, functions(file)), (text, target)


def test_no_weakness_is_listed_twice() -> None:
    identifiers = [found[0] for row in rows(PAGE.read_text()) for found in _IDENTIFIER.finditer(row[0])]
    assert len(identifiers) >= 30
    assert sorted(identifiers) == sorted(set(identifiers))


@pytest.mark.parametrize("row", ["| CVE-1 | was | is | `test_x` |", "| CVE-1 | a \\| b | is | – |"])
def test_rows_are_read_as_they_are_written(row: str) -> None:
    table = f"{TABLE}\n\n| a | b | c | d |\n|---|---|---|---|\n{row}\n\n## Next\n\n| no | row | of | it |\n"
    assert [len(cells) for cells in rows(table)] == [4]

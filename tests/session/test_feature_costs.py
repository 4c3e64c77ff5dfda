"""The command that measures features works, and docs/performance.md shows what it prints."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.docs.pages import ROOT
from tests.session import feature_costs
from tests.session.feature_costs import CASES, Case, Cost, best, measured, table

PAGE: Final = ROOT / "docs" / "performance.md"
FEW: Final = 30
NAMES: Final = [case.name for case in CASES]
BASES: Final = [case.base if case.base != case.name else "" for case in CASES]
FIGURE: Final = re.compile(r"\d+(,\d{3})*")


def rows(text: str) -> list[list[str]]:
    """The cells of every row below the head of the table in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def head(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")][:2]


def documented(build: str) -> str:
    found = re.search(rf"<!-- begin: {build} -->\n(.*?)<!-- end: {build} -->", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"no table of the {build} build"
    return found[1]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    feature_costs.main(["--messages", str(FEW), "--runs", "1"])
    return capsys.readouterr().out


def test_the_command_prints_a_row_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(printed(capsys))
    assert [row[0] for row in found] == NAMES
    assert [row[6] for row in found] == BASES
    for (_, publish, between, delivery, together, _, _), case in zip(found, CASES, strict=True):
        assert all(FIGURE.fullmatch(figure) for figure in (publish, together)), case.name
        assert (between != "", delivery != "") == (case.between is not None, case.then is not None), case.name


def test_every_case_is_compared_with_a_case_that_has_a_row() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {case.base for case in CASES} <= set(NAMES)


@pytest.mark.parametrize("build", ["compiled", "pure Python"])
def test_the_documentation_has_the_rows_that_the_command_prints(
    build: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = documented(build)
    assert head(page) == head(printed(capsys))
    assert [(row[0], row[6]) for row in rows(page)] == list(zip(NAMES, BASES, strict=True))


def test_the_documentation_names_the_command() -> None:
    assert f"python -m {feature_costs.__name__}\n" in PAGE.read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        Case("nothing is delivered", then=None),
        Case("all should stay", left=FEW),
        Case("the queue is full", queue={"x-max-length": 1}),
    ],
)
def test_a_case_whose_messages_go_another_way_is_not_measured(wrong: Case) -> None:
    with pytest.raises(AssertionError, match=wrong.name):
        measured(wrong, FEW)


def test_the_best_of_some_runs_is_the_least_of_each_step() -> None:
    assert best([Cost(5.0, None, 3.0), Cost(4.0, None, 8.0)]) == Cost(4.0, None, 3.0)


def test_a_difference_is_that_of_all_steps_together_to_those_of_the_base() -> None:
    costs = {case.name: Cost(200.0, None, 300.0) for case in CASES}
    costs["dead letters: expired"] = Cost(1200.0, 400.0, 8400.0)
    costs["`expiration`"] = Cost(100.0, None, 150.0)
    shown = {row[0]: row[1:] for row in rows(table(costs))}
    assert shown["plain"] == ["200", "", "300", "500", "", ""]
    assert shown["dead letters: expired"] == ["1,200", "400", "8,400", "10,000", "+1900%", "plain"]
    assert shown["`expiration`"] == ["100", "", "150", "250", "-50%", "plain"]

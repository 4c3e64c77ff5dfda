"""What the broker depends on: least versions that were tried, upper bounds only where a reason stands beside."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT: dict[str, Any] = tomllib.loads(TEXT)
OWN = PROJECT["project"]["name"]


def requirements(texts: list[str]) -> list[Requirement]:
    return [found for found in map(Requirement, texts) if found.name != OWN]


DEPENDENCIES = requirements(PROJECT["project"]["dependencies"])
EXTRAS = {name: requirements(texts) for name, texts in PROJECT["project"]["optional-dependencies"].items()}
BUILD = requirements(PROJECT["build-system"]["requires"])
EVERYTHING = [*DEPENDENCIES, *BUILD, *(found for extra in EXTRAS.values() for found in extra)]


def bounds(requirement: Requirement, *operators: str) -> list[str]:
    return [each.version for each in requirement.specifier if each.operator in operators]


def reasons(text: str, requirement: str) -> list[str]:
    """What stands behind a requirement, on each line of pyproject.toml that has it."""
    return re.findall(rf'^\s*"{re.escape(requirement)}",?[ ]*(?:# *(.*))?$', text, re.MULTILINE)


def lowest() -> dict[str, Version]:
    lines = (ROOT / "tests" / "lowest_versions.txt").read_text().splitlines()
    pins = [line.partition("==") for line in lines if not line.startswith("#")]
    return {name: Version(pinned) for name, _, pinned in pins}


@pytest.mark.parametrize("requirement", EVERYTHING, ids=str)
def test_everything_has_a_least_version(requirement: Requirement) -> None:
    assert len(bounds(requirement, ">=")) == 1


def test_an_upper_bound_has_a_reason_beside_it() -> None:
    texts = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
    texts += [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]
    bounded = [text for text in texts if bounds(Requirement(text), "<", "<=", "==", "~=", "!=")]
    assert bounded, "nothing has an upper bound any more: is this test still needed?"
    for text in bounded:
        found = reasons(TEXT, text)
        assert found, f"{text} does not stand on a line of its own"
        assert all(len(reason.split()) >= 2 for reason in found), (
            f"{text} has an upper bound without a reason"
        )


def test_a_reason_that_is_missing_is_noticed() -> None:
    assert reasons('a = [\n    "x>=1,<2",  # it breaks\n]\nb = [\n    "x>=1,<2",\n]\n', "x>=1,<2") == [
        "it breaks",
        "",
    ]


def test_the_least_versions_are_the_ones_that_are_tried() -> None:
    tried = lowest()
    wanted = {found.name: Version(bounds(found, ">=")[0]) for found in [*DEPENDENCIES, *EXTRAS["test"]]}
    assert tried.keys() == wanted.keys()
    for name, least in wanted.items():
        # A bound that says less than a whole version means the first that there is.
        assert tried[name].release[: len(least.release)] == least.release, name


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *EXTRAS["test"]], ids=str)
def test_what_is_installed_is_allowed(requirement: Requirement) -> None:
    if requirement.marker is None or requirement.marker.evaluate():
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)

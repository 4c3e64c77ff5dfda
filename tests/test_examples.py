"""Properties are tried on the same examples each time, unless others are asked for."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests import examples


def test_chance_chooses_nothing_unless_it_is_asked_to() -> None:
    assert settings().derandomize is ("AMQP_TEST_EXAMPLES" not in os.environ)


def test_what_nobody_asked_for_is_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "ASKED", None)
    monkeypatch.setattr(examples, "SEED", None)
    assert examples.examples(7) == 7
    assert examples.seeds(4) == [0, 1, 2, 3]


def test_so_many_are_made_up_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "ASKED", "50")
    monkeypatch.setattr(examples, "SEED", None)
    assert examples.examples(7) == 50
    assert len(set(examples.seeds(4))) == 50
    assert examples.seeds(4) != examples.seeds(4)


def test_a_story_is_told_again_by_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "ASKED", "50")
    monkeypatch.setattr(examples, "SEED", "123")
    assert examples.seeds(4) == [123]

"""Conversations that were made up: see grammar.py. `--seed` holds others than these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..grammar import made_up
from ..script import Conversation

SEEDS: Final = range(1, 151)


def conversations() -> Iterator[Conversation]:
    for seed in SEEDS:
        yield made_up(seed)

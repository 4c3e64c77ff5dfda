"""How many examples a property is tried on, and whether they are always the same ones.

Without AMQP_TEST_EXAMPLES they are: what a test says of a state of the code must not depend on luck. With it, so many
are made up anew in each run. A story that was told from a seed is told again with AMQP_TEST_SEED set to that seed.
"""

from __future__ import annotations

import os
import random
from typing import Final

ASKED: Final = os.environ.get("AMQP_TEST_EXAMPLES")
SEED: Final = os.environ.get("AMQP_TEST_SEED")


def examples(usual: int) -> int:
    """How many; `usual` where the environment does not say."""
    return usual if ASKED is None else int(ASKED)


def seeds(usual: int) -> list[int]:
    """One for each story: the first `usual` numbers, or as many by chance as the environment says."""
    if SEED is not None:
        return [int(SEED)]
    return list(range(usual)) if ASKED is None else random.sample(range(1 << 32), int(ASKED))

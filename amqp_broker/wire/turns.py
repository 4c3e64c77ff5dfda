"""What ends a connection's turn: time, and the steps after which somebody looks at it.

A look at the clock costs a tenth of a short message, so the reader counts steps instead: a frame is one, and what is
known to take longer counts as more.
"""

from __future__ import annotations

from typing import Final

# So many between two looks.
STEPS: Final = 32
METHOD_STEPS: Final = 8
# Octets of a table that has to be parsed that count as a step.
TABLE_STEP: Final = 128
# Octets that are kept of a connection which is not heard: it is not read from, so there are those that had come before.
MOST_KEPT: Final = 1 << 40


def before_all_time() -> float:
    """The clock of a reader that may take as long as it takes."""
    return -1.0

"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.examples import ASKED, examples

# How fast examples are made depends on what else the machine does; it says nothing about the broker.
settings.register_profile(
    "shared machine",
    max_examples=examples(100),
    derandomize=ASKED is None,
    print_blob=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("shared machine")

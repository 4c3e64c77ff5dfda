"""What the broker knows about its own build."""

from __future__ import annotations

from importlib.metadata import version

from amqp_broker import errors
from amqp_broker.build_info import VERSION, compiled


def test_the_version_is_the_distributions() -> None:
    assert version("amqp-broker-server") == VERSION


def test_compiled_is_true_exactly_if_the_hot_modules_are_extensions() -> None:
    assert compiled() == (not str(errors.__file__).endswith(".py"))

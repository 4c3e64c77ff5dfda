"""Which broker this is: its name, its version, and whether its hot modules run compiled.

It imports nothing of the broker, so that asking costs nothing.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Final

NAME: Final = "amqp-broker"
VERSION = "0.1.0"


def compiled() -> bool:
    """Whether the modules that carry every message are extensions built by mypyc from the Python source."""
    spec = find_spec("amqp_broker.errors")
    return spec is not None and spec.origin is not None and spec.origin.endswith(tuple(EXTENSION_SUFFIXES))


def version_line() -> str:
    """What `--version` prints: name, version, and "compiled" or "pure Python" in brackets."""
    return f"{NAME} {VERSION} ({'compiled' if compiled() else 'pure Python'})"

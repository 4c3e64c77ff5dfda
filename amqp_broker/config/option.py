"""What an option and a section of options are; the options themselves are declared in `options`."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from amqp_broker.config.values import Kind

ENVIRONMENT_PREFIX: Final = "AMQP_BROKER_"
MAX_SIZE: Final = 2**50


class Option:
    """What is declared about one option beside its name, type and default.

    kind: how its value is read, checked and written. advice: a paragraph that starts with what it does.
    flag: the flag of `amqp-broker serve` that sets it, "" if there is none. secret: never shown in a message.
    """

    def __init__(self, kind: Kind[Any], advice: str, *, flag: str = "", secret: bool = False) -> None:
        self.kind = kind
        self.advice = " ".join(advice.split())
        self.flag = flag
        self.secret = secret
        self.path = ""
        self.default: Any = None

    @property
    def summary(self) -> str:
        return self.advice.partition(". ")[0].rstrip(".")

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return ENVIRONMENT_PREFIX + self.path.replace(".", "_").upper()


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the configuration file."""

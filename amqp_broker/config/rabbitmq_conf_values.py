"""How values are written in rabbitmq.conf: RabbitMQ's types and its two families of size units.

A `Reader` turns a text into what an option's kind takes, or raises ValueError. It knows neither keys nor options,
and leaves ranges to the option, except where RabbitMQ's own are narrower.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from amqp_broker.config.values import parse_host

# RabbitMQ reads protocol sizes with one parser (1 KB is 1024) and resource limits with another (1 kB is 1000).
BYTE_UNITS: Final[Mapping[str, int]] = {"": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}
RESOURCE_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    **{
        name: 2 ** (10 * power) for power, letter in enumerate("kmgtp", 1) for name in (letter, f"{letter}ib")
    },
    **{f"{letter}b": 10 ** (3 * power) for power, letter in enumerate("kmgtp", 1)},
}
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,30}")
_SIZE: Final = re.compile(r"([0-9]{1,30})([A-Za-z]*)")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_NUMBER: Final = re.compile(r"[0-9]{0,30}\.?[0-9]{1,30}")


class Reader(ABC):
    """One type of value."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What a value looks like, to follow the word "expected"."""

    @abstractmethod
    def read(self, text: str) -> object:
        """The value; ValueError if the text is none."""


class Text(Reader):
    """Any text, as it stands there."""

    @property
    def allowed(self) -> str:
        return "a text"

    def read(self, text: str) -> str:
        return text


class Flag(Reader):
    """true or false."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def read(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError
        return text == "true"


class Word(Reader):
    """One of a few words, each with what it stands for here. aliases: other names for some of the words."""

    def __init__(self, meanings: Mapping[str, str], aliases: Mapping[str, str] | None = None) -> None:
        self.meanings = meanings
        self.aliases = aliases or {}

    @property
    def allowed(self) -> str:
        *others, last = self.meanings
        return f"{', '.join(others)} or {last}" if others else last

    def read(self, text: str) -> str:
        word = self.aliases.get(text, text)
        if word not in self.meanings:
            raise ValueError
        return self.meanings[word]


class Whole(Reader):
    """A whole number, of what `unit` says.

    unlimited: what 0 stands for here, where RabbitMQ reads it as "no limit".
    """

    def __init__(self, unit: str = "", unlimited: int = 0) -> None:
        self.unit = unit
        self.unlimited = unlimited

    @property
    def allowed(self) -> str:
        return f"a whole number of {self.unit}" if self.unit else "a whole number"

    def read(self, text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise ValueError
        return int(text) or self.unlimited


class Milliseconds(Reader):
    """A time in milliseconds, read as seconds."""

    @property
    def allowed(self) -> str:
        return "a whole number of milliseconds"

    def read(self, text: str) -> float:
        if not _WHOLE.fullmatch(text):
            raise ValueError
        return int(text) / 1000


class Limit(Reader):
    """A limit that may be `infinity`, which an option writes as 0."""

    @property
    def allowed(self) -> str:
        return "a whole number from 1, or infinity"

    def read(self, text: str) -> int:
        if text == "infinity":
            return 0
        if not _WHOLE.fullmatch(text) or int(text) < 1:
            raise ValueError
        return int(text)


class Bytes(Reader):
    """A size of the protocol: KB, MB and GB count in 1024s."""

    def __init__(self, unlimited: int = 0) -> None:
        self.unlimited = unlimited

    @property
    def allowed(self) -> str:
        return "a number of bytes, or one with KB, MB or GB, which count in 1024s here"

    def read(self, text: str) -> int:
        return _size(text, BYTE_UNITS) or self.unlimited


class Resource(Reader):
    """A size of memory or disk: kB, MB, GB count in thousands; k, kiB, M, MiB, G, GiB in 1024s."""

    @property
    def allowed(self) -> str:
        return "a number of bytes, or one with a unit such as MB (1000s) or MiB and M (1024s)"

    def read(self, text: str) -> int:
        return _size(text, RESOURCE_UNITS)


class Number(Reader):
    """A number that may have a fraction."""

    @property
    def allowed(self) -> str:
        return "a number such as 0.4"

    def read(self, text: str) -> float:
        if not _NUMBER.fullmatch(text):
            raise ValueError
        return float(text)


class Listener(Reader):
    """A port, or an address and a port: 5672, 127.0.0.1:5672, ::1:5672, [::1]:5672, host:5672."""

    @property
    def allowed(self) -> str:
        return "a port such as 5672, or an address and a port such as 127.0.0.1:5672 or ::1:5672"

    def read(self, text: str) -> tuple[str, int]:
        """Host, "" for every address of the machine, and port."""
        host, _, port = text.rpartition(":")
        if not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError
        if not host:
            if text != port:
                raise ValueError
            return "", int(port)
        bare_ipv6 = ":" in host and not host.startswith("[")
        return parse_host(f"[{host}]" if bare_ipv6 else host), int(port)


def _size(text: str, units: Mapping[str, int]) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError
    return int(match[1]) * units[match[2].lower()]

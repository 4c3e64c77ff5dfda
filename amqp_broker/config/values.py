"""The kinds of value an option can have.

A `Kind` turns what a TOML file or a line of text (environment variable, flag) says into the value the
broker works with, checks its range, says in words what it allows, and writes a value back as TOML. It knows
nothing of names, sections or sources: a value it refuses is a ValueError whose text says what is wrong
beyond `allowed`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Generic, TypeVar

import msgspec

from amqp_broker.content.patterns import compile_pattern

T = TypeVar("T")
Property = str | int | bool

SIZE_UNITS: Final[Mapping[str, int]] = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
DURATION_UNITS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


class Address(msgspec.Struct, frozen=True, kw_only=False):
    """A host name or IP address (IPv6 without brackets) and a TCP port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Kind(ABC, Generic[T]):
    """One kind of value; `unit` names what a plain number counts, "" if there is nothing to count."""

    unit: str = ""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What a valid value looks like, to follow the word "expected"."""

    @abstractmethod
    def parse(self, value: object) -> T:
        """The value for what tomllib read; ValueError if it is not allowed."""

    def parse_text(self, text: str) -> T:
        """The value for the text of an environment variable or a flag; ValueError if it is not allowed."""
        return self.parse(text)

    @abstractmethod
    def toml(self, value: T) -> str:
        """The value as it stands in a TOML file, in its most readable unit."""


class Text(Kind[str]):
    """A string, of a minimum length in characters and without control characters."""

    def __init__(self, allowed: str = "a string", min_length: int = 0, max_bytes: int = 4096) -> None:
        self._allowed = allowed
        self.min_length = min_length
        self.max_bytes = max_bytes

    @property
    def allowed(self) -> str:
        return self._allowed

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        if len(value) < self.min_length or any(character < " " for character in value):
            raise ValueError
        if len(value.encode()) > self.max_bytes:
            raise ValueError(f"longer than {self.max_bytes} bytes")
        return value

    def toml(self, value: str) -> str:
        return quoted(value)


class Pattern(Text):
    """A regular expression as in permissions, kept as its text."""

    def __init__(self) -> None:
        super().__init__("a regular expression")

    def parse(self, value: object) -> str:
        text = super().parse(value)
        try:
            compile_pattern(text)
        except re.error as error:
            raise ValueError(str(error)) from None
        return text


class Choice(Kind[str]):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(map(quoted, self.words))

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise ValueError
        return value

    def toml(self, value: str) -> str:
        return quoted(value)


class Switch(Kind[bool]):
    """True or false."""

    TEXTS: Final[Mapping[str, bool]] = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }

    @property
    def allowed(self) -> str:
        return "true or false"

    def parse(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def parse_text(self, text: str) -> bool:
        if text.lower() not in self.TEXTS:
            raise ValueError
        return self.TEXTS[text.lower()]

    def toml(self, value: bool) -> str:
        return "true" if value else "false"


class Integer(Kind[int]):
    """A whole number in a range, both ends included."""

    def __init__(self, low: int, high: int, unit: str = "") -> None:
        self.low = low
        self.high = high
        self.unit = unit

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def parse(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise ValueError
        return value

    def parse_text(self, text: str) -> int:
        return self.parse(int(text))

    def toml(self, value: int) -> str:
        return str(value)


class Fraction(Kind[float]):
    """A share of a whole, from 0 to 1."""

    unit = "share"

    @property
    def allowed(self) -> str:
        return "a number from 0 to 1"

    def parse(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise ValueError
        return float(value)

    def parse_text(self, text: str) -> float:
        return self.parse(float(text))

    def toml(self, value: float) -> str:
        return repr(value)


class Size(Kind[int]):
    """A number of bytes in a range: a plain number, or a string with a unit such as "50MB" or "128MiB"."""

    unit = "bytes"

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    @property
    def allowed(self) -> str:
        low, high = self.spell(self.low), self.spell(self.high)
        return f'a size from {low} to {high}, in bytes or like "50MB" or "128MiB"'

    def parse(self, value: object) -> int:
        count = _quantity(value, SIZE_UNITS)
        if not self.low <= count <= self.high or count != int(count):
            raise ValueError
        return int(count)

    def toml(self, value: int) -> str:
        text = self.spell(value)
        return text if text.isdigit() else quoted(text)

    @staticmethod
    def spell(value: int) -> str:
        """The shortest exact way to write a size; a plain number where it is small or not round."""
        for name in ("TiB", "GiB", "MiB", "GB", "MB", "KiB"):
            factor = SIZE_UNITS[name.lower()]
            if value >= 65536 and value % factor == 0:
                return f"{value // factor}{name}"
        return str(value)


class Duration(Kind[float]):
    """A time in seconds in a range: a plain number, or a string with a unit like "500ms", "30s" or "10m"."""

    unit = "seconds"

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    @property
    def allowed(self) -> str:
        low, high = self.spell(self.low), self.spell(self.high)
        return f'a time from {low} to {high}, in seconds or like "500ms", "30s" or "10m"'

    def parse(self, value: object) -> float:
        seconds = _quantity(value, DURATION_UNITS)
        if not self.low <= seconds <= self.high:
            raise ValueError
        return float(seconds)

    def toml(self, value: float) -> str:
        text = self.spell(value)
        return text if text.isdigit() else quoted(text)

    @staticmethod
    def spell(value: float) -> str:
        """An exact way to write a time; minutes and hours only where there are several of them."""
        if value == 0:
            return "0"
        for name in ("d", "h", "m", "s"):
            count = value / DURATION_UNITS[name]
            if count == int(count) and (count > 1 or name == "s"):
                return f"{int(count)}{name}"
        return f"{round(value * 1000)}ms"


class Seconds(Kind[int]):
    """A `Duration` that the protocol can only say in whole seconds."""

    unit = "seconds"

    def __init__(self, low: int, high: int) -> None:
        self._duration = Duration(low, high)

    @property
    def allowed(self) -> str:
        low, high = int(self._duration.low), int(self._duration.high)
        return f'a whole number of seconds from {low} to {high}, also like "30s" or "10m"'

    def parse(self, value: object) -> int:
        seconds = self._duration.parse(value)
        if seconds != int(seconds):
            raise ValueError
        return int(seconds)

    def toml(self, value: int) -> str:
        return quoted(f"{value}s") if value else "0"


class Texts(Kind[tuple[str, ...]]):
    """A list of distinct strings; as text, separated by commas."""

    def __init__(self, item: Kind[str], allowed: str, min_items: int = 0) -> None:
        self._item = item
        self._allowed = allowed
        self._min_items = min_items

    @property
    def allowed(self) -> str:
        return self._allowed

    def parse(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError
        items = tuple(self._item.parse(item) for item in value)
        if len(items) < self._min_items:
            raise ValueError
        if len(set(items)) < len(items):
            raise ValueError("an entry stands there twice")
        return items

    def parse_text(self, text: str) -> tuple[str, ...]:
        return self.parse(split_list(text))

    def toml(self, value: tuple[str, ...]) -> str:
        return "[" + ", ".join(map(quoted, value)) + "]"


class Addresses(Kind[tuple[Address, ...]]):
    """A list of host:port; as text, separated by commas."""

    @property
    def allowed(self) -> str:
        return 'a list of "host:port", IPv6 addresses in brackets like "[::1]:5672"'

    def parse(self, value: object) -> tuple[Address, ...]:
        if not isinstance(value, list):
            raise ValueError
        addresses = tuple(map(parse_address, value))
        fixed = [address for address in addresses if address.port]
        if len(set(fixed)) < len(fixed):
            raise ValueError("an address stands there twice")
        return addresses

    def parse_text(self, text: str) -> tuple[Address, ...]:
        return self.parse(split_list(text))

    def toml(self, value: tuple[Address, ...]) -> str:
        return "[" + ", ".join(quoted(str(address)) for address in value) + "]"


class Directory(Kind[Path]):
    """A directory's path, made absolute; "" stands for a place that `default` computes."""

    def __init__(self, default: Path) -> None:
        self._default = default

    @property
    def allowed(self) -> str:
        return 'a path, or "" for the default place'

    def parse(self, value: object) -> Path:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError
        if not value:
            return self._default
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError:
            raise ValueError("no such user's home directory is known") from None

    def toml(self, value: Path) -> str:
        return quoted("" if value == self._default else str(value))


class Properties(Kind[Mapping[str, Property]]):
    """A table of strings, 64-bit whole numbers and switches; as text, name=value separated by commas."""

    @property
    def allowed(self) -> str:
        return "a table of strings, whole numbers, true and false"

    def parse(self, value: object) -> Mapping[str, Property]:
        if not isinstance(value, dict):
            raise ValueError
        for name, item in value.items():
            if not 1 <= len(name.encode()) <= 128:
                raise ValueError(f"the name {quoted(name)} is not 1 to 128 bytes long")
            if not isinstance(item, str | int):
                raise ValueError(f"{name} is none of these")
            if isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise ValueError(f"{name} does not fit in 64 bits")
        return MappingProxyType(dict(value))

    def parse_text(self, text: str) -> Mapping[str, Property]:
        pairs = [item.partition("=") for item in split_list(text)]
        if not all(separator for _, separator, _ in pairs):
            raise ValueError("write name=value,name=value")
        return self.parse({name.strip(): value.strip() for name, _, value in pairs})

    def toml(self, value: Mapping[str, Property]) -> str:
        if not value:
            return "{}"
        return (
            "{ " + ", ".join(f"{quoted(name)} = {toml_scalar(item)}" for name, item in value.items()) + " }"
        )


def parse_address(value: object) -> Address:
    """The address in "host:port" or "[ipv6]:port"; ValueError says which part is wrong."""
    if not isinstance(value, str):
        raise ValueError
    host, separator, port = value.strip().rpartition(":")
    if not separator:
        raise ValueError(f"{quoted(value)} has no port")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{quoted(port)} is not a port from 0 to 65535")
    return Address(parse_host(host), int(port))


def parse_host(text: str) -> str:
    """A host name, an IPv4 address or a bracketed IPv6 address, without its brackets; else ValueError."""
    host = text.removeprefix("[").removesuffix("]")
    bracketed = text.startswith("[") and text.endswith("]")
    if bracketed != (":" in host):
        raise ValueError(f"{quoted(text)} is not a host (an IPv6 address stands in brackets)")
    if bracketed:
        import ipaddress

        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{quoted(host)} is not an IPv6 address") from None
    elif not re.fullmatch(r"[A-Za-z0-9_.\-]+", host):
        raise ValueError(
            f"{quoted(text)} is not a host (0.0.0.0 is every IPv4 address, [::] every IPv6 address)"
        )
    return host


def split_list(text: str) -> list[str]:
    """The entries of a comma-separated list, blanks around them removed; none for blank text."""
    return [item.strip() for item in text.split(",")] if text.strip() else []


def quoted(text: str) -> str:
    """A TOML basic string."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    body = "".join(
        escapes.get(character) or (character if character.isprintable() else f"\\U{ord(character):08x}")
        for character in text
    )
    return f'"{body}"'


def toml_scalar(value: object) -> str:
    """A value as the user wrote it, near enough to recognise: plain TOML for what TOML can hold."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_scalar, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml_scalar(item)}" for name, item in value.items()) + " }"
    return str(value)


def _quantity(value: object, units: Mapping[str, float]) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    number, unit = match.groups()
    if unit and unit.lower() not in units:
        raise ValueError(f"{quoted(unit)} is not a unit")
    factor = units[unit.lower()] if unit else 1
    return round(float(number) * factor, 6) if "." in number or factor < 1 else int(number) * factor

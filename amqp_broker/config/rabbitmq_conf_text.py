r"""The text of rabbitmq.conf: which files there are, their lines `key = value`, and the references in values.

The format is sysctl's as RabbitMQ reads it: `#` begins a comment anywhere outside single quotes, a key is words
joined by dots (a dot inside a word is written `\.`), a later line replaces an earlier one with the same key, and
`$(NAME)` stands for the value of another key or, where there is none, of an environment variable. Nothing here
knows which keys there are or what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from amqp_broker.config.errors import ConfigError

FRAGMENTS: Final = "conf.d"
Words = tuple[str, ...]

_WORD: Final = r"(?:\\\.|[A-Za-z0-9_-])+"
_SETTING: Final = re.compile(rf"(?P<key>{_WORD}(?:\.{_WORD})*)[ \t]*=[ \t]*(?P<value>.*)", re.DOTALL)
_WORDS: Final = re.compile(_WORD)
_QUOTED: Final = re.compile(r"'([^']*)'[ \t]*(?:#.*)?", re.DOTALL)
_INCLUDE: Final = re.compile(r"include[ \t]+([A-Za-z0-9_.*/-]+)[ \t]*(?:#.*)?")
_REFERENCE: Final = re.compile(r"\$\(([^)]*)\)")


class Setting(msgspec.Struct, frozen=True):
    """One line: where it stands, the words of its key and its value, without quotes and comment."""

    source: str
    line: int
    words: Words
    value: str

    @property
    def key(self) -> str:
        return spelled(self.words)


def spelled(words: Words) -> str:
    """A key as it is written in a file."""
    return ".".join(word.replace(".", "\\.") for word in words)


def files_of(path: Path) -> list[Path]:
    """What RabbitMQ reads where it is given this file or directory, in that order.

    A file is followed by `conf.d/*.conf` beside it, in the order of their names; a directory stands for the
    `*.conf` in it.
    """
    return _fragments(path) if path.is_dir() else [path, *_fragments(path.parent / FRAGMENTS)]


def read_settings(files: list[Path], environ: Mapping[str, str]) -> tuple[list[Setting], list[ConfigError]]:
    """The settings that count, in the order in which they were first written, and what is wrong."""
    reader = _Reader()
    for file in files:
        reader.read(file, ())
    settings: list[Setting] = []
    for setting in reader.settings.values():
        try:
            value = _Expansion(reader.settings, environ, setting).value()
        except ConfigError as problem:
            reader.problems.append(problem)
        else:
            settings.append(msgspec.structs.replace(setting, value=value))
    return settings, reader.problems


def _fragments(directory: Path) -> list[Path]:
    return sorted(file for file in directory.glob("*.conf") if file.is_file())


class _Reader:
    """Collects the settings of several files, the last one of each key."""

    def __init__(self) -> None:
        self.settings: dict[Words, Setting] = {}
        self.problems: list[ConfigError] = []

    def read(self, file: Path, within: tuple[Path, ...]) -> None:
        """within: the files whose `include` led here."""
        try:
            text = file.read_text("utf-8")
        except UnicodeDecodeError as error:
            self.problems.append(
                ConfigError(str(file), f"not UTF-8 text: {error.reason} at byte {error.start}")
            )
            return
        except OSError as error:
            self.problems.append(ConfigError(str(file), f"cannot be read: {error.strerror or error}"))
            return
        for number, line in enumerate(text.split("\n"), start=1):
            stripped = line.strip(" \t\r")
            if stripped and not stripped.startswith("#"):
                self._read_line(file, number, stripped, (*within, file))

    def _read_line(self, file: Path, number: int, line: str, within: tuple[Path, ...]) -> None:
        included = _INCLUDE.fullmatch(line)
        if included is not None:
            self._include(file, number, included[1], within)
            return
        found = _SETTING.fullmatch(line)
        if found is None:
            self._refuse(file, number, _not_a_setting(line))
            return
        words = tuple(word.replace("\\.", ".") for word in _WORDS.findall(found["key"]))
        text = found["value"]
        quoted = _QUOTED.fullmatch(text)
        if quoted is not None:
            value = quoted[1]
        elif text.startswith("'"):
            self._refuse(file, number, "the quotation does not end on this line", spelled(words))
            return
        else:
            value = text.partition("#")[0].rstrip(" \t")
            if not value:
                self._refuse(file, number, "has no value; an empty one is written ''", spelled(words))
                return
        self.settings[words] = Setting(str(file), number, words, value)

    def _include(self, file: Path, number: int, pattern: str, within: tuple[Path, ...]) -> None:
        # Path.glob takes no absolute patterns: a pattern is looked for below the place where it starts.
        start = Path("/") if pattern.startswith("/") else file.parent
        found = sorted(path for path in start.glob(pattern.lstrip("/")) if path.is_file())
        if not found and "*" not in pattern:
            self._refuse(file, number, f"there is no file {pattern} to include")
        for path in found:
            if path in within:
                self._refuse(file, number, f"includes {path}, which includes this file")
            else:
                self.read(path, within)

    def _refuse(self, file: Path, number: int, problem: str, key: str = "") -> None:
        self.problems.append(ConfigError(str(file), problem, key=key, line=number))


def _not_a_setting(line: str) -> str:
    if line.startswith("["):
        return "not a line of rabbitmq.conf; a TOML file needs a name that does not end in .conf"
    return "not a line of rabbitmq.conf, which has the form key = value"


class _Expansion:
    """One setting's value with what its references stand for."""

    def __init__(
        self, settings: Mapping[Words, Setting], environ: Mapping[str, str], setting: Setting
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._setting = setting
        self._trail: list[Words] = []

    def value(self) -> str:
        """Raises ConfigError for a reference to nothing, or to itself."""
        self._trail.append(self._setting.words)
        return self._expand(self._setting.value)

    def _expand(self, text: str) -> str:
        return _REFERENCE.sub(self._referred, text)

    def _referred(self, reference: re.Match[str]) -> str:
        name = reference[1].strip()
        words = tuple(name.split("."))
        if words in self._trail:
            raise self._problem(f"$({name}) refers back to itself")
        other = self._settings.get(words)
        text = self._environ.get(name) if other is None else other.value
        if text is None:
            raise self._problem(f"$({name}) is neither a key of the file nor an environment variable")
        self._trail.append(words)
        expanded = self._expand(text)
        self._trail.pop()
        return expanded

    def _problem(self, problem: str) -> ConfigError:
        setting = self._setting
        return ConfigError(setting.source, problem, key=setting.key, line=setting.line)

"""A rabbitmq.conf on its way to option values: what was read, what came of it, and what there is to say about it.

A `Translation` looks settings up, hands values to the kinds of the options, which check them as they do for every
other source, and remembers problems and notes with their file, line and key. What a key means is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from amqp_broker.config.errors import ConfigError
from amqp_broker.config.options import options
from amqp_broker.config.rabbitmq_conf_text import Setting, Words
from amqp_broker.config.rabbitmq_conf_values import Reader

# What is never shown has one of these in the last word of its key.
SECRET_WORDS: Final = ("pass", "secret", "token", "cookie")


class Note(msgspec.Struct, frozen=True):
    """A setting that was accepted without having, or without having all of, the effect it has with RabbitMQ."""

    source: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.key}: {self.text}"


class Translation:
    """values: by option path, checked. problems, notes: in the order in which they were found."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.settings = settings
        self.values: dict[str, Any] = {}
        self.problems: list[ConfigError] = []
        self.notes: list[Note] = []
        self._by_words = {setting.words: setting for setting in settings}

    def find(self, key: str) -> Setting | None:
        return self._by_words.get(tuple(key.split(".")))

    def under(self, prefix: str) -> list[Setting]:
        """The settings with one more word than the prefix: by that word where it is a number, else as written."""
        words: Words = tuple(prefix.split("."))
        found = [
            setting
            for setting in self.settings
            if len(setting.words) == len(words) + 1 and setting.words[:-1] == words
        ]
        if all(setting.words[-1].isdecimal() for setting in found):
            found.sort(key=lambda setting: int(setting.words[-1]))
        return found

    def read(self, setting: Setting, reader: Reader) -> Any:
        """The value of a setting; None after a problem was noted."""
        if setting.value.startswith("encrypted:"):
            self.refuse(
                setting, "encrypted values cannot be read here; use an environment variable, as $(NAME)"
            )
            return None
        try:
            return reader.read(setting.value)
        except ValueError as error:
            detail = f"{error}; " if str(error) else ""
            self.refuse(setting, f"{detail}expected {reader.allowed}")
            return None

    def put(self, setting: Setting, path: str, value: object) -> None:
        """Give an option this value, which is of the type that its TOML has."""
        kind = options()[path].kind
        try:
            self.values[path] = kind.parse(value)
        except ValueError as error:
            detail = f"{error}; " if str(error) else ""
            self.refuse(setting, f"{detail}{path} takes {kind.allowed}")

    def refuse(self, setting: Setting, problem: str) -> None:
        secret = any(word in setting.words[-1] for word in SECRET_WORDS)
        shown = "***" if secret else setting.value[:200]
        self.problems.append(
            ConfigError(setting.source, problem, key=setting.key, value=shown, line=setting.line)
        )

    def refuse_unknown(self, setting: Setting, suggestion: str) -> None:
        # Without the value: who misspells a password's key does not want to read the password in a log.
        self.problems.append(
            ConfigError(
                setting.source, "unknown key", key=setting.key, line=setting.line, suggestion=suggestion
            )
        )

    def note(self, setting: Setting, text: str) -> None:
        self.notes.append(Note(setting.source, setting.line, setting.key, text))

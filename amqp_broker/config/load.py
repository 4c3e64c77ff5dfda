"""Reads a configuration: defaults, then the file, then environment variables, then flags.

The file is TOML, or in RabbitMQ's own format (`rabbitmq_conf`) if its name ends in .conf. Whatever is not
declared in `options` or not allowed there is a `ConfigError`; nothing is ignored silently except environment
variables outside the broker's sections, because container systems make up names of their own there. It reads
the file it is given, for a rabbitmq.conf also those that belong to it, and keeps nothing between calls.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from amqp_broker.config.auth import auth_contradictions
from amqp_broker.config.errors import ConfigError
from amqp_broker.config.limits import limits_contradictions
from amqp_broker.config.option import ENVIRONMENT_PREFIX, Option
from amqp_broker.config.options import Config, options, sections
from amqp_broker.config.tls import tls_contradictions
from amqp_broker.config.toml_lines import find_line
from amqp_broker.config.values import Address, Kind, parse_host, toml_scalar

_TOML_POSITION: Final = re.compile(r"\s*\(at (?:line (?P<line>\d+), column \d+|end of document)\)")

# What people who come from rabbitmq.conf write, where it is not simply the last part of the path.
FOREIGN_NAMES: Final[Mapping[str, str]] = {
    "listeners.tcp.default": "listeners.tcp",
    "listeners.ssl": "listeners.tls",
    "listeners.ssl.default": "listeners.tls",
    "ssl_options.certfile": "tls.certificate",
    "ssl_options.keyfile": "tls.key",
    "ssl_options.cacertfile": "tls.ca",
    "ssl_options.fail_if_no_peer_cert": "tls.verify",
    "ssl_options.versions": "tls.min_version",
    "tcp_listen_options.backlog": "listeners.backlog",
    "tcp_listen_options.nodelay": "listeners.nodelay",
    "auth_mechanisms": "auth.mechanisms",
    "vm_memory_high_watermark": "limits.memory_high_watermark_relative",
    "vm_memory_high_watermark.relative": "limits.memory_high_watermark_relative",
    "vm_memory_high_watermark.absolute": "limits.memory_high_watermark_absolute",
    "disk_free_limit.absolute": "limits.disk_free_limit",
    "management.load_definitions": "data.load_definitions",
    "definitions.local.path": "data.load_definitions",
    "log.console.level": "log.level",
    "log.file.level": "log.level",
    "port": "listeners.tcp",
    "bind": "listeners.tcp",
    "data_dir": "data.directory",
    "log_level": "log.level",
}


def load_config(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str | int | None] | None = None,
    notes: list[str] | None = None,
) -> Config:
    """The configuration for `serve`.

    environ: defaults to the process's environment. flags: values by flag ("--data-dir"), None for one
    that was not given. notes: filled with a line for each key of a rabbitmq.conf that has no effect.
    Raises the first ConfigError in the order file, environment, flags.
    """
    environ = os.environ if environ is None else environ
    file = _file_of(environ) if file is None else file
    values, problems = read_values(file, environ, environ, notes)
    if problems:
        raise problems[0]
    if flags:
        _apply_flags(values, flags)
    config = _build(values)
    for problem in contradictions(config, file):
        raise problem
    return config


def check_file(file: str | os.PathLike[str], notes: list[str] | None = None) -> list[ConfigError]:
    """Everything that is wrong with one file alone, in the order in which it was found."""
    return load_file(file, notes)[1]


def load_file(
    file: str | os.PathLike[str], notes: list[str] | None = None
) -> tuple[Config, list[ConfigError]]:
    """The configuration of what is right in one file, which nothing overrides, and everything that is wrong with it.

    notes: as for `load_config`.
    """
    values, problems = read_values(file, {}, os.environ, notes)
    config = _build(values)
    return config, problems or contradictions(config, file)


def read_values(
    file: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
    references: Mapping[str, str],
    notes: list[str] | None = None,
) -> tuple[dict[str, Any], list[ConfigError]]:
    """Values by dotted path from the file and the environment, and what is wrong with them.

    references: the variables that a rabbitmq.conf may refer to, which override nothing.
    """
    values: dict[str, Any] = {}
    problems: list[ConfigError] = []
    if file is not None and is_rabbitmq_conf(Path(file)):
        from amqp_broker.config.rabbitmq_conf import read_rabbitmq_conf

        translation = read_rabbitmq_conf(Path(file), references)
        values, problems = translation.values, translation.problems
        if notes is not None:
            notes.extend(map(str, translation.notes))
    elif file is not None:
        try:
            _FileReader(str(file), Path(file).read_text("utf-8"), values, problems).read()
        except ConfigError as problem:
            problems.append(problem)
        except UnicodeDecodeError as error:
            problems.append(ConfigError(str(file), f"not UTF-8 text: {error.reason} at byte {error.start}"))
        except OSError as error:
            problems.append(ConfigError(str(file), f"cannot be read: {error.strerror or error}"))
    if any(name.startswith("RABBITMQ_") for name in environ):
        _apply_rabbitmq_variables(values, environ, problems)
    _apply_environment(values, environ, problems)
    return values, problems


def is_rabbitmq_conf(path: Path) -> bool:
    """Whether a file is in RabbitMQ's format, which its name says, or a directory has such files."""
    return path.suffix == ".conf" or (path.is_dir() and any(path.glob("*.conf")))


def contradictions(config: Config, file: str | os.PathLike[str] | None) -> list[ConfigError]:
    """Values that are each allowed but not together. file: where they come from, if any does."""
    found = [
        *limits_contradictions(config.limits),
        *tls_contradictions(config.listeners, config.tls),
        *auth_contradictions(config.auth),
    ]
    # In a rabbitmq.conf the names are others.
    text = Path(file).read_text("utf-8") if found and file and not is_rabbitmq_conf(Path(file)) else ""
    source = str(file) if file else "configuration"
    return [
        ConfigError(source, problem, key=key, value=value, line=find_line(text, tuple(key.split("."))))
        for key, value, problem in found
    ]


def nearest(path: str) -> str:
    """The declared option or section that somebody who wrote `path` most likely meant; "" if none is near."""
    import difflib

    if path in FOREIGN_NAMES:
        return FOREIGN_NAMES[path]
    section, _, leaf = path.rpartition(".")
    best, best_ratio = "", 0.0
    for known in [*options(), *(name for name in sections() if name)]:
        known_section, _, known_leaf = known.rpartition(".")
        ratio = max(
            difflib.SequenceMatcher(None, path, known).ratio(),
            # A name in the wrong table is worth less than the same distance in the right one.
            difflib.SequenceMatcher(None, leaf, known_leaf).ratio()
            * (1.0 if section == known_section else 0.95),
        )
        if ratio > best_ratio:
            best, best_ratio = known, ratio
    return best if best_ratio >= 0.7 else ""


class _FileReader:
    """Takes one file's tables apart into values by dotted path."""

    def __init__(self, source: str, text: str, values: dict[str, Any], problems: list[ConfigError]) -> None:
        self._source = source
        self._text = text
        self._values = values
        self._problems = problems

    def read(self) -> None:
        import tomllib

        try:
            document = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise self._syntax_error(str(error)) from None
        self._read_table(document, ())

    def _syntax_error(self, message: str) -> ConfigError:
        position = _TOML_POSITION.search(message)
        line = self._text.count("\n") + 1
        if position is not None and position["line"] is not None:
            line = int(position["line"])
        problem = _TOML_POSITION.sub("", message)
        return ConfigError(self._source, f"not valid TOML: {problem[:1].lower()}{problem[1:]}", line=line)

    def _read_table(self, table: Mapping[str, object], prefix: tuple[str, ...]) -> None:
        for name, value in table.items():
            parts = (*prefix, name)
            path = ".".join(parts)
            if path in options():
                self._read_option(options()[path], value, parts)
            elif path not in sections():
                self._add_unknown(parts, value)
            elif isinstance(value, dict):
                self._read_table(value, parts)
            else:
                self._add(parts, f"expected a table, [{path}]", value=toml_scalar(value))

    def _read_option(self, option: Option, value: object, parts: tuple[str, ...]) -> None:
        try:
            self._values[option.path] = option.kind.parse(value)
        except ValueError as error:
            self._add(parts, _refusal(option.kind, error), value=shown(option, toml_scalar(value)))

    def _add_unknown(self, parts: tuple[str, ...], value: object) -> None:
        # Dotted names from elsewhere arrive as nested tables.
        while isinstance(value, dict) and len(value) == 1 and ".".join(parts) not in FOREIGN_NAMES:
            name, value = next(iter(value.items()))
            parts = (*parts, name)
        self._add(parts, "unknown key", suggestion=nearest(".".join(parts)))

    def _add(self, parts: tuple[str, ...], problem: str, *, value: str = "", suggestion: str = "") -> None:
        line = find_line(self._text, parts)
        self._problems.append(
            ConfigError(
                self._source, problem, key=".".join(parts), value=value, line=line, suggestion=suggestion
            )
        )


def shown(option: Option, text: str) -> str:
    """An offending value as a message may show it."""
    if option.secret:
        return "***"
    return text if len(text) <= 200 else text[:200] + "..."


def _refusal(kind: Kind[Any], error: ValueError) -> str:
    detail = str(error)
    # int() and float() speak of literals and bases, which says nothing to whoever writes a configuration.
    if not detail or detail.startswith(("invalid literal", "could not convert")):
        return f"expected {kind.allowed}"
    return f"{detail}; expected {kind.allowed}"


def _apply_environment(
    values: dict[str, Any], environ: Mapping[str, str], problems: list[ConfigError]
) -> None:
    names = sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX))
    if not names:
        return
    declared = {option.variable: option for option in options().values()}
    prefixes = tuple(ENVIRONMENT_PREFIX + name.upper() + "_" for name in sections() if name)
    for name in names:
        source = f"environment variable {name}"
        option = declared.get(name)
        if option is None:
            if name.startswith(prefixes):
                path = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", ".", 1)
                near = nearest(path)
                suggestion = options()[near].variable if near in options() else ""
                problems.append(ConfigError(source, "no such option", suggestion=suggestion))
            continue
        _apply_text(values, source, option, environ[name], problems)


def _file_of(environ: Mapping[str, str]) -> str | None:
    if "RABBITMQ_CONFIG_FILE" not in environ:
        return None
    from amqp_broker.config.rabbitmq_conf_environment import configuration_file

    return configuration_file(environ)


def _apply_rabbitmq_variables(
    values: dict[str, Any], environ: Mapping[str, str], problems: list[ConfigError]
) -> None:
    from amqp_broker.config.rabbitmq_conf_environment import said_by

    try:
        for name, path, text in said_by(environ):
            _apply_text(values, f"environment variable {name}", options()[path], text, problems)
    except ConfigError as problem:
        problems.append(problem)


def _apply_text(
    values: dict[str, Any], source: str, option: Option, text: str, problems: list[ConfigError]
) -> None:
    try:
        values[option.path] = option.kind.parse_text(text)
    except ValueError as error:
        value = shown(option, toml_scalar(text))
        problems.append(ConfigError(source, _refusal(option.kind, error), key=option.path, value=value))


def _apply_flags(values: dict[str, Any], flags: Mapping[str, str | int | None]) -> None:
    problems: list[ConfigError] = []
    by_flag = {option.flag: option for option in options().values() if option.flag}
    for flag, value in flags.items():
        if value is not None and flag not in ("--bind", "--port"):
            _apply_text(values, flag, by_flag[flag], str(value), problems)
    if problems:
        raise problems[0]
    _apply_address(values, flags.get("--bind"), flags.get("--port"))


def _apply_address(values: dict[str, Any], bind: str | int | None, port: str | int | None) -> None:
    path = "listeners.tcp"
    addresses: tuple[Address, ...] = values.get(path, options()[path].default)
    if bind is not None:
        text = str(bind)
        bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
        try:
            default_port = addresses[0].port if addresses else 5672
            addresses = (Address(parse_host(f"[{text}]" if bare_ipv6 else text), default_port),)
        except ValueError as error:
            raise ConfigError(
                "--bind", f"{error}; expected a host name or IP address, without a port"
            ) from None
    if port is not None:
        if not str(port).isdigit() or int(port) > 65535:
            raise ConfigError("--port", f"{port} is not a port from 0 to 65535")
        if not addresses:
            raise ConfigError("--port", "listeners.tcp is empty; give --bind, too")
        addresses = tuple(dict.fromkeys(Address(address.host, int(port)) for address in addresses))
    if bind is not None or port is not None:
        values[path] = addresses


def _build(values: Mapping[str, Any]) -> Config:
    """A Config of the defaults and these values."""
    if not values:
        return Config()
    built: dict[str, dict[str, Any]] = {path: {} for path in sections()}
    for option_path, value in values.items():
        section, _, name = option_path.rpartition(".")
        built[section][name] = value
    # Inner sections first: each becomes a value of the one around it.
    for path in reversed([path for path in sections() if path]):
        outer, _, name = path.rpartition(".")
        built[outer][name] = sections()[path](**built[path])
    return Config(**built[""])

"""Writes the declared options down for people: the commented configuration file and the documentation's
page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from amqp_broker.config.option import Option
from amqp_broker.config.options import options, sections

WIDTH: Final = 100

FILE_HEADER: Final = """\
The configuration of amqp-broker. Every option stands here with its default: what you do not change
you may leave out. Start with `amqp-broker serve --config FILE`, check with `amqp-broker check-
config FILE`.
"""
FILE_UNITS: Final = """\
Sizes are plain numbers of bytes or strings with a unit: "50MB" counts in thousands, "128MiB" in
1024s. Times are plain numbers of seconds or strings such as "500ms", "30s", "10m", "12h", "7d". An
environment variable, named below each option, overrides the file, and a flag of `serve` overrides
both.
"""

PAGE_HEADER: Final = """\
# Configuration

The broker runs without any configuration. To change something, write a TOML file and start it with
`amqp-broker serve --config FILE`; [`conf/broker.toml`](../conf/broker.toml) shows every option with
its default and may be cut down to the lines you change. `amqp-broker check-config FILE` says what
is wrong with a file, with the line, what would be allowed, and the nearest name for one that does
not exist. A file with an unknown key is refused, so that a misspelt option cannot go unnoticed.
It also opens the certificates and keys that are named, says which of them have expired, and tries
the addresses to listen on; with `--values-only` it looks at the file alone, which may then be for
another machine.

A file whose name ends in `.conf` is read as RabbitMQ reads its rabbitmq.conf:
[rabbitmq-conf.md](rabbitmq-conf.md) says how, and what each of its keys does here.

Examples to start from: [development](../conf/development.toml), [production](../conf/production.toml)
with TLS, a [container](../conf/container.toml) with its [Dockerfile](../conf/Dockerfile) and a
[check of its health](../conf/healthcheck.py), and a [unit for systemd](../conf/amqp-broker.service)
that locks the broker up in its own directory.

## What overrides what

1. The defaults below.
2. The file.
3. Environment variables: `AMQP_BROKER_`, the section and the key in capitals, joined by
   underscores. Lists are separated by commas
   (`AMQP_BROKER_LISTENERS_TCP="0.0.0.0:5672,[::]:5672"`), tables are written
   `name=value,name=value`, switches `true` or `false`. A variable that starts with the name of a
   section and is not an option is refused; other variables are ignored, since container systems set
   some of their own. Of RabbitMQ's variables, those for
   [the first user and virtual host](rabbitmq-conf.md#what-overrides-what) count, too, where there is
   none of the broker's own.
4. Flags of `amqp-broker serve`, where the table names one.

## Units

A size is a number of bytes, or a string with a unit: B, kB, MB, GB, TB count in thousands, KiB,
MiB, GiB, TiB in 1024s. A time is a number of seconds, or a string with a unit: ms, s, m (or min),
h, d.

"""
PAGE_GENERATED: Final = """\
<!-- Generated from the declared options by python -m amqp_broker.config --write docs/configuration.md -->

"""


def configuration_file() -> str:
    """The text of conf/broker.toml."""
    return "\n".join(_file_lines()) + "\n"


def configuration_page() -> str:
    """The text of docs/configuration.md."""
    return PAGE_GENERATED + PAGE_HEADER + "\n".join(_page_lines()) + "\n"


def _file_lines() -> Iterator[str]:
    yield from _comment(FILE_HEADER)
    yield "#"
    yield from _comment(FILE_UNITS)
    for path, section in sections().items():
        if not path:
            continue
        yield ""
        yield ""
        yield f"[{path}]"
        yield from _comment(section.__doc__ or "")
        for option in _options_of(path):
            yield ""
            yield from _comment(option.advice)
            yield from _comment(_facts(option))
            yield from _comment(f"Override: {option.variable}" + (f", {option.flag}" if option.flag else ""))
            yield f"{_name(option)} = {option.kind.toml(option.default)}"


def _page_lines() -> Iterator[str]:
    for path, section in sections().items():
        if not path:
            continue
        yield f"## [{path}]"
        yield ""
        yield " ".join((section.__doc__ or "").split())
        yield ""
        yield "| option | default | unit | allowed | environment variable | flag |"
        yield "|---|---|---|---|---|---|"
        for option in _options_of(path):
            cells = (
                f"`{_name(option)}`",
                f"`{option.kind.toml(option.default)}`",
                option.kind.unit,
                option.kind.allowed.replace("|", "\\|"),
                f"`{option.variable}`",
                f"`{option.flag}`" if option.flag else "",
            )
            yield "| " + " | ".join(cells) + " |"
        yield ""
        for option in _options_of(path):
            yield from textwrap.wrap(f"**{_name(option)}**: {option.advice}", WIDTH, break_on_hyphens=False)
            yield ""


def _options_of(section: str) -> list[Option]:
    return [option for path, option in options().items() if path.rpartition(".")[0] == section]


def _name(option: Option) -> str:
    return option.path.rpartition(".")[2]


def _facts(option: Option) -> str:
    unit = f"Unit: {option.kind.unit}. " if option.kind.unit else ""
    return f"{unit}Allowed: {option.kind.allowed}."


def _comment(text: str) -> Iterator[str]:
    wrapped = textwrap.wrap(" ".join(text.split()), WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    for line in wrapped:
        yield f"# {line}"

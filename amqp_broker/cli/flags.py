"""The flags that several commands have: which broker is meant, and how what it says is to be shown."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

FILE_HELP: Final = "The configuration file: TOML, or RabbitMQ's format if its name ends in .conf."

ConfigFile = Annotated[str | None, typer.Option("--config", metavar="FILE", help=FILE_HELP)]
DataDirectory = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="The data directory of the broker.")
]
VirtualHost = Annotated[
    str | None,
    typer.Option("--vhost", "-p", metavar="NAME", help="The virtual host; by default auth.default_vhost."),
]
AnyVirtualHost = Annotated[
    str | None, typer.Option("--vhost", "-p", metavar="NAME", help="Only those of this virtual host.")
]
AnyUser = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only those of this user.")]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


OutputFormat = Annotated[
    Format, typer.Option("--format", help="How the output looks: columns for people, or JSON.")
]


def group(about: str) -> typer.Typer:
    """Commands that belong together, to be added to."""
    return typer.Typer(help=about, rich_markup_mode=None, no_args_is_help=True)

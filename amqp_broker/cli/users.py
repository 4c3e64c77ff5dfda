"""`amqp-broker users ...`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from amqp_broker.cli.administer import Broker, known_password, new_password
from amqp_broker.cli.flags import ConfigFile, DataDirectory, Format, OutputFormat, group

users: Final = group("Users: who there is, their passwords and tags.")

_Name = Annotated[str, typer.Argument(metavar="USER")]
_Stdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]
_Tags = Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="None takes all of them away.")]


@users.command("list")
def list_users(
    config: ConfigFile = None, data_dir: DataDirectory = None, shape: OutputFormat = Format.TABLE
) -> None:
    """All users, with their tags and how their passwords are kept."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("users.list"), shape)


@users.command("show")
def show_user(
    name: _Name,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """One user, with what that user may do and has open."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("users.show", name=name), shape)


@users.command("add")
def add_user(
    name: _Name,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")] = None,
    password_stdin: _Stdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="No password fits: for certificates and the HTTP backend.")
    ] = False,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Make a user, who may do nothing yet. The password is asked for."""
    broker = Broker(config, data_dir)
    password = None if no_password else new_password(password_stdin, name)
    broker.ask("users.add", name=name, password=password, tags=tag or [])


@users.command("delete")
def delete_user(name: _Name, config: ConfigFile = None, data_dir: DataDirectory = None) -> None:
    """Remove a user, with all permissions, and close the user's connections."""
    Broker(config, data_dir).ask("users.delete", name=name)


@users.command("set-password")
def set_password(
    name: _Name, password_stdin: _Stdin = False, config: ConfigFile = None, data_dir: DataDirectory = None
) -> None:
    """Give a user another password, which is asked for. Open connections stay."""
    broker = Broker(config, data_dir)
    broker.ask("users.set_password", name=name, password=new_password(password_stdin, name))


@users.command("clear-password")
def clear_password(name: _Name, config: ConfigFile = None, data_dir: DataDirectory = None) -> None:
    """Have no password fit a user any more. Open connections stay."""
    Broker(config, data_dir).ask("users.clear_password", name=name)


@users.command("set-tags")
def set_tags(
    name: _Name, tags: _Tags = None, config: ConfigFile = None, data_dir: DataDirectory = None
) -> None:
    """Give a user these tags, and no others."""
    Broker(config, data_dir).ask("users.set_tags", name=name, tags=tags or [])


@users.command("authenticate")
def authenticate(
    name: _Name, password_stdin: _Stdin = False, config: ConfigFile = None, data_dir: DataDirectory = None
) -> None:
    """Say whether a password is the user's, by the exit status."""
    broker = Broker(config, data_dir)
    broker.ask("users.authenticate", name=name, password=known_password(password_stdin, name))

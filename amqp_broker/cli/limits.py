"""`amqp-broker limits ...`: of virtual hosts and of users."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from amqp_broker.cli.administer import Broker, stop
from amqp_broker.cli.flags import ConfigFile, DataDirectory, Format, OutputFormat, group

limits: Final = group("How many connections, channels and queues virtual hosts and users may have.")

_OfVirtualHost = Annotated[str | None, typer.Option("--vhost", "-p", metavar="NAME")]
_OfUser = Annotated[str | None, typer.Option("--user", metavar="NAME")]


@limits.command("list")
def list_limits(
    vhost: _OfVirtualHost = None,
    user: _OfUser = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """The limits that are set, of all or of one virtual host or user."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("limits.list", vhost=vhost, user=user), shape)


@limits.command("set")
def set_limits(
    limit: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=NUMBER...",
            help="max-connections, for virtual hosts max-queues, for users max-channels; -1 for none.",
        ),
    ],
    vhost: _OfVirtualHost = None,
    user: _OfUser = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Set limits of a virtual host or of a user; others stay. They count for what is new."""
    found: dict[str, int] = {}
    for each in limit:
        name, _, number = each.partition("=")
        try:
            found[name] = int(number)
        except ValueError:
            stop(f"{each}: expected a limit and a whole number, such as max-connections=100")
    Broker(config, data_dir).ask("limits.set", vhost=vhost, user=user, limits=found)


@limits.command("clear")
def clear_limits(
    limit: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; without one, all.")
    ] = None,
    vhost: _OfVirtualHost = None,
    user: _OfUser = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Take limits of a virtual host or of a user away."""
    Broker(config, data_dir).ask("limits.clear", vhost=vhost, user=user, names=limit or [])

"""`amqp-broker vhosts ...`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from amqp_broker.cli.administer import Broker
from amqp_broker.cli.flags import ConfigFile, DataDirectory, Format, OutputFormat, group

vhosts: Final = group("Virtual hosts.")

_Name = Annotated[str, typer.Argument(metavar="VHOST")]


@vhosts.command("list")
def list_vhosts(
    config: ConfigFile = None, data_dir: DataDirectory = None, shape: OutputFormat = Format.TABLE
) -> None:
    """All virtual hosts."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("vhosts.list"), shape)


@vhosts.command("add")
def add_vhost(
    name: _Name,
    description: Annotated[str | None, typer.Option("--description", help="What it is for.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")] = None,
    default_queue_type: Annotated[
        str | None,
        typer.Option("--default-queue-type", help="Of durable queues that name none: classic or quorum."),
    ] = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Make a virtual host, or say other things about one that is there. Nobody may open a new one yet."""
    Broker(config, data_dir).ask(
        "vhosts.add", name=name, description=description, tags=tag, default_queue_type=default_queue_type
    )


@vhosts.command("delete")
def delete_vhost(name: _Name, config: ConfigFile = None, data_dir: DataDirectory = None) -> None:
    """Remove a virtual host with its queues and messages, and close the connections to it."""
    Broker(config, data_dir).ask("vhosts.delete", name=name)

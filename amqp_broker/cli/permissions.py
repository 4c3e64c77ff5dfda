"""`amqp-broker permissions ...` and `amqp-broker topic-permissions ...`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from amqp_broker.cli.administer import Broker
from amqp_broker.cli.flags import (
    AnyUser,
    AnyVirtualHost,
    ConfigFile,
    DataDirectory,
    Format,
    OutputFormat,
    VirtualHost,
    group,
)

permissions: Final = group("What users may do in virtual hosts.")
topic_permissions: Final = group("Which routing keys users may use with topic exchanges.")

_User = Annotated[str, typer.Argument(metavar="USER")]
_Configure = Annotated[str, typer.Argument(metavar="CONFIGURE", help="Names that may be made and removed.")]
_Write = Annotated[str, typer.Argument(metavar="WRITE", help="Names that may be published or bound to.")]
_Read = Annotated[str, typer.Argument(metavar="READ", help="Names that may be consumed or bound from.")]
_Exchange = Annotated[str, typer.Argument(metavar="EXCHANGE")]
_WriteKeys = Annotated[str, typer.Argument(metavar="WRITE", help="Routing keys that may be published with.")]
_ReadKeys = Annotated[str, typer.Argument(metavar="READ", help="Routing keys that may be bound with.")]


@permissions.command("list")
def list_permissions(
    vhost: AnyVirtualHost = None,
    user: AnyUser = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """Who may do what, where."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("permissions.list", vhost=vhost, user=user), shape)


@permissions.command("set")
def set_permissions(
    user: _User,
    configure: _Configure,
    write: _Write,
    read: _Read,
    vhost: VirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Open a virtual host to a user, with rights by three regular expressions. At once, also for what is open."""
    broker = Broker(config, data_dir)
    broker.ask(
        "permissions.set", user=user, vhost=broker.vhost(vhost), configure=configure, write=write, read=read
    )


@permissions.command("clear")
def clear_permissions(
    user: _User, vhost: VirtualHost = None, config: ConfigFile = None, data_dir: DataDirectory = None
) -> None:
    """Close a virtual host to a user, and the user's connections to it."""
    broker = Broker(config, data_dir)
    broker.ask("permissions.clear", user=user, vhost=broker.vhost(vhost))


@topic_permissions.command("list")
def list_topic_permissions(
    vhost: AnyVirtualHost = None,
    user: AnyUser = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """Whose routing keys are restricted, where."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("topic_permissions.list", vhost=vhost, user=user), shape)


@topic_permissions.command("set")
def set_topic_permissions(
    user: _User,
    exchange: _Exchange,
    write: _WriteKeys,
    read: _ReadKeys,
    vhost: VirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Restrict a user's routing keys by regular expressions, in which {username} and {vhost} may stand."""
    broker = Broker(config, data_dir)
    place = broker.vhost(vhost)
    broker.ask("topic_permissions.set", user=user, vhost=place, exchange=exchange, write=write, read=read)


@topic_permissions.command("clear")
def clear_topic_permissions(
    user: _User,
    exchange: Annotated[
        str | None, typer.Argument(metavar="[EXCHANGE]", help="Without it: of every exchange.")
    ] = None,
    vhost: VirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Allow a user every routing key again."""
    broker = Broker(config, data_dir)
    broker.ask("topic_permissions.clear", user=user, vhost=broker.vhost(vhost), exchange=exchange)

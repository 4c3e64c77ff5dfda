"""`amqp-broker connections ...`, `amqp-broker queues ...` and `amqp-broker status`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from amqp_broker.cli.administer import Broker, stop
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

connections: Final = group("Connections: which are open, and closing them.")
queues: Final = group("Queues: what is in them, emptying and removing them.")

_Queue = Annotated[str, typer.Argument(metavar="QUEUE")]


@connections.command("list")
def list_connections(
    vhost: AnyVirtualHost = None,
    user: AnyUser = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """The open connections."""
    broker = Broker(config, data_dir)
    broker.show(broker.pages("connections.list", lambda row: row["name"], vhost=vhost, user=user), shape)


@connections.command("close")
def close_connections(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="As `list` shows it.")] = None,
    vhost: AnyVirtualHost = None,
    user: AnyUser = None,
    everything: Annotated[bool, typer.Option("--all", help="Every connection.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="What the clients are told.")] = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Close connections with 320 CONNECTION_FORCED: one, those of a user or virtual host, or all."""
    arguments: dict[str, Any] = {"name": name, "vhost": vhost, "user": user, "everything": everything}
    if reason is not None:
        arguments["reason"] = reason
    closed = Broker(config, data_dir).ask("connections.close", **arguments)["closed"]
    typer.echo(f"{closed} connection{'' if closed == 1 else 's'} closed")


@queues.command("list")
def list_queues(
    vhost: AnyVirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """All queues, with how much is in them."""
    broker = Broker(config, data_dir)
    broker.show(broker.pages("queues.list", lambda row: [row["vhost"], row["name"]], vhost=vhost), shape)


@queues.command("purge")
def purge_queue(
    name: _Queue, vhost: VirtualHost = None, config: ConfigFile = None, data_dir: DataDirectory = None
) -> None:
    """Drop what is in a queue. What is unacknowledged stays."""
    broker = Broker(config, data_dir)
    _tell(broker.ask("queues.purge", vhost=broker.vhost(vhost), name=name)["messages"], "purged")


@queues.command("delete")
def delete_queue(
    name: _Queue,
    if_unused: Annotated[bool, typer.Option("--if-unused", help="Not if it has consumers.")] = False,
    if_empty: Annotated[bool, typer.Option("--if-empty", help="Not if it has messages.")] = False,
    vhost: VirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Remove a queue with its messages."""
    broker = Broker(config, data_dir)
    place = broker.vhost(vhost)
    done = broker.ask("queues.delete", vhost=place, name=name, if_unused=if_unused, if_empty=if_empty)
    _tell(done["messages"], "removed with the queue")


def _tell(count: int, what: str) -> None:
    typer.echo(f"{count} message{'' if count == 1 else 's'} {what}")


def status(
    config: ConfigFile = None, data_dir: DataDirectory = None, shape: OutputFormat = Format.TABLE
) -> None:
    """What the broker is and how it is. Exit status 1 if it does not run."""
    broker = Broker(config, data_dir)
    found = broker.ask("status")
    broker.show(found, shape)
    if not found["running"]:
        stop(f"{broker.config.data.directory}: the broker does not run")

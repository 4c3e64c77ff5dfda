"""The commands as typer sees them: names, flags and help. What they do stands in a module of its own each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from amqp_broker.build_info import NAME, version_line
from amqp_broker.cli.flags import FILE_HELP
from amqp_broker.cli.inspect import connections, queues, status
from amqp_broker.cli.limits import limits
from amqp_broker.cli.perf import perf
from amqp_broker.cli.permissions import permissions, topic_permissions
from amqp_broker.cli.policies import operator_policies, parameters, policies
from amqp_broker.cli.users import users
from amqp_broker.cli.vhosts import vhosts
from amqp_broker.config.options import options

# Rich would cost every command its import, and put our one-line messages into boxes.
app: Final = typer.Typer(
    name=NAME,
    help="A durable AMQP 0-9-1 broker that RabbitMQ's clients use unchanged.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status, 2 for a command line that is not understood."""
    try:
        app(args=list(arguments), prog_name=NAME)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version, and whether it runs compiled or as pure Python.",
        ),
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: Annotated[str | None, typer.Option("--config", metavar="FILE", help=FILE_HELP)] = None,
    bind: Annotated[
        str | None,
        typer.Option("--bind", metavar="ADDRESS", help="Accept connections on this address instead."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Use this port; 0 takes a free one."),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", metavar="DIR", help=options()["data.directory"].summary + "."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option("--log-level", metavar="L", help=options()["log.level"].summary + "."),
    ] = None,
) -> None:
    """Run the broker until SIGTERM or SIGINT.

    Flags override AMQP_BROKER_... environment variables, and those override the file.
    """
    from amqp_broker.cli.serve import run_serve

    flags = {
        "--config": config,
        "--bind": bind,
        "--port": None if port is None else str(port),
        "--data-dir": data_dir,
        "--log-level": log_level,
    }
    raise typer.Exit(run_serve(flags))


@app.command()
def check_config(
    file: Annotated[str, typer.Argument(metavar="FILE", help=FILE_HELP)],
    values_only: Annotated[
        bool,
        typer.Option(
            "--values-only", help="Do not look for files and addresses: the file is for another machine."
        ),
    ] = False,
) -> None:
    """Say what is wrong with a configuration file, without starting the broker."""
    from amqp_broker.cli.check_config import run_check

    raise typer.Exit(run_check(file, values_only=values_only))


@app.command()
def convert_config(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file in RabbitMQ's format (rabbitmq.conf).")],
) -> None:
    """Print a rabbitmq.conf as TOML, with a comment for each key that has no effect here."""
    from amqp_broker.cli.convert_config import run_convert

    raise typer.Exit(run_convert(file))


app.command()(perf)

# What administers a broker, running or not.
app.add_typer(users, name="users")
app.add_typer(vhosts, name="vhosts")
app.add_typer(permissions, name="permissions")
app.add_typer(topic_permissions, name="topic-permissions")
app.add_typer(policies, name="policies")
app.add_typer(operator_policies, name="operator-policies")
app.add_typer(limits, name="limits")
app.add_typer(parameters, name="parameters")
app.add_typer(connections, name="connections")
app.add_typer(queues, name="queues")
app.command()(status)

definitions: Final = typer.Typer(
    help="Read and write definitions files, as RabbitMQ exports them.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(definitions, name="definitions")

_Config = Annotated[str | None, typer.Option("--config", metavar="FILE", help=FILE_HELP)]
_DataDirectory = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help=options()["data.directory"].summary + ".")
]
_VirtualHost = Annotated[
    str | None,
    typer.Option("--vhost", metavar="NAME", help="Where to put what names no virtual host itself."),
]


@definitions.command("export")
def export_definitions(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; - for standard output.")],
    config: _Config = None,
    data_dir: _DataDirectory = None,
) -> None:
    """Write the definitions of a broker."""
    from amqp_broker.cli.definitions import run_export

    raise typer.Exit(run_export(file, {"--config": config, "--data-dir": data_dir}))


@definitions.command("import")
def import_definitions(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to load; - for standard input.")],
    config: _Config = None,
    data_dir: _DataDirectory = None,
    vhost: _VirtualHost = None,
) -> None:
    """Load a file into a broker: all of it, or nothing if something is wrong with it."""
    from amqp_broker.cli.definitions import run_import

    raise typer.Exit(run_import(file, {"--config": config, "--data-dir": data_dir}, vhost))


@definitions.command("check")
def check_definitions(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to check; - for standard input.")],
    config: _Config = None,
    vhost: _VirtualHost = None,
) -> None:
    """Say everything that keeps a file from being loaded into a new broker, each with its place in the file."""
    from amqp_broker.cli.definitions import run_check

    raise typer.Exit(run_check(file, {"--config": config}, vhost))


@app.command()
def backup(
    destination: Annotated[
        str, typer.Argument(metavar="DEST", help="The directory to make; it may be there if it is empty.")
    ],
    config: _Config = None,
    data_dir: _DataDirectory = None,
) -> None:
    """Copy a data directory, consistent and compacted, also while a broker uses it."""
    from amqp_broker.cli.backup import run_backup

    raise typer.Exit(run_backup(destination, {"--config": config, "--data-dir": data_dir}))


@app.command()
def restore(
    directory: Annotated[str, typer.Argument(metavar="BACKUP", help="What `backup` made.")],
    config: _Config = None,
    data_dir: _DataDirectory = None,
    force: Annotated[
        bool, typer.Option("--force", help="Move the data that are there aside. They are never removed.")
    ] = False,
) -> None:
    """Verify a backup and copy it into the empty data directory of a broker that is not running."""
    from amqp_broker.cli.backup import run_restore

    raise typer.Exit(run_restore(directory, {"--config": config, "--data-dir": data_dir}, force=force))


@app.command()
def verify(
    data_dir: Annotated[
        str, typer.Argument(metavar="DATA_DIR", help="A data directory, in use or not, or a backup.")
    ],
) -> None:
    """Say everything that is wrong with a data directory. Exit status 1 if something is, 2 if it cannot be read."""
    from amqp_broker.cli.backup import run_verify

    raise typer.Exit(run_verify(data_dir))

"""The commands as typer sees them: names, flags and help. What they do stands in a module of its own each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from amqp_broker.build_info import NAME, version_line
from amqp_broker.cli.perf import perf
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
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="The configuration file (TOML).")
    ] = None,
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
    file: Annotated[str, typer.Argument(metavar="FILE", help="The configuration file (TOML).")],
) -> None:
    """Say what is wrong with a configuration file, without starting the broker."""
    from amqp_broker.cli.check_config import run_check

    raise typer.Exit(run_check(file))


app.command()(perf)

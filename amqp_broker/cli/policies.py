"""`amqp-broker policies ...`, `amqp-broker operator-policies ...`, and `amqp-broker parameters ...`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import typer

from amqp_broker.cli.administer import Broker, stop
from amqp_broker.cli.flags import (
    AnyVirtualHost,
    ConfigFile,
    DataDirectory,
    Format,
    OutputFormat,
    VirtualHost,
    group,
)

policies: Final = group("Policies: arguments for all queues and exchanges whose names match.")
operator_policies: Final = group("Operator policies: bounds to what policies and arguments may ask for.")
parameters: Final = group("Parameters, kept for those who look for them here.")

_Name = Annotated[str, typer.Argument(metavar="NAME")]
_Pattern = Annotated[str, typer.Argument(metavar="PATTERN", help="Is searched for in names.")]
_Definition = Annotated[str, typer.Argument(metavar="DEFINITION", help='As JSON: {"max-length": 1000}')]
_Priority = Annotated[int, typer.Option("--priority", help="Of several that match, the highest counts.")]
_ApplyTo = Annotated[
    str, typer.Option("--apply-to", help="all, queues, classic_queues, quorum_queues, streams or exchanges.")
]
_Component = Annotated[str, typer.Argument(metavar="COMPONENT", help='"" with --global.')]
_Global = Annotated[bool, typer.Option("--global", help="Of the whole broker, not of a virtual host.")]


def _json(text: str, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        stop(f"{what} is not JSON: {error}")


def _definition(text: str) -> dict[str, Any]:
    definition = _json(text, "the definition")
    if not isinstance(definition, dict):
        stop("the definition is no JSON object")
    return definition


def _add_commands(app: typer.Typer, verbs: str, what: str) -> None:
    """verbs: what the names of the verbs begin with. Both kinds of policies have the same commands."""

    @app.command("list", help="All of them.")
    def list_policies(
        vhost: AnyVirtualHost = None,
        config: ConfigFile = None,
        data_dir: DataDirectory = None,
        shape: OutputFormat = Format.TABLE,
    ) -> None:
        broker = Broker(config, data_dir)
        broker.show(broker.ask(f"{verbs}.list", vhost=vhost), shape)

    @app.command("set", help=f"Make an {what} or change one. What it concerns follows it at once.")
    def set_policy(  # noqa: PLR0913, PLR0917 - a command has as many parameters as flags
        name: _Name,
        pattern: _Pattern,
        definition: _Definition,
        priority: _Priority = 0,
        apply_to: _ApplyTo = "all",
        vhost: VirtualHost = None,
        config: ConfigFile = None,
        data_dir: DataDirectory = None,
    ) -> None:
        broker = Broker(config, data_dir)
        broker.ask(
            f"{verbs}.set",
            vhost=broker.vhost(vhost),
            name=name,
            pattern=pattern,
            definition=_definition(definition),
            priority=priority,
            apply_to=apply_to,
        )

    @app.command("clear", help=f"Remove an {what}.")
    def clear_policy(
        name: _Name, vhost: VirtualHost = None, config: ConfigFile = None, data_dir: DataDirectory = None
    ) -> None:
        broker = Broker(config, data_dir)
        broker.ask(f"{verbs}.clear", vhost=broker.vhost(vhost), name=name)


_add_commands(policies, "policies", "ordinary policy")
_add_commands(operator_policies, "operator_policies", "operator policy")


@parameters.command("list")
def list_parameters(
    vhost: AnyVirtualHost = None,
    everywhere: _Global = False,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
    shape: OutputFormat = Format.TABLE,
) -> None:
    """The parameters of virtual hosts, or of the whole broker."""
    broker = Broker(config, data_dir)
    broker.show(broker.ask("parameters.list", vhost=vhost, everywhere=everywhere), shape)


@parameters.command("set")
def set_parameter(
    component: _Component,
    name: _Name,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As JSON.")],
    everywhere: _Global = False,
    vhost: VirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Set a parameter."""
    broker = Broker(config, data_dir)
    place = None if everywhere else broker.vhost(vhost)
    broker.ask("parameters.set", vhost=place, component=component, name=name, value=_json(value, "the value"))


@parameters.command("clear")
def clear_parameter(
    component: _Component,
    name: _Name,
    everywhere: _Global = False,
    vhost: VirtualHost = None,
    config: ConfigFile = None,
    data_dir: DataDirectory = None,
) -> None:
    """Remove a parameter."""
    broker = Broker(config, data_dir)
    place = None if everywhere else broker.vhost(vhost)
    broker.ask("parameters.clear", vhost=place, component=component, name=name)

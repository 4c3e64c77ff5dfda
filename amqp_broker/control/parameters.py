"""Parameters: settings that are kept for others, in a virtual host or for the whole broker.

Limits of virtual hosts are among them and are checked; policies, which RabbitMQ also has among them, are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.limits import LIMITS, limits_problem
from amqp_broker.broker.parameters import VHOST_LIMITS
from amqp_broker.control.limits import OF_VHOSTS
from amqp_broker.control.verb import (
    INVALID,
    NOT_FOUND,
    Given,
    Quick,
    Refused,
    Verb,
    check_name,
    vhost_named,
    vhosts_named,
)
from amqp_broker.definitions.values import plain_problem

if TYPE_CHECKING:
    from amqp_broker.broker.parameters import Parameters
    from amqp_broker.control.node import Node

# Of parameters that have verbs of their own.
_ELSEWHERE: Final = {"policy": "policies", "operator_policy": "operator-policies"}


class Which(Given, frozen=True):
    """vhost: None for all of them, or with `everywhere` for those of the whole broker."""

    vhost: str | None = None
    everywhere: bool = False


class ParameterName(Given, frozen=True):
    """vhost: None for one of the whole broker, which has component ""."""

    name: str
    vhost: str | None = None
    component: str = ""


class NewParameter(ParameterName, frozen=True, kw_only=True):
    """value: anything that JSON can hold."""

    value: Any


def list_parameters(node: Node, given: Which) -> object:
    if given.everywhere:
        return [
            {"name": parameter.name, "value": parameter.value}
            for _, parameter in sorted(node.broker.parameters.by_name.items())
        ]
    return [
        {
            "vhost": vhost.name,
            "component": parameter.component,
            "name": parameter.name,
            "value": parameter.value,
        }
        for vhost in vhosts_named(node, given.vhost)
        for _, parameter in sorted(vhost.parameters.by_name.items())
    ]


def _parameters(node: Node, given: ParameterName) -> Parameters:
    """Those among which it is. Raises Refused for a place where there can be none of that kind."""
    if given.vhost is None:
        if given.component:
            raise Refused(INVALID, "parameters of the whole broker have no component")
        return node.broker.parameters
    check_name("a component", given.component)
    if given.component in _ELSEWHERE:
        raise Refused(INVALID, f"'{given.component}' is no component here: use {_ELSEWHERE[given.component]}")
    return vhost_named(node, given.vhost).parameters


def set_parameter(node: Node, given: NewParameter) -> object:
    check_name("a parameter", given.name)
    parameters = _parameters(node, given)
    kept = plain_problem(given.value)
    if kept is not None:
        raise Refused(INVALID, f"the value {kept}")
    if given.component == VHOST_LIMITS:
        problem = limits_problem(given.value, OF_VHOSTS)
        if given.name != LIMITS:
            problem = f"the one parameter of {VHOST_LIMITS} is called {LIMITS}"
        if problem is not None:
            raise Refused(INVALID, f"validation failed: {problem}")
    parameters.set(given.component, given.name, given.value)
    return None


def clear_parameter(node: Node, given: ParameterName) -> object:
    if not _parameters(node, given).delete(given.component, given.name):
        place = "" if given.vhost is None else f" of {given.component} in virtual host '{given.vhost}'"
        raise Refused(NOT_FOUND, f"parameter '{given.name}'{place} does not exist")
    return None


VERBS: Final[dict[str, Verb[Any]]] = {
    "parameters.list": Quick(Which, list_parameters, changes=False),
    "parameters.set": Quick(NewParameter, set_parameter),
    "parameters.clear": Quick(ParameterName, clear_parameter),
}

"""Policies and operator policies of virtual hosts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY
from amqp_broker.broker.policy import InvalidPolicy, new_policy
from amqp_broker.control.verb import (
    INVALID,
    LONGEST_NAME,
    NOT_FOUND,
    Given,
    Number,
    Quick,
    Refused,
    Verb,
    check_name,
    vhost_named,
    vhosts_named,
)
from amqp_broker.definitions.values import field_of_json, json_of_table, nesting_problem

if TYPE_CHECKING:
    from amqp_broker.content.table import Field
    from amqp_broker.control.node import Node

_WORDS: Final = {POLICY: "policy", OPERATOR_POLICY: "operator policy"}


class InVirtualHost(Given, frozen=True):
    """vhost: None for all."""

    vhost: str | None = None


class NewPolicy(Given, frozen=True):
    """definition: by policy key, as JSON has it."""

    vhost: str
    name: str
    pattern: str
    definition: dict[str, Any]
    priority: Number = 0
    apply_to: str = "all"


class PolicyName(Given, frozen=True):
    vhost: str
    name: str


def list_policies(kind: str, node: Node, given: InVirtualHost) -> object:
    return [
        {
            "vhost": vhost.name,
            "name": policy.name,
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "definition": json_of_table(policy.definition),
            "priority": policy.priority,
        }
        for vhost in vhosts_named(node, given.vhost)
        for _, policy in sorted(vhost.policies.of_kind(kind).by_name.items())
    ]


def set_policy(kind: str, node: Node, given: NewPolicy) -> object:
    """Put one in the place of another one of its name; queues and exchanges follow it at once."""
    vhost = vhost_named(node, given.vhost)
    check_name("a policy", given.name)
    is_operators = kind == OPERATOR_POLICY
    try:
        policy = new_policy(
            given.name,
            given.pattern,
            _table(given.definition),
            given.priority,
            given.apply_to,
            operator=is_operators,
        )
    except InvalidPolicy as error:
        raise Refused(INVALID, f"validation failed: {'; '.join(error.problems)}") from None
    if is_operators:
        vhost.set_operator_policy(policy)
    else:
        vhost.set_policy(policy)
    return None


def _table(definition: dict[str, Any]) -> dict[str, Field]:
    table: dict[str, Field] = {}
    problem = nesting_problem(definition)
    if problem is not None:
        raise Refused(INVALID, f"the definition {problem}")
    for key, value in definition.items():
        if len(key.encode()) > LONGEST_NAME:
            raise Refused(INVALID, f"a key of the definition is longer than {LONGEST_NAME} bytes")
        try:
            table[key] = field_of_json(value)
        except ValueError as error:
            raise Refused(INVALID, f"{key}: {error}") from None
    return table


def clear_policy(kind: str, node: Node, given: PolicyName) -> object:
    vhost = vhost_named(node, given.vhost)
    delete = vhost.delete_operator_policy if kind == OPERATOR_POLICY else vhost.delete_policy
    if not delete(given.name):
        text = f"{_WORDS[kind]} '{given.name}' in virtual host '{vhost.name}' does not exist"
        raise Refused(NOT_FOUND, text)
    return None


VERBS: Final[dict[str, Verb[Any]]] = {
    "policies.list": Quick(InVirtualHost, partial(list_policies, POLICY), changes=False),
    "policies.set": Quick(NewPolicy, partial(set_policy, POLICY)),
    "policies.clear": Quick(PolicyName, partial(clear_policy, POLICY)),
    "operator_policies.list": Quick(InVirtualHost, partial(list_policies, OPERATOR_POLICY), changes=False),
    "operator_policies.set": Quick(NewPolicy, partial(set_policy, OPERATOR_POLICY)),
    "operator_policies.clear": Quick(PolicyName, partial(clear_policy, OPERATOR_POLICY)),
}

"""Policies: arguments for all queues or exchanges whose names match a pattern, and the policies of a virtual host.

Of the policies that match, one counts, and beside it one operator policy. What both come to together with a queue's
own arguments is `effective`'s business, and having it applied the virtual host's.
"""

from __future__ import annotations

import re
from typing import Final

from amqp_broker.broker.argument_table import POLICY_KEYS, QUEUE_TYPES, Argument
from amqp_broker.content.erlang import json_term
from amqp_broker.content.patterns import Pattern, compile_policy_pattern
from amqp_broker.content.table import Field

# What a policy is for, and the queue types that are among that.
APPLY_TO: Final[dict[str, tuple[str, ...]]] = {
    "all": QUEUE_TYPES,
    "queues": QUEUE_TYPES,
    "classic_queues": ("classic",),
    "quorum_queues": ("quorum",),
    "streams": (),
    "exchanges": (),
}


class InvalidPolicy(Exception):
    """problems: each in RabbitMQ's words, without the `Validation failed` that its tools put before them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems: list[str] = problems


class Policy:
    """pattern: a regular expression that is searched for in names. definition: by policy key, as field values.

    apply_to: see APPLY_TO. Of several, that of the highest priority counts, then the first by name. queue_types: it is
    for; one with a key that a type of queue lacks is not for that type at all. key: in the store, b"" if not there.
    """

    __slots__ = (
        "apply_to",
        "definition",
        "for_exchanges",
        "key",
        "name",
        "pattern",
        "priority",
        "queue_types",
        "regex",
    )

    def __init__(
        self, name: str, pattern: str, definition: dict[str, Field], priority: int = 0, apply_to: str = "all"
    ) -> None:
        self.name: str = name
        self.pattern: str = pattern
        self.regex: Pattern = compile_policy_pattern(pattern)
        self.definition: dict[str, Field] = definition
        self.priority: int = priority
        self.apply_to: str = apply_to
        self.for_exchanges: bool = apply_to in ("all", "exchanges")
        self.queue_types: list[str] = [kind for kind in APPLY_TO[apply_to] if _fits(definition, kind)]
        self.key: bytes = b""

    def says_the_same_as(self, other: Policy) -> bool:
        """Whether another policy of this name is no change."""
        return (
            self.pattern == other.pattern
            and self.definition == other.definition
            and self.priority == other.priority
            and self.apply_to == other.apply_to
        )

    def is_for_queue(self, name: str, kind: str) -> bool:
        return kind in self.queue_types and self._matches(name)

    def is_for_exchange(self, name: str) -> bool:
        return self.for_exchanges and self._matches(name)

    def _matches(self, name: str) -> bool:
        return self.regex.found_in(name.encode("utf-8", "surrogateescape"))


def _fits(definition: dict[str, Field], kind: str) -> bool:
    for key in definition:
        row = POLICY_KEYS.get(key)
        if row is not None and row.types and kind not in row.types:
            return False
    return True


def new_policy(
    name: str,
    pattern: str,
    definition: dict[str, Field],
    priority: int = 0,
    apply_to: str = "all",
    *,
    operator: bool = False,
) -> Policy:
    """A policy, or an operator policy, which fewer keys can be in. Raises InvalidPolicy."""
    problems = [*pattern_problems(pattern), *_apply_to_problems(apply_to)]
    problem = definition_problem(definition, operator)
    if problem is not None:
        problems.append(problem)
    if problems:
        raise InvalidPolicy(problems)
    return Policy(name, pattern, definition, priority, apply_to)


def pattern_problems(pattern: str) -> list[str]:
    try:
        compile_policy_pattern(pattern)
    except re.error as error:
        reason = f'{{"{error.msg}",{error.pos or 0}}}'
        return [f"pattern should be regular expression but is invalid: {reason}"]
    return []


def _apply_to_problems(apply_to: str) -> list[str]:
    if apply_to in APPLY_TO:
        return []
    known = "'queues', 'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'"
    return [f"apply-to '{apply_to}' unrecognised; should be one of: {known}"]


def definition_problem(definition: dict[str, Field], operator: bool) -> str | None:
    """What RabbitMQ would say about it: bad values in the order of their keys, then unknown keys, all at once."""
    if not definition:
        return "no policy provided"
    unknown: list[str] = []
    for key in sorted(definition):
        value = definition[key]
        row = POLICY_KEYS.get(key)
        if row is None or (operator and not _is_operators(row)):
            unknown.append(f'{{<<"{key}">>,{json_term(value)}}}')
        elif not _is_good(row, value):
            assert row.policy is not None
            return row.policy.complaint.replace("{}", json_term(value))
    if unknown:
        return f"[{','.join(unknown)}] are not recognised policy settings"
    return None


def _is_operators(row: Argument) -> bool:
    return row.policy is not None and row.policy.operator


def _is_good(row: Argument, value: Field) -> bool:
    policy = row.policy
    check = row.check if policy is None or policy.check is None else policy.check
    return check(value) is None


class Policies:
    """The policies of one kind of a virtual host, by name."""

    __slots__ = ("by_name", "ranked")

    def __init__(self) -> None:
        self.by_name: dict[str, Policy] = {}
        self.ranked: list[Policy] = []

    def put(self, policy: Policy) -> None:
        """Add a policy, in the place of another one of its name."""
        self.by_name[policy.name] = policy
        self._rank()

    def remove(self, name: str) -> Policy | None:
        policy = self.by_name.pop(name, None)
        self._rank()
        return policy

    def _rank(self) -> None:
        self.ranked = sorted(self.by_name.values(), key=_rank_of)

    def for_queue(self, name: str, kind: str) -> Policy | None:
        for policy in self.ranked:
            if policy.is_for_queue(name, kind):
                return policy
        return None

    def for_exchange(self, name: str) -> Policy | None:
        for policy in self.ranked:
            if policy.is_for_exchange(name):
                return policy
        return None


def _rank_of(policy: Policy) -> tuple[int, str]:
    return -policy.priority, policy.name

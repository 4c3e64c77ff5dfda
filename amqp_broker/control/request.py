"""A request as one line of JSON to a verb and what it is given, and what came of it as one line of JSON.

    {"verb": "users.delete", "arguments": {"name": "alice"}}
    {"result": null}
    {"error": {"kind": "not_found", "text": "user 'alice' does not exist"}}

`VERBS` is the table of all verbs. A request is checked whole before anything is done: an unknown verb or argument, one
that is missing or of another type is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from amqp_broker.control import (
    connections,
    definitions,
    limits,
    parameters,
    policies,
    queues,
    rights,
    users,
    vhosts,
)
from amqp_broker.control.verb import INTERNAL, INVALID, Given, Long, Refused, Verb

if TYPE_CHECKING:
    from amqp_broker.control.node import Node

VERBS: Final[dict[str, Verb[Any]]] = {
    **users.VERBS,
    **vhosts.VERBS,
    **rights.VERBS,
    **policies.VERBS,
    **limits.VERBS,
    **parameters.VERBS,
    **queues.VERBS,
    **connections.VERBS,
    **definitions.VERBS,
}
# What may stand in a log line of what a verb is given: no password, and nothing long.
_TOLD: Final = ("user", "vhost", "exchange", "component", "name")


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    verb: str
    arguments: dict[str, Any] = {}


class Request:
    """name: of the verb. changes: its change is to be durable before it is answered."""

    def __init__(self, name: str, verb: Verb[Any], given: Given) -> None:
        self.name = name
        self.changes = verb.changes
        self._verb = verb
        self._given = given

    def __str__(self) -> str:
        """The verb and what it is about, for a log."""
        told = [
            f"{key} {value!r}"
            for key in _TOLD
            if (value := getattr(self._given, key, None)) is not None and isinstance(value, str)
        ]
        return " ".join([self.name, ", ".join(told)]).strip()

    def work(self, node: Node) -> Callable[[], object] | None:
        """What to do in a thread before `run`. Raises Refused."""
        return self._verb.work(node, self._given)

    def steps(self, node: Node, found: object) -> Generator[None, None, object] | None:
        """The same in steps, whose last one returns what `run` does; None if it is done in one."""
        return self._verb.steps(node, self._given, found) if isinstance(self._verb, Long) else None

    def run(self, node: Node, found: object) -> object:
        """Do it, in a turn; found: what the work came to. Raises Refused, and has changed nothing then."""
        return self._verb.run(node, self._given, found)


def write_request(verb: str, arguments: dict[str, Any]) -> bytes:
    """Raises Refused for what JSON cannot hold."""
    try:
        return msgspec.json.encode(Envelope(verb, arguments)) + b"\n"
    except (TypeError, ValueError) as error:
        raise Refused(INVALID, f"not a request: {error}") from None


def read_request(line: bytes) -> Request:
    """Raises Refused."""
    try:
        envelope = msgspec.json.decode(line, type=Envelope)
        verb = VERBS.get(envelope.verb)
        if verb is None:
            raise Refused(INVALID, f"there is no verb '{envelope.verb}'")
        return Request(envelope.verb, verb, msgspec.convert(envelope.arguments, verb.given))
    except (ValueError, RecursionError) as error:
        # What msgspec raises for octets that are no JSON, and for JSON that is something else, is a ValueError.
        raise Refused(INVALID, f"not a request: {error}") from None


def write_result(result: object) -> bytes:
    return msgspec.json.encode({"result": result}) + b"\n"


def write_refusal(refusal: Refused) -> bytes:
    return msgspec.json.encode({"error": {"kind": refusal.kind, "text": str(refusal)}}) + b"\n"


def read_answer(line: bytes) -> object:
    """The result. Raises Refused if that is the answer."""
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "error" in answer:
            raise Refused(str(answer["error"]["kind"]), str(answer["error"]["text"]))
        return answer["result"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(INTERNAL, f"what the broker answers cannot be understood: {error!r}") from None

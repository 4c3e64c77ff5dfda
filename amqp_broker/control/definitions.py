"""All definitions at once, as RabbitMQ's JSON: written out, and loaded.

What is wrong with a text, and what of it is passed over, is told with its places in the text; nothing of a text with a
mistake is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.control.users import NoArguments
from amqp_broker.control.verb import Given, Long, Quick, Verb
from amqp_broker.definitions import InvalidDefinitions, Loading, Problem, read

if TYPE_CHECKING:
    from amqp_broker.control.node import Node
    from amqp_broker.definitions.rows import Document, ExchangeRow, QueueRow


class Text(Given, frozen=True):
    """vhost: of what names none itself."""

    text: str
    vhost: str


def export(node: Node, given: NoArguments) -> object:
    return {"text": node.definitions()}


def _reading(node: Node, given: Text) -> Callable[[], object]:
    return partial(_read, given)


def _read(given: Text) -> object:
    try:
        return read(given.text, given.vhost)
    except InvalidDefinitions as error:
        return error


def load_definitions(
    node: Node, given: Text, found: Document | InvalidDefinitions
) -> Generator[None, None, object]:
    """loaded: in words, what was. problems: what keeps all of it from being loaded; warnings: what is passed over."""
    try:
        if isinstance(found, InvalidDefinitions):
            raise found
        loading = Loading(found, node.broker)
        yield from loading.steps()
    except InvalidDefinitions as error:
        return {"loaded": "", "problems": [str(problem) for problem in error.problems], "warnings": []}
    warnings = [*loading.loaded.warnings, *([] if node.running else _transient(found))]
    return {
        "loaded": str(loading.loaded),
        "problems": [],
        "warnings": [str(warning) for warning in warnings],
    }


def _transient(document: Document) -> list[Problem]:
    """What is only in the memory of a broker that does not run."""
    declared: list[ExchangeRow | QueueRow] = [*document.exchanges, *document.queues]
    return [
        Problem(row.path, f"'{row.name}' is transient: a start will not find it")
        for row in declared
        if not row.durable
    ]


VERBS: Final[dict[str, Verb[Any]]] = {
    "definitions.export": Quick(NoArguments, export, changes=False),
    "definitions.load": Long(Text, _reading, load_definitions),
}

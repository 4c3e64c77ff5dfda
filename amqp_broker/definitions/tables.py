"""The table of arguments, written down for people: the generated parts of docs/queues.md and docs/policies.md.

What is generated stands between two comments in a page; the rest of the page is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from amqp_broker.broker.argument_table import (
    CONSUMER_ROWS,
    EXCHANGE_ROWS,
    POLICY_ROWS,
    QUEUE_ROWS,
    Argument,
)


def queue_table() -> str:
    rows: list[tuple[str, ...]] = [
        (
            f"`{row.name}`",
            row.kind,
            _types(row),
            "" if row.policy is None else f"`{row.policy.name}`",
            row.effect,
        )
        for row in QUEUE_ROWS
    ]
    return _table(("argument", "value", "queue types", "policy key", "what it does"), rows)


def consumer_table() -> str:
    rows: list[tuple[str, ...]] = [(f"`{row.name}`", row.kind, row.effect) for row in CONSUMER_ROWS]
    return _table(("argument", "value", "what it does"), rows)


def policy_table() -> str:
    rows: list[tuple[str, ...]] = []
    of_queues = {row.policy: row.name for row in QUEUE_ROWS if row.policy is not None}
    of_exchanges = {row.policy: row.name for row in EXCHANGE_ROWS if row.policy is not None}
    for group in (QUEUE_ROWS, EXCHANGE_ROWS, POLICY_ROWS):
        for row in group:
            if row.policy is not None and not (group is EXCHANGE_ROWS and row.policy in of_queues):
                places = []
                if row.policy in of_queues:
                    places.append("queues")
                if row.policy in of_exchanges:
                    places.append("exchanges")
                says = f"`{row.name}` of {' and '.join(places)}" if places else row.effect
                operator = "yes" if row.policy.operator else ""
                rows.append((f"`{row.policy.name}`", row.kind, says, _winner(row), operator))
    head = ("key", "value", "says the same as", "if an argument says it too", "operator policies")
    return _table(head, rows)


def _types(row: Argument) -> str:
    return ", ".join(row.types) if row.types else "all"


def _winner(row: Argument) -> str:
    if not row.name:
        return ""
    return "the lower" if row.policy is not None and row.policy.lower else "the argument"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "queue arguments": queue_table,
    "consumer arguments": consumer_table,
    "policy keys": policy_table,
}


def with_tables(page: str) -> str:
    """The text of a page with its tables as they are now. Raises ValueError for a beginning without an end."""
    for name, table in TABLES.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
        if begin in page:
            before, _, rest = page.partition(begin)
            if end not in rest:
                raise ValueError(f"{begin.strip()} has no end")
            page = f"{before}{begin}\n{table()}\n{end}{rest.partition(end)[2]}"
    return page

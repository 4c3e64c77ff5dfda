"""What may differ between two brokers that a client cannot tell apart, and why; all else has to be the same.

Each rule takes what was heard, as rows, and returns rows. Where a rule needs to know what was sent, the player
applies it while it listens: those are described here too, so that all of them stand in one list.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

Row = list[Any]

# Rules that the player itself keeps to (see player.py).
WHILE_LISTENING: Final = {
    "channels": "Frames of different channels are put in the order of connections and channels: the protocol "
    "orders the frames of one channel only. Order within a channel counts.",
    "confirms": "Confirms are compared as the fate of each message of a step: how many of them one frame with "
    "`multiple` covers, and in which order they come, is the broker's choice. A confirm before the basic.return "
    "of its message is told, as it would be wrong.",
    "end": "A socket that ends has ended, by FIN or by RST: which of them a client sees depends on what was "
    "unread when the broker closed it.",
    "heartbeats": "Heartbeats are left out: they come when time passes.",
    "last words": "Deliveries in the step in which the broker closes their connection are left out: what one "
    "channel gives back as it ends may or may not reach another that is about to.",
    "closes": "A close by the broker is answered at once and waited for to its end: how long the socket then "
    "stays open is RabbitMQ's patience, not protocol.",
}

GENERATED: Final = re.compile(
    r"amq\.(gen|ctag)-[A-Za-z0-9_\-]{22}|amq\.rabbitmq\.reply-to\.[A-Za-z0-9+/=_.\-]{20,}"
)
NODE: Final = re.compile(r"\b[a-z][a-z0-9_\-]*@[A-Za-z0-9_\-]+\b")
OF_3_13: Final = ("x-last-death-exchange", "x-last-death-queue", "x-last-death-reason")
BROKEN: Final = re.compile(r"\n +")
NOW_SECONDS: Final = 86400.0


class Normal:
    """The rules for one conversation: generated names are numbered in the order of their appearance."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.names: dict[str, str] = {}

    def rows(self, rows: list[Row]) -> list[Row]:
        for rule, _ in RULES.values():
            rows = [rule(self, row) for row in rows]
        return rows

    def texts(self, value: Any, change: Callable[[str], str]) -> Any:
        """`value` with each text in it changed."""
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [self.texts(item, change) for item in value]
        return value

    def own_names(self, row: Row) -> Row:
        numbers = ",".join(str(octet) for octet in self.prefix.encode())
        return [
            row[0],
            row[1],
            *self.texts(row[2:], lambda text: text.replace(self.prefix, "~").replace(numbers, "~")),
        ]

    def generated_names(self, row: Row) -> Row:
        def number(match: re.Match[str]) -> str:
            kind = match[0].split("-")[0] if match[1] else "amq.rabbitmq.reply-to"
            return self.names.setdefault(match[0], f"{kind}#{len(self.names) + 1}")

        return [row[0], row[1], *self.texts(row[2:], lambda text: GENERATED.sub(number, text))]

    def timestamps(self, row: Row) -> Row:
        if len(row) < 4:
            return row
        return [*row[:3], self._times(row[3]), *row[4:]]

    def _times(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        typed = len(value) >= 2 and value[-2] == "T" and isinstance(value[-1], int)
        if typed and abs(value[-1] - time.time()) < NOW_SECONDS:
            return [*value[:-1], "now"]
        return [self._times(item) for item in value]

    def newer_headers(self, row: Row) -> Row:
        if len(row) < 4:
            return row
        properties = [
            [name, [entry for entry in value if entry[0] not in OF_3_13] if name == "headers" else value]
            for name, value in row[3]
        ]
        return [*row[:3], properties, *row[4:]]

    def server_properties(self, row: Row) -> Row:
        if row[1] != "connection.start":
            return row
        major, minor, properties, mechanisms, locales = row[2]
        capabilities = [entry for entry in properties if entry[0] == "capabilities"]
        for entry in capabilities:
            entry[2] = sorted(entry[2])
        return [row[0], row[1], [major, minor, capabilities, sorted(mechanisms.split()), locales]]

    def broken_lines(self, row: Row) -> Row:
        if not row[1].endswith(".close"):
            return row
        return [row[0], row[1], self.texts(row[2], lambda text: BROKEN.sub("", text))]

    def node_names(self, row: Row) -> Row:
        return [row[0], row[1], *self.texts(row[2:], lambda text: NODE.sub("NODE", text))]


Rule = Callable[[Normal, Row], Row]
RULES: Final[dict[str, tuple[Rule, str]]] = {
    "own names": (
        Normal.own_names,
        (
            "Each conversation's names begin with a prefix of its own, so that many can be held at once; it is "
            "written `~`, whatever it was."
        ),
    ),
    "generated names": (
        Normal.generated_names,
        (
            "The names of queues and consumers that the broker makes up are random: they are numbered as they "
            "appear. Their form is kept to, since a name of another form is not recognised."
        ),
    ),
    "timestamps": (
        Normal.timestamps,
        "Times that are about now, such as those in x-death, differ from run to run.",
    ),
    "headers of RabbitMQ 3.13": (
        Normal.newer_headers,
        "x-last-death-* came with 3.13, which this broker follows, and RabbitMQ 3.10.8 does not set them.",
    ),
    "server properties": (
        Normal.server_properties,
        (
            "Product, version, platform and cluster name are each broker's own; capabilities and mechanisms count, "
            "not their order."
        ),
    ),
    "broken lines": (
        Normal.broken_lines,
        "Erlang begins a new line, deeply indented, within terms that are longer than 80 columns.",
    ),
    "node names": (
        Normal.node_names,
        "The name of the node is the machine's.",
    ),
}

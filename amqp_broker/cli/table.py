"""Rows as columns for people, or as JSON for programs.

Names come from clients: what is no printable character is shown as an escape, so that none can reach the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from amqp_broker.cli.flags import Format


def print_rows(rows: object, shape: Format) -> None:
    """A list of rows, or one of them, whose values stand below each other then."""
    if shape is Format.JSON:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n")
    elif isinstance(rows, list):
        sys.stdout.write("".join(f"{line}\n" for line in columns(rows)))
    elif isinstance(rows, dict):
        widest = max((len(key) for key in rows), default=0)
        for key, value in rows.items():
            sys.stdout.write(f"{key.ljust(widest)}  {cell(value)}".rstrip() + "\n")


def columns(rows: list[Mapping[str, object]]) -> list[str]:
    """A line of headings and one for each row; nothing if there are no rows."""
    if not rows:
        return []
    heads = list(rows[0])
    lines = [heads, *([cell(row.get(head)) for head in heads] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def cell(value: object) -> str:
    if value is None or value in ({}, []):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return printable(", ".join(value))
    return printable(msgspec.json.encode(value).decode())


def printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )

"""The table of known differences in docs/compatibility.md, written from known.py."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .known import KNOWN

PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
BEGIN: Final = "<!-- differences: written by `python -m interop.differential --write-docs` -->"
END: Final = "<!-- end of differences -->"


def table() -> str:
    rows = ["| what | RabbitMQ 3.10.8 | here | why | conversations |", "|---|---|---|---|---|"]
    for known in KNOWN:
        shown = ", ".join(f"`{pattern}`" for pattern in known.conversations)
        rows.append(f"| {known.name} | {known.rabbitmq} | {known.here} | {known.why} | {shown} |")
    return "\n".join(rows)


def written() -> str:
    """The page with the table as it has to be. Raises ValueError if the page has no place for it."""
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def write() -> None:
    PAGE.write_text(written())

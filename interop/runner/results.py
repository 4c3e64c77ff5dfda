"""What came of the scenarios: rows in `interop/results.json`, and the table of docs/compatibility.md made from them.

A row is one scenario of one client with one broker; a later run replaces it. The table is nothing but the rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from interop.runner.clients import known

INTEROP: Final = Path(__file__).parents[1]
FILE: Final = INTEROP / "results.json"
PAGE: Final = INTEROP.parent / "docs" / "compatibility.md"
BEGIN: Final = "<!-- clients: made by `interop/run --write-table` from interop/results.json -->\n"
END: Final = "<!-- end of clients -->\n"
# In the order of the columns: the names of the brokers as they stand in the rows.
BROKERS: Final = ("amqp-broker", "RabbitMQ")

Row = dict[str, Any]


def load(file: Path) -> list[Row]:
    return list(json.loads(file.read_text())) if file.exists() else []


def save(file: Path, new: list[Row]) -> None:
    """Write the rows of the file with these in place of older ones of the same client, scenario and broker."""
    rows = {_key(row): row for row in [*load(file), *new]}
    clients = known()
    kept = [
        row
        for _, row in sorted(rows.items())
        if row["client"] in clients and row["scenario"] in clients[row["client"]].scenarios
    ]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in kept)
    file.write_text(f"[\n{lines}\n]\n")


def _key(row: Row) -> tuple[str, str, str]:
    return row["client"], row["broker"], row["scenario"]


def table(rows: list[Row]) -> str:
    """The marked block of the page, markers included."""
    lines = [
        "| client | language | scenarios | " + " | ".join(_columns(rows)) + " | on |",
        "|---|---|---|" + "---|" * (len(BROKERS) + 1),
    ]
    for name, client in known().items():
        own = [row for row in rows if row["client"] == name]
        if not own:
            continue
        cells = [_summary([row for row in own if row["broker"] == broker]) for broker in BROKERS]
        dates = max(row["date"] for row in own)
        count = len({row["scenario"] for row in own})
        lines.append(
            f"| [{name}](../interop/clients/{name}) {own[0]['version']} | {client.language} | {count} | "
            f"{' | '.join(cells)} | {dates} |"
        )
    notes = _notes(rows)
    return "\n".join([BEGIN, *lines, "", *notes, *([""] if notes else []), END])


def _columns(rows: list[Row]) -> list[str]:
    columns = []
    for broker in BROKERS:
        versions = sorted({row["broker_version"] for row in rows if row["broker"] == broker})
        columns.append(f"{broker} {', '.join(versions)}".strip())
    return columns


def _summary(rows: list[Row]) -> str:
    if not rows:
        return "not run"
    counts = {
        outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("ok", "failed", "cannot")
    }
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


def _notes(rows: list[Row]) -> list[str]:
    """A line for each scenario that a client cannot express, and for each that failed."""
    notes: dict[str, None] = {}
    for row in sorted(rows, key=_key):
        if row["outcome"] == "cannot":
            notes[f"- {row['client']} cannot show `{row['scenario']}`: {row['detail']}."] = None
        elif row["outcome"] == "failed":
            detail = row["detail"].splitlines()[0][:200] if row["detail"] else ""
            notes[f"- {row['client']} failed in `{row['scenario']}` with {row['broker']}: {detail}"] = None
    return list(notes)


def page_with(block: str) -> str:
    """The page with this block in place of the one it has."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + block + after

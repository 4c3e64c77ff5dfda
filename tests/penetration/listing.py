"""The list of attempts in docs/security.md, made from the tests: their modules' first lines and their names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
PAGE: Final = FOLDER.parents[1] / "docs" / "security.md"
BEGIN: Final = "<!-- attempts: written by python -m tests.penetration -->\n"
END: Final = "<!-- end of attempts -->\n"


def attempts(file: Path) -> list[str]:
    """The names of the tests in a file, in order."""
    found = ast.parse(file.read_text()).body
    return [
        node.name for node in found if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def files() -> list[Path]:
    return sorted(FOLDER.glob("test_*.py"))


def _lines() -> Iterator[str]:
    for file in files():
        purpose = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0].rstrip(".")
        yield f"\n**{purpose}** ([{file.name}](../tests/penetration/{file.name}))\n\n"
        for name in attempts(file):
            yield f"- {name.removeprefix('test_').replace('_', ' ')}\n"


def listing() -> str:
    """What stands between the two marks."""
    return "".join(_lines()).lstrip("\n")


def with_listing(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{listing()}\n{END}{after}"

"""The documentation as tests see it: pages, their links, headings and code blocks.

Reads Markdown just far enough for the pages of this project. Knows nothing of what they say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[((?:`[^`]*`|[^\]`])+)\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ (.+)$", re.MULTILINE)
TEST_COMMAND: Final = "<!-- test-command -->"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text without its code blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[tuple[str, str]]:
    """Text and target of every link."""
    return [(found[1], found[2]) for found in _LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """What `#...` may name on a page: its headings in the form that web pages of Markdown give them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(prose(page))
    }


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of every code block, in order."""
    return [(found[1], found[2]) for found in _FENCE.finditer(page.read_text())]


def sections(page: Path) -> list[str]:
    """The headings of the second level, in order."""
    return re.findall(r"^## (.+)$", prose(page), re.MULTILINE)


def block_after(page: Path, heading: str, language: str) -> str:
    """The first code block of that language below a heading, before the next heading."""
    section = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    found = [part for part in section if part.startswith(heading + "\n")]
    assert len(found) == 1, f"{name_of(page)} has {len(found)} sections '{heading}'"
    for kind, content in _FENCE.findall(found[0]):
        if kind == language:
            return str(content)
    raise AssertionError(f"no {language} block below '{heading}' in {name_of(page)}")

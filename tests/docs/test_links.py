"""Every link in the documentation leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, links, name_of

EXTERNAL = ("https://", "http://", "mailto:")


def is_broken(page: Path, target: str) -> bool:
    """Whether a link to a file or heading of the project leads nowhere; others are not followed."""
    if target.startswith(EXTERNAL):
        return False
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(ROOT) or not file.exists():
        return True
    return anchor != "" and anchor not in anchors(file)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [target for _, target in links(page) if is_broken(page, target)]
    assert broken == []


@pytest.mark.parametrize(
    "target",
    ["missing.md", "docs/missing.md", "#no-such-heading", "docs/durability.md#nowhere", "../elsewhere"],
)
def test_a_broken_link_is_noticed(target: str) -> None:
    assert is_broken(ROOT / "README.md", target)


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen = {ROOT / "README.md"}
    pending = list(seen)
    while pending:
        page = pending.pop()
        for _, target in links(page):
            file = (page.parent / target.partition("#")[0]).resolve()
            if file in PAGES and file not in seen:
                seen.add(file)
                pending.append(file)
    assert set(PAGES) - seen == set()


def test_each_test_that_knows_a_difference_is_named_in_the_compatibility_page() -> None:
    page = ROOT / "docs" / "compatibility.md"
    linked = {(page.parent / target).resolve() for _, target in links(page)}
    conversations = (ROOT / "tests" / "conversations").glob("test_*.py")
    knowing = {file for file in conversations if "differs_from_rabbitmq(" in file.read_text()}
    assert knowing, "no conversation knows a difference any more: is this test still needed?"
    assert knowing - linked == set()

"""docs/architecture.md names files, functions and imports that are there.

The source is read, not imported: what runs may be the compiled modules, which have no such structure.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import ROOT, links, prose

PAGE: Final = ROOT / "docs" / "architecture.md"
PACKAGE: Final = ROOT / "amqp_broker"

_CODE: Final = re.compile(r"`([^`]+)`")
_PATH: Final = re.compile(r"^[\w./-]+(/|\.py|\.md|\.toml)$")
_STEP: Final = re.compile(
    r"^\| \d+ \| \[`[\w.]+`\]\(\.\./amqp_broker/([\w/.]+)\) \| `([\w/.]+)` \|", re.MULTILINE
)
_MEMBER: Final = re.compile(r"^[A-Z]\w+\.\w+$")


def definitions(source: str) -> set[str]:
    """The functions, classes and constants of a module, and `Class.name` for what its classes define."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        found |= _names(node)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                found |= {f"{node.name}.{name}" for name in _names(member)}
    return found


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


def defined_anywhere() -> set[str]:
    return set().union(*(definitions(file.read_text()) for file in PACKAGE.rglob("*.py")))


def named_functions() -> list[tuple[str, Path]]:
    """What the page links as `name` in a source file."""
    return [
        (text.strip("`"), (PAGE.parent / target).resolve())
        for text, target in links(PAGE)
        if text.startswith("`") and target.endswith(".py")
    ]


@pytest.mark.parametrize(("name", "file"), named_functions(), ids=lambda value: getattr(value, "name", value))
def test_a_function_stands_in_the_file_it_is_linked_to(name: str, file: Path) -> None:
    assert name in definitions(file.read_text()), f"{name} is not in {file}"


def test_the_page_names_functions_enough_to_follow_a_message() -> None:
    steps = _STEP.findall(prose(PAGE))
    assert len(steps) == 9 + 8
    assert [linked for linked, _ in steps] == [shown for _, shown in steps]


def test_members_named_without_a_link_are_there() -> None:
    without_links = re.sub(r"\[`[^`]+`\]\([^)]+\)", "", prose(PAGE))
    members = {text for text in _CODE.findall(without_links) if _MEMBER.match(text)}
    assert members - defined_anywhere() == set()


def test_every_path_named_is_there() -> None:
    paths = {text for text in _CODE.findall(prose(PAGE)) if _PATH.match(text)}
    assert paths
    assert {path for path in paths if not (ROOT / path).exists() and not (PACKAGE / path).exists()} == set()


def layers() -> dict[str, set[str]]:
    """The table of layers: what each may import."""
    rows = re.findall(r"^\| `(\w+)/` \| [^|]+ \|([^|]*)\| (?:yes|no) \|$", prose(PAGE), re.M)
    return {name: set(_CODE.findall(imports)) for name, imports in rows}


def imports_of(layer: str) -> set[str]:
    """What the modules of a layer import from others, as paths; not what only type checkers see."""
    found: set[str] = set()
    for file in (PACKAGE / layer).rglob("*.py"):
        for statement in ast.walk(_without_type_checking(ast.parse(file.read_text()))):
            if isinstance(statement, ast.ImportFrom) and statement.module:
                module = statement.module
                found |= {
                    _path(name) for name in [module, *(f"{module}.{alias.name}" for alias in statement.names)]
                }
    return {path for path in found if path and not path.startswith(layer + "/")}


def _path(module: str) -> str:
    """Where a module or package of amqp_broker lies in it; "" for anything else."""
    parts = module.split(".")
    path = "/".join(parts[1:])
    if parts[0] != "amqp_broker" or not path:
        return ""
    if (PACKAGE / path).is_dir():
        return path + "/"
    return path + ".py" if (PACKAGE / (path + ".py")).exists() else ""


def _without_type_checking(tree: ast.Module) -> ast.Module:
    at_run_time = [
        node
        for node in tree.body
        if not isinstance(node, ast.If) or "TYPE_CHECKING" not in ast.dump(node.test)
    ]
    return ast.Module(at_run_time, [])


def test_every_package_has_a_row_among_the_layers() -> None:
    assert set(layers()) == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize("layer", sorted(layers()))
def test_a_layer_imports_what_its_row_says(layer: str) -> None:
    allowed, imported = layers()[layer], imports_of(layer)
    unlisted = {path for path in imported if not any(path.startswith(entry) for entry in allowed)}
    assert unlisted == set()
    assert {entry for entry in allowed if not any(path.startswith(entry) for path in imported)} == set()

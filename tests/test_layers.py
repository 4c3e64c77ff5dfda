"""The layering rule: who may import whom, and what only the outermost layers may touch.

Read from the source with `ast`, so that an import inside a function counts like one at the top. Imports that only
the type checker sees may point upwards (a consumer is annotated with its queue); they are left out.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "amqp_broker"
LONGEST_FILE: Final = 520

# Each package or module of amqp_broker, and the others it may import; itself always.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "": set(),
    "__main__": {"cli"},
    "build_info": {""},
    "errors": set(),
    "content": {"errors"},
    "config": {"errors", "content"},
    "wire": {"errors", "content"},
    "broker": {"errors", "content"},
    "definitions": {"errors", "content", "broker"},
    "control": {"errors", "broker", "definitions"},
    "session": {"errors", "content", "wire", "broker"},
    "store": {"", "errors", "content", "broker"},
    "server": {"", "build_info", "config", "errors", "content", "broker", "session", "store"}
    | {"definitions", "control"},
    "perf": {"", "build_info", "errors", "content"},
    "cli": {"", "build_info", "config", "errors", "server", "store", "perf", "definitions", "control"},
}
# Of the model, a store sees the contract and what travels through it.
STORE_SEES: Final = {"amqp_broker.broker.ports", "amqp_broker.broker.message"}

OUTSIDE_WORLD: Final = {"anyio", "asyncio", "concurrent", "multiprocessing", "select", "selectors", "socket"} | {
    "ssl", "subprocess", "threading", "trio", "uvloop",
}  # fmt: skip
CLOCKS: Final = {"datetime", "sched", "time"}
OUTERMOST: Final = {"server", "cli", "perf"}
# The store's carriers hand batches to a writer elsewhere; the rest of the store has these, each for one thing.
CARRIERS: Final = {"carrier", "child", "loop", "process", "thread"}
ALLOWED: Final[dict[str, set[str]]] = {
    "amqp_broker.store.open": {
        "threading",
        "time",
    },  # a lock around resizing; how long to wait for another broker
    "amqp_broker.store.reader": {"threading"},  # the type of that lock
    "amqp_broker.store.follower": {"threading"},  # has LMDB follow beside the log
    "amqp_broker.config.options": {"socket"},  # the host's name, for the cluster name
}
# Who reads a clock or sets a timer: the broker's one clock, what waits before there is one, and the load generator.
OWN_CLOCK: Final = {"amqp_broker.server.clock", "amqp_broker.store.open", "amqp_broker.cli.perf"}
WAITS: Final = {"call_at", "call_later", "sleep", "sleep_until"}
DEADLINES: Final = {"current_time", "fail_after", "move_on_after", "timeout", "timeout_at", "wait_for"}
LOOPS: Final = ("loop", "get_running_loop()", "get_event_loop()")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES: Final = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


class Imports(ast.NodeVisitor):
    """The modules that one module imports when it runs, wherever the import stands in it."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.found: list[tuple[str, int]] = []

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [(alias.name, node.lineno) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.module}:{node.lineno}: a relative import hides its layer"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            self.found.append((whole if whole in SOURCES else str(node.module), node.lineno))


def imports_of(source: str, module: str = "amqp_broker.example") -> list[tuple[str, int]]:
    visitor = Imports(module)
    visitor.visit(ast.parse(source))
    return visitor.found


IMPORTS: Final = {module: imports_of(path.read_text(), module) for module, path in SOURCES.items()}


def forbidden(module: str, imported: str) -> str | None:
    """Why `module` may not import `imported`, or None."""
    top = imported.split(".", maxsplit=1)[0]
    here = layer(module)
    if top == "amqp_broker":
        there = layer(imported)
        if there != here and there not in MAY_IMPORT[here]:
            return f"{here or 'amqp_broker'} may not import {there or 'amqp_broker'}"
        if here == "store" and there == "broker" and imported not in STORE_SEES:
            return "a store sees only the model's ports and messages"
        return None
    if here in OUTERMOST or top in ALLOWED.get(module, ()):
        return None
    if top in CLOCKS:
        return "time comes in as an argument below the server"
    if top in OUTSIDE_WORLD and not (here == "store" and module.split(".")[2:3][0] in CARRIERS):
        return f"only {', '.join(sorted(OUTERMOST))} and the store's carriers may import {top}"
    return None


def clocks_used(source: str) -> list[str]:
    """Where a module reads a clock or sets a timer that was not handed in, as it stands there."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("anyio", "asyncio"):
            found += [alias.name for alias in node.names if alias.name in WAITS | DEADLINES]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            waits = node.attr in WAITS and not f".{owner}".endswith(".clock")
            sets_deadline = node.attr in DEADLINES and owner in ("anyio", "asyncio")
            reads = node.attr == "time" and owner.endswith(LOOPS)
            if waits or sets_deadline or reads:
                found.append(ast.unparse(node))
    return found + [name for name, _ in imports_of(source) if name.partition(".")[0] in CLOCKS]


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_goes_by_the_clock_that_is_handed_in(module: str) -> None:
    if module not in OWN_CLOCK and layer(module) != "perf":
        assert clocks_used(SOURCES[module].read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "import datetime",
        "anyio.sleep(1)",
        "from anyio import sleep",
        "with anyio.move_on_after(1): pass",
        "asyncio.get_running_loop().call_later(1, f)",
        "self.loop.call_at(1, f)",
        "loop.time()",
        "asyncio.timeout(1)",
    ],
)
def test_a_clock_of_ones_own_is_seen(source: str) -> None:
    assert len(clocks_used(source)) == 1


def test_a_clock_that_was_handed_in_may_be_used() -> None:
    assert clocks_used("clock.call_later(1, f)\nself.clock.sleep(1)\nself._call_later(1, f)") == []


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    problems = [
        f"{SOURCES[module].relative_to(ROOT)}:{line}: {imported}: {problem}"
        for imported, line in IMPORTS[module]
        if (problem := forbidden(module, imported)) is not None
    ]
    assert not problems, "\n".join(problems)


def test_every_package_has_a_place_in_the_layers() -> None:
    assert {layer(module) for module in SOURCES} == set(MAY_IMPORT)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        module: {imported for imported, _ in found if imported in SOURCES}
        for module, found in IMPORTS.items()
    }
    for start in graph:
        path = path_back(graph, start)
        assert path is None, " -> ".join(path)


def path_back(graph: dict[str, set[str]], start: str) -> list[str] | None:
    """A way from a module back to itself, or None."""
    came_from: dict[str, str] = {}
    pending = [start]
    while pending:
        module = pending.pop()
        for imported in sorted(graph[module]):
            if imported == start:
                path = [start]
                while module != start:
                    path.insert(0, module)
                    module = came_from[module]
                return [start, *path]
            if imported not in came_from:
                came_from[imported] = module
                pending.append(imported)
    return None


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("module", SOURCES)
def test_a_file_is_of_a_size_to_be_read_at_once(module: str) -> None:
    assert lines_of(SOURCES[module]) <= LONGEST_FILE


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("amqp_broker.broker.queue", "from amqp_broker.session.channel import Channel"),
        ("amqp_broker.broker.queue", "from amqp_broker import session"),
        ("amqp_broker.broker.queue", "def late():\n    import amqp_broker.store.journal"),
        ("amqp_broker.wire.reader", "from amqp_broker.broker.message import Message"),
        ("amqp_broker.content.header", "from amqp_broker.wire.methods import FRAME_END"),
        ("amqp_broker.errors", "from amqp_broker.content.table import Field"),
        ("amqp_broker.store.journal", "from amqp_broker.broker.queue import Queue"),
        ("amqp_broker.store.journal", "import threading"),
        ("amqp_broker.session.channel", "from time import monotonic"),
        ("amqp_broker.session.connection", "import asyncio"),
        ("amqp_broker.broker.broker", "import anyio.abc"),
        ("amqp_broker.server.client", "from amqp_broker.cli.app import app"),
    ],
)
def test_a_breach_is_seen(module: str, source: str) -> None:
    assert any(forbidden(module, imported) for imported, _ in imports_of(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("amqp_broker.session.channel", "from amqp_broker.broker.queue import Queue"),
        ("amqp_broker.store.thread", "import threading"),
        ("amqp_broker.server.client", "import asyncio, time"),
        (
            "amqp_broker.broker.queue",
            "if TYPE_CHECKING:\n    from amqp_broker.session.channel import Channel",
        ),
    ],
)
def test_what_is_allowed_is_not_reported(module: str, source: str) -> None:
    assert not any(forbidden(module, imported) for imported, _ in imports_of(source, module))


def test_a_circle_is_found_however_long_it_is() -> None:
    assert path_back({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, "a") == ["a", "b", "c", "a"]
    assert path_back({"a": {"b"}, "b": {"c"}, "c": {"b"}}, "a") is None
    assert path_back({"a": {"a"}}, "a") == ["a", "a"]

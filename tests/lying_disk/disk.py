"""A disk that keeps what it must and lies about the rest: what may be on it at any point of a trace.

What was synced by a call that had returned is there: the octets of a write to a synced descriptor, what had been
written to a file before an fsync of it began, the names that had been made in a directory before an fsync of that. Of
everything else each write, each change of a size and each name may be there or not, a write in any selection of its
sectors, and of two writes to one place either may have been the later one. `Disk` is told the events of a trace; a
`Choice` says what of the unsynced is there, and `Disk.image` what files that makes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Final

from tests.lying_disk.recording import (
    CREATE,
    EMPTIED,
    EXTEND,
    RENAME,
    RMDIR,
    SYNC,
    TRUNCATE,
    UNLINK,
    WRITE,
    Operation,
)

SECTOR: Final = 512
_MOST_PIECES: Final = 6
# LMDB maps the first and begins it anew when nobody has it open; nobody reads the others.
INCIDENTAL: Final = ("lock.mdb", "broker.lock", "store.lock", "running")

Part = tuple[int, int]
Key = tuple[object, ...]


class Change:
    """Of the content of a file. `synced` once it cannot be lost any more; `returned` once an fsync would cover it."""

    __slots__ = ("data", "kind", "offset", "returned", "synced")

    def __init__(self, kind: int, offset: int, data: bytes) -> None:
        self.kind = kind
        self.offset = offset
        self.data = data
        self.returned = False
        self.synced = False

    def apply(self, content: bytearray, parts: tuple[Part, ...] | None = None) -> None:
        """parts: those of a write that get there; None for all of it."""
        if self.kind == TRUNCATE:
            del content[self.offset :]
        if self.kind in (TRUNCATE, EXTEND):
            content.extend(bytes(max(0, self.offset - len(content))))
            return
        for start, end in ((0, len(self.data)),) if parts is None else parts:
            content.extend(bytes(max(0, self.offset + end - len(content))))
            content[self.offset + start : self.offset + end] = self.data[start:end]

    def torn(self, source: random.Random) -> tuple[Part, ...]:
        """Some of its sectors, in a few pieces."""
        first = SECTOR - self.offset % SECTOR
        borders = range(first, len(self.data), SECTOR)
        chosen = sorted(source.sample(borders, min(len(borders), source.randint(1, _MOST_PIECES))))
        edges = [0, *chosen, len(self.data)]
        return tuple(zip(edges, edges[1:], strict=False))[source.randrange(2) :: 2]


class File:
    """A file whatever its names are: what is surely in it, and all changes from the first one that may be lost."""

    def __init__(self, number: int, incidental: bool) -> None:
        self.number = number
        self.incidental = incidental
        self.changes: list[Change] = []
        self._base = bytearray()
        self._folded = 0

    @property
    def pending(self) -> list[Change]:
        return [change for change in self.changes if not change.synced]

    def fold(self) -> None:
        """Keep of the oldest changes, as far as all are synced, no more than what they come to."""
        count = next((at for at, change in enumerate(self.changes) if not change.synced), len(self.changes))
        for change in self.changes[:count]:
            change.apply(self._base)
        del self.changes[:count]
        self._folded += count

    def _applied(self, choice: Choice) -> list[tuple[int, Change, tuple[Part, ...] | None]]:
        applied: list[tuple[int, Change, tuple[Part, ...] | None]] = []
        run: list[tuple[int, Change, tuple[Part, ...] | None]] = []
        for at, change in enumerate(self.changes):
            if change.synced:
                applied += reversed(run) if choice.backwards else run
                run = []
                applied.append((at, change, None))
            elif (parts := choice.of(change)) != ():
                run.append((at, change, parts))
        return applied + (run[::-1] if choice.backwards else run)

    def key(self, choice: Choice) -> Key:
        """The same for the same content."""
        applied = [(at, parts) for at, _, parts in self._applied(choice)]
        whole = 0
        while whole < len(applied) and applied[whole] == (whole, None):
            whole += 1
        return (
            self.number,
            self._folded + whole,
            *((self._folded + at, parts) for at, parts in applied[whole:]),
        )

    def content(self, choice: Choice) -> bytearray:
        content = bytearray(self._base)
        for _, change, parts in self._applied(choice):
            change.apply(content, parts)
        return content


class Name:
    """Something that is done to a name: `target` is what has it afterwards, None for nothing."""

    __slots__ = ("kind", "old", "path", "returned", "target")

    def __init__(self, kind: int, path: str, target: File | None, old: str = "") -> None:
        self.kind = kind
        self.path = path
        self.target = target
        self.old = old
        self.returned = False

    def apply(self, names: dict[str, File | None]) -> None:
        if self.kind in (UNLINK, RMDIR):
            names.pop(self.path, None)
            return
        if self.kind == RENAME:
            names.pop(self.old, None)
        names[self.path] = self.target


class Choice:
    """What of the unsynced is on the disk: all of it, or these parts of changes and these names.

    backwards: of unsynced writes to one place the first is there.
    """

    def __init__(
        self,
        changes: dict[Change, tuple[Part, ...] | None] | None = None,
        names: set[Name] | None = None,
        *,
        backwards: bool = False,
    ) -> None:
        self.changes = changes
        self.names = names
        self.backwards = backwards

    def of(self, change: Change) -> tuple[Part, ...] | None:
        """The parts, () for nothing, None for all of it."""
        return None if self.changes is None else self.changes.get(change, ())

    def has(self, name: Name) -> bool:
        return self.names is None or name in self.names


class Image:
    """The files of a disk, a directory being None. key: the same for the same files."""

    def __init__(self, files: dict[str, File | None], choice: Choice) -> None:
        self._files = files
        self._choice = choice
        entries = [(path, file.key(choice) if file else ()) for path, file in sorted(files.items())]
        self.key: Key = tuple(entries)

    def contents(self) -> dict[str, bytearray | None]:
        return {path: file.content(self._choice) if file else None for path, file in self._files.items()}


class Disk:
    """begin, end: the operations of a trace, as they happen."""

    def __init__(self) -> None:
        self._names: dict[str, File | None] = {".": None}
        self._synced_names: dict[str, File | None] = {".": None}
        self._pending_names: list[Name] = []
        self._under_way: dict[int, Change | Name] = {}
        self._covered: dict[int, tuple[File | None, list[Change], list[Name]]] = {}
        self._files = 0

    def begin(self, operation: Operation) -> None:
        if _failed(operation):
            return
        if operation.kind == SYNC:
            self._begin_sync(operation)
        elif operation.kind in (WRITE, TRUNCATE, EXTEND):
            data = operation.data if operation.result is None else operation.data[: operation.result]
            self._change(operation, Change(operation.kind, operation.offset, data))
        elif operation.kind == CREATE and operation.path in self._names:
            if operation.flags & EMPTIED:
                self._change(operation, Change(TRUNCATE, 0, b""))
        else:
            self._rename(operation)

    def end(self, operation: Operation) -> None:
        if _failed(operation):
            return
        if operation.kind == SYNC:
            file, changes, names = self._covered.pop(operation.call)
            for change in changes:
                change.synced = True
            if file is not None:
                file.fold()
            self._sync_names(names)
            return
        made = self._under_way.pop(operation.call, None)
        if made is not None:
            made.returned = True
        if isinstance(made, Change) and operation.synced:
            made.synced = True
            file = self._names[operation.path]
            assert file is not None
            file.fold()

    def _change(self, operation: Operation, change: Change) -> None:
        file = self._names[operation.path]
        assert file is not None, f"{operation.path} is a directory"
        file.changes.append(change)
        self._under_way[operation.call] = change

    def _rename(self, operation: Operation) -> None:
        path, old, target = operation.path, "", None
        if operation.kind == CREATE:
            self._files += 1
            target = File(self._files, os.path.basename(path) in INCIDENTAL)
        elif operation.kind == RENAME:
            path, old, target = operation.data.decode(), path, self._names[path]
        name = Name(operation.kind, path, target, old)
        name.apply(self._names)
        self._pending_names.append(name)
        self._under_way[operation.call] = name

    def _begin_sync(self, operation: Operation) -> None:
        file = self._names.get(operation.path)
        names = [
            name for name in self._pending_names if name.returned and _parent(name.path) == operation.path
        ]
        changes = [change for change in file.pending if change.returned] if file is not None else []
        self._covered[operation.call] = (file, changes, [] if file is not None else names)

    def _sync_names(self, names: list[Name]) -> None:
        for name in names:
            if name in self._pending_names:
                name.apply(self._synced_names)
                self._pending_names.remove(name)

    def pending(self) -> tuple[list[Change], list[Name]]:
        """What may be lost, and matters."""
        files = {file.number: file for file in self._names.values() if file is not None}
        changes = [change for file in files.values() if not file.incidental for change in file.pending]
        names = [name for name in self._pending_names if os.path.basename(name.path) not in INCIDENTAL]
        return changes, names

    def _incidental(self) -> list[Change]:
        files = {file.number: file for file in self._names.values() if file is not None}
        return [change for file in files.values() if file.incidental for change in file.pending]

    def image(self, choice: Choice) -> Image:
        names = dict(self._synced_names)
        for name in self._pending_names:
            if choice.has(name):
                name.apply(names)
        # Without its directory a file cannot be found. Sorted, a directory comes before what is in it.
        kept: dict[str, File | None] = {".": None}
        for path in sorted(names):
            if _parent(path) in kept:
                kept[path] = names[path]
        return Image(kept, choice)

    def choices(self, source: random.Random, count: int) -> Iterator[Choice]:
        """All, nothing, the last write torn, everything but one, only one, and `count` by chance."""
        yield Choice()
        changes, names = self.pending()
        if not changes and not names:
            return
        everything: dict[Change, tuple[Part, ...] | None] = dict.fromkeys([*changes, *self._incidental()])
        all_names = set(self._pending_names)
        yield Choice({}, set())
        yield Choice({}, all_names)
        if changes:
            last, one = changes[-1], source.choice(changes)
            yield Choice(everything | {last: last.torn(source)}, all_names)
            yield Choice({last: last.torn(source)}, all_names)
            yield Choice({one: None}, all_names)
            yield Choice({each: None for each in everything if each is not one}, all_names)
        for _ in range(count):
            share = source.choice((0.1, 0.5, 0.9))
            torn = source.choice((0.0, 0.5))
            chosen = {
                change: change.torn(source) if change.data and source.random() < torn else None
                for change in everything
                if source.random() < share
            }
            kept = {name for name in self._pending_names if source.random() < max(share, 0.5)}
            yield Choice(chosen, kept, backwards=source.random() < 0.5)


def _failed(operation: Operation) -> bool:
    return operation.result is not None and (
        operation.result < 0 or (operation.kind == EXTEND and operation.result > 0)
    )


def _parent(path: str) -> str:
    return os.path.dirname(path) or "."

"""A recorded run, cut at one point after the other: whatever the disk may hold there, every promise is kept.

A point lies behind each call that began or returned, with all that clients had heard before the next one. `Replay`
walks through a trace once and looks at all points or at some; `totals` says what that came to, `failures` what was
found, each with the number of its point.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Final

from tests.lying_disk.disk import Choice, Disk, Image, Key
from tests.lying_disk.expected import Expected
from tests.lying_disk.machine import Found, Machine
from tests.lying_disk.recording import CREATE, SYNC, WRITE, Event

# Images whose content is remembered, as the next points often have the same; and how often one is started twice.
REMEMBERED: Final = 64
AGAIN: Final = 8


class Failure:
    """point: its number. choice: which of those at this point."""

    def __init__(self, point: int, choice: int, problems: list[str]) -> None:
        self.point = point
        self.choice = choice
        self.problems = problems

    def __str__(self) -> str:
        return "\n  ".join([f"point {self.point}, choice {self.choice}:", *self.problems])


class Replay:
    """directory: for the images. seed: of what is chosen by chance; the same is chosen at a point whichever others are
    looked at. many: how many choices by chance at a point. served: every so many images are given to the command as
    well, 0 for none of them.
    """

    def __init__(
        self, events: Sequence[Event], directory: Path, seed: int, *, many: int = 4, served: int = 0
    ) -> None:
        self.failures: list[Failure] = []
        self.totals: Counter[str] = Counter()
        self._events = events
        self._machine = Machine(directory / "disk")
        self._seed = seed
        self._many = many
        self._served = served
        self._disk = Disk()
        self._expected = Expected()
        self._found: dict[Key, Found] = {}

    def points(self) -> list[int]:
        """The numbers of the points of the trace."""
        return [at for at, event in enumerate(self._events) if event.operation is not None]

    def play(
        self,
        points: Container[int],
        *,
        deadline: float = float("inf"),
        most_failures: int = 5,
    ) -> None:
        """Look at these points. deadline: by the clock of time.monotonic, after which no point is begun."""
        with contextlib.closing(self._machine):
            self._play(points, deadline, most_failures)

    def _play(self, points: Container[int], deadline: float, most_failures: int) -> None:
        point = -1
        for at, event in enumerate(self._events):
            if event.operation is None:
                self._expected.take(event.mark)
                continue
            if point in points and not self._look_at(point, deadline, most_failures):
                return
            point = at
            if event.done:
                self._disk.end(event.operation)
            else:
                self._disk.begin(event.operation)
                self.totals["writes"] += event.operation.kind == WRITE
                self.totals["synced writes"] += event.operation.kind == WRITE and event.operation.synced
                self.totals["syncs"] += event.operation.kind == SYNC
                self.totals["files opened to be made"] += event.operation.kind == CREATE
        if point in points:
            self._look_at(point, deadline, most_failures)

    def _look_at(self, point: int, deadline: float, most_failures: int) -> bool:
        if time.monotonic() > deadline or len(self.failures) >= most_failures:
            return False
        self.totals["points"] += 1
        source = random.Random(f"{self._seed} {point}")
        for number, choice in enumerate(self._disk.choices(source, self._many)):
            self.totals["choices"] += 1
            found = self._find(choice)
            problems = found.problems + self._expected.problems(found.queues)
            if problems:
                # The others of this point hardly tell more.
                self.failures.append(Failure(point, number, problems))
                break
        self.totals["messages confirmed"] = self._expected.confirmed
        return True

    def _find(self, choice: Choice) -> Found:
        """What is there; as it was found before, if that is not long ago."""
        image = self._disk.image(choice)
        found = self._found.get(image.key)
        if found is None:
            self.totals["images"] += 1
            self._machine.show(image)
            found = self._machine.look(again=self.totals["images"] % AGAIN == 0)
            self._serve(image, found)
            if len(self._found) >= REMEMBERED:
                del self._found[next(iter(self._found))]
            self._found[image.key] = found
        return found

    def _serve(self, image: Image, found: Found) -> None:
        if not self._served or self.totals["images"] % self._served or found.problems:
            return
        self.totals["images served"] += 1
        self._machine.show(image)
        served = self._machine.serve(found.queues)
        found.problems += served.problems
        if not served.problems and served.queues != found.queues:
            found.problems.append("the command finds something else")

"""Who is served in which order, and who has to go."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

from amqp_broker.server.workers import Crowded, Job, Workers

pytestmark = pytest.mark.anyio


class Note(Job):
    """Writes down what becomes of it, and waits in its thread until it may end."""

    def __init__(self, name: str, log: list[str], may_end: threading.Event) -> None:
        self.name = name
        self.is_wanted = True
        self._log = log
        self._may_end = may_end

    @property
    def wanted(self) -> bool:
        return self.is_wanted

    def work(self) -> None:
        self._may_end.wait(10)
        if self.name == "fails":
            raise ValueError("so it does")

    def done(self, error: BaseException | None) -> None:
        self._log.append(self.name if error is None else f"{self.name}: {error!r}")

    def passed_over(self) -> None:
        self._log.append(f"not {self.name}")


class Place:
    """One worker, whose line has room for four."""

    def __init__(self) -> None:
        self.workers = Workers("test", 1, 4)
        self.log: list[str] = []
        self.may_end = threading.Event()

    def bring(self, name: str, whose: str = "somebody") -> Note:
        """A job that there is room for."""
        job = Note(name, self.log, self.may_end)
        assert self.workers.take_nowait(job, whose)
        return job

    async def finish(self) -> list[str]:
        self.may_end.set()
        with anyio.fail_after(10):
            while not self.workers.idle:  # noqa: ASYNC110  a thread has no event to set
                await anyio.sleep(0.001)
        return self.log


@pytest.fixture
def place() -> Iterator[Place]:
    here = Place()
    yield here
    here.may_end.set()
    here.workers.close()


async def test_jobs_of_one_are_done_in_order(place: Place) -> None:
    for name in "abcd":
        place.bring(name)
    assert place.workers.waiting == 3
    assert await place.finish() == ["a", "b", "c", "d"]


async def test_everybody_is_served_in_turn(place: Place) -> None:
    for name, whose in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")):
        place.bring(name, whose)
    assert await place.finish() == ["a1", "a2", "b1", "c1", "a3"]


async def test_what_fails_says_why_and_the_next_goes_on(place: Place) -> None:
    place.bring("fails")
    place.bring("b")
    assert await place.finish() == ["fails: ValueError('so it does')", "b"]


async def test_what_nobody_wants_any_more_is_passed_over(place: Place) -> None:
    place.bring("a")
    place.bring("b").is_wanted = False
    place.bring("c")
    assert await place.finish() == ["not b", "a", "c"]


async def test_who_fills_the_lines_brings_nothing_more(place: Place) -> None:
    for name in "abcde":
        place.bring(name)
    assert not place.workers.take_nowait(Note("f", place.log, place.may_end), "somebody")
    assert await place.finish() == ["a", "b", "c", "d", "e"]


async def test_somebody_else_takes_the_place_of_the_last_in_the_longest_line(place: Place) -> None:
    for name in "abcde":
        place.bring(name)
    place.bring("f", "somebody else")
    assert place.workers.waiting == 4
    assert await place.finish() == [f"e: {Crowded()!r}", "a", "b", "f", "c", "d"]


async def test_room_is_made_of_what_nobody_wants_first(place: Place) -> None:
    jobs = [place.bring(name) for name in "abcde"]
    jobs[2].is_wanted = False
    place.bring("f", "somebody else")
    assert await place.finish() == ["not c", "a", "b", "f", "d", "e"]


async def test_nothing_is_heard_of_what_is_under_way_at_the_end(place: Place) -> None:
    place.bring("a")
    place.bring("b")
    place.workers.close()
    place.may_end.set()
    await anyio.lowlevel.checkpoint()
    assert place.log == []
    assert place.workers.waiting == 0

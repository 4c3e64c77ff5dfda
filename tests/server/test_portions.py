"""Long work in portions: whoever has something to say meanwhile is heard between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import anyio
import pytest

from amqp_broker.server.commits import Commits
from amqp_broker.server.portions import CROWDED, PORTION, Portions
from amqp_broker.store.errors import StoreError
from tests.server.moved_clock import MovedClock

pytestmark = pytest.mark.anyio

# How long a step takes, by the clock of the test.
STEP = PORTION / 4


class Turns:
    """What `Portions` knows of `Commits`. said: the beginnings and ends of turns, and what came in between."""

    def __init__(self, clock: MovedClock) -> None:
        self.timer = self
        self.crowded = False
        self.ending = False
        self.said: list[str] = []
        self.error: StoreError | None = None
        self._clock = clock

    def begin_turn(self) -> float:
        self.said.append("begin")
        return self._clock.monotonic()

    def finish_turn(self) -> None:
        self.said.append("end")

    def give_up(self, error: StoreError) -> None:
        self.error = error


class Site:
    def __init__(self) -> None:
        self.clock = MovedClock()
        self.turns = Turns(self.clock)
        self.portions = Portions(cast(Commits, cast(Any, self.turns)), self.clock)

    def steps(self, count: int) -> Iterator[None]:
        for _ in range(count):
            self.clock.awake += round(STEP * 1e9)
            self.turns.said.append("step")
            yield

    async def run(self, steps: Iterator[object]) -> None:
        await self.portions.run(steps)


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_portion_is_as_long_as_a_turn_may_be(site: Site) -> None:
    await site.run(site.steps(10))
    turn = ["begin", "step", "step", "step", "step", "end"]
    assert site.turns.said == [*turn, *turn, "begin", "step", "step", "end"]


async def test_others_have_their_turns_in_between(site: Site) -> None:
    async def speak() -> None:
        while True:
            site.turns.said.append("other")
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(speak)
        await site.run(site.steps(400))
        tasks.cancel_scope.cancel()
    said = site.turns.said
    for place, word in enumerate(said):
        if word == "end" and place + 1 < len(said):
            assert said[place + 1] == "other"
    assert said.count("other") >= said.count("begin") - 1 > 50


async def test_one_piece_of_work_ends_before_the_next_begins(site: Site) -> None:
    def named(name: str) -> Iterator[None]:
        for _ in site.steps(40):
            site.turns.said.append(name)
            yield

    async with anyio.create_task_group() as tasks:
        for name in ("first", "second", "third"):
            tasks.start_soon(site.run, named(name))
    order = [word for word in site.turns.said if word in ("first", "second", "third")]
    assert order == sorted(order)
    assert len(order) == 120


async def test_work_that_fails_keeps_nothing_from_being_done(site: Site) -> None:
    def failing() -> Iterator[None]:
        yield from site.steps(5)
        raise ValueError

    async def fail() -> None:
        with pytest.raises(ValueError):  # noqa: PT011  it is the very one
            await site.run(failing())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        tasks.start_soon(site.run, site.steps(5))
    assert site.turns.said.count("step") == 10


async def test_it_waits_for_the_disk(site: Site) -> None:
    site.turns.crowded = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.run, site.steps(8))
        await anyio.wait_all_tasks_blocked()
        await site.clock.advance(10 * CROWDED)
        assert site.turns.said.count("step") == 4
        site.turns.crowded = False
        await site.clock.advance(2 * CROWDED)
    assert site.turns.said.count("step") == 8


async def test_without_a_store_it_ends_and_so_does_the_broker(site: Site) -> None:
    error = StoreError("data.mdb", "no room")

    def failing() -> Iterator[None]:
        yield
        raise error

    with pytest.raises(StoreError):
        await site.run(failing())
    assert site.turns.error is error
    assert site.turns.said == ["begin", "end"]


async def test_what_is_wrong_with_it_is_raised_after_the_turn(site: Site) -> None:
    def failing() -> Iterator[None]:
        raise ValueError
        yield

    with pytest.raises(ValueError):  # noqa: PT011  it is the very one
        await site.run(failing())
    assert site.turns.said == ["begin", "end"]

"""taskiq over taskiq-aio-pika as its users use it: a worker of its own process, tasks sent from here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from harness import ask, eventually, main, same
from jobs import broker, note, notes, ranked, survivor, third_time, when
from workers import Worker

SECONDS = 60
running: list[Worker] = []


def worker() -> Worker:
    """The one that runs, or a new one."""
    if not running or running[-1].process.poll() is not None:
        arguments = (
            "worker",
            "jobs:broker",
            "--workers",
            "1",
            "--max-async-tasks",
            "1",
            "--max-prefetch",
            "0",
        )
        running.append(Worker("taskiq", *arguments))
    return running[-1]


@contextlib.asynccontextmanager
async def sending() -> AsyncIterator[None]:
    await broker.startup()
    try:
        yield
    finally:
        await broker.shutdown()


async def noted(beginning: str, count: int = 1) -> list[str]:
    async def lines() -> list[str] | None:
        found = notes.lines(beginning)
        return found if len(found) >= count else None

    return await eventually(lines, f"{beginning}: {running[-1].said()[-200:]}", SECONDS)


async def task() -> None:
    worker()
    async with sending():
        for text in ("one", "two"):
            await note.kiq(text)
        same(await noted("note", 2), ["note one", "note two"])


async def retry() -> None:
    worker()
    async with sending():
        await third_time.kiq()
        same(len(await noted("try", 3)), 3)


async def delay() -> None:
    worker()
    async with sending():
        before = time.time()
        # What comes out of the delay queue goes by the key that the broker object was given: its first queue.
        await when.kicker().with_labels(delay=1.5).kiq()
        (line,) = await noted("when")
        same(float(line.split()[1]) - before >= 1.5, True, line)


async def priorities() -> None:
    worker().stop()
    async with sending():
        for priority in (1, 5, 9, 3):
            await ranked.kicker().with_labels(priority=priority).kiq(priority)
        worker()
        order = [int(line.split()[1]) for line in await noted("ranked", 4)]
    same(order, [9, 5, 3, 1])


async def killed_worker() -> None:
    doomed = worker()
    async with sending():
        await survivor.kiq()
        await noted("survivor")
        doomed.kill()
        worker()
        await noted("survived")


async def worker_restart() -> None:
    worker().stop()
    async with sending():
        await note.kiq("while no worker ran")
        worker()
        await noted("note while no worker ran")


async def broker_restart() -> None:
    worker()
    async with sending():
        await note.kiq("before the restart")
        await noted("note before the restart")
        await ask("restart")

        async def sent() -> bool:
            try:
                await asyncio.wait_for(note.kiq("after the restart"), 3)
            except Exception:  # whatever it is, it is tried again
                return False
            return True

        await eventually(sent, "a task sent after the restart", SECONDS)
        await noted("note after the restart")


if __name__ == "__main__":
    try:
        main(
            {
                "task": task,
                "retry": retry,
                "delay": delay,
                "priorities": priorities,
                "killed-worker": killed_worker,
                "worker-restart": worker_restart,
                "broker-restart": broker_restart,
            }
        )
    finally:
        for each in running:
            each.kill()
        notes.end()

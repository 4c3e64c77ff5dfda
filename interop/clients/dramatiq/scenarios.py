"""Dramatiq over RabbitMQ as its users use it: a worker of its own process, messages sent from here."""

from __future__ import annotations

import time

import pika
from actors import QUEUE, hopeless, note, notes, plus, third_time, when
from dramatiq import pipeline
from harness import URL, control, main, same, until
from workers import Worker

SECONDS = 60
running: list[Worker] = []


def worker() -> Worker:
    """The one that runs, or a new one."""
    if not running or running[-1].process.poll() is not None:
        running.append(Worker("dramatiq", "actors", "--processes", "1", "--threads", "1"))
    return running[-1]


def noted(beginning: str, count: int = 1) -> list[str]:
    return until(lambda: found if len(found := notes.lines(beginning)) >= count else None, beginning, SECONDS)


def actor() -> None:
    worker()
    for text in ("one", "two"):
        note.send(text)
    same(noted("note", 2), ["note one", "note two"])


def retry() -> None:
    worker()
    third_time.send("retry")
    same(len(noted("try retry", 3)), 3)


def delay() -> None:
    worker()
    before = time.time()
    when.send_with_options(delay=1500)
    (line,) = noted("when")
    same(float(line.split()[1]) - before >= 1.5, True, line)


def dead_letter() -> None:
    worker()
    hopeless.send()
    noted("hopeless")
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()

        def dead() -> bool:
            # Dramatiq names it so; it declares it with arguments of its own, so it is only looked at.
            return channel.queue_declare(f"{QUEUE}.XQ", passive=True).method.message_count == 1

        until(dead, "the dead letter", SECONDS)


def priorities() -> None:
    """Sent while no worker runs, as a worker prefetches and has an order of its own for what it holds."""
    worker().stop()
    for priority in (1, 5, 9, 3):
        note.send_with_options(args=(f"priority {priority}",), broker_priority=priority)
    worker()
    same([int(line.split()[-1]) for line in noted("note priority", 4)], [9, 5, 3, 1])


def pipeline_of_actors() -> None:
    worker()
    pipeline([plus.message(1, 1), plus.message(10), plus.message(100)]).run()
    same(noted("plus", 3)[-1], "plus 112")


def worker_restart() -> None:
    worker().stop()
    note.send("while no worker ran")
    worker()
    noted("note while no worker ran")


def broker_restart() -> None:
    worker()
    note.send("before the restart")
    noted("note before the restart")
    control("restart")

    def sent() -> bool:
        try:
            note.send("after the restart")
        except Exception:  # whatever it is, it is tried again
            return False
        return True

    until(sent, "a message sent after the restart", SECONDS)
    noted("note after the restart")


if __name__ == "__main__":
    try:
        main(
            {
                "actor": actor,
                "retry": retry,
                "delay": delay,
                "dead-letter": dead_letter,
                "priorities": priorities,
                "pipeline": pipeline_of_actors,
                "worker-restart": worker_restart,
                "broker-restart": broker_restart,
            }
        )
    finally:
        for each in running:
            each.kill()
        notes.end()

"""The backlogs that are measured. Each scenario says what is published and what must come back, and in which order.

`SCENARIOS` has them by name; the sizes are those at scale 1. What a scenario does is in `Backlog.measure`, and its
kinds differ in a step or two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from tests.backlogs.bench import (
    AT_ONCE,
    LARGE,
    LARGE_AT_ONCE,
    LEAST_PINGS,
    Bench,
    Order,
    QueueOrders,
    answered,
    declare,
    latency_of,
    rate,
)
from tests.backlogs.figures import Figures, significant
from tests.backlogs.wire import Block, Chunk, Wire, publish
from tests.conversations.codec import Typed

MILLION: Final = 1_000_000
DEEP: Final = "deep"
PERSISTENT: Final = 2
HOUR: Final = 3_600_000
# What a message takes in memory beside its body, about.
OVERHEAD: Final = 400
SHALLOW_TURNS: Final = 5
# Seconds until messages expire or are due. By then all have to be published.
LEAST_WAIT: Final = 3.0


class Backlog:
    """One queue that is filled, survives two restarts, is drained, filled again and drained again."""

    turns = SHALLOW_TURNS
    shallow_most = MILLION

    def __init__(
        self, name: str, messages: int, body: int = 100, persistent: bool = True, **arguments: Any
    ) -> None:
        self.name = name
        self.body = body
        self.persistent = persistent
        self.at_once = AT_ONCE if body < LARGE else LARGE_AT_ONCE
        self.queue_arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._messages = messages

    # -- what a kind of scenario is

    def queues(self, scale: float) -> list[str]:
        return [DEEP]

    def messages(self, scale: float) -> int:
        """What is published; a multiple of what is published in one turn."""
        turn = self.turn(scale)
        return max(2, round(self._messages * scale / turn)) * turn

    def turn(self, scale: float) -> int:
        return self.at_once

    def deliveries(self, scale: float, published: int) -> int:
        return published

    def declare(self, wire: Wire, scale: float) -> None:
        declare(wire, DEEP, self.queue_arguments)

    def properties(self, position: int) -> dict[str, Any]:
        return {"delivery_mode": PERSISTENT if self.persistent else 1}

    def blocks(self, scale: float, seconds: float) -> list[Block]:
        """`seconds`: what filling is expected to take."""
        messages = [publish("", DEEP, bytes(self.body), self.properties(at)) for at in range(self.at_once)]
        return [Block(messages, self.body)]

    def order(self, published: int) -> Callable[[Chunk], None]:
        return Order([bytes(range(self.at_once))], published // self.at_once).check

    # -- what is done

    def measure(self, bench: Bench, scale: float) -> Figures:
        """Raises AssertionError if messages are lost, doubled or out of order."""
        count = self.messages(scale)
        figures = Figures(self.name, count)
        wire = bench.wire()
        self.declare(wire, scale)
        shallow = self.shallow(bench, wire, scale, figures)
        assert figures.publish_shallow is not None
        seconds = count / figures.publish_shallow
        times = self.fill(bench, wire, scale, count, seconds)
        figures.publish_deep = rate(times, after=shallow)
        bench.watch.wait_until_idle()
        figures.filled = bench.watch.disk()
        if self.persistent:
            figures.restarts = bench.restarts()
        self.empty(bench, scale, count, shallow, figures)
        bench.watch.wait_until_idle()
        figures.drained = bench.watch.disk()
        self.second_round(bench, scale, count, seconds, figures)
        figures.saw_second(bench.watch)
        figures.broker, figures.store = bench.watch.peaks
        return figures

    def shallow(self, bench: Bench, wire: Wire, scale: float, figures: Figures) -> int:
        """Fill and drain a few times with so few messages that all of them stay in memory; how many they were."""
        turn, count = self.turn(scale), self.messages(scale)
        fitting = bench.memory // 2 // (self.body + OVERHEAD)
        messages = max(1, min(count // 10, fitting, self.shallow_most) // turn) * turn
        published, drained = 0.0, 0.0
        for _ in range(self.turns):
            published += messages / rate(self.fill(bench, wire, scale, messages, 0.0))
            drained += messages / rate(self.drain(bench, scale, messages))
        figures.publish_shallow = self.turns * messages / published
        figures.drain_shallow = self.turns * messages / drained
        return messages

    def fill(
        self, bench: Bench, wire: Wire, scale: float, messages: int, seconds: float
    ) -> list[tuple[float, int]]:
        return bench.fill(wire, self.blocks(scale, seconds), messages, self.body)

    def drain(self, bench: Bench, scale: float, published: int) -> list[tuple[float, int]]:
        return bench.drain(
            self.queues(scale), self.deliveries(scale, published), self.body, self.order(published)
        )

    def empty(self, bench: Bench, scale: float, count: int, shallow: int, figures: Figures) -> None:
        """The backlog goes, and how fast is noted: until so few are left that they would be no backlog."""
        figures.drain_deep = rate(self.drain(bench, scale, count), before=shallow)

    def second_round(self, bench: Bench, scale: float, count: int, seconds: float, figures: Figures) -> None:
        self.fill(bench, bench.wire(), scale, count, seconds)
        figures.saw_second(bench.watch)
        again = rate(self.drain(bench, scale, count))
        if self.persistent:
            figures.note(f"drained without a restart before it: {significant(again)}/s")


class Ranked(Backlog):
    """Priorities by chance, at the same positions in every block."""

    _priorities: Final = Random(1).choices(range(10), k=AT_ONCE)

    def properties(self, position: int) -> dict[str, Any]:
        return {**super().properties(position), "priority": self._priorities[position]}

    def order(self, published: int) -> Callable[[Chunk], None]:
        groups = [
            bytes(at for at in range(self.at_once) if self._priorities[at] == priority)
            for priority in sorted(set(self._priorities), reverse=True)
        ]
        return Order(groups, published // self.at_once).check


class Living(Backlog):
    """Each message with a time to live that does not run out."""

    def properties(self, position: int) -> dict[str, Any]:
        return {**super().properties(position), "expiration": str(HOUR + position)}


class Unacknowledged(Backlog):
    """All delivered on one channel before one is acknowledged; the second time the connection is lost instead."""

    def take_all(self, bench: Bench, published: int) -> tuple[Wire, float]:
        wire = bench.wire()
        deliveries, order, began = bench.consume(wire, [DEEP], 0), self.order(published), time.monotonic()
        while deliveries.taken < published:
            order(deliveries.next())
        seconds = time.monotonic() - began
        assert wire.ready(DEEP) == 0
        bench.watch.look()
        return wire, seconds

    def empty(self, bench: Bench, scale: float, count: int, shallow: int, figures: Figures) -> None:
        wire, seconds = self.take_all(bench, count)
        figures.drain_deep = count / seconds
        began = time.monotonic()
        wire.tell("basic.ack", delivery_tag=count, multiple=True)
        assert wire.ready(DEEP) == 0
        figures.note(f"one ack for all: {time.monotonic() - began:.2f} s")
        wire.call("basic.cancel", consumer_tag="c00000")

    def second_round(self, bench: Bench, scale: float, count: int, seconds: float, figures: Figures) -> None:
        filler = bench.wire()
        self.fill(bench, filler, scale, count, seconds)
        figures.saw_second(bench.watch)
        wire, _ = self.take_all(bench, count)
        began = time.monotonic()
        wire.close()
        while filler.ready(DEEP) < count:
            bench.watch.look()
            time.sleep(0.001)
        figures.note(f"all back after the connection is lost: {time.monotonic() - began:.2f} s")
        self.drain(bench, scale, count)


class Removed(Backlog):
    """Purged or deleted, while another queue's deliveries are timed."""

    def __init__(self, name: str, messages: int, how: str) -> None:
        super().__init__(name, messages)
        self._how = how

    def empty(self, bench: Bench, scale: float, count: int, shallow: int, figures: Figures) -> None:
        probe, wire = bench.probe(), bench.wire()
        before = probe.until(lambda: True, LEAST_PINGS)
        began = time.monotonic()
        wire.tell(self._how, queue=DEEP)
        meanwhile = probe.until(lambda: answered(wire))
        seconds = time.monotonic() - began
        answer, found = wire.receive()
        assert (answer, found["message_count"]) == (f"{self._how}-ok", count), (answer, found)
        meanwhile += probe.until(bench.watch.idle(), LEAST_PINGS)
        figures.note(f"answered within {1000 * seconds:.1f} ms")
        figures.note(f"space given back after {time.monotonic() - began:.1f} s")
        figures.note(probed(before, meanwhile))
        self.declare(wire, scale)
        assert wire.ready(DEEP) == 0


class Expiring(Backlog):
    """Everything expires at about the same moment, while another queue's deliveries are timed."""

    def __init__(self, name: str, messages: int) -> None:
        super().__init__(name, messages)
        self._due = 0.0

    def properties(self, position: int) -> dict[str, Any]:
        left = max(0, math.ceil(self._due - time.time())) if self._due else HOUR // 1000
        return {**super().properties(position), "expiration": f"{1000 * left:07}"}

    def fill(
        self, bench: Bench, wire: Wire, scale: float, messages: int, seconds: float
    ) -> list[tuple[float, int]]:
        if not seconds:
            self._due = 0.0
            return super().fill(bench, wire, scale, messages, seconds)
        # In parts that are short beside a second, as each has the time that is left by then.
        self._due = time.time() + wait_for(seconds)
        part, times = max(self.at_once, int(messages / seconds / 5) // self.at_once * self.at_once), []
        for start in range(0, messages, part):
            some = super().fill(bench, wire, scale, min(part, messages - start), seconds)
            times += [(at, start + done) for at, done in some]
        assert wire.ready(DEEP) == messages, "some expired before all were published"
        return times

    def empty(self, bench: Bench, scale: float, count: int, shallow: int, figures: Figures) -> None:
        probe, wire = bench.probe(), bench.wire()
        before = probe.until(lambda: True, LEAST_PINGS)
        while wire.ready(DEEP) == count:
            time.sleep(0.001)
        began = time.monotonic()
        meanwhile = probe.until(lambda: wire.ready(DEEP) == 0, LEAST_PINGS)
        figures.drain_deep = count / (time.monotonic() - began)
        figures.note(probed(before, meanwhile))

    def second_round(self, bench: Bench, scale: float, count: int, seconds: float, figures: Figures) -> None:
        wire = bench.wire()
        self.fill(bench, wire, scale, count, seconds)
        figures.saw_second(bench.watch)
        while wire.ready(DEEP):
            bench.watch.look()
            time.sleep(0.01)


class Delayed(Backlog):
    """Held by an exchange until they are due, at four moments a tenth of a second apart."""

    exchange: Final = "later"
    # Few enough to be published in much less than LEAST_WAIT.
    turns = 1
    shallow_most = 40_000
    _after: Final = Random(1).choices(range(0, 400, 100), k=AT_ONCE)

    def __init__(self, name: str, messages: int) -> None:
        super().__init__(name, messages)
        self._due = 0

    def declare(self, wire: Wire, scale: float) -> None:
        super().declare(wire, scale)
        wire.call(
            "exchange.declare",
            exchange=self.exchange,
            type="x-delayed-message",
            durable=True,
            arguments={"x-delayed-type": "direct"},
        )
        wire.call("queue.bind", queue=DEEP, exchange=self.exchange, routing_key=DEEP)

    def properties(self, position: int) -> dict[str, Any]:
        moment = Typed("l", self._due + self._after[position])
        return {**super().properties(position), "headers": {"x-deliver-at": moment}}

    def blocks(self, scale: float, seconds: float) -> list[Block]:
        self._due = int(1000 * (time.time() + wait_for(seconds)))
        body = bytes(self.body)
        messages = [publish(self.exchange, DEEP, body, self.properties(at)) for at in range(self.at_once)]
        return [Block(messages, self.body)]

    def order(self, published: int) -> Callable[[Chunk], None]:
        groups = [
            bytes(at for at in range(self.at_once) if self._after[at] == after)
            for after in sorted(set(self._after))
        ]
        return Order(groups, published // self.at_once).check

    def fill(
        self, bench: Bench, wire: Wire, scale: float, messages: int, seconds: float
    ) -> list[tuple[float, int]]:
        times = super().fill(bench, wire, scale, messages, seconds)
        assert 1000 * time.time() < self._due, "some were due before all were published"
        return times

    def drain(self, bench: Bench, scale: float, published: int) -> list[tuple[float, int]]:
        """From the moment at which the first are due."""
        due = time.monotonic() + self._due / 1000 - time.time()
        (start, none), *times = super().drain(bench, scale, published)
        return [(max(due, start), none), *times]

    def shallow(self, bench: Bench, wire: Wire, scale: float, figures: Figures) -> int:
        """How fast so few are drained says nothing but over which time they are scattered."""
        shallow = super().shallow(bench, wire, scale, figures)
        figures.drain_shallow = None
        return shallow


class Spread(Backlog):
    """Many queues. They are published to in turn, a message each."""

    def __init__(self, name: str, messages: int, queues: int) -> None:
        super().__init__(name, messages)
        self._queues = queues

    def queues(self, scale: float) -> list[str]:
        """Neither they nor what is in each shrinks by all of the scale."""
        groups = max(1, round(self._queues / AT_ONCE * math.sqrt(min(1.0, scale))))
        return [f"many-{at:05}" for at in range(groups * AT_ONCE)]

    def turn(self, scale: float) -> int:
        return len(self.queues(scale))

    def declare(self, wire: Wire, scale: float) -> None:
        for queue in self.queues(scale):
            declare(wire, queue, {})

    def groups(self, scale: float) -> list[list[str]]:
        queues = self.queues(scale)
        return [queues[at : at + AT_ONCE] for at in range(0, len(queues), AT_ONCE)]

    def blocks(self, scale: float, seconds: float) -> list[Block]:
        body, properties = bytes(self.body), self.properties(0)
        return [
            Block([publish("", queue, body, properties) for queue in group], self.body)
            for group in self.groups(scale)
        ]

    def drain(self, bench: Bench, scale: float, published: int) -> list[tuple[float, int]]:
        """Group by group, all queues of one at the same time; what lies between two groups does not count."""
        groups, times, seconds = self.groups(scale), [(0.0, 0)], 0.0
        each = self.deliveries(scale, published) // len(groups)
        for at, group in enumerate(groups):
            some = bench.drain(group, each, self.body, QueueOrders().check)
            began = some[0][0]
            times += [(seconds + moment - began, at * each + taken) for moment, taken in some[1:]]
            seconds = times[-1][0]
        return times


class Fanned(Spread):
    """Each message to all queues, bodies of 100 KiB."""

    exchange: Final = "fan"

    def __init__(self, name: str, messages: int, queues: int) -> None:
        super().__init__(name, messages, queues)
        self.body = 100 << 10

    def queues(self, scale: float) -> list[str]:
        return [f"many-{at:05}" for at in range(max(20, round(self._queues * min(1.0, scale))))]

    def messages(self, scale: float) -> int:
        return self._messages

    def turn(self, scale: float) -> int:
        return 1

    def deliveries(self, scale: float, published: int) -> int:
        return published * len(self.queues(scale))

    def declare(self, wire: Wire, scale: float) -> None:
        super().declare(wire, scale)
        wire.call("exchange.declare", exchange=self.exchange, type="fanout", durable=True)
        for queue in self.queues(scale):
            wire.call("queue.bind", queue=queue, exchange=self.exchange)

    def groups(self, scale: float) -> list[list[str]]:
        queues = self.queues(scale)
        return [queues[at : at + 20] for at in range(0, len(queues), 20)]

    def blocks(self, scale: float, seconds: float) -> list[Block]:
        return [Block([publish(self.exchange, "", bytes(self.body), self.properties(0))], self.body)]

    def shallow(self, bench: Bench, wire: Wire, scale: float, figures: Figures) -> int:
        """One message, after which the directory has what it needs before a body is stored."""
        shallow = super().shallow(bench, wire, scale, figures)
        bench.watch.wait_until_idle()
        self._before = bench.watch.disk()
        return shallow

    def empty(self, bench: Bench, scale: float, count: int, shallow: int, figures: Figures) -> None:
        bodies = count * self.body / (1 << 20)
        assert figures.filled is not None
        grown = figures.filled - self._before
        apart = bodies * len(self.queues(scale))
        assert grown < apart / 2, f"{grown} MiB for bodies of {bodies} MiB: they are not stored once"
        figures.note(f"bodies of {bodies:.1f} MiB took {grown:.1f} MiB in {len(self.queues(scale)):,} queues")
        super().empty(bench, scale, count, shallow, figures)


def wait_for(seconds: float) -> float:
    """In how many seconds what is published is due, if filling takes so long in a shallow queue."""
    return LEAST_WAIT + 3 * seconds


def probed(pings_before: Sequence[float], pings_meanwhile: Sequence[float]) -> str:
    before, meanwhile = latency_of(pings_before), latency_of(pings_meanwhile)
    return (
        f"another queue's p99 meanwhile {meanwhile.high:.1f} ms (most {meanwhile.most:.1f}), "
        f"before {before.high:.1f} ms"
    )


_ALL: Final[Sequence[Backlog]] = (
    Backlog("persistent", 10 * MILLION),
    Backlog("transient", MILLION, persistent=False),
    Backlog("1 KiB", MILLION, body=1 << 10),
    Backlog("100 KiB", 50_000, body=100 << 10),
    Spread("10,000 queues", 10 * MILLION, 10_000),
    Ranked("priorities", 10 * MILLION, x_max_priority=9),
    Backlog("queue TTL", 10 * MILLION, x_message_ttl=24 * HOUR),
    Living("message TTL", 10 * MILLION),
    Expiring("expiring at once", MILLION),
    Unacknowledged("unacknowledged", MILLION),
    Removed("purge", 10 * MILLION, "queue.purge"),
    Removed("delete", 10 * MILLION, "queue.delete"),
    Fanned("fanout to 1,000 queues", 20, 1000),
    Delayed("delayed", 2 * MILLION),
)
SCENARIOS: Final = {scenario.name: scenario for scenario in _ALL}
